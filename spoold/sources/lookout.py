"""Looks, in a thread, at what inotify does not tell: on a network file system nothing of other hosts.

A look asks the file server for the time of change of a few directories, however much stands in them:
incoming/, pending/ with its shards up to tomorrow, nodes/, where tasks of today end. It says that
something changed, never what.
Looks are close together while something does, and far apart where nothing has for a while. Most are at
incoming/ alone: what is new comes in there, and what others have made of it can wait a little.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from spool import layout
from spool.disk import Missing
from spool.names import DAY_US, PRIORITIES, date_of
from spool.times import SECOND
from spoold.core.values import Repaused, Takes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from spool.disk import Disk
    from spoold.core.values import Event, Takers

FAST, SLOW, SLOWER = 0.05, 1.0, 1.3  # seconds between looks, and how they grow where nothing changes
REST = 5  # one look in so many is at the others too
MIDNIGHT = 60 * SECOND  # so long after it somebody may still end tasks on the day before


class Rung(Struct, frozen=True):
    """Something has changed in `incoming` or `pending`, or has `ended`, by whom ever."""

    where: str


class Lookout:
    """What changed since the last look. Not for several threads at the same time."""

    def __init__(
        self,
        disk: Disk,
        boxes: Callable[[], Iterable[str]],
        rows: Callable[[], list[dict[str, Any]]],
        takes: Callable[[], Takers],
        wall: Callable[[], int],
    ) -> None:
        """`boxes`: what writers drop into. `rows`: what is paused, on disk. `wall`: us UTC.

        `takes`: whose Python code takes what, on disk.
        """
        self.disk = disk
        self.boxes = boxes
        self.rows = rows
        self.takes = takes
        self.wall = wall
        self.wait = FAST  # seconds until the next look
        self._looks = 0
        self._known: dict[str, object] = {}
        self._rows: list[dict[str, Any]] | None = None
        self._takes: Takers = {}

    def look(self) -> list[Event | Rung]:
        """Rung for incoming, pending and ended, Repaused where something else is paused."""
        found: list[Event | Rung] = []
        if self._changed("incoming", list(self.boxes())):
            found.append(Rung("incoming"))
        if self._looks % REST == 0:
            found += self._rest()
        self._looks += 1
        self.wait = FAST if found else min(self.wait * SLOWER, SLOW)
        return found

    def hurry(self) -> None:
        """Look soon: the nodes are others than before, and what a dead one left comes back."""
        self.wait = FAST

    def _rest(self) -> list[Event | Rung]:
        found: list[Event | Rung] = []
        if self._changed("pending", self._shards()):
            found.append(Rung("pending"))
        if self._changed("ended", self._ends()):
            found.append(Rung("ended"))
        if self._changed("nodes", [layout.NODES]):
            if (rows := self.rows()) != self._rows:
                self._rows = rows
                found.append(Repaused(tuple(rows)))
            if (takes := self.takes()) != self._takes:
                self._takes = takes
                found.append(Takes(takes))
        return found

    def _changed(self, what: str, folders: list[str]) -> bool:
        found = ((path, self._stamp(path)) for path in folders)
        before, stamps = self._known.get(what), {path: at for path, at in found if at is not None}
        self._known[what] = stamps
        return stamps != before

    def _stamp(self, path: str) -> int | None:
        try:
            return self.disk.stamp(path)
        except PermissionError:
            return None  # a box that its writer has closed

    def _ends(self) -> list[str]:
        days = sorted({date_of(self.wall() - MIDNIGHT), date_of(self.wall())})
        return [layout.CORRUPT, *(f"{state}/{day}" for state in layout.ENDED for day in days)]

    def _shards(self) -> list[str]:
        last = date_of(self.wall() + DAY_US)
        with contextlib.suppress(Missing):
            dates = [date for date in self.disk.names(layout.PENDING) if date <= last]
            return [f"{layout.PENDING}/{date}/{prio}" for date in sorted(dates) for prio in PRIORITIES]
        return []
