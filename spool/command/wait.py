"""`spool wait`: return when tasks have ended, with a status that says how."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from spool.command import parser as options_of
from spool.command.bar import Bar
from spool.errors import (
    EX_DATAERR,
    EX_NOINPUT,
    EX_TEMPFAIL,
    Invalid,
    NoSuchTask,
    Refused,
    SpoolError,
    TimedOut,
)
from spool.safe import safe

if TYPE_CHECKING:
    import argparse

    from spool.client import Spool
    from spool.spools import Spools

EVERY = 0.5  # seconds between two looks at how far a task is, for a person
DONE, FAILED, CANCELLED = 0, 1, 2
STATUS = {"done": DONE, "failed": FAILED, "cancelled": CANCELLED}
# Of many tasks, the last of these.
WORST = (DONE, CANCELLED, FAILED, EX_TEMPFAIL, EX_NOINPUT, EX_DATAERR)
EPILOG = """
Prints the result of each task that is done as a line of JSON, and why others are not on standard
error. Exit status: 0 done, 1 failed, 2 cancelled, 65 refused, 66 no such task, 75 time-out; of many
tasks the worst: refused, no such task, time-out, failed, cancelled, done.

examples:
  spool wait $(spool submit thumb.make src=a.jpg)
  spool wait --timeout 90s --json ID ID
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    options_of.add_ids(parser)
    parser.add_argument("--timeout", metavar="DURATION", help="give up after this time")
    options_of.add_json(parser, "print the last record of each task")


def run(args: argparse.Namespace) -> int:
    """Wait for each."""
    spools = options_of.open_spools(args)
    end = None if args.timeout is None else time.monotonic() + seconds(args.timeout, "--timeout")
    worst = DONE
    for task_id in options_of.ids_of(args.ids):
        status = _one(spools, task_id, end, json=args.json)
        worst = max(worst, status, key=WORST.index)
    return worst


def seconds(text: str, what: str) -> float:
    """A duration as an option gives it; Invalid where it is none."""
    from spool.times import parse_duration

    try:
        return parse_duration(float(text) if text.replace(".", "", 1).isdigit() else text) / 1e6
    except ValueError as problem:
        raise Invalid(what, text, str(problem)) from None


def told(record: dict[str, Any]) -> str:
    """How a task that is not done has ended, in words."""
    error = record.get("error")
    message = error.get("message") if isinstance(error, dict) else None
    ended = f"{record['id']} {record['event']}"
    if record["event"] == "failed":
        ended += f" with attempt {record.get('attempt')}"
    return f"{ended}: {message}" if message else ended


@cache
def note_if_unserved(spool: Spool) -> None:
    """Tell a person who is about to wait that nobody works; once."""
    from spool import daemons

    if not daemons.any_alive(spool.disk, spool.path):
        print(
            f"spool: no spoold serves {safe(spool.path)}; it waits until one does"
            f" (start it with `{safe(daemons.start_hint(spool.path))}`)",
            file=sys.stderr,
        )


def _one(spools: Spools, task_id: str, end: float | None, *, json: bool) -> int:
    try:
        record = _record(spools.find(task_id), task_id, end)
    except (NoSuchTask, Refused, TimedOut) as problem:
        print(f"spool: {safe(problem)}", file=sys.stderr)
        return problem.exit_code
    status = STATUS[record["event"]]
    from spool.command.render import json_line

    if json:
        print(json_line(record), flush=True)
    elif status == DONE:
        print(json_line(record.get("result")), flush=True)
    else:
        print(f"spool: {safe(told(record))}", file=sys.stderr)
    return status


def _record(spool: Spool, task_id: str, end: float | None) -> dict[str, Any]:
    """The record of its end; a moment's patience before the note that nobody serves the spool."""
    left = None if end is None else max(0.0, end - time.monotonic())
    if left is not None and left < 1:
        return spool.wait(task_id, left)
    try:
        return spool.wait(task_id, 1)
    except TimedOut:
        note_if_unserved(spool)
    with Bar("wait") as bar:
        once = EVERY if bar.shown else math.inf
        while True:
            left = math.inf if end is None else max(0.0, end - time.monotonic())
            part = min(left, once)
            try:
                return spool.wait(task_id, None if part == math.inf else part)
            except TimedOut:
                if left <= once:
                    raise
            _show(spool, task_id, bar)


def _show(spool: Spool, task_id: str, bar: Bar) -> None:
    """What the task waits for or how far it is."""
    from spool.command.why import explainer

    with contextlib.suppress(SpoolError, OSError):  # it moves; what is told is for a moment
        reasons, task = explainer(spool), spool.get(task_id)
        bar.draw(reasons.share(task), f"{task.task} {reasons.line(task)}")
