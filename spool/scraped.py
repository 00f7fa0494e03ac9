"""The metrics over HTTP, for a Prometheus that asks: GET /metrics, and nothing else."""

from __future__ import annotations

import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

from spool.errors import SpoolError, unlistened
from spool.safe import safe
from spool.scrape import text

if TYPE_CHECKING:
    from spool.disk import Disk

TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATIENCE = 5  # seconds for a request
AT_ONCE = 16  # requests; more are hung up on


class Server(ThreadingHTTPServer):
    """Serves one spool until the end of its `with`. NotListening or NotAllowed."""

    daemon_threads = True

    def __init__(self, disk: Disk, root: str, host: str, port: int) -> None:
        self.disk = disk
        self.root = root
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._room = BoundedSemaphore(AT_ONCE)
        try:
            super().__init__((host, port), Answer)
        except OSError as problem:
            raise unlistened(f"{host}:{port}", problem) from None

    def process_request(self, request: object, client: object) -> None:
        """A thread for it, or none where there are enough."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client)  # type: ignore[arg-type]
        else:
            self.shutdown_request(request)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client: object) -> None:
        """In its thread."""
        try:
            super().process_request_thread(request, client)  # type: ignore[arg-type]
        finally:
            self._room.release()

    def handle_error(self, request: object, client: object) -> None:
        """Who hangs up before the answer is no error of ours; all else is, and loud."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client)  # type: ignore[arg-type]


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    timeout = PATIENCE
    server_version, sys_version = "spool", ""

    def do_GET(self) -> None:
        """The metrics as they are now."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404, explain="The metrics are at /metrics.")
            return
        try:
            data = text(self.server.disk, self.server.root).encode()
        except (OSError, SpoolError) as problem:
            print(f"spool: {safe(problem)}", file=sys.stderr, flush=True)
            self.send_error(500, explain=safe(problem))
            return
        self.send_response(200)
        self.send_header("Content-Type", TYPE)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_HEAD = do_GET  # noqa: N815 - a name of the library

    def log_message(self, *_: object) -> None:
        """Who asks every few seconds is no news."""
