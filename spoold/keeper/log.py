"""The output of a handler on the disk: never more of it than its limit."""

from __future__ import annotations

import os

from .proc import spare

TAIL = 4096  # bytes of output kept in memory


class Log:
    """The output of a handler: a capped file made at the first byte, the last bytes in memory."""

    __slots__ = ("error", "fd", "limit", "logged", "newline", "path", "tail", "truncated")

    def __init__(self, path: str, limit: int) -> None:
        self.path, self.limit = path, limit
        self.fd, self.logged = -1, 0
        self.truncated, self.newline = False, True
        self.tail = b""
        self.error: str | None = None

    def take(self, data: bytes) -> None:
        """Keep what fits. An error of the disk ends the file, never the handler."""
        self.tail = data[-TAIL:] if len(data) >= TAIL else (self.tail + data)[-TAIL:]
        if self.truncated or self.error is not None:
            return
        room = self.limit - self.logged
        try:
            self._write(data[:room])
            if len(data) > room:
                self._truncate()
        except (OSError, ValueError) as error:
            self.error = str(error)
            self.close()

    def _truncate(self) -> None:
        self.truncated = True
        logged = self.logged
        start = "" if self.newline else "\n"
        try:
            self._write(f"{start}[spool: output truncated after {self.limit} bytes]\n".encode())
        finally:
            self.logged = logged  # counts output, not this line
            self.close()

    def _write(self, data: bytes) -> None:
        if self.fd < 0:
            self.fd = self._open()
        while data:  # a disk that fills up takes a part first, then says ENOSPC
            written = os.write(self.fd, data)
            self.logged += written
            self.newline = data[written - 1 : written] == b"\n"
            data = data[written:]

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(self.path, flags, 0o640)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path), mode=0o750, exist_ok=True)
            fd = os.open(self.path, flags, 0o640)
        try:
            spare(fd)
        except OSError:
            os.close(fd)
            raise
        return fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
