"""Files that only tell: replaced as a whole, never synced, and not at all where there is no room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool.disk import DiskFull, Missing, write_anew

if TYPE_CHECKING:
    from spool.disk import Disk


def rewrite(disk: Disk, path: str, data: bytes, node: str = "") -> bool:
    """A file gets another content; whether there was room for it. `node`: who does, where others may."""
    folder, _, name = path.rpartition("/")
    staged = f"{folder}/.{node}{name}"
    try:
        write_anew(disk, staged, data)
        disk.move(staged, path)
    except (DiskFull, Missing):
        return False
    return True
