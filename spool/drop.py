"""An action is dropped into incoming/: whole and durable, or not at all."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from spool import layout
from spool.disk import DiskFull, Missing
from spool.errors import Full, NotAllowed, NotASpool
from spool.names import new_id

if TYPE_CHECKING:
    from spool.disk import Disk


class Drops:
    """Files that become visible together: `stage` each, then `publish`, or `abandon` all of them.

    In this order; after a crash between two steps, this is what is left:

        step       what is on disk if we die after it          who cleans up, and how
        1 write    dot files in tmp/                           spoold puts them away after a day
        2 sync     the same, but whole after a power cut       the same
        3 move     actions in incoming/, some or all           nobody need: they are taken in; the
                                                               writer has not been told so
        4 sync     all of them, after a power cut too          nothing to do: now the ids are given

    Without `durable` steps 2 and 4 are left out.
    """

    def __init__(self, disk: Disk, root: str, *, durable: bool) -> None:
        self.disk = disk
        self.root = root
        self.durable = durable
        self._staged: dict[str, str] = {}
        self._moved: list[str] = []

    def stage(self, name: str, data: bytes) -> None:
        """Prepare one file that is to be incoming/NAME. Full, NotAllowed, NotASpool."""
        path = f"{layout.TMP}/.{new_id()}.json"
        self._staged[path] = f"{layout.INCOMING}/{name}"
        try:
            self.disk.write(path, data)
        except OSError as problem:
            del self._staged[path]
            raise self._told(problem) from None

    def publish(self) -> None:
        """All that was staged becomes visible. Full, NotAllowed, NotASpool."""
        try:
            if self.durable:
                self.disk.sync(self._staged)
            for path, target in self._staged.items():
                self.disk.move(path, target)
                self._moved.append(target)
            if self.durable:
                self.disk.sync_dirs([layout.INCOMING])
        except OSError as problem:
            raise self._told(problem) from None

    def abandon(self) -> None:
        """Take back what is not spoold's yet; after `publish` failed it may have some already."""
        for path in (*self._staged, *self._moved):
            try:
                self.disk.remove(path)
            except OSError:
                pass  # moved on, or the disk takes nothing any more: tmp/ is cleaned by spoold

    def _told(self, problem: OSError) -> Exception:
        place = f"{self.root}/{problem.filename}" if problem.filename else self.root
        if isinstance(problem, DiskFull):
            return Full(f"{place}: {problem.strerror}; nothing was submitted")
        if isinstance(problem, Missing):
            why = f"has no {layout.TMP}/ or {layout.INCOMING}/ any more; mend it with `spool init`"
            return NotASpool(self.root, why)
        if isinstance(problem, PermissionError) or problem.errno == errno.EROFS:
            return NotAllowed(f"{place}: uid {os.getuid()} may not write there: {problem.strerror}")
        return problem


def drop(disk: Disk, root: str, files: dict[str, bytes], *, durable: bool) -> None:
    """These files (name -> bytes) are in incoming/ when it returns; where it raises, none is."""
    drops = Drops(disk, root, durable=durable)
    try:
        for name, data in files.items():
            drops.stage(name, data)
        drops.publish()
    except BaseException:
        drops.abandon()
        raise
