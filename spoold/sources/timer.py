"""One timer for the loop: precise, and woken when somebody sets the clock."""

from __future__ import annotations

import ctypes
import os
import struct
import sys

from spool.libc import call

CLOCK_REALTIME, CLOCK_MONOTONIC = 0, 1
TFD_CLOEXEC_NONBLOCK = os.O_CLOEXEC | os.O_NONBLOCK
ABSTIME, CANCEL_ON_SET = 1, 2
FAR = min(1 << 40, sys.maxsize)  # seconds; a date nobody reaches, and a `long` can tell


class _Spec(ctypes.Structure):
    """struct itimerspec: interval, then value, each seconds and nanoseconds."""

    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("s", ctypes.c_long),
        ("ns", ctypes.c_long),
    )


class Timer:
    """timerfd(2): epoll's own time-out counts milliseconds and is half of one late."""

    def __init__(self) -> None:
        self.fd = call("timerfd_create", CLOCK_MONOTONIC, TFD_CLOEXEC_NONBLOCK)
        self.stepped_fd = call("timerfd_create", CLOCK_REALTIME, TFD_CLOEXEC_NONBLOCK)
        self._watch_steps()

    def arm(self, us: int) -> None:
        """Readable in so many us (at least one, so that 0 fires and does not disarm)."""
        us = max(1, us)
        self._set(self.fd, 0, min(us // 1_000_000, FAR), us % 1_000_000 * 1000)

    def drain(self, fd: int) -> None:
        """Take note that it fired; after a clock step, watch for the next."""
        try:
            struct.unpack("Q", os.read(fd, 8))
        except BlockingIOError:
            return
        except OSError:  # ECANCELED: the clock was set
            self._watch_steps()

    def _set(self, fd: int, flags: int, seconds: int, nanoseconds: int) -> None:
        spec = _Spec(0, 0, seconds, nanoseconds)
        call("timerfd_settime", fd, flags, ctypes.byref(spec), None)

    def _watch_steps(self) -> None:
        self._set(self.stepped_fd, ABSTIME | CANCEL_ON_SET, FAR, 0)
