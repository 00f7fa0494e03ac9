"""`spool check-deploy`: whether the code on disk can run the tasks that wait."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from spool.command import parser as options_of

if TYPE_CHECKING:
    import argparse

UNFIT = 1
EPILOG = """
Run it where the new code is, before the switch: it imports MODULE (default: those that handlers
name) and holds the name, version and args of every task that is dropped, waits, is held or runs,
or that a schedule makes, against its handler and the module of that. What neither a handler nor a
parent takes is listed too. No task is run and no daemon is needed.

exit status:
  0    the code can run them all
  1    it cannot run what is listed
  65   a module cannot be imported, or neither marks a task nor is named by a handler
  74   an error of input or output
  78   spool.toml breaks a rule
  130  interrupted
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.add_argument(
        "modules", nargs="*", metavar="MODULE", help="a module with functions marked @task"
    )
    parser.add_argument("--path", metavar="DIR", help="import from there (default: where you are)")
    parser.add_argument(
        "--handler",
        metavar="PATTERN",
        action="append",
        default=[],
        help="only tasks of this handler, as spool.toml names it; may be repeated",
    )
    parser.add_argument(
        "--interpreter",
        metavar="PYTHON",
        help="the Python that imports (default: a handler's own, else the one that runs spool)",
    )
    options_of.add_json(parser, "print one JSON object a reason")


def run(args: argparse.Namespace) -> int:
    """Import, compare, list."""
    from spool import look
    from spool.command import render
    from spool.command.bar import Bar
    from spool.tasks.deploy import WAITING, check

    spool = options_of.open_spool(args)
    if args.path is not None:
        os.chdir(args.path)
    with Bar("check-deploy") as bar:
        if bar.shown:
            counts, _ = look.count(spool.disk, WAITING, limit=sys.maxsize)
            bar.total = sum(counts.values())
        report = check(bar.names(spool.disk), args.modules, args.handler, args.interpreter)
    if args.json:
        for one in report.problems:
            print(
                render.json_line(
                    {
                        "task": one.task,
                        "version": one.version,
                        "count": one.count,
                        "reason": one.reason,
                        "ids": one.ids,
                    }
                )
            )
    elif report.problems:
        rows = [
            (p.task, "-" if p.version is None else p.version, p.count, p.reason) for p in report.problems
        ]
        render.table(("TASK", "VERSION", "TASKS", "REASON"), rows)
    if not report.problems and sys.stdout.isatty():
        print(f"{report.checked} tasks, and the code can run them all")
    return UNFIT if report.problems else 0
