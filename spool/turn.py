"""The order in which waiting tasks get their turn, from their names: for listings and explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool.names import PRIORITIES

if TYPE_CHECKING:
    from spool.names import Entry

Key = tuple[int, int, int, int, int]


def turn(entry: Entry, now: int) -> Key:
    """Sort key: what is ready by class, front (the latest first), time, id; then the rest.

    That is by time, and of one time in the same order, in which it will start.
    """
    number = int(entry.id, 16)
    front, sign = (0, -1) if entry.front else (1, 1)
    due = entry.time if entry.time > now else -1
    return (due, PRIORITIES.index(entry.prio), front, sign * entry.time, sign * number)
