"""Deadlines of what is held: the first of them in memory, the rest on disk until a scan of held/.

Whoever gives a task a name in held/ knows its deadline from then on, of the rest a scan tells; where
there are other nodes, what one of them knew is scanned when it is gone. A name here may be old: what
stands under it is looked at when its moment has come, and one that is gone is somebody else's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool import layout
from spool.names import HAS_DEADLINE, ID_AT, MAY_MISS, TOLD_LATE, BadName, parse_entry
from spoold.core import order, table
from spoold.core.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spool.names import Entry
    from spoold.core.values import Move

AT_ONCE = 256  # bodies that are read in one round


class Overdue:
    """A window on the deadlines of held/ that are yet to be told, or decided, with room for so many."""

    def __init__(self, limit: int) -> None:
        self.window: Window[str] = Window(limit, "")
        self.unheard = False  # what has passed waits for a parent to read
        self._changed: set[str] = set()  # since a scan began, which may come by with the old names

    def see(self, move: Move) -> None:
        """A transition was decided of what has a deadline."""
        if table.HELD not in (move.before, move.after):
            return
        if self.window.gathered is not None:
            self._changed.add(move.entry.id)
        if move.before == table.HELD and move.source is not None:
            self.window.discard(_place(move.source))
        if move.after == table.HELD and not order.decided(move.entry):
            self.window.add(_place(move.target), move.entry)

    def wanted(self) -> bool:
        """Whether a scan should begin, and tell what it finds from now on."""
        if self.window.gathered is not None or not self.window.hungry:
            return False
        self.window.gather()
        self._changed.clear()
        return True

    def seen(self, names: Iterable[str]) -> None:
        """A slice of names, of whichever scan; of most no more is looked at than their deadline."""
        for name in names if self.window.gathered is not None else ():
            if HAS_DEADLINE in name and not _decided(name) and name[ID_AT] not in self._changed:
                self.window.offer(_place(name), name)

    def scanned(self) -> None:
        """A scan has ended."""
        for place, found in self.window.settle() if self.window.gathered is not None else ():
            try:
                self.window.add(place, parse_entry(found) if isinstance(found, str) else found)
            except BadName:
                continue  # fsck names it

    def wake(self) -> int | None:
        """When the next deadline passes, as far as known."""
        first = self.window.first()
        return None if first is None else self.window.entries[first].deadline

    def due(self, now: int) -> list[Entry]:
        """Those whose deadline has passed: out of the window, so many in one round."""
        if (first := self.wake()) is None or first > now:
            return []
        found = [e for e in self.window.head(AT_ONCE) if e.deadline is not None and e.deadline <= now]
        for entry in found:
            self.window.discard(_place(layout.held(entry)))
        return found


def _decided(name: str) -> bool:
    """`order.decided` of a name."""
    return TOLD_LATE in name and MAY_MISS not in name


def _place(path: str) -> str:
    """The deadline in a name, and the id: text that sorts as time does."""
    name = path.rpartition("/")[2]
    return f"{name.partition(HAS_DEADLINE)[2][:16]},{name[ID_AT]}"
