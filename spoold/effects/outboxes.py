"""How full the parents' outboxes are: who does not read waits, and the disk does not fill."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from spool import layout, look
from spool.names import parse_event
from spoold.core.values import Outboxes

if TYPE_CHECKING:
    from spool.disk import Disk
    from spoold.core.state import State
    from spoold.core.values import Event, Now

AGAIN = 1_000_000  # how often a full outbox is counted again, us
AT_ONCE = 100  # events of the default outbox that go in one turn of the loop


class OutboxLimits:
    """The core counts what it tells; only the directory says what has been read since."""

    def __init__(self, disk: Disk, state: State) -> None:
        self.disk = disk
        self.state = state
        self._started = False
        self._next = 0
        self._oldest: list[str] = []  # in the default outbox, to go

    def look(self, now: Now) -> list[Event]:
        """The true counts of outboxes that look full; of all of them at the first call."""
        if not self._started:
            self._started = True
            return self._counted(look.names(self.disk, layout.OUTBOX))
        self._forget()
        if now.mono < self._next:
            return []
        full = self.state.full
        if not full:
            return []
        self._next = now.mono + AGAIN
        return self._counted(sorted(full))

    def due(self, now: Now) -> int | None:
        """In how many us there is something to count or to remove; None where there is not."""
        if self._oldest:
            return 0
        return max(0, self._next - now.mono) if self.state.full else None

    def _counted(self, parents: list[str]) -> list[Event]:
        counts = {parent: self._count(parent) for parent in parents}
        return [Outboxes(counts)] if counts else []

    def _count(self, parent: str) -> int:
        """What is to be read in an outbox, as far as names tell: others can put anything there.

        Nobody has asked for the default one: it keeps the newest events and holds nothing up.
        """
        folder, limit = f"{layout.OUTBOX}/{parent}", self.state.settings.outbox_limit
        names = [name for name in look.names(self.disk, folder) if parse_event(name) is not None]
        if parent == layout.DEFAULT_PARENT and len(names) >= limit:
            self._oldest = names[: len(names) - limit + max(1, limit // 10)]
            return len(names) - len(self._oldest)
        return len(names)

    def _forget(self) -> None:
        """Some of what is to go: the rest in the next turns of the loop."""
        some, self._oldest = self._oldest[:AT_ONCE], self._oldest[AT_ONCE:]
        for name in some:
            with suppress(OSError):  # read by somebody after all, or in use as something else
                self.disk.remove(f"{layout.OUTBOX}/{layout.DEFAULT_PARENT}/{name}")
