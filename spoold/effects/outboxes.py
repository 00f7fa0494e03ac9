"""How full the parents' outboxes are: who does not read waits, and the disk does not fill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool import layout, look
from spool.disk import Missing
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
        counts = {parent: self._count(f"{layout.OUTBOX}/{parent}") for parent in parents}
        return [Outboxes(counts)] if counts else []

    def _count(self, folder: str) -> int:
        try:
            return len(self.disk.names(folder))
        except (Missing, NotADirectoryError):
            return 0

    def _forget_oldest(self) -> None:
        """Nobody has asked for the default outbox: it keeps the newest events and holds nothing up."""
        limit = self.state.settings.outbox_limit
        folder = f"{layout.OUTBOX}/{layout.DEFAULT_PARENT}"
        names = look.names(self.disk, folder)
        for name in names[: max(0, len(names) - limit + max(1, limit // 10))]:
            try:
                self.disk.remove(f"{folder}/{name}")
            except Missing:
                pass  # read by somebody after all
