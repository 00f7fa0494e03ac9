"""`spool dash`: what goes on, live, in a browser."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from spool.command import parser as options_of
from spool.errors import EX_UNAVAILABLE, unlistened

if TYPE_CHECKING:
    import argparse

LISTEN = "127.0.0.1:8765"
NEEDS = ("starlette", "uvicorn", "jinja2", "markupsafe")
EPILOG = """
Prints the address to open, with a token that whoever opens it needs. What the pages show is what
this user may read; with --allow-actions their forms drop actions, as this user could. It needs
starlette, uvicorn and jinja2: pip install 'spool[dash]'.

examples:
  spool dash
  spool dash --listen unix:/run/user/1000/spool-dash --allow-actions
  ssh -L 8765:localhost:8765 host spool dash
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    text = f"PORT (0: a free one), HOST:PORT or unix:PATH (default {LISTEN})"
    parser.add_argument("--listen", metavar="ADDRESS", default=LISTEN, help=text)
    parser.add_argument("--allow-actions", action="store_true", help="let the pages change things")
    parser.add_argument("--token-file", metavar="FILE", help="keep the token here; made where missing")
    parser.add_argument("--host", action="append", default=[], metavar="NAME",
                        help="a further name that browsers may use for this host")  # fmt: skip
    options_of.add_json(parser, "print the address as JSON")


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    spool = options_of.open_spool(args)
    try:
        from spool.dash import serve
    except ModuleNotFoundError as problem:
        if (problem.name or "").partition(".")[0] not in NEEDS:
            raise
        print("spool: dash needs some packages: pip install 'spool[dash]'", file=sys.stderr)
        return EX_UNAVAILABLE
    import secrets

    where = serve.address(args.listen)
    token: str | None = None
    if args.token_file is not None:
        token = serve.token_in(args.token_file)
    elif not where.path:
        token = secrets.token_urlsafe(24)
    try:
        listening = serve.bound(where)
    except OSError as problem:
        raise unlistened(args.listen, problem) from None
    found = serve.url(where, listening, token)
    if args.json:
        from spool.command.render import json_line

        print(json_line({"url": found, "allow_actions": args.allow_actions}), flush=True)
    else:
        print(found, flush=True)
    if not where.local:
        print("spool: others can read along on the way here: no TLS; put a proxy or ssh -L before it",
              file=sys.stderr)  # fmt: skip
    serve.serve(spool, listening, where, token=token, allow=args.allow_actions, names=args.host)
    return 0
