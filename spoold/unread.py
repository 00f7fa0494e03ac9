"""Standard error that nobody may read: the queue goes on, and what was not written is counted."""

from __future__ import annotations

import io
import select
import sys

AT_ONCE = select.PIPE_BUF  # bytes for which there is room where a pipe says that there is any
PATIENCE = 1000  # ms that a reader may take; one that took longer is not waited for until he reads


class Unread(io.FileIO):
    """A descriptor whose writes wait for a second at most."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "w", closefd=False)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._lines = 0
        self._late = False

    def write(self, data: object) -> int:
        """What there is room for; where there is none all of it is gone."""
        rest = bytes(data)  # type: ignore[call-overload]
        if not self._has_room():
            self._lines += rest.count(b"\n")
            return len(rest)
        if self._lines:
            said = f"spoold: {self._lines} lines were not written: nobody read standard error\n"
            self._lines = 0
            super().write(said.encode())
            return self.write(rest)
        return super().write(rest[:AT_ONCE]) or 0

    def _has_room(self) -> bool:
        self._late = not self._poll.poll(0 if self._late else PATIENCE)
        return not self._late


def patient() -> None:
    """Have all of this process write to standard error so."""
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(Unread(sys.stderr.fileno())),
        encoding=sys.stderr.encoding,
        errors=sys.stderr.errors,
        line_buffering=True,
    )
