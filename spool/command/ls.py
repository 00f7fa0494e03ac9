"""`spool ls`: the tasks of some states, in the order of the queue; what is shown of them is opened."""

from __future__ import annotations

import sys
import time
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

from spool import layout, look
from spool.command import parser as options_of
from spool.heldfor import AFTER
from spool.safe import safe
from spool.turn import turn

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from spool.client import Spool
    from spool.owncopy import Task
    from spool.views import Listed

DEFAULT = (layout.RUNNING, layout.PENDING, layout.HELD)
RANK = {s: i for i, s in enumerate((layout.RUNNING, layout.PENDING, layout.HELD, *layout.ENDED))}
FEW = 1000  # rows for which files are opened
EPILOG = """
Without a STATE: what runs, what waits in the order it will run, what is held. What has ended comes
latest first. `incoming/` is not listed: a daemon takes it in within milliseconds. Where none
does, a note on the terminal says how much waits there.

examples:
  spool ls
  spool ls failed --task 'thumb.*' --ids | spool retry -
  spool ls --all -n 0 --json
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.add_argument("state", nargs="?", metavar="STATE", help=" ".join(layout.STATES))
    parser.add_argument("--task", metavar="PATTERN", help="only these task names; * for any characters")
    parser.add_argument("--all", action="store_true", help="what has ended as well")
    parser.add_argument("-n", type=int, default=50, metavar="N", help="at most N, 0: all (default 50)")
    parser.add_argument("--ids", action="store_true", help="print ids only")
    options_of.add_json(parser, "print one JSON object a line")


def run(args: argparse.Namespace) -> int:
    """List."""
    if args.n < 0:
        options_of.usage(args, "-n takes a number from 0")
    if args.state not in (None, *layout.STATES):
        options_of.usage(args, f"STATE is one of {', '.join(layout.STATES)}")
    found = options_of.open_spools(args).spools
    for number, spool in enumerate(found):
        if len(found) > 1 and not args.ids and not args.json:
            print(*[""] * (number > 0), f"{safe(spool.path)}:", sep="\n")
        _list(spool, args, {"spool": spool.path} if len(found) > 1 else {})
    return 0


def _list(spool: Spool, args: argparse.Namespace, more: dict[str, str]) -> None:
    """The tasks of a spool; `more` is in each object of --json."""
    now = time.time_ns() // 1000
    seen = 0

    def counted() -> Iterator[Listed]:
        nonlocal seen
        for one in _candidates(spool, args):
            seen += 1
            yield one

    def order(one: Listed) -> tuple[int, ...]:
        return _order(one, now)

    rows = sorted(counted(), key=order) if not args.n else nsmallest(args.n, counted(), key=order)
    _print(spool, args, rows, now, more)
    if seen > len(rows) and sys.stdout.isatty() and not args.json:
        print(f"{seen - len(rows)} more; -n 0 shows all", file=sys.stderr)
    if (sys.stderr if args.ids else sys.stdout).isatty() and not args.json:
        _note_untaken(spool, now)


def _note_untaken(spool: Spool, now: int) -> None:
    """Tell a person of what was dropped where nobody takes it in: it is in no row."""
    from spool import daemons
    from spool.why import SOON, Why

    untaken = look.dropped(spool.disk)
    if not untaken:
        return
    reasons = Why(spool.disk, spool.path, now, str)
    infos = (spool.disk.info(f"{layout.INCOMING}/{name}") for name in untaken[:FEW])
    if not reasons.alive:
        hint = daemons.start_hint(spool.path)
        told = f", no spoold takes them in; start it with `{hint}`"
    elif why := reasons.shut():
        told = f", not taken in: {why}"
    elif any(info is not None and now - info.ctime_us > SOON for info in infos):
        told = ", not taken in yet"
    else:
        return
    print(f"{len(untaken)} in incoming/{safe(told)}", file=sys.stderr)


def _candidates(spool: Spool, args: argparse.Namespace) -> Iterator[Listed]:
    if args.state is not None:
        yield from spool.list(args.state, args.task)
        return
    for state in layout.STATES if args.all else DEFAULT:
        yield from spool.list(state, args.task)


def _order(one: Listed, now: int) -> tuple[int, ...]:
    if one.state == layout.PENDING:
        return (RANK[one.state], *turn(one.entry, now))
    if one.state in layout.ENDED:
        return (RANK[one.state], -one.at, int(one.id, 16))
    return (RANK[one.state], one.at, int(one.id, 16))


def _print(
    spool: Spool, args: argparse.Namespace, rows: list[Listed], now: int, more: dict[str, str]
) -> None:
    from spool.command import render

    if args.ids:
        for one in rows:
            print(render.json_line({**more, "id": one.id}) if args.json else one.id)
        return
    from spool import daemons
    from spool.heldback import HeldBack
    from spool.times import format_utc

    alive = [status for status in daemons.nodes(spool.disk, spool.path).values() if status["alive"]]
    show = format_utc if args.json else lambda us: render.clock(us, now)
    rows = HeldBack(spool.disk, alive, show).told(rows, now)
    few = len(rows) <= FEW

    if args.json:
        for one in rows:
            task = _opened(spool, one) if few else None
            told = {"key": task and task.key, "after": task and task.after} if few else {}
            print(render.json_line({**more, **one.plain(), **told}))
        return
    if not rows:
        return
    head = ("STATE", "WHEN", "CLASS", "ID", "TASK", "ATTEMPT", "WHY")
    shown = [_row(spool, one, now, few=few) for one in rows]
    render.table(head, shown, colour=0, spare=(head.index("ID"), head.index("CLASS")))


def _row(spool: Spool, one: Listed, now: int, *, few: bool) -> tuple[Any, ...]:
    when = _when(spool, one, now)
    why = ", ".join(filter(None, _why(one, now, _told(spool, one) if few else [])))
    return (one.state, when, one.priority, one.id, one.task, one.attempt, why)


def _opened(spool: Spool, one: Listed) -> Task | None:
    """The task itself, also where it has just moved on; None where it has gone, or is damaged."""
    from spool.disk import Missing
    from spool.errors import SpoolError

    for path in (one.path, layout.own_copy(one.id)):
        try:
            return look.read_task(spool.disk, path)
        except Missing:
            continue
        except (OSError, SpoolError):
            break
    return None


def _told(spool: Spool, one: Listed) -> list[str]:
    """What a name does not tell: its key, and for whom a task waits."""
    if (task := _opened(spool, one)) is None:
        return []
    words = ["" if task.key is None else f"key {task.key}"]
    if one.why == AFTER:
        more = f" and {len(task.after) - 1} more" if len(task.after) > 1 else ""
        words.append(f"{AFTER} {task.after[0]}{more}")
    return words


def _when(spool: Spool, one: Listed, now: int) -> str:
    """What matters in its state: the time until it is ready, or since it came there."""
    from spool.command import render
    from spool.times import format_span

    if one.state == layout.PENDING:
        return render.when(one.at, now) if one.at > now else f"ready {format_span(now - one.at)}"
    info = spool.disk.info(one.path)  # its last rename was the one into this state
    since = now if info is None else min(info.ctime_us, now)
    ended = one.state in layout.ENDED
    return render.when(since, now) if ended else f"for {format_span(now - since)}"


def _why(one: Listed, now: int, told: list[str]) -> list[str]:
    from spool.command import render

    words = told[1:] or ([one.why] if one.why else [])
    if one.node:
        words.append(f"on {one.node}")
    if one.deadline is not None and one.state not in layout.ENDED:
        words.append(f"deadline {render.when(one.deadline, now)}")
    if one.entry.fails and one.state not in layout.ENDED:
        words.append(f"failed {one.entry.fails} times" if one.entry.fails > 1 else "failed once")
    return [*words, *told[:1]]
