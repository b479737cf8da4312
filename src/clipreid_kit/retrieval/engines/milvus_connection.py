"""Address of a Milvus, and calls to it with a timeout, with retries and with our own errors."""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

PREFIX = "milvus:"
TOKEN_VARIABLE = "MILVUS_TOKEN"  # noqa: S105 (the name of a variable)

_COLLECTION = "clipreid_gallery"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_CONNECT_SECONDS = 10.0
_CALL_SECONDS = 60.0
# an open client tries again soon after a server was stopped; grpc waits longer each time, up to two
# minutes, also when the server is back
_GRPC = {"grpc.initial_reconnect_backoff_ms": 200, "grpc.max_reconnect_backoff_ms": 1000}
_PAUSES = (0.5, 1.0, 2.0)  # seconds before a call is made again
_REFUSED = re.compile(r"auth|token|permission|privilege|unauthenticated", re.IGNORECASE)
# worth another try: the server is starting, busy, or was not reached
_TRANSIENT = re.compile(
    r"unavailable|deadline|timeout|timed out|connect|not ready|no available|rate limit|"
    r"recovering|not loaded|channel|node offline|node not match",
    re.IGNORECASE,
)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class MilvusAddress:
    """Address of an index in Milvus.

    Attributes:
        uri: What the client takes: a file of Milvus Lite, or the URL of a server.
        collection: Begins the names of the collections of the index.
    """

    uri: str
    collection: str

    @property
    def path(self) -> Path | None:
        """The file of Milvus Lite; ``None`` for a server."""
        return None if "://" in self.uri else Path(self.uri)

    @property
    def name(self) -> str:
        """The address as users write it."""
        end = "" if self.collection == _COLLECTION else f"#{self.collection}"
        return f"{PREFIX}{self.uri}{end}"


def is_milvus(store: str | os.PathLike[str]) -> bool:
    """Return whether a store is an address of Milvus rather than a folder."""
    return os.fspath(store).startswith(PREFIX)


def parse_address(owner: str, store: str | os.PathLike[str]) -> MilvusAddress:
    """Read an address: ``milvus:gallery.db``, ``milvus:http://host:19530``, either with ``#name``.

    Raises:
        ValueError: If it is none of these.

    Example:
        >>> parse_address("example", "milvus:http://localhost:19530#photos")
        MilvusAddress(uri='http://localhost:19530', collection='photos')
    """
    text = os.fspath(store).removeprefix(PREFIX)
    uri, _, name = text.partition("#")
    collection = name or _COLLECTION
    if not _NAME.fullmatch(collection):
        raise ValueError(
            f"{owner}: {name!r} cannot be the name of an index in Milvus. Use letters, digits and "
            "underscores, and begin with a letter."
        )

    # a path joins slashes
    server = re.fullmatch(r"(https?|tcp|unix):/+(.+)", uri)
    if server is not None:
        if "@" in server[2]:
            raise ValueError(
                f"{owner}: an address must not hold a password. Pass token='user:password', or set "
                f"{TOKEN_VARIABLE}."
            )
        return MilvusAddress(f"{server[1]}://{server[2]}", collection)
    if not uri.endswith(".db"):
        raise ValueError(
            f"{owner}: {PREFIX}{uri} is neither a file of Milvus Lite, whose name ends in .db, nor "
            "a server such as milvus:http://localhost:19530."
        )
    return MilvusAddress(uri, collection)


class MilvusConnection:
    """A client of a Milvus whose calls end in time, with one sentence if they fail.

    Args:
        owner: Name of the caller.
        address: Where it is.
        token: Token, or ``user:password``; defaults to the environment variable ``MILVUS_TOKEN``.

    Attributes:
        client: The client.
        address: Where it is.

    Raises:
        ValueError: If the package is missing, the server does not answer, or it refuses the token.
    """

    def __init__(self, owner: str, address: MilvusAddress, token: str | None) -> None:
        try:
            from pymilvus import MilvusClient
        except ImportError as error:
            raise ValueError(
                f"{owner}: {address.name} needs the package pymilvus; "
                'run pip install "clipreid_kit[milvus]".'
            ) from error

        self.address = address
        token = os.environ.get(TOKEN_VARIABLE, "") if token is None else token
        if address.path is not None:
            token = ""
            address.path.absolute().parent.mkdir(parents=True, exist_ok=True)
        with _without_log():
            try:
                self.client: Any = MilvusClient(
                    address.uri, token=token, timeout=_CONNECT_SECONDS, grpc_options=_GRPC
                )
            except Exception as error:  # of the client, of grpc, and of what either uses
                raise self._sentence(owner, error) from error

    def call(
        self,
        owner: str,
        function: Callable[..., Result],
        *arguments: Any,  # noqa: ANN401 (what the client takes)
        again: Callable[..., Result] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Result:
        """Call a method of the client; again after a pause if the server may recover.

        Args:
            owner: Name of the caller.
            function: The method.
            arguments: What it takes.
            again: What is called instead the next times, for calls that must not happen twice.
            options: What it takes by name.

        Raises:
            ValueError: If it fails.
        """
        options.setdefault("timeout", _CALL_SECONDS)
        with _without_log():
            for pause in _PAUSES:
                try:
                    return function(*arguments, **options)
                except Exception as error:  # of the client, of grpc, and of what either uses
                    if not _TRANSIENT.search(str(error)):
                        raise self._sentence(owner, error) from error
                time.sleep(pause)
                function = again or function

            try:
                return function(*arguments, **options)
            except Exception as error:
                raise self._sentence(owner, error) from error

    def close(self) -> None:
        """Close the client."""
        self.client.close()

    def _sentence(self, owner: str, error: Exception) -> ValueError:
        """Return an error of one sentence."""
        text = _refusal(error) or getattr(error, "message", "") or str(error)
        text = text or type(error).__name__
        reason = " ".join(text.split())[:300].rstrip(" .")
        name = self.address.name

        if self.address.path is None and _REFUSED.search(reason):
            return ValueError(
                f"{owner}: {name} refuses the token, or needs one: pass token=, set "
                f"{TOKEN_VARIABLE}, or give a command --milvus-token-file. It says: {reason}."
            )

        if re.search(
            r"collection .*not (found|exist)|can't find collection", reason, re.IGNORECASE
        ):
            return ValueError(
                f"{owner}: {name} has been encoded again by another model: call reload. It says: "
                f"{reason}."
            )

        if _TRANSIENT.search(reason):
            return ValueError(
                f"{owner}: {name} does not answer: {reason}. What was acknowledged is kept; try "
                "again when the server is back."
            )

        return ValueError(f"{owner}: {name} reports an error: {reason}.")


def _refusal(error: Exception) -> str:
    """Return why a server refuses a token: a client that cannot connect keeps it in the cause."""
    details = getattr(error.__cause__, "details", None)  # of grpc
    text = str(details()) if callable(details) else ""
    return text if _REFUSED.search(text) else ""


@contextmanager
def _without_log() -> Iterator[None]:
    """Keep the client and grpc from logging tracebacks of errors that are raised or handled."""
    loggers = [logging.getLogger(name) for name in ("pymilvus", "grpc")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
