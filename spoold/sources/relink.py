"""A spool whose ids/ was deleted: its names are made again of the entries, a slice at a time.

Meanwhile what waits is started, and nothing is taken in, made of a schedule or packed: who has an id or
a key is not known. What moves meanwhile may slip through, so all is looked at until nothing is missing.
nodes/relink stands from before the first name to after the last: the next start goes on.
"""

from __future__ import annotations

import logging
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from spool import layout, look
from spool.disk import DiskFull, Exists, Missing, link_anew
from spool.names import id_and_task, is_id
from spoold.spared import listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk
    from spoold.core.state import State

log = logging.getLogger("spoold")
SLICE = 500  # names in one round of the loop: some milliseconds


def mark(disk: Disk) -> None:
    """Names in ids/ are missing until all are made again, whatever comes between."""
    disk.make_dir(layout.NODES)
    with suppress(Exists):
        disk.write(layout.RELINK, b"")
    disk.sync_dirs([layout.NODES])


class Relink:
    """Begins where names are gone, whenever `look` is called; then `step` does a little of it."""

    def __init__(self, disk: Disk, state: State) -> None:
        self.disk = disk
        self.state = state
        self._rest: Iterator[None] | None = None
        self.look()

    @property
    def busy(self) -> bool:
        """Whether there is something to do now."""
        return self._rest is not None

    def look(self) -> None:
        """Begin, where it is to be done; what waits in incoming/ is looked at after it."""
        if self._rest is None:
            self.state.relinking = look.ids_are_lost(self.disk)
            self.state.later |= self.state.relinking
            self._rest = self._all() if self.state.relinking else None

    def begin(self) -> None:
        """Now, before a name is made in what was deleted."""
        mark(self.disk)
        self.look()

    def glance(self) -> None:
        """The same before anything is taken in, for the price of a stat where all is well."""
        found = self.disk.info(layout.IDS)
        if found is None or found.nlink == 2:  # gone, or nothing is in it
            self.look()

    def step(self) -> None:
        """One slice of names; where the disk is full, the next look begins anew."""
        if self._rest is None:
            return
        try:
            next(self._rest)
        except StopIteration:
            self._rest, self.state.relinking = None, False
        except DiskFull:
            self._rest = None

    def _all(self) -> Iterator[None]:
        mark(self.disk)
        dirs: set[str] = set()
        count, made = 0, -1
        while made:
            made = 0
            for folder in look.folders(self.disk, layout.STATES):
                for names in listed(self.disk, folder, SLICE):
                    made += sum(self._link(folder, name, dirs) for name in names)
                    yield
            count += made
        if count:
            self.disk.sync_dirs([*dirs, layout.IDS])
            log.warning("%s/ was deleted: %d tasks have their name there again", layout.IDS, count)
        with suppress(Missing):
            self.disk.remove(layout.RELINK)

    def _link(self, folder: str, name: str, dirs: set[str]) -> bool:
        """Whether a task had no name in ids/, and has one now."""
        task_id, path = id_and_task(name)[0], f"{folder}/{name}"
        if not is_id(task_id) or self.disk.info(own := layout.own_copy(task_id)) is not None:
            return False
        info = self.disk.info(path)
        if info is None or not stat.S_ISREG(info.mode):
            return False
        try:
            link_anew(self.disk, path, own)
        except Missing:
            return False  # it has moved
        dirs.add(layout.parent_of(own))
        return True
