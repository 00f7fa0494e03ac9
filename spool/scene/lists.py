"""The first tasks of a long list by their names: a million is looked through, those few are parsed."""

from __future__ import annotations

from dataclasses import replace
from heapq import nlargest, nsmallest
from typing import TYPE_CHECKING

from spool import layout, look
from spool.errors import Invalid
from spool.names import CLOCK, TO_FRONT, BadName, clock_of, date_of, id_and_task
from spool.patterns import matches
from spool.turn import turn
from spool.views import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spool.disk import Disk
    from spool.views import Listed


def waiting(disk: Disk, now: int, many: int, wanted: str = "") -> list[Listed]:
    """The tasks that wait, in the order of their turn, at most so many. `now`: us UTC.

    `wanted` is a task name, one with `*`, or a part of an id; nothing: all.
    """
    found: list[Listed] = []
    last, edge = "", f"{date_of(now)}/{clock_of(now)}~"
    for folder in look.folders(disk, (layout.PENDING,)):
        date = folder.split("/")[1]
        if date != last and date > date_of(now) and len(found) >= many:
            break  # the rest is due later than what is found
        last = date
        first: list[str] = []
        ahead: list[str] = []
        coming: list[str] = []
        for batch in _names(disk, folder, wanted):  # a bounded memory, however many there are
            # In one directory the order of the names is that of time and id; front goes before.
            first = nsmallest(many, first + batch)
            front = [name for name in batch if TO_FRONT in name]
            ahead = nlargest(many, ahead + [name for name in front if f"{date}/{name}" < edge])
            coming += [name for name in front if f"{date}/{name}" > edge]
            coming = nsmallest(many, sorted(coming, reverse=True), key=lambda name: name[CLOCK])
        found += _parsed(folder, {*first, *ahead, *coming})
    return nsmallest(many, found, key=lambda one: turn(one.entry, now))


def newest(disk: Disk, state: str, many: int, wanted: str = "") -> list[Listed]:
    """The tasks of another state, at most so many: those that have ended last, or run, or are held."""
    found: list[Listed] = []
    for folder in sorted(look.folders(disk, (state,)), reverse=True):
        if state in layout.ENDED and len(found) >= many:
            break
        last: list[str] = []
        for batch in _names(disk, folder, wanted):
            last = nlargest(many, last + batch, key=_dated)
        found += _parsed(folder, last)
    return nlargest(many, found, key=lambda one: (one.at, one.id))


def told(disk: Disk, rows: list[Listed]) -> list[Listed]:
    """The same with why each has failed or was cancelled; opens the newest record of each."""
    return [_told(disk, one) if one.state in (layout.FAILED, layout.CANCELLED) else one for one in rows]


def _told(disk: Disk, one: Listed) -> Listed:
    try:
        error = look.record(disk, one.id, one.attempt).get("error")
    except (OSError, Invalid):
        return one
    message = error.get("message") or error.get("type") if isinstance(error, dict) else None
    return replace(one, why=str(message)) if message else one


def is_wanted(wanted: str, task: str, task_id: str) -> bool:
    """Whether a filter, as a person types it, lets a task through."""
    if not wanted:
        return True
    pattern = wanted if "*" in wanted else f"{wanted}*"
    return matches(pattern, task) or (len(wanted) >= 4 and wanted in task_id)


def _names(disk: Disk, folder: str, wanted: str) -> Iterator[list[str]]:
    for batch in disk.slices(folder, look.SLICE):
        if not wanted:
            yield [name for name in batch if name[0] != "."]
            continue
        told = [(name, *id_and_task(name)) for name in batch]
        yield [name for name, task_id, task in told if task and is_wanted(wanted, task, task_id)]


def _parsed(folder: str, names: Iterable[str]) -> list[Listed]:
    found = []
    for name in names:
        path = f"{folder}/{name}"
        try:
            found.append(listed(path, look.entry_at(path)))
        except BadName:
            continue
    return found


def _dated(name: str) -> tuple[str, str]:
    return name.partition(",s=")[2][:8], name
