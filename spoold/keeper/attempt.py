"""One handler from its start to its exit report."""

from __future__ import annotations

import os
import select
import signal
import time

from .log import Log
from .proc import mark
from .spawn import spawn

TYPE_CHECKING = False  # typing takes long to import
if TYPE_CHECKING:
    from resource import struct_rusage

    from .order import StartOrder

CHUNK = 1 << 16  # bytes read from a handler at a time: the size of its pipe
TICKS = os.sysconf("SC_CLK_TCK")


class Attempt:
    """A process with its output. Nothing here waits."""

    def __init__(self, order: StartOrder, epoll: select.epoll) -> None:
        """Start it; its output wakes `epoll`. OSError or ValueError: it was not started."""
        self.key, self.lane = order.key, order.lane
        self.log = Log(order.log, order.limit)
        self.due: float | None = None  # when patience with it ends: KILL, or report without waiting
        self.ended: dict[str, object] = {}
        ours = [f"{name}={value}" for name, value in order.env.items() if name.startswith("SPOOL_")]
        self.mark = mark([os.fsencode(one) for one in ours])
        self.since = time.monotonic()
        self.ticks = int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS)
        self.pid, self.pipe = spawn(order)
        self.epoll = epoll
        try:
            epoll.register(self.pipe, select.EPOLLIN)
        except OSError:  # no memory, or too many watches: it is not said to run, and must not
            os.killpg(self.pid, signal.SIGKILL)
            os.close(self.pipe)
            raise

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
        if self.pipe >= 0:
            self.epoll.unregister(self.pipe)  # a child in the middle of exec may hold a copy still
            os.close(self.pipe)
            self.pipe = -1

    def reaped(self, status: int, usage: struct_rusage) -> None:
        """Note how it ended, as wait4 tells."""
        code = os.waitstatus_to_exitcode(status)
        self.ended = {
            "exit": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "rss": usage.ru_maxrss * 1024,
            "cpu": usage.ru_utime + usage.ru_stime,
            "seconds": time.monotonic() - self.since,
        }

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
            **self.ended,
            "logged": self.log.logged,
            "truncated": self.log.truncated,
            "log_error": self.log.error,
            "tail": self.log.tail.decode("utf-8", "backslashreplace"),
        }
