"""The disk of a node among others: it changes nothing once it must not, and trusts no answer.

After a crash of the file server a rename that was done may answer that its source is gone, and a link
that its target is there, on every version of NFS: what stands at the target tells. Targets of renames
are names that nobody else makes.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spool.disk import Disk, Exists, Missing, RealDisk
from spoold.core.meter import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Below = RealDisk
else:
    Below = object


def moved(disk: Disk, target: str) -> bool:
    """Whether a rename that said its source was gone has been done nevertheless."""
    disk.stamp(target.rpartition("/")[0])  # opening the directory makes the client forget what it knew
    return disk.info(target) is not None


def linked(disk: Disk, source: str, target: str) -> bool:
    """Whether a link that said its target was there has been made nevertheless, by whom ever."""
    disk.stamp(target.rpartition("/")[0])
    ours, found = disk.info(source), disk.info(target)
    return ours is not None and found is not None and ours.ino == found.ino


class Fence(Below):
    """Before the verbs of a disk, which is the next base of a class.

    `check` raises where nothing may be changed any more; None: nobody else is there.
    """

    check: Callable[[], None] | None = None

    def write(self, path: str, data: bytes, *, private: bool = False) -> None:
        if self.check is not None:
            self.check()
        super().write(path, data, private=private)

    def append(self, path: str, data: bytes) -> None:
        if self.check is not None:
            self.check()
        super().append(path, data)

    def move(self, source: str, target: str) -> None:
        if self.check is not None:
            self.check()
        try:
            super().move(source, target)
        except Missing:
            if self.check is None or not moved(self, target):
                raise

    def link(self, source: str, target: str) -> None:
        if self.check is not None:
            self.check()
        try:
            super().link(source, target)
        except Exists:
            if self.check is None or not linked(self, source, target):
                raise

    def remove(self, path: str) -> None:
        if self.check is not None:
            self.check()
        try:
            super().remove(path)
        except Missing:
            if self.check is None:
                raise  # else it is done, by whom ever

    def make_dir(self, path: str) -> None:
        if self.check is not None:
            self.check()
        super().make_dir(path)

    def remove_dir(self, path: str) -> bool:
        if self.check is not None:
            self.check()
        return super().remove_dir(path)


class TimedDisk(RealDisk):
    """The disk, with a clock on what takes longest."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.syncs = Histogram()

    def sync(self, paths: Iterable[str], dirs: Iterable[str] = ()) -> None:
        with self._timed():
            super().sync(paths, dirs)

    def sync_dirs(self, paths: Iterable[str]) -> None:
        with self._timed():
            super().sync_dirs(paths)

    def overwrite(self, path: str, at: int, data: bytes) -> None:
        with self._timed():
            super().overwrite(path, at, data)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.syncs.add(time.monotonic() - began)


class FencedDisk(Fence, TimedDisk):
    """The disk of a node."""
