"""What of the tasks cannot be read and is left alone: said once each, and the rest goes on.

Only where nothing is decided but that it waits; whatever else cannot be read ends the daemon.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from spool.disk import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk

log = logging.getLogger("spoold")
SAID: set[str] = set()


def spare(problem: Unreadable) -> None:
    """Say once that a file or directory is left alone."""
    path = str(problem.filename)
    if path not in SAID:
        log.error("%s is left alone: %s", ascii(path), problem)
    SAID.add(path)


def listed(disk: Disk, path: str, size: int) -> Iterator[list[str]]:
    """The names in a directory of tasks, a slice at a time; of one that cannot be read what could be."""
    try:
        yield from disk.slices(path, size)
    except Unreadable as problem:
        spare(problem)
