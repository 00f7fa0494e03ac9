"""Who else serves a spool on a local disk: who holds the lock of its name is alive, and nobody else is.

There are no beats, and nobody has to be fenced: a lock is held until the last handler of its daemon is
gone. What a node has left that nobody serves for PATIENCE belongs to whoever takes its lock, and writes
his name into it: it is kept until all is in order, and a daemon of that name waits for it.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from spool import daemons, layout, look
from spool.beats import Death, parse
from spool.disk import Missing
from spool.names import is_task
from spool.times import SECOND
from spoold import locks

if TYPE_CHECKING:
    from collections.abc import Callable

    from spool.disk import Disk

PATIENCE = 30 * SECOND  # for a node to come back before others go on with what it left
ALONE, TOGETHER = 2 * SECOND, SECOND  # us between two looks


def is_buried(lock: str) -> bool:
    """Whether the lock of a node is held by one that brings back what it left."""
    with contextlib.suppress(OSError):
        return os.stat(lock).st_size > 0
    return False


class Housemates:
    """The nodes of a spool on one disk, as one of them sees them. Not for several threads at once."""

    def __init__(self, disk: Disk, root: str, node: str, clock: Callable[[], int]) -> None:
        """`clock` gives monotonic us."""
        self.disk = disk
        self.root = root
        self.node = node
        self.clock = clock
        self.lease = PATIENCE
        self.live = frozenset({node})
        self.deaths: dict[str, int] = {}  # nodes whose tasks this one brings back: the lock of each
        self._left: dict[str, int] = {}  # nodes that have left something, since when
        self._next = 0

    def join(self) -> bool:
        """Begin, with the lock held; False while one with a lease sees to what an earlier life left."""
        for name in look.names(self.disk, layout.ALIVE):
            known = parse(name)
            if known is None or known.node != self.node:
                continue
            if isinstance(known, Death) and daemons.alive(self.root, known.by):
                return False
            with contextlib.suppress(Missing):
                self.disk.remove(f"{layout.ALIVE}/{name}")  # of an earlier life, which had a lease
        return True

    def step(self) -> None:
        """Look, where it is due; OSErrors are for the next time."""
        with contextlib.suppress(OSError):
            if self.due() == 0:
                self.look()

    def due(self) -> int:
        """In how many us the next step is."""
        return max(0, self._next - self.clock())

    def buried(self, node: str) -> None:
        """What a dead node left is in order, or is tried again later."""
        lock = self.deaths.pop(node)
        os.ftruncate(lock, 0)
        locks.give(lock)

    def look(self) -> None:
        """Who is alive now, and who has left something."""
        now = self.clock()
        self._next = now + ALONE  # should it fail
        locked = layout.locked(self.disk.names(layout.NODES))
        known = {*locked, *filter(is_task, self.disk.names(layout.RUNNING))}
        others = known - self.deaths.keys() - {self.node}
        self.live = frozenset({self.node, *(n for n in others if self._serves(n))})
        left = {n for n in others - self.live - self._seen_to() if look.has_claims(self.disk, n)}
        self._left = {name: self._left.get(name, now) for name in left}
        for name in [n for n, since in self._left.items() if now - since >= PATIENCE]:
            with contextlib.suppress(TimeoutError):  # it is back, or another one was faster
                self.deaths[name] = locks.take(self._lock(name))
                os.write(self.deaths[name], self.node.encode())
        if len(self.live) > 1 or self._left:
            self._next = now + TOGETHER

    def _seen_to(self) -> set[str]:
        """Nodes with beats, which see to each other: they were started when a lease was set."""
        beats = {known.node for name in look.names(self.disk, layout.ALIVE) if (known := parse(name))}
        return beats if beats & self.live else set()

    def _serves(self, node: str) -> bool:
        return daemons.alive(self.root, node) and not is_buried(self._lock(node))

    def _lock(self, node: str) -> str:
        return os.path.join(self.root, layout.lock(node))
