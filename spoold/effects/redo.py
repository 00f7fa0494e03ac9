"""The redo log: what a group is about to do, on disk with one write, so that the doing needs no sync.

Records (spool.redolog) fill one half of nodes/redo; the other one is written again when all of it is
safe, which a flush of the whole file system sees to, beside the work: FLUSH_AFTER after the first change,
or where the half in use is half full. A daemon has the log while no other one serves the spool; where
there are several they sync each file and directory.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from spool import layout, redolog
from spool.disk import DiskFull, Missing
from spool.redolog import HALF
from spoold import locks

if TYPE_CHECKING:
    from collections.abc import Callable

    from spool.disk import Disk
    from spoold.core.values import Now

log = logging.getLogger("spoold")
CHUNK = 1 << 20
FLUSH_AFTER = 5_000_000  # us
POLL = 20_000  # us between two looks whether a flush has ended


class Redo:
    """The log of the one daemon that has it; a chore of the loop, which keeps its replay short.

    `boot` names the life of the machine: records of another life are what `found` holds after `open`.
    `lock` (spoold.locks) is held for as long as there is a log.
    """

    def __init__(self, disk: Disk, boot: str, lock: int | None = None, *, half: int = HALF) -> None:
        self.disk = disk
        self.boot = boot
        self.lock = lock
        self.half = half
        self.found: list[dict[str, Any]] = []
        self.made = False  # by us, just now
        self._seq = 0
        self._done = 0  # what was logged up to here has been done
        self._safe = 0  # and is on disk
        self._half, self._at = 0, 0  # where the next record goes
        self._last = [0, 0]  # the newest record of each half
        self._since: int | None = None  # when the loop first saw that something is not safe
        self._flush: tuple[int, Callable[[bool], bool]] | None = None

    def open(self) -> bool:
        """Read what a daemon before us has left; make the file where there is none.

        False where there is no room for it: what it should have held is synced file by file then.
        """
        found = redolog.read(self.disk, self.half)
        if found is None:
            return self._make()
        self.disk.sync([layout.REDO], [layout.NODES])  # whoever made it may have died before
        self._last, self._half, self._at = found.last, found.now, found.end
        if found.chain:
            self._seq, self._safe = found.chain[-1][0], found.safe
            self.found = found.undone(self.boot, redolog.seen(self.disk))
        return True

    def _make(self) -> bool:
        for path in (layout.REDO, layout.REDO_SEEN):
            if self.disk.info(path) is not None:
                self.disk.remove(path)
        try:
            self.disk.write(layout.REDO_SEEN, bytes(8))
            for _ in range(0, 2 * self.half, CHUNK):
                self.disk.append(layout.REDO, bytes(min(CHUNK, 2 * self.half)))
        except DiskFull:
            log.warning("no room for %s: each file is synced until the next start", layout.REDO)
            return False
        self.disk.sync([layout.REDO, layout.REDO_SEEN], [layout.NODES])
        self.made = True
        return True

    def drop(self) -> None:
        """There is no log any more; all that it held is on disk."""
        for path in (layout.REDO, layout.REDO_SEEN):
            with suppress(Missing):  # somebody else has
                self.disk.remove(path)
        if self.lock is not None:
            locks.give(self.lock)

    def add(self, record: dict[str, Any]) -> bool:
        """A record is on disk when this returns; False where it is too large to be one."""
        if not self._write(record):
            return False
        if self._flush is None and self._at > self.half // 2 and self._last[1 - self._half] > self._safe:
            self._begin()
        return True

    def done(self) -> None:
        """What was added has been done, all of it: the next flush brings it to disk."""
        self._done = self._seq

    def _write(self, record: dict[str, Any]) -> bool:
        self._poll()
        data = redolog.frame(self._seq + 1, {"safe": self._safe, "boot": self.boot, **record})
        if len(data) > self.half // 2:
            return False
        if self._at + len(data) > self.half:
            if self._last[1 - self._half] > self._safe:
                self._flushed()  # what is added now has not been done, what was added before has
            self._half, self._at = 1 - self._half, 0
        self.disk.mark(layout.REDO_SEEN, (self._seq + 1).to_bytes(8, "little"))
        self.disk.overwrite(layout.REDO, self._half * self.half + self._at, data)
        self._at += len(data)
        self._seq += 1
        self._last[self._half] = self._seq
        return True

    @property
    def at_rest(self) -> bool:
        """Nothing is in it that a power cut could make replay."""
        return self._safe == self._seq

    def settle(self) -> None:
        """All that was done so far is on disk when this returns, and nothing of it will be replayed.

        For who is in the middle of nothing.
        """
        self.done()
        self._flushed()
        self._say_safe()

    def _flushed(self) -> None:
        self._poll(wait=True)
        self._begin()
        self._poll(wait=True)

    def _begin(self) -> None:
        self._flush = self._done, self.disk.flush()

    def _poll(self, *, wait: bool = False) -> bool:
        if self._flush is None or not self._flush[1](wait):
            return False
        self._safe, self._flush = self._flush[0], None
        return True

    def _say_safe(self) -> None:
        self._since = None
        try:
            self._write({})
        except DiskFull:
            return  # a file system that copies on write: the next record says it
        # There is nothing in it to replay.
        self._done += self._done == self._seq - 1
        self._safe += self._safe == self._seq - 1

    # The chore.

    def due(self, now: Now) -> int | None:
        """Until everything is safe and the log says so."""
        if self._flush is not None:
            return POLL
        if self._safe == self._seq:
            return None
        if self._since is None:
            self._since = now.mono
        return max(0, self._since + FLUSH_AFTER - now.mono)

    def step(self, now: Now) -> None:
        """Begin a flush, or see whether it has ended."""
        if self._poll():
            self._say_safe()
        elif self._flush is None and self._since is not None and now.mono >= self._since + FLUSH_AFTER:
            self._begin()
