"""``clipreid serve``: the local web page that searches an index."""

import contextlib
import secrets
import socket
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipreid_kit.cli._store import STORE_HELP, TokenFileOption, open_indexes

if TYPE_CHECKING:
    from fastapi import FastAPI

_MOST_CONNECTIONS = 1000


def serve(
    store: Annotated[
        list[str], typer.Argument(help=f"{STORE_HELP} A second one to compare with it.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="CLIPREID_SERVE_TOKEN",
            help="What who opens the page has to know; made up for other addresses.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name of this machine in URLs; several times.")
    ] = None,
    marks: Annotated[
        Path | None,
        typer.Option(help="File for right and wrong hits; STORE.marks.jsonl without it."),
    ] = None,
    milvus_token_file: TokenFileOption = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page.")] = False,
) -> None:
    """Search an index on a web page, by images and sentences.

    The page is on this machine alone, unless --host says otherwise. Ctrl-C stops it.

    Example: clipreid serve gallery.index
    """
    if len(store) > 2:
        raise typer.BadParameter(f"one index, or two to compare; got {len(store)}")
    _check_extra()

    from clipreid_kit.retrieval.page import search_app
    from clipreid_kit.retrieval.page.guard import is_loopback

    listener = _listen(host, port)
    with contextlib.closing(listener):
        hosts = [host, *(allow_host or ())]
        if not is_loopback(listener.getsockname()[0]):
            hosts.append(socket.gethostname())
            token = token or secrets.token_urlsafe(24)
        app = search_app(
            open_indexes(store, milvus_token_file), marks=marks, token=token, hosts=hosts
        )

        url = _url(host, listener.getsockname()[1], token)
        print(f"{', '.join(store)}: {url}  (Ctrl-C stops it)", flush=True)
        if open_browser:
            webbrowser.open(url)
        _run(app, listener)
    print("stopped")


def _check_extra() -> None:
    """Raise ValueError if the extra is not installed."""
    from clipreid_kit.cli._requirements import problem_of, requirements_of

    problems = [problem_of(requirement) for requirement in requirements_of("serve")]
    lacking = [problem for problem in problems if problem is not None]
    if lacking:
        raise ValueError(f"serve: {', '.join(lacking)}. Run pip install 'clipreid_kit[serve]'.")


def _listen(host: str, port: int) -> socket.socket:
    """Open a socket.

    Raises:
        ValueError: If the address is not of this machine, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ValueError(f"serve: {host} is no address to listen on: {error.strerror}.") from error

    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ValueError(
            f"serve: cannot listen on {host}:{port}: {error.strerror}. Choose another --port; 0 "
            "takes any that is free."
        ) from error
    return listener


def _url(host: str, port: int, token: str | None) -> str:
    """Return the address to open in a browser."""
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)  # noqa: S104
    name = f"[{shown}]" if ":" in shown else shown
    return f"http://{name}:{port}/" + ("" if token is None else f"?token={token}")


def _run(app: "FastAPI", listener: socket.socket) -> None:
    """Serve until Ctrl-C."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # URLs may hold the token
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=3,
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
