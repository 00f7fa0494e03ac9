"""`spool top`: what goes on, live, on a terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from spool.command import parser as options_of
from spool.errors import EX_UNAVAILABLE, Invalid
from spool.top.tables import VIEWS

if TYPE_CHECKING:
    import argparse

SHORTEST = 0.1  # seconds; the status file is replaced as often
EPILOG = """
Keys: 1 to 9 or Tab for another view, / to filter, Enter for a task with its log, c cancel, r retry,
h hold, u release, m move, p pause, ? for all of them, q to quit. It needs a terminal, and textual:
pip install 'spool[top]'. Programs read `spool status --json`.
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.add_argument("view", nargs="?", choices=VIEWS, default="running", metavar="VIEW",
                        help=f"what to begin with: {', '.join(VIEWS)}")  # fmt: skip
    parser.add_argument("--task", metavar="PATTERN", default="", help="only these; * for any characters")
    parser.add_argument(
        "--interval", metavar="DURATION", default="1s", help="how often to look (default 1s)"
    )


def run(args: argparse.Namespace) -> int:
    """Show it until told to stop."""
    from spool.command.wait import seconds

    interval = seconds(args.interval, "--interval")
    if interval < SHORTEST:
        raise Invalid("--interval", args.interval, f"must be at least {SHORTEST:g} s")
    spool = options_of.open_spool(args)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("spool: top needs a terminal; `spool status` tells it once", file=sys.stderr)
        return EX_UNAVAILABLE
    if os.environ.get("TERM") == "dumb":
        print("spool: a dumb terminal cannot show top; `spool status` tells it once", file=sys.stderr)
        return EX_UNAVAILABLE
    try:
        from spool.top.app import Top
    except ModuleNotFoundError as problem:
        if (problem.name or "").partition(".")[0] not in ("textual", "rich"):
            raise
        print("spool: top needs textual: pip install 'spool[top]'", file=sys.stderr)
        return EX_UNAVAILABLE
    top = Top(spool, view=args.view, wanted=args.task, interval=interval)
    top.run()
    return top.return_code or 0
