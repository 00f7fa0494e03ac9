"""What this node has started lately, as its journal tells: a restart gives no rate new tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from spool import layout
from spool.disk import Missing, TooLarge
from spool.limitkey import mark_in
from spool.names import DAY_US, date_of, day_start
from spool.times import format_utc, parse_utc
from spoold.core import limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from spool.disk import Disk
    from spool.settings import Handler
    from spoold.core.state import State
    from spoold.core.values import Now

LIMIT = 64 << 20  # bytes of a day's journal that are read
LONG = 100  # times a rate's whole burst: what was started before it is of no weight any more
CLAIM = b'"event":"claim"'
AT = len('{"at":"')  # where the instant of a line stands


def recall(disk: Disk, state: State, now: Now) -> None:
    """What was started before this daemon counts for the rates of handlers."""
    handlers = state.settings.handlers.values()
    rates = [(h.burst, r) for h in handlers for r in (h.rate, h.rate_per_key) if r is not None]
    if rates:
        after = now.wall - LONG * max(burst * rate.each for burst, rate in rates)
        found = recent(disk, state.node, now.wall, after, state.settings.handler_for)
        limits.remember(state, *found, now)


def recent(
    disk: Disk, node: str, wall: int, after: int, handler_for: Callable[[str], Handler | None]
) -> tuple[int, list[tuple[int, str, str]]]:
    """Since when (us UTC) all starts of tasks with a rate are known, and those: instant, task, mark.

    A line may stand for a start that never came to be. Of tomorrow, where the clock was set back,
    today and yesterday, but nothing before `after`; where a day's journal is too large, nothing is
    known of it and before.
    """
    since, found, first = wall, [], format_utc(max(0, after)).encode()
    for day in (wall + DAY_US, wall, wall - DAY_US):
        if since <= after:
            break
        try:
            data = disk.read(layout.journal(node, day), LIMIT)
        except Missing:
            data = b""
        except TooLarge:
            break
        since = min(since, day_start(date_of(day)))
        lines = (line for line in data.splitlines() if line[AT : AT + len(first)] >= first)
        found += [row for line in lines if CLAIM in line and (row := _row(line, handler_for))]
    return max(since, after), sorted(found)


def _row(line: bytes, handler_for: Callable[[str], Handler | None]) -> tuple[int, str, str] | None:
    try:
        told = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None  # torn
    handler = handler_for(told["task"])
    if handler is None or not (handler.rate or handler.rate_per_key):
        return None
    return parse_utc(told["at"]), told["task"], mark_in(told["entry"])
