"""`spool metrics`: what all nodes have measured, once or for whoever asks over HTTP."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from spool.command import parser as options_of
from spool.errors import Invalid, NotAllowed

if TYPE_CHECKING:
    import argparse
    from http.server import ThreadingHTTPServer

    from spool.client import Spool

TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATIENCE = 5  # seconds for a request
AT_ONCE = 16  # requests; more are hung up on
EPILOG = """
Without --listen it prints them once. With it, it serves http://ADDRESS:PORT/metrics until it is
stopped; where no address is given, to this machine alone. Nobody is asked for a password: put a
proxy before it where others can reach it. Port 0 is any that is free.

examples:
  spool metrics --listen 9779
  spool metrics --listen 192.0.2.7:9779
  spool metrics --listen '[::1]:9779'
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.add_argument("--listen", metavar="[ADDRESS:]PORT", help="serve them over HTTP")


def run(args: argparse.Namespace) -> int:
    """Print them, or serve them."""
    from spool.scrape import text

    if args.listen is None:
        spool = options_of.open_spool(args)
        sys.stdout.write(text(spool.disk, spool.path))
        return 0
    host, port = address(args.listen)
    spool = options_of.open_spool(args)
    with _server(spool, host, port) as server:
        name = f"[{host}]" if ":" in host else host
        print(f"spool: http://{name}:{server.server_address[1]}/metrics", file=sys.stderr, flush=True)
        server.serve_forever()
    return 0


def address(given: str) -> tuple[str, int]:
    """(address, port); Invalid where it is none."""
    host, colon, port = given.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else "127.0.0.1"
    if not (port.isascii() and port.isdigit() and int(port) < 1 << 16) or not host:
        raise Invalid("--listen", given, "must be PORT, ADDRESS:PORT or [ADDRESS]:PORT, 0 to 65535")
    return host, int(port)


def _server(spool: Spool, host: str, port: int) -> ThreadingHTTPServer:
    import socket
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import BoundedSemaphore

    from spool.scrape import text

    room = BoundedSemaphore(AT_ONCE)

    class Answer(BaseHTTPRequestHandler):
        timeout = PATIENCE
        server_version, sys_version = "spool", ""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404, explain="The metrics are at /metrics.")
                return
            data = text(spool.disk, spool.path).encode()
            self.send_response(200)
            self.send_header("Content-Type", TYPE)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_HEAD = do_GET  # noqa: N815 - a name of the library

        def log_message(self, *_: object) -> None:
            """Who asks every few seconds is no news."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def process_request(self, request: object, client: object) -> None:
            if room.acquire(blocking=False):
                super().process_request(request, client)  # type: ignore[arg-type]
            else:
                self.shutdown_request(request)  # type: ignore[arg-type]

        def process_request_thread(self, request: object, client: object) -> None:
            try:
                super().process_request_thread(request, client)  # type: ignore[arg-type]
            finally:
                room.release()

        def handle_error(self, *_: object) -> None:
            """Who hangs up before the answer is no error of ours."""

    try:
        return Server((host, port), Answer)
    except OSError as problem:
        raise NotAllowed(f"--listen {host}:{port}: {problem.strerror}; choose another one") from None
