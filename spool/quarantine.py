"""What is damaged or strange is kept, with a reason beside it, and is in nobody's way."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from spool import layout, records
from spool.disk import ROTTEN, DiskFull, Exists, Failing, Missing, move_file, write_anew
from spool.safe import as_utf8

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk

TRIES = 1000
ID = re.compile("[0-9a-f]{32}")
TICK = 1_000_000  # us: two changes of a directory that are further apart have two stamps


def quarantine(
    disk: Disk, path: str, why: str, *, goes: str | None = None, file: bool = False
) -> str | None:
    """Move a file to corrupt/ under a harmless name; the new path, None where it was gone, or stays.

    The reason comes first, so that no crash leaves a file there without one. Where it `goes` has been
    told, as `place_for` said, it goes there or stays. Where it is surely a `file` that is meant, a
    directory that somebody has made in its place meanwhile stays.
    """
    reason = records.encode({"path": as_utf8(path), "reason": why})
    disk.make_dir(layout.CORRUPT)
    for target in _places(disk, path):
        if goes not in (None, target):
            return None
        try:
            write_anew(disk, f"{target}{layout.REASON}", reason)
            if file:
                move_file(disk, path, target)
            else:
                disk.move(path, target)
        except Exists:
            continue  # another node was faster
        except (Missing, NotADirectoryError, Failing) as problem:
            if isinstance(problem, Failing) and problem.errno not in ROTTEN:
                raise  # else the file system has lost what it is the name of, and it stays
            disk.remove(f"{target}{layout.REASON}")
            return None
        return target
    return None


def place_for(disk: Disk, path: str) -> str:
    """Where a file would go now."""
    return next(_places(disk, path), path)


def _places(disk: Disk, path: str) -> Iterator[str]:
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._,=-") else "_" for c in path)
    for number in range(TRIES):
        target = f"{layout.CORRUPT}/{name.lstrip('.')[:200]}{f'.{number}' if number else ''}"
        if disk.info(target) is None:  # else another one came from the same place before
            yield target


def aside(disk: Disk, path: str, why: str) -> None:
    """The same where there is room for the reason; else it stays where it is, for who reads it next."""
    with suppress(DiskFull):
        quarantine(disk, path, why)


def of(disk: Disk, task_id: str) -> str | None:
    """Where something of a task lies that was damaged; None also where that cannot be seen."""
    return put_aside(disk).get(task_id)


def put_aside(disk: Disk) -> dict[str, str]:
    """The same of all tasks, by their ids."""
    try:
        names = disk.names(layout.CORRUPT)
    except OSError:
        return {}
    kept = sorted(name for name in names if not name.endswith(layout.REASON))  # records before entries
    return {task_id: f"{layout.CORRUPT}/{name}" for name in kept for task_id in ID.findall(name)}


class Corrupt:
    """What `put_aside` says, listed once a turn at most, and only where that may have changed."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._tasks: dict[str, str] = {}
        self._turn = -1
        self._stamp: int | None = None
        self._since = 0  # when this stamp was first seen
        self._sure = False  # the listing is younger than every change of this stamp

    def tasks(self, mono: int) -> dict[str, str]:
        """In the turn of this time, us."""
        if mono == self._turn:
            return self._tasks
        self._turn = mono
        try:
            stamp = self.disk.stamp(layout.CORRUPT)
        except OSError:
            stamp = None
        if stamp != self._stamp:
            self._stamp, self._since, self._sure = stamp, mono, False
        if not self._sure:
            self._tasks, self._sure = put_aside(self.disk), mono - self._since > TICK
        return self._tasks
