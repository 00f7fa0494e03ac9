"""Serves the pages on a socket that is bound here, so that its rights and its port are known."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
from typing import TYPE_CHECKING

import uvicorn
from msgspec import Struct
from uvicorn.protocols.http.h11_impl import H11Protocol

from spool.dash.app import Dash
from spool.dash.guard import Guard
from spool.dash.source import Source
from spool.errors import Invalid

if TYPE_CHECKING:
    from asyncio import Transport
    from collections.abc import Sequence

    from spool.client import Spool

UNIX = "unix:"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
SHORTEST = 16  # characters of a token
CONNECTIONS = 200  # at most; what comes then is told so
IDLE = 100  # of them that wait for a request
SWITCH = 0.001  # seconds until a page gets its turn beside what reads a million names


class Address(Struct, frozen=True):
    """Where to listen: a path, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def local(self) -> bool:
        """Whether nobody on another machine reaches it."""
        return bool(self.path) or self.host in LOOPBACK


def address(text: str) -> Address:
    """unix:PATH, PORT or HOST:PORT. Invalid."""
    if text.startswith(UNIX) and len(text) > len(UNIX):
        return Address(path=os.path.abspath(text[len(UNIX) :]))
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise Invalid("--listen", text, "must be a port, HOST:PORT, or unix:PATH")
    return Address(host=host.strip("[]") or LOOPBACK[1], port=int(port))


def bound(where: Address) -> socket.socket:
    """A socket that listens there; one at a path is the user's alone."""
    family = socket.AF_UNIX if where.path else socket.AF_INET6 if ":" in where.host else socket.AF_INET
    found = socket.socket(family)
    try:
        if where.path:
            _remove_stale(where.path)
            mask = os.umask(0o177)
            try:
                found.bind(where.path)
            finally:
                os.umask(mask)
        else:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((where.host, where.port))
        found.listen(128)
    except BaseException:
        found.close()
        raise
    return found


def _remove_stale(path: str) -> None:
    """A socket that nobody listens on goes; anything else is left, and bind says so."""
    import stat

    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


def token_in(path: str) -> str:
    """The token in a file of the user's own, made where it is missing. Invalid."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "r+", encoding="ascii", errors="replace") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise Invalid("--token-file", path, "must be readable by its owner alone (chmod 600)")
        found = file.read(1000).strip()
        if not found:
            found = secrets.token_urlsafe(24)
            file.write(f"{found}\n")
    if len(found) < SHORTEST or (not found.isalnum() and not set(found) <= _URL_SAFE):
        raise Invalid("--token-file", path, f"must hold at least {SHORTEST} letters, digits, - or _")
    return found


def url(where: Address, listening: socket.socket, token: str | None) -> str:
    """What to open in a browser."""
    if where.path:
        return f"{UNIX}{where.path}"
    host = f"[{where.host}]" if ":" in where.host else where.host
    query = f"?token={token}" if token else ""
    return f"http://{host}:{listening.getsockname()[1]}/{query}"


class Connection(H11Protocol):
    """One of many: where too many wait for a request, or the rest of its head, the oldest of these goes.

    Else whoever reaches the port could keep everybody out, without a token.
    """

    since = 0.0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """It is there, and has nothing to say yet."""
        super().connection_made(transport)
        self.since = self.loop.time()
        idle = [one for one in self.connections if isinstance(one, Connection) and one.is_idle]
        if len(idle) > IDLE:
            min(idle, key=lambda one: one.since).transport.abort()

    @property
    def is_idle(self) -> bool:
        """Whether no request has come that has no answer yet."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and not self.transport.is_closing()


def serve(  # noqa: PLR0913 - the options of the command
    spool: Spool,
    listening: socket.socket,
    where: Address,
    *,
    token: str | None,
    allow: bool,
    names: Sequence[str] = (),
) -> None:
    """Serve until a signal. `names`: further names this host is called by."""
    sys.setswitchinterval(SWITCH)
    source = Source(spool)
    source.start()
    port = 0 if where.path else listening.getsockname()[1]
    hosts = {*LOOPBACK, where.host, *names} - {""}
    app = Guard(Dash(source, allow=allow).app(), token=token, hosts=hosts, port=port)
    config = uvicorn.Config(
        app, log_level="warning", lifespan="off", server_header=False, timeout_graceful_shutdown=1,
        proxy_headers=False, limit_concurrency=CONNECTIONS, http=Connection,
    )  # fmt: skip
    signal.signal(signal.SIGTERM, _leave)  # uvicorn raises it again when it has ended
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        if where.path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(where.path)


def _leave(number: int, frame: object) -> None:
    del number, frame
    sys.exit(0)


_URL_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
