"""Files that only tell: replaced as a whole, never synced, and not at all where there is no room."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from spool.disk import DiskFull, Failing, Missing, write_anew

if TYPE_CHECKING:
    from spool.disk import Disk

log = logging.getLogger("spoold")
UNWRITTEN: set[str] = set()  # what cannot be written, as was said


def rewrite(disk: Disk, path: str, data: bytes, node: str = "") -> bool:
    """A file gets another content; whether there was room for it. `node`: who does, where others may."""
    folder, _, name = path.rpartition("/")
    staged = f"{folder}/.{node}{name}"
    try:
        write_anew(disk, staged, data)
        disk.move(staged, path)
    except (DiskFull, Missing):
        return False
    except Failing as problem:
        unwritten(path, problem)
        return False
    UNWRITTEN.discard(path)
    return True


def unwritten(path: str, problem: Failing) -> None:
    """Say once that a file that only tells cannot be written; the queue goes on as long as it can."""
    if path not in UNWRITTEN:
        log.error("%s cannot be written (%s): trying again", path, problem.strerror)
    UNWRITTEN.add(path)
