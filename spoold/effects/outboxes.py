"""How full the parents' outboxes are: who does not read waits, and the disk does not fill."""

from __future__ import annotations

import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from spool import handed, layout, look
from spool.names import parse_event
from spoold.core.values import Outboxes

if TYPE_CHECKING:
    from spool.disk import Disk
    from spoold.core.state import State
    from spoold.core.values import Event, Now

AGAIN = 1_000_000  # how often a full outbox is counted again, us


class OutboxLimits:
    """The core counts what it tells; only the directory says what has been read since."""

    def __init__(self, disk: Disk, state: State) -> None:
        self.disk = disk
        self.state = state
        self._started = False
        self._next = 0

    def look(self, now: Now) -> list[Event]:
        """The true counts of outboxes that look full; of all of them at the first call."""
        if not self._started:
            self._started = True
            return self._counted(look.names(self.disk, layout.OUTBOX))
        if now.mono < self._next:
            return []
        full = self.state.full
        if not full:
            return []
        self._next = now.mono + AGAIN
        if layout.DEFAULT_PARENT in full:
            self._forget_oldest()
        return self._counted(sorted(full))

    def due(self, now: Now) -> int | None:
        """In how many us a full outbox is to be counted again; None where none is full."""
        return max(0, self._next - now.mono) if self.state.full else None

    def _counted(self, parents: list[str]) -> list[Event]:
        counts = {parent: len(self._events(parent)) for parent in parents}
        return [Outboxes(counts)] if counts else []

    def _events(self, parent: str) -> list[str]:
        """What is to be read in an outbox, oldest first: others can put anything there."""
        folder = f"{layout.OUTBOX}/{parent}"
        names = [name for name in look.names(self.disk, folder) if parse_event(name) is not None]
        if parent != layout.DEFAULT_PARENT:
            return names  # what is no file holds up nobody else
        infos = ((name, handed.info(self.disk, f"{folder}/{name}")) for name in names)
        return [name for name, info in infos if info is not None and stat.S_ISREG(info.mode)]

    def _forget_oldest(self) -> None:
        """Nobody has asked for the default outbox: it keeps the newest events and holds nothing up."""
        limit = self.state.settings.outbox_limit
        names = self._events(layout.DEFAULT_PARENT)
        for name in names[: max(0, len(names) - limit + max(1, limit // 10))]:
            with suppress(OSError):  # read by somebody after all, or in use as something else
                self.disk.remove(f"{layout.OUTBOX}/{layout.DEFAULT_PARENT}/{name}")
