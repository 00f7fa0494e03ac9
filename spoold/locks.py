"""Locks by flock(2): what is free is taken at once, and who has to wait has time for filelock.

Its import is a tenth of the start of a daemon, which as a rule has nobody to wait for.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress

FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
AGAIN = 0.05  # s


def take(path: str, patience: float = 0) -> int:
    """A descriptor that holds the lock of a file; TimeoutError where others have it for so many seconds.

    The file is made where there is none, for its owner alone. OSError where it cannot be opened.
    """
    end = time.monotonic() + patience
    while True:
        fd = os.open(path, FLAGS, 0o600)
        try:
            _wait(fd, path, end)
            if _is_there(fd, path):
                return fd
        except OSError:
            os.close(fd)
            raise
        os.close(fd)  # who held it has removed the file, and the next one makes it anew


def _is_there(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _wait(fd: int, path: str, end: float) -> None:
    with suppress(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    from filelock import lock_descriptor

    while not lock_descriptor(fd, blocking=False):
        if time.monotonic() >= end:
            raise TimeoutError(errno.ETIMEDOUT, "others have the lock", path)
        time.sleep(AGAIN)


def give(fd: int) -> None:
    """The lock is free, whoever else has the descriptor."""
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)
