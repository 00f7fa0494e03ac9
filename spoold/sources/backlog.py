"""Names of pending/ and held/ to events, a slice at a time, so that a scan never stalls the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool import layout
from spool.disk import Missing
from spool.names import PRIORITIES, date_of, day_start
from spoold.core.values import Scanned, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spool.disk import Disk

SLICE = 2000


class Backlog:
    """Runs the scans the core asks for, one slice of names each time `step` is called."""

    def __init__(self, disk: Disk, enough: Callable[[], bool]) -> None:
        self.disk = disk
        self.enough = enough  # whether a scan of the future has found as much as it can keep
        self._scans: list[tuple[str, Iterator[Seen | Scanned]]] = []

    @property
    def busy(self) -> bool:
        """Whether a scan is under way."""
        return bool(self._scans)

    def start(self, kind: str, now: int) -> None:
        """Begin a scan: `due`, `future` or `held`; one of that kind under way is given up."""
        self._scans = [row for row in self._scans if row[0] != kind]
        if kind == "due":
            self._scans.insert(0, (kind, self._due(date_of(now))))
        elif kind == "future":
            self._scans.append((kind, self._future(date_of(now))))
        else:
            self._scans.append((kind, self._held()))

    def step(self) -> list[Seen | Scanned]:
        """The next slice of the scan under way."""
        while self._scans:
            event = next(self._scans[0][1], None)
            if event is not None:
                return [event]
            del self._scans[0]
        return []

    def _dates(self) -> list[str]:
        try:
            names = self.disk.names(layout.PENDING)
        except Missing:
            return []
        return sorted(name for name in names if _is_date(name))

    def _due(self, today: str) -> Iterator[Seen | Scanned]:
        dates = [d for d in self._dates() if d <= today]
        for prio in PRIORITIES:
            for date in dates:
                for names in self.disk.slices(f"{layout.PENDING}/{date}/{prio}", SLICE):
                    yield Seen("due", date, prio, names)
            yield Scanned("due", prio)
        yield Scanned("due", None)

    def _future(self, today: str) -> Iterator[Seen | Scanned]:
        for date in self._dates():
            if date < today:
                continue
            for prio in PRIORITIES:
                for names in self.disk.slices(f"{layout.PENDING}/{date}/{prio}", SLICE):
                    yield Seen("future", date, prio, names)
            if self.enough():
                break
        yield Scanned("future", None)

    def _held(self) -> Iterator[Seen | Scanned]:
        for names in self.disk.slices(layout.HELD, SLICE):
            yield Seen("held", "", "", names)


def _is_date(name: str) -> bool:
    try:
        day_start(name)
    except ValueError:
        return False
    return True
