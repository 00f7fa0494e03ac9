"""The order in which waiting tasks get their turn, from their names: for listings and explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool.names import PRIORITIES

if TYPE_CHECKING:
    from spool.names import Entry

Key = tuple[int, int, int, int, int]


def turn(entry: Entry, now: int) -> Key:
    """Sort key: what is ready by class, front (the latest first), time, id; then the rest by time."""
    number = int(entry.id, 16)
    if entry.time > now:
        return (1, 0, 0, entry.time, number)
    prio = PRIORITIES.index(entry.prio)
    if entry.front:
        return (0, prio, 0, -entry.time, -number)
    return (0, prio, 1, entry.time, number)
