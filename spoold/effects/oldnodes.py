"""Nodes that are long gone are forgotten."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from spool import layout, look, occurrences
from spool.beats import parse
from spool.disk import Missing
from spool.names import DAY_US
from spoold import locks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from spool.disk import Disk

GONE = 7 * DAY_US  # since a node was last heard of, and has left nothing
OF_NODE = (
    layout.status, layout.usage, layout.shape, layout.census, layout.begun, layout.told, layout.metrics,
)  # fmt: skip


def nodes(disk: Disk, root: str, live: Collection[str], now: int) -> Iterator[None]:
    """Nodes that are long gone are forgotten, but for how far a schedule has come that no other tells."""
    beats = {known.node for name in look.names(disk, layout.ALIVE) if (known := parse(name))}
    for node in layout.locked(look.names(disk, layout.NODES)):
        if node in live or node in beats:
            continue
        lock = layout.lock(node)
        told = [info.ctime_us for path in (lock, layout.status(node)) if (info := disk.info(path))]
        if not told or now - max(told) < GONE:
            continue
        try:
            held = locks.take(os.path.join(root, lock))
        except OSError:
            continue  # it is back, or somebody sees to what it left
        try:
            _forget(disk, node)
        finally:
            locks.give(held)
        yield


def _forget(disk: Disk, node: str) -> None:
    """Remove what tells of a node, its lock last: by that it is known."""
    if look.names(disk, f"{layout.RUNNING}/{node}"):
        return
    disk.remove_dir(f"{layout.RUNNING}/{node}")
    disk.remove_dir(f"{layout.JOURNAL}/{node}")  # where nothing of it is kept any more
    paths = [path(node) for path in OF_NODE]
    if occurrences.marks(disk) == occurrences.marks(disk, but=node):
        paths.insert(0, layout.schedules(node))
    for path in (*paths, layout.lock(node)):
        with contextlib.suppress(Missing):
            disk.remove(path)
