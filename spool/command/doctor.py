"""`spool doctor`: whether a spool can work here, and how to mend what is not well."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from spool.command import parser as options_of
from spool.errors import EX_UNAVAILABLE

if TYPE_CHECKING:
    import argparse

EPILOG = "Exit status: 0 where nothing is bad, 69 where something is."


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.add_argument(
        "--fix", action="store_true", help="mend modes that are wrong, as root also owners"
    )
    options_of.add_json(parser, "print one JSON object a check: level, what, remedy")


def run(args: argparse.Namespace) -> int:
    """Check everything."""
    from spool.command import render
    from spool.doctor import examine
    from spool.init import default_dir, is_own
    from spool.probes import BAD
    from spool.safe import safe

    root = os.path.abspath(args.spool or default_dir(os.environ))
    if is_own(root, os.environ) and not os.path.exists(root):
        options_of.open_spool(args)  # the user's own is made on first use
    bad = False
    for check in examine(root, fix=args.fix):
        bad = bad or check.level == BAD
        if args.json:
            row = {"level": check.level, "what": check.what, "remedy": check.remedy or None}
            print(render.json_line(row), flush=True)
            continue
        print(f"{render.paint(check.level.ljust(4), check.level)}  {safe(check.what)}", flush=True)
        if check.remedy:
            print(f"      {safe(check.remedy)}")
    return EX_UNAVAILABLE if bad else 0
