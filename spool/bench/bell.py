"""When something becomes visible in a directory: inotify by the kernel's own calls, nothing between."""

from __future__ import annotations

import os
import select
import struct
import time

from spool.libc import call

IN_MOVED_TO = 0x80
IN_CREATE = 0x100
HEAD = struct.Struct("iIII")


class Late(Exception):
    """Nothing came in time."""


class Bell:
    """Counts names that come into a directory, and says when."""

    def __init__(self, path: str) -> None:
        self.fd = call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)
        call("inotify_add_watch", self.fd, path.encode(), IN_MOVED_TO | IN_CREATE, path=path)
        self._over = 0  # counted beyond what was asked for: they came together
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLIN)

    def wait(self, patience: float = 30.0) -> tuple[int, list[str]]:
        """(monotonic ns, names) of the next that come; Late."""
        if not self._poll.poll(patience * 1000):
            raise Late
        now = time.monotonic_ns()
        data, names, at = os.read(self.fd, 1 << 16), [], 0
        while at < len(data):
            *_, length = HEAD.unpack_from(data, at)
            at += HEAD.size
            names.append(data[at : at + length].rstrip(b"\0").decode())
            at += length
        return now, names

    def count(self, number: int, part: str = "", patience: float = 120.0) -> int:
        """Wait for so many more names with `part`; the monotonic ns of the last, 0 if all had come."""
        now = 0
        number -= self._over
        while number > 0:
            now, names = self.wait(patience)
            number -= sum(part in name for name in names)
        self._over = -number
        return now

    def close(self) -> None:
        """Stop."""
        os.close(self.fd)
