"""Tasks by what they are: the names in the directories, filtered, a slice at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool import layout, look, records
from spool.disk import Missing, Unreadable
from spool.names import BadName, date_of
from spool.patterns import matches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk
    from spool.names import Entry
    from spool.owncopy import Task
    from spool.packs import Packed
    from spool.requests import Match

SLICE = 500  # names looked at at once
OPENED = 100  # the same where each wants its record read
MOST = 100  # records of a task that are looked at: one that puts itself off may have many more
# Where a verb looks for tasks when nobody says in which state.
STATES: dict[str, tuple[str, ...]] = {
    "cancel": (layout.PENDING, layout.HELD),
    "retry": (layout.FAILED,),
    "hold": (layout.PENDING,),
    "release": (layout.HELD,),
    "move": (layout.PENDING, layout.HELD),
    "replay": layout.ENDED,
}
# The states in which a task takes a verb; what is in incoming/ is taken in first.
_WAITS = (layout.INCOMING, layout.PENDING, layout.HELD)
ALLOWED: dict[str, tuple[str, ...]] = {
    "cancel": (*_WAITS, layout.RUNNING, layout.CANCELLED),
    "retry": (*_WAITS, layout.FAILED, layout.CANCELLED),
    "hold": _WAITS,
    "release": _WAITS,
    "move": _WAITS,
    "replay": layout.ENDED,
}


def states(kind: str, match: Match) -> tuple[str, ...]:
    """The states in which a verb looks."""
    return STATES[kind] if match.state is None else (match.state,)


def keeps(match: Match, entry: Entry) -> bool:
    """Whether an entry is meant, as far as its name tells."""
    if match.task is not None and not matches(match.task, entry.task):
        return False
    if match.since is not None and entry.time < match.since:
        return False
    return match.until is None or entry.time < match.until


def find(disk: Disk, kind: str, match: Match) -> Iterator[dict[str, str]]:
    """Where the tasks stand that a verb is about, by id; some at a time, or none, to take turns."""
    for folder in look.folders(disk, states(kind, match)):
        parts = folder.split("/")
        if parts[0] == layout.DONE and match.since is not None and parts[1] < date_of(match.since):
            continue  # what is due then is not done before; it may have been cancelled, or failed
        if parts[0] == layout.PENDING and match.until is not None and parts[1] > date_of(match.until):
            continue
        for batch in disk.slices(folder, OPENED if match.opens else SLICE):
            yield dict(_kept(disk, match, folder, batch))


def _kept(disk: Disk, match: Match, folder: str, batch: list[str]) -> Iterator[tuple[str, str]]:
    for name in batch:
        path = f"{folder}/{name}"
        try:
            entry = look.entry_at(path)
        except BadName:
            continue
        if keeps(match, entry) and (not match.opens or opened(disk, match, entry, path)):
            yield entry.id, path


def opened(disk: Disk, match: Match, entry: Entry, path: str) -> bool:
    """Whether its record and its own copy say that a task is meant."""
    if match.error is not None and failure(disk, entry) != match.error:
        return False
    if (match.after, match.key) == (None, None):
        return True
    try:
        return says(match, look.read_task(disk, path))
    except (Missing, Unreadable, *look.DAMAGED):
        return False  # moved on, or damaged


def says(match: Match, task: Task) -> bool:
    """Whether a task is meant, as far as its own copy tells."""
    return (match.after is None or match.after in task.after) and match.key in (None, task.key)


def packed(match: Match, one: Packed) -> bool:
    """Whether a packed task is meant by a replay."""
    return (
        one.state in states("replay", match)
        and keeps(match, one.entry)
        and match.error in (None, one.error)
        and says(match, one.task)
    )


def failure(disk: Disk, entry: Entry) -> str | None:
    """The fingerprint of the newest failure of a task, see `records.failure`."""
    try:
        return records.failure(_newest_first(disk, entry))
    except Unreadable:
        return None


def _newest_first(disk: Disk, entry: Entry) -> Iterator[dict[str, Any]]:
    for attempt in range(entry.attempt, max(0, entry.attempt - MOST), -1):
        try:
            yield look.record(disk, entry.id, attempt)
        except (Missing, *look.DAMAGED):
            continue
