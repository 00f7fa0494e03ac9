"""`spool metrics`: what all nodes have measured, once or for whoever asks over HTTP."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from spool.command import parser as options_of
from spool.errors import Invalid

if TYPE_CHECKING:
    import argparse

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
    options_of.add_json(parser, "print one JSON object a sample")


def run(args: argparse.Namespace) -> int:
    """Print them, or serve them."""
    from spool.command.render import json_line
    from spool.scrape import samples, text

    if args.listen is None:
        spool = options_of.open_spool(args)
        found = text(spool.disk, spool.path)
        if not args.json:
            sys.stdout.write(found)
        else:
            for sample in samples(found):
                print(json_line(sample))
        return 0
    if args.json:
        options_of.usage(args, "--listen serves the text of Prometheus: no --json beside it")
    from spool.scraped import Server

    host, port = address(args.listen)
    spool = options_of.open_spool(args)
    with Server(spool.disk, spool.path, host, port) as server:
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
