"""Looks, in a thread, at what inotify does not tell: on a network file system nothing of other hosts.

A look asks the file server for the time of change of a few directories, however much stands in them:
incoming/, pending/ with its shards up to tomorrow, nodes/, where tasks of today end. It says that
something changed, never what.
Looks are close together while something does, and far apart where nothing has for a while. Most are at
incoming/ alone: what is new comes in there, and what others have made of it can wait a little.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from spool import daemons, layout
from spool.disk import Missing, NotRegular, TooLarge
from spool.names import DAY_US, PRIORITIES, date_of
from spool.quarantine import aside
from spool.times import SECOND
from spoold.core.values import Repaused, Rung, Stirred, Takes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from spool.disk import Disk
    from spoold.core.state import State
    from spoold.core.values import Event, Now, Takers

log = logging.getLogger("spoold")
FAST, SLOW, SLOWER = 0.05, 1.0, 1.3  # seconds between looks, and how they grow where nothing changes
REST = 5  # one look in so many is at the others too
MIDNIGHT = 60 * SECOND  # so long after it somebody may still end tasks on the day before
SOON, OFTEN = SECOND // 20, SECOND  # us between two readings of pending/
SHARE = 20  # a reading takes at most one part in so many of the time,
SELDOM = 60 * SECOND  # but is not put off for longer


def read_pauses(disk: Disk) -> list[dict[str, Any]]:
    """What is paused; a file that is damaged is put aside and said so, and pauses nothing."""
    try:
        return daemons.read_pauses(disk)
    except Missing:
        return []
    except (ValueError, TypeError, NotRegular, TooLarge) as problem:
        log.error("nothing is paused: %s is damaged, and goes to corrupt/: %s", layout.PAUSES, problem)  # noqa: TRY400 - no bug of ours
        aside(disk, layout.PAUSES, str(problem))
        return []


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

    def look(self) -> list[Event]:
        """Rung for incoming, pending and ended, Repaused where something else is paused."""
        found: list[Event] = []
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

    def _rest(self) -> list[Event]:
        found: list[Event] = []
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
        return [f"{state}/{day}" for state in layout.ENDED for day in days]

    def _shards(self) -> list[str]:
        last = date_of(self.wall() + DAY_US)
        with contextlib.suppress(Missing):
            dates = [date for date in self.disk.names(layout.PENDING) if date <= last]
            return [f"{layout.PENDING}/{date}/{prio}" for date in sorted(dates) for prio in PRIORITIES]
        return []


class Stir:
    """When pending/ is read anew because others change it: a reading may cost more than it brings.

    Soon where this node has nothing left to start, now and then where it has.
    """

    def __init__(self) -> None:
        self._asked = False
        self._last = self._took = self._started = 0
        self._reads = False

    def ask(self) -> None:
        """Others have changed something."""
        self._asked = True

    def due(self, state: State, now: Now) -> int | None:
        """In how many us it is to be read; None: not."""
        if len(state.peers) < 2 or not (self._asked or state.passed) or self._reading(state):
            return None
        dry = state.head() is None and state.counts["started"] != self._started
        rest = min(SELDOM, max(SOON if dry else OFTEN, SHARE * self._took))
        return max(0, self._last + rest - now.mono)

    def step(self, state: State, now: Now) -> list[Event]:
        """Stirred where it is due."""
        self.settle(state, now)
        if self.due(state, now) != 0:
            return []
        self._asked, self._reads, self._last = False, True, now.mono
        self._started = state.counts["started"]
        return [Stirred()]

    def settle(self, state: State, now: Now) -> None:
        """After each turn of the loop, which may sleep next: a reading that is done took until now."""
        if self._reads and not self._reading(state):
            self._reads, self._took = False, now.mono - self._last

    def _reading(self, state: State) -> bool:
        return self._reads and bool(state.scanning or not all(state.known.values()))
