"""What an attempt uses, measured of its process."""

from __future__ import annotations

import functools
import os
import resource
import time
from typing import Any


class Usage:
    """What an attempt has used; of the whole process, so coroutines that overlap share it."""

    def __init__(self) -> None:
        _forget_peak()
        self.at = time.monotonic_ns() // 1000  # us; the clock of spoold
        self._since = time.perf_counter()
        self._cpu = time.process_time()

    def until_now(self) -> dict[str, Any]:
        return {
            "seconds": round(time.perf_counter() - self._since, 6),
            "cpu": round(time.process_time() - self._cpu, 6),
            "peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }


def _forget_peak() -> None:
    """From now on the peak of memory is that of this attempt, not that of a bigger one before it."""
    try:
        os.write(_clear_refs(), b"5")
    except OSError:
        pass  # the kernel does not offer it: the peak is that of the process


@functools.cache
def _clear_refs() -> int:
    return os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
