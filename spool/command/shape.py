"""`spool shape`: for how long what waits has been due, by task name and class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool.command import parser as options_of

if TYPE_CHECKING:
    import argparse

EPILOG = """
T is the total, `later` what is not due yet, then what has been due for at most so long. A long
queue is not counted anew: what is shown is the newest count of spoold, and says of when it is.
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.add_argument("--task", metavar="PATTERN", help="only these task names; * for any characters")
    options_of.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Show it."""
    import time

    from spool.command import render
    from spool.patterns import matches
    from spool.shape import LABELS
    from spool.times import parse_utc

    spool = options_of.open_spool(args)
    found = spool.shape()
    tasks: dict[str, Any] = {
        name: row for name, row in found["tasks"].items() if args.task is None or matches(args.task, name)
    }
    if args.json:
        print(render.json_line({**found, "tasks": tasks}))
        return 0
    now = time.time_ns() // 1000
    rows = [(name, prio, counts) for name, row in tasks.items() for prio, counts in row.items()]
    rows.sort(key=lambda row: (-sum(row[2]), row[0], row[1]))
    every = [sum(column) for column in zip(*(row[2] for row in rows), strict=True)]
    if rows:
        head = ("TASK", "CLASS", "T", "later", *LABELS)
        total = ("TOTAL", "", sum(every), *every)
        render.table(head, [total, *((name, prio, sum(c), *c) for name, prio, c in rows)])
    if not found["complete"]:
        print("at least so many: it is a long queue, and spoold has not counted it yet")
    age = now - parse_utc(found["at"])
    if age > 1_000_000:
        print(f"counted {render.when(now - age, now)}")
    return 0
