"""Checks of every request before anything else sees it, and headers of every answer.

Together they keep other sites out: a name that an attacker points at this machine is refused by its
``Host``, a form or script of another site by its ``Origin``, and a person without the token by its
absence. Nothing is read of a body that is too large.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "clipreid_session"

_MAX_JSON = 1 << 16  # bytes of a body that is not an image

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Refusal(NamedTuple):
    """Why a request is not answered."""

    status: int
    reason: str


class Guard:
    """ASGI middleware that refuses what does not come from the page itself.

    Args:
        app: The application.
        token: What a client has to know; ``None`` for no token.
        hosts: Names of this machine in URLs, beside ``localhost`` and addresses.
        upload_path: The path that takes images.
        max_upload_bytes: Largest body there.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        hosts: Collection[str],
        upload_path: str,
        max_upload_bytes: int,
    ) -> None:
        self._app = app
        self._token = token
        self._hosts = frozenset(name.lower() for name in hosts)
        self._upload_path = upload_path
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._own_answer(scope, Headers(scope=scope))
        await (answer or self._app)(scope, receive, send_guarded)

    def _own_answer(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the answer to a request that does not reach the application."""
        host = headers.get("host", "")
        refusal = self._check_host(host) or _check_site(scope, headers, host)
        if refusal is None and self._token is not None:
            if self._is_sign_in(scope):
                return self._signed_in()
            refusal = self._check_token(headers)
        if refusal is None:
            refusal = self._check_size(scope, headers)
        if refusal is None:
            return None

        if scope["path"].startswith("/api/"):
            return JSONResponse({"detail": refusal.reason}, refusal.status)
        return PlainTextResponse(refusal.reason, refusal.status)

    def _check_host(self, host: str) -> Refusal | None:
        """Refuse names that are not of this machine; an address is its own name."""
        name = _name_of_host(host)
        if name == "localhost" or name.endswith(".localhost") or name in self._hosts:
            return None
        if _is_address(name):
            return None
        return Refusal(
            403,
            f"This page is not served under the name {name!r}. Use the printed address, or start "
            "with --allow-host NAME.",
        )

    def _is_sign_in(self, scope: Scope) -> bool:
        """Whether a request brings the token in its URL."""
        if scope["method"] != "GET" or scope["path"] != "/":
            return False
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return _is_equal(given, self._token or "")

    def _signed_in(self) -> Response:
        """Keep the token as a cookie, out of the URL, the history and copied links."""
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(
            COOKIE, _session(self._token or ""), httponly=True, samesite="strict", path="/"
        )
        return answer

    def _check_token(self, headers: Headers) -> Refusal | None:
        """Refuse who does not know the token."""
        token = self._token or ""
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _is_equal(given.strip(), token):
            return None
        if _is_equal(_cookie(headers), _session(token)):
            return None
        return Refusal(
            401,
            "A token is needed. Open the address that `clipreid serve` has printed, which ends in "
            "?token=..., or send the header Authorization: Bearer TOKEN.",
        )

    def _check_size(self, scope: Scope, headers: Headers) -> Refusal | None:
        """Refuse a body that is too large, or of unknown size, before it is read."""
        if scope["method"] in ("GET", "HEAD"):
            return None

        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            return Refusal(411, "The request has no Content-Length.")

        is_upload = scope["path"] == self._upload_path
        limit = self._max_upload_bytes if is_upload else _MAX_JSON
        if len(length) > 18 or int(length) > limit:
            return Refusal(413, f"The request has more than the {limit} bytes that are accepted.")
        return None


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone.

    Example:
        >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0")]
        [True, True, True, False]
    """
    if host == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _check_site(scope: Scope, headers: Headers, host: str) -> Refusal | None:
    """Refuse what another site sends or shows; following a link to the page is allowed."""
    site = headers.get("sec-fetch-site", "same-origin")
    origin = headers.get("origin")
    is_change = scope["method"] not in ("GET", "HEAD")
    is_other = site not in ("same-origin", "none")
    if origin is not None and is_change:
        is_other = is_other or urlsplit(origin).netloc.lower() != host.lower()

    if is_other and (is_change or scope["path"].startswith("/api/")):
        return Refusal(403, "Requests of other sites are refused.")
    return None


def _name_of_host(host: str) -> str:
    """Return a host without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_equal(given: str, wanted: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _session(token: str) -> str:
    """Return what the cookie holds, from which the token cannot be told."""
    return hmac.new(token.encode(), b"clipreid serve", hashlib.sha256).hexdigest()


def _cookie(headers: Headers) -> str:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""
