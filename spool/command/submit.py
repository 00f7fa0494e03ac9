"""`spool submit`: a task or a schedule from words and options, or what a file says."""

from __future__ import annotations

import re
import sys
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

from spool.command import parser as options_of
from spool.errors import Invalid
from spool.names import new_id
from spool.safe import safe, safe_json
from spool.streams import telling

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from spool.client import Spool
    from spool.spools import Spools

LINE_LIMIT = 64 << 20
SHOWN = 20  # ids, where the others could not be printed either
EPILOG = """
A value that is JSON is that, any other is text: n=3 is a number, to=zoe is text, 'n="3"' is text.
Prints the id and nothing else, once the task is safe on disk; with --file one id a line. A file
with another action, such as a cancel or an ack, makes no task: it is asked for, and a refusal told.
With --every a schedule is set, and its name is printed, which is --key, else TASK: `spool cron`.

examples:
  spool submit email.welcome to=zoe@example.org
  spool submit report.daily --at '2026-11-21 07:30' --tz Europe/Rome --deadline +1d --priority low
  spool submit thumb.make --args '{"src": "a.jpg", "sizes": [64, 128]}' --front
  spool submit report.daily --every '30 2 * * *' --tz Europe/Rome
  generate-tasks | spool submit --file -        # NDJSON: one task a line
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.usage = (
        "spool submit TASK [key=value ...] [options]\n       spool submit --file FILE|- [options]"
    )
    parser.add_argument("task", nargs="?", metavar="TASK", help="name of the task")
    parser.add_argument("pairs", nargs="*", metavar="key=value", help="arguments of the task")
    parser.add_argument("--args", metavar="JSON|-", help="arguments as JSON; - reads them")
    parser.add_argument(
        "--every", metavar="CRON", help="again and again: a cron expression, @daily, or a duration"
    )
    parser.add_argument("--front", action="store_true", help="short for --position front")
    parser.add_argument(
        "--file", metavar="FILE|-", help="a whole action, or tasks as NDJSON; - reads them"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the action, submit nothing")
    parser.add_argument(
        "--by", choices=("hash", "waiting"), help="of several spools: to which one (default: hash)"
    )
    options_of.add_key(parser)
    options_of.add_json(parser)
    parser.add_argument(
        "--attach", metavar="NAME=PATH", action="append", default=[], help="a file that comes with it"
    )
    options_of.add_fields(parser, "submit", ("task", "args", "files"))


def run(args: argparse.Namespace) -> int:
    """Submit; print ids."""
    if args.file is not None:
        return _from_file(args)
    if args.task is None:
        options_of.usage(args, "name the task, or --file")
    doc = body(args, _args(args))
    if args.every is not None:
        doc["every"] = options_of.number(args.every)
    spools = options_of.open_spools(args)
    if args.dry_run:
        named = {"id": new_id(), **doc, "files": list(doc["files"])} if args.attach else doc
        show(spools.spools[0], named)
    else:
        _submit(args, spools, doc)
    if "deadline" in doc and "every" not in doc and not args.json:
        _tell_late(doc, spools)
    return 0


def _tell_late(doc: dict[str, Any], spools: Spools) -> None:
    """It is taken, for on_miss says what becomes of it; but more often it is a slip."""
    import time

    from spool.actions import Submit, interpret
    from spool.machine import zone_of

    now = time.time_ns() // 1000
    times: dict[str, Any] = {name: doc[name] for name in ("task", "at", "deadline", "tz") if name in doc}
    action = interpret(times, now=now, dropped=now, zone=spools.spools[0].zone or zone_of(""), uid=None)
    if isinstance(action, Submit) and (task := action.tasks[0]).deadline and task.deadline < task.at:
        what = "is before at" if "at" in doc else "has passed"
        print(f"spool: deadline {what}: late from the start", file=sys.stderr)


def _submit(args: argparse.Namespace, spools: Spools, doc: dict[str, Any]) -> None:
    found = spools.submit_one(doc)
    if "every" not in doc:
        show_ids([found], json=args.json)
    else:  # no task yet, so no id of one
        with telling(f"set {found}"):
            print(f'{{"schedule":"{found}"}}' if args.json else safe(found))


def body(args: argparse.Namespace, task_args: Any) -> dict[str, Any]:
    """The fields of a task from the options."""
    doc = {"task": args.task, **options_of.given_fields(args, "submit")}
    if task_args is not None:
        doc["args"] = task_args
    if attach := getattr(args, "attach", None):
        doc["files"] = _files(attach)
    return doc


def _files(words: list[str]) -> dict[str, str]:
    found = dict(word.partition("=")[::2] for word in words)
    if len(found) < len(words) or not all(found.values()):
        raise Invalid("--attach", " ".join(words), "must be NAME=PATH, each name once")
    return found


def show(spool: Spool, doc: dict[str, Any]) -> None:
    """What --dry-run prints: the action, checked."""
    print(safe_json(spool.preview(doc).decode()))


def show_ids(ids: list[str], *, json: bool) -> None:
    """One id a line."""
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    with telling(f"submitted {' '.join(ids[:SHOWN])}{more}"):
        for task_id in ids:
            print(f'{{"id":"{task_id}"}}' if json else task_id)


def _args(args: argparse.Namespace) -> Any:
    """Arguments from --args and key=value words; None where there are neither."""
    words = options_of.pairs(args.pairs, "argument")
    if args.args is None:
        return words or None
    given = _json(args.args)
    if not words:
        return given
    if not isinstance(given, dict):
        options_of.usage(args, "key=value goes only with --args that is an object")
    return given | words


def _json(text: str) -> Any:
    from spool.strict import decode_value

    data = sys.stdin.buffer.read(LINE_LIMIT) if text == "-" else text
    return decode_value(data, "args")


def _from_file(args: argparse.Namespace) -> int:
    fields = options_of.given_fields(args, "submit")
    words = any(given is not None for given in (args.task, args.args, args.every))
    if fields or words or args.attach:
        options_of.usage(args, "--file says everything itself: no TASK and no fields beside it")
    spools = options_of.open_spools(args)
    if args.file == "-":
        return _from_stream(args, spools, sys.stdin.buffer)
    with open(args.file, "rb") as stream:
        return _from_stream(args, spools, stream)


def _from_stream(args: argparse.Namespace, spools: Spools, stream: IO[bytes]) -> int:
    """A document that ends on its first line has others behind it: NDJSON. Else it is all one."""
    lines = _lines(stream)
    at, first = next(lines, (0, b""))
    after, second = next(lines, (0, b""))
    if second and _is_whole(first):
        _from_lines(args, spools, chain([(at, first), (after, second)], lines))
        return 0
    from spool.strict import decode

    limit = min(spool.max_action_bytes for spool in spools.spools)
    return _one(args, spools, decode(first + second + stream.read(limit + 1), limit=limit))


def _one(args: argparse.Namespace, spools: Spools, doc: dict[str, Any]) -> int:
    if args.dry_run:
        show(spools.spools[0], doc)
    elif (action := doc.get("action", "submit")) != "submit":
        if len(spools.spools) > 1:
            raise Invalid("action", action, "goes to one spool: name it with --spool")
        return _ask(args, spools.spools[0], doc)
    elif isinstance(doc.get("tasks"), list):
        bodies = [{"id": new_id(), **b} if isinstance(b, dict) else b for b in doc["tasks"]]
        then = [{"id": new_id(), **doc["then"]}] if isinstance(doc.get("then"), dict) else []
        named = {**doc, "tasks": bodies, **({"then": then[0]} if then else {})}
        first = next((task for task in doc["tasks"] if isinstance(task, dict)), {})
        spools.place(first, new_id()).act(named)
        show_ids([body["id"] for body in bodies + then], json=args.json)
    else:
        doc.pop("action", None)
        _submit(args, spools, doc)
    return 0


def _ask(args: argparse.Namespace, spool: Spool, doc: dict[str, Any]) -> int:
    """An action that is no submission makes no task, so no id: see what comes of it, as its verb does."""
    from spool.command.asked import see

    stem = spool.act(doc)
    args.verb, args.wait = doc["action"], None
    said = f"{args.verb}: asked for what the file says"
    return see(spool, [stem], args, said, {}, by_match="match" in doc)


def _from_lines(args: argparse.Namespace, spools: Spools, lines: Iterator[tuple[int, bytes]]) -> None:
    """Tasks one a line; what is wrong with one is told by the number of its line."""
    numbers: list[int] = []
    tasks = (_task(line, number, numbers) for number, line in lines)
    if not args.dry_run:
        try:
            show_ids(spools.submit_many(tasks), json=args.json)
        except Invalid as problem:
            found = re.fullmatch(r"tasks\[(\d+)\]\.?(.*)", problem.field, re.DOTALL)
            if found is None or len(spools.spools) > 1:
                raise
            raise _in_line(numbers[int(found[1])], found[2], problem) from None
        return
    for task in tasks:
        try:
            show(spools.spools[0], task)
        except Invalid as problem:
            raise _in_line(numbers[-1], problem.field, problem) from None


def _in_line(number: int, field: str, problem: Invalid) -> Invalid:
    where = f"line {number}: {field}" if field else f"line {number}"
    return Invalid(where, problem.value, problem.rule, problem.near)


def _lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Those that are not blank, with their numbers."""
    number = 0
    while line := stream.readline(LINE_LIMIT):
        number += 1
        if line.strip():
            yield number, line


def _is_whole(line: bytes) -> bool:
    import orjson

    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _task(line: bytes, number: int, numbers: list[int]) -> dict[str, Any]:
    from spool.strict import decode

    numbers.append(number)
    try:
        return decode(line, limit=LINE_LIMIT)
    except Invalid as problem:
        raise _in_line(number, problem.field, problem) from None
