"""After an action was dropped: say so, wait a little, say whether it was refused."""

from __future__ import annotations

import sys
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from spool import daemons
from spool.command.wait import seconds
from spool.errors import EX_DATAERR, EX_NOPERM, EX_TEMPFAIL, Invalid, NotAllowed, Refused, TimedOut
from spool.names import DAY_US
from spool.safe import safe
from spool.streams import telling

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from spool.client import Spool

GLANCE = 2.0  # seconds; a live daemon answers in milliseconds
PATIENCE = "30s"


def add_wait(parser: argparse.ArgumentParser) -> None:
    """The option --wait."""
    parser.add_argument(
        "--wait",
        nargs="?",
        const=PATIENCE,
        type=_patience,
        metavar="DURATION",
        help=f"wait until it is carried out (default {PATIENCE}); 0 does not wait at all",
    )


def _patience(text: str) -> float:
    """The seconds of --wait; any other word behind it was meant to stand by itself."""
    import argparse

    try:
        return seconds(text, "--wait")
    except Invalid as problem:
        why = f"{text!r} was taken for its DURATION, which {problem.rule}; put --wait last"
        raise argparse.ArgumentTypeError(why) from None


def see(  # noqa: PLR0913 - what there is to say
    spool: Spool,
    stems: list[str],
    args: argparse.Namespace,
    said: str,
    facts: dict[str, Any],
    denied: Mapping[str, str] = MappingProxyType({}),
    *,
    by_match: bool = False,
) -> int:
    """Print what was asked for, wait as long as asked to, print refusals; the exit status.

    `denied`: what was refused before it was asked for, by task. `by_match`: the journal tells what
    came of it.
    """
    alive = daemons.any_alive(spool.disk, spool.path)
    asked = args.wait is not None
    limit = args.wait if asked else GLANCE if alive else 0.0
    refused, late, hidden = _outcome(spool, stems, limit)
    rows = [refusal(why, task_id) for task_id, why in denied.items()]
    duplicates = 0
    for stem in stems:
        told = [] if late or not by_match else _told(spool, stem)
        left = [refusal(why, tasks=n) for row in told for why, n in row.get("denied", {}).items()]
        rows += left or refused.get(stem, [])
        duplicates += sum(row.get("duplicates", 0) for row in told)
    if args.json:
        from spool.command.render import json_line

        done = None if hidden else not late
        facts |= {"duplicates": duplicates} if duplicates else {}
        with telling(said):
            print(json_line({"action": args.verb, **facts, "refused": rows, "carried_out": done}))
    else:
        with telling(said):
            print(said)
        complain(rows)
        if late and not rows:
            _tell_late(spool, alive=alive)
    if hidden:
        print(f"spool: {safe(hidden)}", file=sys.stderr)
    if duplicates:
        said = _times("its key is taken: a duplicate, which does not run", duplicates)
        print(f"spool: {said}", file=sys.stderr)
    if rows:
        return EX_DATAERR
    if hidden and asked and limit:
        return EX_NOPERM
    return EX_TEMPFAIL if late and asked and limit else 0


def refusal(why: str, task_id: str | None = None, tasks: int = 1) -> dict[str, Any]:
    """One refusal as --json has it: of a task, or of so many for the same reason."""
    return {"id": task_id, "why": why, "tasks": tasks}


def complain(refused: Iterable[dict[str, Any]]) -> None:
    """Refusals for a person, one a line."""
    for row in refused:
        which = f"{row['id']}: " if row["id"] else ""
        print(f"spool: refused: {safe(which + _times(row['why'], row['tasks']))}", file=sys.stderr)


def _outcome(
    spool: Spool, stems: list[str], limit: float
) -> tuple[dict[str, list[dict[str, Any]]], bool, str]:
    """(refusals by action, whether any was not carried out in time, why a refusal would not be seen)."""
    refused: dict[str, list[dict[str, Any]]] = {}
    late, hidden = False, ""
    end = time.monotonic() + limit
    for stem in stems:
        try:
            spool.carried_out(stem, max(0.0, end - time.monotonic()))
        except Refused as problem:
            each = [refusal(why, task_id) for task_id, why in problem.each.items()]
            refused[stem] = each or [refusal(problem.reason)]
        except TimedOut:
            late = True
        except NotAllowed as problem:
            hidden = str(problem)
    return refused, late, hidden


def _told(spool: Spool, stem: str) -> list[dict[str, Any]]:
    """The line of the journal of an action on all that match, where it is soon found and open."""
    from spool.journal import Filter
    from spool.scene import past

    since = time.time_ns() // 1000 - DAY_US
    wanted = Filter(event="match", file=f"{stem}.json", since=since)
    try:
        return past.search(spool.path, wanted, 1, GLANCE).lines
    except PermissionError:
        return []


def _times(why: str, many: int) -> str:
    return f"{why} ({many} tasks)" if many > 1 else why


def _tell_late(spool: Spool, *, alive: bool) -> None:
    if alive:
        print("spool: not carried out yet", file=sys.stderr)
    else:
        hint = f"`{safe(daemons.start_hint(spool.path))}`"
        print(f"spool: not carried out yet: no spoold serves this spool; {hint}", file=sys.stderr)
