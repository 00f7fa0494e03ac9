"""`spool init`: make a spool, or complete one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from spool.command import parser as options_of
from spool.safe import safe

if TYPE_CHECKING:
    import argparse


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("dir", nargs="?", metavar="DIR", help="where; made if it is not there")
    options_of.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Make it."""
    from spool.init import default_dir, init

    if args.dir and args.spool and os.path.abspath(args.dir) != os.path.abspath(args.spool):
        options_of.usage(args, "DIR and --spool name two directories: which one?")
    path = os.path.abspath(args.dir or args.spool or default_dir(os.environ))
    made = init(path)
    if args.json:
        from spool.command.render import json_line

        print(json_line({"spool": path, "made": made}))
    else:
        print(f"made {safe(path)}" if made else f"{safe(path)} is a spool already")
    return 0
