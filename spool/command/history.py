"""`spool history`: the journal: who submitted, every transition, who asked for what."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from spool import layout
from spool.command import parser as options_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from spool.client import Spool
    from spool.journal import Filter

ENDS = ("succeed", "fail", "give_up", "interrupt")
AGAIN = ("snooze", "return")  # behind them an attempt may have the same number
TOLD = ("at", "event", "id", "task", "from", "to", "entry", "node", "by")
EPILOG = """
One line for each transition, oldest first, packed days as well. TIME is a time, or a duration such
as 2h: that long ago. A line may come twice where the daemon was killed. Of an ID the claims that
another node was faster with are left out, but with --json.

examples:
  spool history --since 2h --state failed
  spool history --task 'mail.*' --event cancel --writer zoe
  spool history -f --json | jq .task
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.add_argument("ids", nargs="*", metavar="ID", help=f"only these: {options_of.ID_HELP}")
    parser.add_argument("--task", metavar="PATTERN", help="only these task names; * for any characters")
    parser.add_argument(
        "--state", choices=layout.STATES, metavar="STATE", help="only what led to this state"
    )
    parser.add_argument("--event", metavar="EVENT", help="only these: submit, claim, fail, cancel, ...")
    parser.add_argument("--parent", metavar="PARENT", help="only where this parent is told")
    parser.add_argument("--key", metavar="KEY", help="only of tasks with this key")
    parser.add_argument("--error", metavar="FP", help="only failures whose fingerprint begins so")
    parser.add_argument("--writer", metavar="USER", help="only what this user, or uid, asked for")
    parser.add_argument("--node", metavar="NAME", help="only what this node did")
    parser.add_argument("--since", metavar="TIME", help="from then on")
    parser.add_argument("--until", metavar="TIME", help="before then")
    parser.add_argument("-n", type=int, default=0, metavar="N", help="only the last N, 0: all (default)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what happens from now")
    options_of.add_json(parser, "print the lines as they are, one JSON object each")


def run(args: argparse.Namespace) -> int:
    """Print lines."""
    if args.n < 0:
        options_of.usage(args, "-n takes a number from 0")
    spool = options_of.open_spool(args)
    ids = options_of.ids_of(args.ids)
    wanted = _filter(args, spool, ids)
    if args.ids and not ids:
        return 0
    if args.follow and (status := _check_known(spool, set(ids))):
        return status
    unseen = set(ids)
    lines = _lines(spool.path, wanted, args)
    for line in _settled(list(lines)) if ids and not (args.follow or args.json) else lines:
        _show(line, json=args.json)
        if unseen:
            unseen.discard(line["id"])
    return _check_known(spool, unseen)


def _settled(lines: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Without the claims that came to nothing: another node has claimed that attempt, and ended it.

    A claim is written before the rename that decides which node has it.
    """
    told = [tuple(str(line.get(name)) for name in ("event", "node", "id", "attempt")) for line in lines]
    claims = {tuple(rest) for event, *rest in told if event == "claim"}
    again = {task_id for event, _, task_id, _ in told if event in AGAIN}
    ended = {(task_id, attempt): node for event, node, task_id, attempt in told if event in ENDS}
    for line, (event, node, task_id, attempt) in zip(lines, told, strict=True):
        who = ended.get((task_id, attempt), node)
        known = (who, task_id, attempt) in claims and task_id not in again
        if event != "claim" or who == node or not known:
            yield line


def _check_known(spool: Spool, ids: set[str]) -> int:
    """An error of those that no line tells of, whatever else was asked for, and no task has."""
    from spool import journal
    from spool.command.why import each, known

    if not ids:
        return 0
    for line in journal.read(spool.path, journal.Filter(ids=frozenset(ids))):
        ids.discard(line["id"])
        if not ids:
            break
    return each(sorted(ids), lambda task_id: known(spool, task_id))


def _filter(args: argparse.Namespace, spool: Spool, ids: list[str]) -> Filter:
    from spool.journal import EVENTS, Filter

    if args.event is not None and args.event not in EVENTS:
        options_of.usage(args, f"--event is one of {', '.join(EVENTS)}")
    return Filter(
        ids=frozenset(ids),
        task=args.task,
        state=args.state,
        event=args.event,
        parent=args.parent,
        key=args.key,
        error=args.error,
        writer=_uid(args),
        node=args.node,
        since=options_of.instant(args.since, "--since", spool),
        until=options_of.instant(args.until, "--until", spool),
    )


def _uid(args: argparse.Namespace) -> int | None:
    import pwd

    if args.writer is None:
        return None
    if args.writer.isascii() and args.writer.isdigit():
        return int(args.writer)
    try:
        return pwd.getpwnam(args.writer).pw_uid
    except KeyError:
        options_of.usage(args, "--writer takes a user of this machine, or a uid")


def _lines(root: str, wanted: Filter, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from spool import journal
    from spool.scene import past

    seen: dict[str, int] | None = None
    if args.follow:
        seen = journal.ends(root, wanted) if args.n else {}
    if args.n:
        yield from reversed(past.search(root, wanted, args.n, math.inf, seen).lines)
    else:
        yield from journal.read(root, wanted, seen)
    if seen is not None:
        sys.stdout.flush()
        for line in journal.follow(root, wanted, seen):
            yield line
            sys.stdout.flush()


def _show(line: dict[str, Any], *, json: bool) -> None:
    from spool.command import render
    from spool.safe import safe

    if json:
        print(render.json_line(line))
        return
    to = str(line.get("to") or "")
    head = f"{_clock(line.get('at'))}  {safe(line.get('event')):<10}"
    what = f"{safe(line.get('id') or ''):<32}  {safe(line.get('task') or '')}"
    more = ", ".join(_more(line))
    print(f"{head}  {what}  {render.paint(safe(to), to)}{f'  {safe(more)}' if more else ''}")


def _more(line: dict[str, Any]) -> Iterator[str]:
    """What is left of a line, in words."""
    from spool.command import render

    for name, value in line.items():
        if name == "reason" and isinstance(value, dict):
            yield f"uid {value.get('uid')}: {value.get('text')}"
        elif name not in TOLD and value is not None:
            yield f"{name} {value if isinstance(value, str | int) else render.json_line(value)}"
    by = line.get("by")
    if isinstance(by, dict):
        key = f", key {by['key']}" if by.get("key") else ""
        yield f"by uid {by.get('uid')}{key}{': ' if by.get('why') else ''}{by.get('why') or ''}"


def _clock(text: Any) -> str:
    from spool.machine import zone_of
    from spool.times import format_local, parse_utc

    try:
        return format_local(parse_utc(text), zone_of(""))
    except (ValueError, TypeError):
        return str(text or "")
