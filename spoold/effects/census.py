"""How many tasks stand where, counted by names a slice at a time, for who may not wait to count them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from spool import layout, look
from spool.disk import DiskFull, Exists, Missing
from spool.shape import Shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk
    from spoold.core.state import State
    from spoold.core.values import Now

SLICE = 1000  # names in one round of the loop: some milliseconds
PAUSE = 20_000  # us between two slices
BUSY = 50_000  # the same while tasks are ready to start
SOON = 10_000_000  # us from the end of a census to the next one, at least
SHARE = 20  # it may not take more than one in so many


class Census:
    """Counts again and again; a chore of the loop. `last` is the newest whole count."""

    def __init__(self, disk: Disk, state: State) -> None:
        self.disk = disk
        self.state = state
        self.last: Shape | None = None
        self.seen = 0  # transitions, when the last one began
        self._next = 0
        self._began = 0
        self._under_way: Iterator[Shape | None] | None = None

    def due(self, now: Now) -> int | None:
        """In how many us the next slice is due; None where nothing has changed since the last one."""
        if self._under_way is None and self.last is not None and self.seen == self._changes():
            return None
        return max(0, self._next - now.mono)

    def step(self, now: Now) -> None:
        """One slice."""
        if self.due(now) != 0:
            return
        if self._under_way is None:
            self._under_way, self._began = self._count(now.wall), now.mono
            self.seen = self._changes()
        found = next(self._under_way)
        self._next = now.mono + (BUSY if self.state.head() is not None else PAUSE)
        if found is not None:
            self.last, self._under_way = found, None
            self._next = now.mono + max(SOON, SHARE * (now.mono - self._began))
            self._write(found)

    def _changes(self) -> int:
        return sum(self.state.meter.transitions.values())

    def _count(self, now: int) -> Iterator[Shape | None]:
        found = Shape(now)
        for folder in look.folders(self.disk, layout.STATES):
            state = folder.partition("/")[0]
            for names in self.disk.slices(folder, SLICE if state == layout.PENDING else 10 * SLICE):
                if state != layout.PENDING:
                    found.count(state, sum(1 for name in names if not name.startswith(".")))
                else:
                    found.wait(folder, names)
                yield None
        yield found

    def _write(self, found: Shape) -> None:
        data = orjson.dumps({"v": 1, "node": self.state.node, **found.plain()})
        replace(self.disk, layout.shape(self.state.node), data + b"\n")


def replace(disk: Disk, path: str, data: bytes) -> None:
    """A file that only tells gets another content; nothing where there is no room for it."""
    folder, _, name = path.rpartition("/")
    staged = f"{folder}/.{name}"
    try:
        try:
            disk.write(staged, data)
        except Exists:  # a leftover of a daemon that died just here
            disk.remove(staged)
            disk.write(staged, data)
        disk.move(staged, path)
    except (DiskFull, Missing):
        return
