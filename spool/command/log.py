"""`spool log`: what a task printed, now or as it comes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from spool import layout
from spool.command import parser as options_of
from spool.errors import EX_NOINPUT

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from spool.client import Spool
    from spool.views import TaskView

EPILOG = """
Both streams of the handler, in the order they came. On a terminal what could control it is shown
as \\x1b and the like; --raw, a pipe or a file gets the bytes as they are.
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    options_of.add_id(parser, "id of the task")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("-f", "--follow", action="store_true", help="go on until the task has ended")
    options_of.add_json(how, "print one object")
    parser.add_argument("-n", "--attempt", type=int, metavar="N", help="of this attempt, not the newest")
    parser.add_argument("--raw", action="store_true", help="as it is, on a terminal too")


def run(args: argparse.Namespace) -> int:
    """Print a log."""
    from spool.command import render
    from spool.command.why import known
    from spool.follow import Log

    spool, args.id = options_of.open_spool(args), options_of.one_id(args)
    task = known(spool, args.id)
    attempt = args.attempt or _newest(spool, task)
    if args.follow:
        follow(spool, args.id, attempt, raw=args.raw, on=args.attempt is None)
        left = layout.record(args.id, attempt), layout.log(args.id, attempt)
        return 0 if any(map(spool.disk.info, left)) else _no_log(args.id, attempt)
    with Log(spool.disk, spool.path, args.id, attempt) as log:
        if spool.disk.info(layout.log(args.id, attempt)) is None:
            return _no_log(args.id, attempt)
        if args.json:
            text = b"".join(log.read()).decode("utf-8", "backslashreplace")
            found = {
                "id": args.id,
                "attempt": attempt,
                "path": layout.log(args.id, attempt),
                "text": text,
            }
            print(render.json_line(found))
        else:
            put(log.read(), raw=args.raw)
    return 0


def follow(spool: Spool, task_id: str, attempt: int, *, raw: bool, on: bool) -> None:
    """Print the log of an attempt as it comes; with `on` those of the next attempts as well."""
    from spool import look
    from spool.follow import Log

    while True:
        with Log(spool.disk, spool.path, task_id, attempt) as log:
            put(log.follow(), raw=raw)
        last = look.last_record(spool.disk, task_id)
        if not on or last is None or not last.get("will_retry"):
            return
        error = last.get("error") or {}
        why = f"{last.get('outcome')}: {error.get('message')}"
        attempt = spool.get(task_id).attempt
        from spool.safe import safe

        print(f"spool: {safe(why)}; attempt {attempt} is to come", file=sys.stderr)


def put(parts: Iterable[bytes], *, raw: bool) -> None:
    """Bytes to standard output; on a terminal with nothing in them that could control it."""
    if raw or not sys.stdout.isatty():
        sys.stdout.flush()
        for part in parts:
            sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()
        return
    import codecs

    from spool.safe import safe

    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    for part in parts:
        print(safe(decoder.decode(part), keep="\n\t"), end="", flush=True)


def _no_log(task_id: str, attempt: int) -> int:
    print(f"spool: attempt {attempt} of {task_id} has no log", file=sys.stderr)
    return EX_NOINPUT


def _newest(spool: Spool, task: TaskView) -> int:
    """The attempt that runs; else the newest that has ended and printed something; else the next."""
    if task.state == layout.RUNNING or not task.attempts:
        return task.attempt
    logged = [r["attempt"] for r in task.attempts if spool.disk.info(layout.log(task.id, r["attempt"]))]
    return int(logged[-1] if logged else task.attempts[-1]["attempt"])
