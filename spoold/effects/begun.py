"""Which attempts have begun, for whoever comes after this daemon: nodes/NODE.begun.

Its first line is the life of the machine; then there is ID.N for each attempt, appended by the keeper or
the worker right before it begins. What is in running/ and not here was claimed and had not begun. None
of it is synced, and what another life has written says nothing. Who cannot append empties it: without
its first line nothing is known.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from spool import layout, machine, mounts
from spool.disk import open_regular
from spoold.core.values import Recovered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from spoold.core.values import Event

MANY = 1 << 14  # lines after which it is cut short
LIMIT = 1 << 22  # bytes that are read


class Begun:
    """The file of a daemon. `fd` appends.

    None where there is no room, or on a network file system, where each line would travel.
    """

    def __init__(self, root: str, node: str) -> None:
        self._of = root, node
        self.path = os.path.join(root, layout.begun(node))
        self.fd: int | None = None
        self._lines = 0
        if mounts.is_network(root):
            return
        self._head = machine.life(root).encode() + b"\n"
        try:
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise  # else there is none, and nothing is known

    def count(self, running: Callable[[], Iterable[str]]) -> None:
        """One more is started; `running`: what is not to be forgotten, where it is time to forget."""
        self._lines += 1
        if self._lines >= MANY:
            self.renew(running())

    def known(self) -> frozenset[str] | None:
        """The attempts that have begun; None where that is not known."""
        return read(*self._of)

    def renew(self, keys: Iterable[str]) -> None:
        """These alone have begun, at first those that an earlier daemon had: they are not seen to yet."""
        self._lines = 0
        if self.fd is None:
            return
        data = self._head + b"".join(key.encode() + b"\n" for key in keys)
        with suppress(OSError):
            os.ftruncate(self.fd, 0)
            if os.write(self.fd, data) < len(data):  # no room
                os.ftruncate(self.fd, 0)


def keys(events: Iterable[Event]) -> list[str]:
    """What has begun of the attempts that were found at start."""
    entries = [e.place.entry for e in events if isinstance(e, Recovered) and e.begun]
    return [f"{entry.id}.{entry.attempt}" for entry in entries]


def read(root: str, node: str) -> frozenset[str] | None:
    """The attempts (ID.N) of a node that have begun; None where that is not known."""
    try:
        with open(open_regular(os.path.join(root, layout.begun(node))), "rb") as file:
            head, *lines = file.read(LIMIT).decode("ascii", "replace").split("\n")
    except OSError:
        return None
    return frozenset(lines) if head == machine.life(root) else None
