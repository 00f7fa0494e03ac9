"""How many tasks stand where, counted by names a slice at a time, for who may not wait to count them.

What was found in a directory is kept, in memory and in a file, and holds until its change time is
another one: what nobody touches is not counted again, not even by another daemon.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from spool import layout, look
from spool.shape import BOUNDS, Shape
from spoold.effects.rewrite import rewrite
from spoold.spared import listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk
    from spoold.core.state import State
    from spoold.core.values import Now

SLICE = 2000  # names in one round of the loop: some milliseconds
FOLDERS = 100  # directories in one round that want no counting
PAUSE = 20_000  # us between two slices
BUSY = 50_000  # the same while tasks are ready to start
SOON = 10_000_000  # us from the end of a census to the next one, at least
SHARE = 20  # it may not take more than one in so many
WORTH = 1000  # entries of a directory that are worth keeping their count
COARSE = 2_000_000  # us; a change so soon after another may leave the same time
LIMIT = 64 << 20

Mark = tuple[int, int]  # inode and change time of a directory


class Census:
    """Counts again and again; a chore of the loop. `last` is the newest whole count."""

    def __init__(self, disk: Disk, state: State) -> None:
        self.disk = disk
        self.state = state
        self.last: Shape | None = None
        self.seen = 0  # transitions, when the last one began
        self._kept: dict[str, tuple[Mark, Shape]] = {}
        self._next = 0
        self._spent = 0  # us of work, by the one that is under way
        self._under_way: Iterator[Shape | None] | None = None
        self._loaded = False

    def due(self, now: Now) -> int | None:
        """In how many us the next slice is due; None where nothing has changed since the last one."""
        if self._under_way is None and self.last is not None and self.seen == self.state.meter.seen:
            return None
        return max(0, self._next - now.mono)

    def step(self, now: Now) -> None:
        """One slice."""
        if self.due(now) != 0:
            return
        if "due" in self.state.scanning and not all(self.state.known.values()):
            self._next = now.mono + BUSY  # nothing can start before all names have been read once
            return
        if not self._loaded:
            self._load()
        if self._under_way is None:
            self._under_way, self._spent = self._count(now.wall), 0
            self.seen = self.state.meter.seen
        begun = time.monotonic_ns()
        found = next(self._under_way)
        self._spent += (time.monotonic_ns() - begun) // 1000
        self._next = now.mono + (BUSY if self.state.head() is not None else PAUSE)
        if found is not None:
            self.last, self._under_way = found, None
            self._next = now.mono + max(SOON, SHARE * self._spent)
            self._write(found)

    def _count(self, now: int) -> Iterator[Shape | None]:
        found, kept = Shape(now), dict[str, tuple[Mark, Shape]]()
        for number, folder in enumerate(look.folders(self.disk, layout.STATES)):
            if number % FOLDERS == FOLDERS - 1:
                yield None
            mark = self._mark(folder)
            known = self._kept.get(folder)
            if known is not None and known[0] == mark and known[1].settled(folder, now):
                part = known[1]
            else:
                part = Shape(now)
                yield from self._look(folder, part)
            found.add(part)
            total = sum(part.counts.values())
            if (
                mark is not None
                and mark[1] < now - COARSE
                and total >= WORTH
                and part.settled(folder, now)
            ):
                kept[folder] = mark, part
        self._keep(kept)
        yield found

    def _mark(self, folder: str) -> Mark | None:
        info = self.disk.info(folder)
        return None if info is None else (info.ino, info.ctime_us)

    def _look(self, folder: str, part: Shape) -> Iterator[None]:
        state = folder.partition("/")[0]
        for names in listed(self.disk, folder, SLICE if state == layout.PENDING else 5 * SLICE):
            if state != layout.PENDING:
                part.count(state, sum(1 for name in names if not name.startswith(".")))
            else:
                part.wait(folder, names)
            yield None

    # What is kept.

    def _keep(self, kept: dict[str, tuple[Mark, Shape]]) -> None:
        changed = kept.keys() != self._kept.keys() or any(kept[f][0] != self._kept[f][0] for f in kept)
        self._kept = kept
        if changed:
            rows = {folder: [mark, part.kept()] for folder, (mark, part) in kept.items()}
            data = orjson.dumps({"v": 1, "bounds": BOUNDS, "folders": rows})
            rewrite(self.disk, layout.census(self.state.node), data)

    def _load(self) -> None:
        """What the daemon before has counted; what is not as we write it counts as not there."""
        self._loaded = True
        try:
            found: Any = orjson.loads(self.disk.read(layout.census(self.state.node), LIMIT))
            rows = (
                {}
                if found["bounds"] != list(BOUNDS)
                else {
                    str(folder): ((int(ino), int(ctime)), Shape.recall(part))
                    for folder, ((ino, ctime), part) in found["folders"].items()
                }
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return
        self._kept = rows

    def _write(self, found: Shape) -> None:
        data = orjson.dumps({"v": 1, "node": self.state.node, **found.plain()})
        rewrite(self.disk, layout.shape(self.state.node), data + b"\n")
