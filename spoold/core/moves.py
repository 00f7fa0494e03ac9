"""Transitions as they are made: the table says what state follows, and that where the entry goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from spool import layout
from spoold.core import table
from spoold.core.values import Move

if TYPE_CHECKING:
    from spool.names import Entry


def made(event: str, entry: Entry, before: str, source: str | None, **more: Any) -> Move:
    """What happens to a task whose entry stands at `source` in the state `before`.

    `entry` is its name from then on. Illegal where the table has no such row. What starts or ends has
    more to it: `dispatch.claim`, `attempts.ending`.
    """
    after = table.after(before, event)
    return Move(event, entry, before, after, source, place(after, entry), **more)


def parked(entry: Entry, before: str, source: str | None, why: str, **more: Any) -> Move:
    """Nothing here can run it: held, with no attempt used."""
    return made("park", replace(entry, why=why, timeout=None), before, source, **more)


def place(after: str, entry: Entry, ended: int = 0) -> str:
    """Where an entry stands in a state; `ended`: when it did so, us."""
    if after == table.PENDING:
        return layout.pending(entry)
    if after == table.HELD:
        return layout.held(entry)
    if after in table.TERMINAL:
        return layout.ended(after, ended, entry)
    raise ValueError(after)
