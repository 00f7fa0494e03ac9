"""Which attempts have begun, for whoever comes after this daemon: nodes/NODE.begun.

Its first line is the life of the machine; then there is ID.N for each attempt, appended by the keeper or
the worker right before it begins. What is in running/ and not here was claimed and had not begun. None
of it is synced, and what another life has written says nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from spool import layout, machine, mounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MANY = 1 << 14  # lines after which it is cut short
LINE = 35  # bytes of most lines
LIMIT = 1 << 22  # bytes that are read


class Begun:
    """The file of a daemon. `fd` appends; None on a network file system, where each line would travel."""

    def __init__(self, root: str, node: str) -> None:
        self._of = root, node
        self.path = os.path.join(root, layout.begun(node))
        self.fd: int | None = None
        self._lines = 0
        if mounts.is_network(root):
            return
        self._head = machine.life(root).encode() + b"\n"
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._lines = os.fstat(self.fd).st_size // LINE
        if os.pread(self.fd, len(self._head), 0) != self._head:
            self._cut(())

    def count(self, running: Callable[[], Iterable[str]]) -> None:
        """One more is started; `running`: what is not to be forgotten, where it is time to forget."""
        self._lines += 1
        if self._lines >= MANY:
            self._cut(running())

    def known(self) -> frozenset[str] | None:
        """The attempts that have begun; None where that is not known."""
        return read(*self._of)

    def _cut(self, keys: Iterable[str]) -> None:
        """What begins at this moment may be forgotten, and pass for what had not."""
        self._lines = 0
        if self.fd is not None:
            os.ftruncate(self.fd, 0)
            os.write(self.fd, self._head + b"".join(key.encode() + b"\n" for key in keys))


def read(root: str, node: str) -> frozenset[str] | None:
    """The attempts (ID.N) of a node that have begun; None where that is not known."""
    try:
        with open(os.path.join(root, layout.begun(node)), "rb") as file:
            head, *lines = file.read(LIMIT).decode("ascii", "replace").split("\n")
    except OSError:
        return None
    return frozenset(lines) if head == machine.life(root) else None
