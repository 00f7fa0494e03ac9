"""Names of pending/ and held/ to events, a slice at a time, so that a scan never stalls the loop."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from spool import layout, match
from spool.actions import Move, Replay, Verb
from spool.disk import Missing
from spool.names import PRIORITIES
from spool.prune.retention import is_date
from spool.requests import kind_of
from spoold.core.values import Matched, Scanned, Seen
from spoold.sources import replays
from spoold.spared import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spool.disk import Disk
    from spoold.core.values import Seek

E = TypeVar("E")
R = TypeVar("R")
SLICE = 6000
HELD_SLICE = 2000  # at most: what may run now is looked at in the same round


class Backlog:
    """Runs the scans the core asks for, one slice of names each time `step` is called."""

    def __init__(self, disk: Disk, enough: Callable[[], bool], size: int = SLICE) -> None:
        self.disk = disk
        self.size = size
        self.enough = enough  # whether a scan of the future has found as much as it can keep
        self._scans: list[tuple[str, Iterator[Seen | Scanned]]] = []
        self._seeks: list[Iterator[Matched]] = []

    @property
    def busy(self) -> bool:
        """Whether a scan is under way."""
        return bool(self._scans or self._seeks)

    def start(self, kind: str, edge: str = "", but: str = "") -> None:
        """Begin a scan (see `Scan`); one of that kind under way is given up."""
        self._scans = [row for row in self._scans if row[0] != kind]
        if kind == "due":
            self._scans.insert(0, (kind, self._due(edge, but)))
        elif kind == "future":
            self._scans.append((kind, self._future(edge)))
        else:
            self._scans.append((kind, self._held()))

    def seek(self, seek: Seek) -> None:
        """Begin to look for the tasks of an action, after those of earlier ones."""
        self._seeks.append(_sought(self.disk, seek))

    def step(self) -> list[Seen | Scanned | Matched]:
        """The next slice of the scan under way, and of the search."""
        return [*_next(self._scans, lambda row: row[1]), *_next(self._seeks, lambda row: row)]

    def _dates(self) -> list[str]:
        try:
            names = self.disk.names(layout.PENDING)
        except Missing:
            return []
        return sorted(name for name in names if is_date(name))

    def _due(self, today: str, but: str) -> Iterator[Seen | Scanned]:
        if but:
            yield Seen("due", "", "", self._running(but))
        dates = [d for d in self._dates() if d <= today]
        for prio in PRIORITIES:
            for date in dates:
                for names in listed(self.disk, f"{layout.PENDING}/{date}/{prio}", self.size):
                    yield Seen("due", date, prio, names)
            yield Scanned("due", prio)
        yield Scanned("due", None)

    def _running(self, but: str) -> list[str]:
        found: list[str] = []
        for node in self.disk.names(layout.RUNNING):
            with contextlib.suppress(Missing):
                found += self.disk.names(f"{layout.RUNNING}/{node}") if node != but else ()
        return found

    def _future(self, bound: str) -> Iterator[Seen | Scanned]:
        for date in self._dates():
            if f"{date}/~" <= bound:
                continue  # what is there is below the bound
            for prio in PRIORITIES:
                for names in listed(self.disk, f"{layout.PENDING}/{date}/{prio}", self.size):
                    yield Seen("future", date, prio, names)
            if self.enough():
                break
        yield Scanned("future", None)

    def _held(self) -> Iterator[Seen | Scanned]:
        for names in listed(self.disk, layout.HELD, min(self.size, HELD_SLICE)):
            yield Seen("held", "", "", names)
        yield Scanned("held", None)


def _next(rows: list[R], steps: Callable[[R], Iterator[E]]) -> Iterator[E]:
    """One more event of the first of these rows that has one; those that are spent go."""
    while rows:
        event = next(steps(rows[0]), None)
        if event is not None:
            yield event
            return
        del rows[0]


def _sought(disk: Disk, seek: Seek) -> Iterator[Matched]:
    request = seek.request
    if isinstance(request, Replay):
        yield from replays.Sought(disk, seek.source, request, seek.settings).tasks()
    if isinstance(request, Verb | Move) and request.match is not None:
        again = kind_of(request) == "retry"
        for paths in match.find(disk, kind_of(request), request.match):
            meant = replays.not_since(disk, paths, seek.source.ctime) if again else paths
            yield Matched(seek.source, meant)
    yield Matched(seek.source, {}, done=True)
