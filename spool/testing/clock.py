"""A clock that goes with the machine's and can be moved, and the disk seen by it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from spool.disk import RealDisk
from spoold.core.values import Now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Info


class Clock:
    """Instants are us, UTC."""

    def __init__(self) -> None:
        self._ahead = 0
        self._gone = 0  # how far the monotonic clock was moved
        self._still: int | None = None  # the wall clock, where it stands still

    def now(self) -> Now:
        """Both clocks of the test."""
        wall = self.going() if self._still is None else self._still
        return Now(wall, time.monotonic_ns() // 1000 + self._gone)

    def going(self) -> int:
        """The wall clock, as it is for what runs: it never stands still."""
        return self.of(time.time_ns() // 1000)

    @contextmanager
    def still(self) -> Iterator[None]:
        """Meanwhile the wall clock of `now` stands still, but for moves."""
        outermost = self._still is None  # a task of the test may run others
        self._still = self.now().wall
        try:
            yield
        finally:
            if outermost:
                self._still = None

    def move(self, us: int) -> None:
        """So much later it is from now on."""
        self._ahead += us
        self._gone += max(0, us)
        if self._still is not None:
            self._still += us

    def of(self, machine: int) -> int:
        """The time of the test at an instant of the machine since the last move."""
        return machine + self._ahead


class MovedDisk(RealDisk):
    """The disk, with changes of files told in the time of the test.

    Whatever was dropped before a move has been taken in before it.
    """

    def __init__(self, root: str, clock: Clock) -> None:
        super().__init__(root)
        self._clock = clock

    def info(self, path: str) -> Info | None:
        found = super().info(path)
        return found and replace(found, ctime_us=self._clock.of(found.ctime_us))
