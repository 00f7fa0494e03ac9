"""How full the parents' outboxes are: who does not read waits, and the disk does not fill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool import layout
from spool.disk import Missing
from spoold.core.values import Outboxes

if TYPE_CHECKING:
    from spool.disk import Disk
    from spoold.core.state import State
    from spoold.core.values import Event, Now
    from spoold.effects.store import Group

AGAIN = 1_000_000  # how often a full outbox is counted again, us


class OutboxLimits:
    """Counts what is told; where that reaches the limit, counts what is really there."""

    def __init__(self, disk: Disk, state: State) -> None:
        self.disk = disk
        self.state = state
        self.counts: dict[str, int] = {}
        self._full: frozenset[str] = frozenset()
        self._suspect: set[str] = set()
        self._next = 0

    def told(self, group: Group) -> None:
        """A group has been announced."""
        limit = self.state.settings.outbox_limit
        messages = [m.message for m in group.moves if m.message is not None] + group.tells
        for message in messages:
            known = message.parent in self.counts
            count = self.counts.get(message.parent, 0) + 1
            self.counts[message.parent] = count
            if count >= limit or not known:
                self._suspect.add(message.parent)

    def due(self, now: Now) -> int | None:
        """In how many us a full outbox is to be counted again; None where none is full."""
        return max(0, self._next - now.mono) if self._full else None

    def look(self, now: Now) -> list[Event]:
        """The change, if any, in who is full."""
        waiting = self._full and now.mono >= self._next
        if not self._suspect and not waiting:
            return []
        self._next = now.mono + AGAIN
        limit = self.state.settings.outbox_limit
        full = set()
        for parent in self._suspect | self._full:
            if self._count(parent) >= limit:
                full.add(parent)
        self._suspect.clear()
        if layout.DEFAULT_PARENT in full:
            full.discard(layout.DEFAULT_PARENT)
            self._forget_oldest(limit)
        found = frozenset(full)
        if found == self._full:
            return []
        self._full = found
        return [Outboxes(found)]

    def _count(self, parent: str) -> int:
        self.counts[parent] = len(self._names(parent))
        return self.counts[parent]

    def _names(self, parent: str) -> list[str]:
        try:
            return self.disk.names(f"{layout.OUTBOX}/{parent}")
        except Missing:
            return []

    def _forget_oldest(self, limit: int) -> None:
        """Nobody has asked for the default outbox: it keeps the newest events and holds nothing up."""
        names = sorted(self._names(layout.DEFAULT_PARENT))
        for name in names[: max(1, len(names) - limit + limit // 10)]:
            try:
                self.disk.remove(f"{layout.OUTBOX}/{layout.DEFAULT_PARENT}/{name}")
            except Missing:
                pass  # read by somebody after all
        self._count(layout.DEFAULT_PARENT)
