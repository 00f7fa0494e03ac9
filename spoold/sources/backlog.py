"""Names of pending/ and held/ to events, a slice at a time, so that a scan never stalls the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool import layout
from spool.disk import Missing
from spool.names import PRIORITIES, day_start
from spoold.core.values import Scanned, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spool.disk import Disk

SLICE = 2000


class Backlog:
    """Runs the scans the core asks for, one slice of names each time `step` is called."""

    def __init__(self, disk: Disk, enough: Callable[[], bool], size: int = SLICE) -> None:
        self.disk = disk
        self.size = size
        self.enough = enough  # whether a scan of the future has found as much as it can keep
        self._scans: list[tuple[str, Iterator[Seen | Scanned]]] = []

    @property
    def busy(self) -> bool:
        """Whether a scan is under way."""
        return bool(self._scans)

    def start(self, kind: str, edge: str = "") -> None:
        """Begin a scan (see `Scan`); one of that kind under way is given up."""
        self._scans = [row for row in self._scans if row[0] != kind]
        if kind == "due":
            self._scans.insert(0, (kind, self._due(edge)))
        elif kind == "future":
            self._scans.append((kind, self._future(edge)))
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
                for names in self.disk.slices(f"{layout.PENDING}/{date}/{prio}", self.size):
                    yield Seen("due", date, prio, names)
            yield Scanned("due", prio)
        yield Scanned("due", None)

    def _future(self, bound: str) -> Iterator[Seen | Scanned]:
        for date in self._dates():
            if f"{date}/~" <= bound:
                continue  # what is there is below the bound
            for prio in PRIORITIES:
                for names in self.disk.slices(f"{layout.PENDING}/{date}/{prio}", self.size):
                    yield Seen("future", date, prio, names)
            if self.enough():
                break
        yield Scanned("future", None)

    def _held(self) -> Iterator[Seen | Scanned]:
        for names in self.disk.slices(layout.HELD, self.size):
            yield Seen("held", "", "", names)


def _is_date(name: str) -> bool:
    try:
        day_start(name)
    except ValueError:
        return False
    return True
