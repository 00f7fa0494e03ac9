"""One handler from its start to its exit report."""

from __future__ import annotations

import os
import select
import time

from .log import Log
from .proc import mark
from .spawn import spawn

TYPE_CHECKING = False  # typing takes long to import
if TYPE_CHECKING:
    from resource import struct_rusage

    from .orders import StartOrder

CHUNK = 1 << 16  # bytes read from a handler at a time: the size of its pipe
TICKS = os.sysconf("SC_CLK_TCK")
QUIET = 0.005  # seconds in which output waits in its pipe: who ends sooner wakes us but once


class Attempt:
    """A process with its output. Nothing here waits."""

    def __init__(self, order: StartOrder) -> None:
        """Start it. OSError or ValueError: it was not started."""
        self.key, self.lane, self.env = order.key, order.lane, order.env
        self.log = Log(order.log, order.limit)
        self.due: float | None = None  # when patience with it ends: KILL, or report without waiting
        self.ended: tuple[int, struct_rusage, float] | None = None
        self.since = time.monotonic()
        self.ticks = int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS)
        self.pid, self.pipe = spawn(order)
        self.quiet: float | None = self.since + QUIET  # until when its output wakes nobody
        self.epoll: select.epoll | None = None  # that it wakes

    @property
    def mark(self) -> tuple[bytes, ...]:
        """What tells that a process is one of its own."""
        ours = [f"{name}={value}" for name, value in self.env.items() if name.startswith("SPOOL_")]
        return mark([os.fsencode(one) for one in ours])

    def listen(self, epoll: select.epoll) -> bool:
        """Have its output wake `epoll`, or (no memory, too many watches) try again later."""
        try:
            epoll.register(self.pipe, select.EPOLLIN)
        except OSError:
            self.quiet = time.monotonic() + QUIET
            return False
        self.quiet, self.epoll = None, epoll
        return True

    def read(self) -> bool:
        """Take what the pipe holds, once; False when there is no more for now."""
        if self.pipe < 0:
            return False
        try:
            data = os.read(self.pipe, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._hang_up()
            return False
        self.log.take(data)
        return True

    def _hang_up(self) -> None:
        if self.epoll is not None:
            self.epoll.unregister(self.pipe)  # a child in the middle of exec may hold a copy still
        if self.pipe >= 0:
            os.close(self.pipe)
        self.pipe, self.quiet, self.epoll = -1, None, None

    def reaped(self, status: int, usage: struct_rusage) -> None:
        """Note how it ended, as wait4 tells."""
        self.ended = (status, usage, time.monotonic() - self.since)

    def finish(self) -> dict[str, object]:
        """Drain the output, close everything, say how it went."""
        for _ in range(64):  # what a pipe can hold, and an end where somebody beyond reach writes on
            if not self.read():
                break
        self._hang_up()
        self.log.close()
        return {
            "ev": "exit",
            "key": self.key,
            "since": self.since,
            **(_end(*self.ended) if self.ended else {}),
            "logged": self.log.logged,
            "log_error": self.log.error,
            "tail": self.log.tail.decode("utf-8", "backslashreplace"),
        }


def _end(status: int, usage: struct_rusage, seconds: float) -> dict[str, object]:
    """How a process ended, and what it used."""
    code = os.waitstatus_to_exitcode(status)
    return {
        "exit": code if code >= 0 else None,
        "signal": -code if code < 0 else None,
        "rss": usage.ru_maxrss * 1024,
        "cpu": usage.ru_utime + usage.ru_stime,
        "seconds": seconds,
    }
