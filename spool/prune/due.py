"""What is due for a task that has ended: it stays, it is packed, or it goes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct

from spool import layout, look
from spool.disk import Missing
from spool.heldfor import AFTER
from spool.names import DAY_US, date_of, day_start
from spool.owncopy import decode_task
from spool.prune import retention

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from spool.disk import Disk
    from spool.names import Entry
    from spool.owncopy import Task
    from spool.prune.retention import Excess
    from spool.settings import Settings


def awaited(disk: Disk, found: set[str]) -> Iterator[None]:
    """Put into `found` the ids of what held tasks wait for, a slice of them at a time."""
    for names in disk.slices(layout.HELD, look.SLICE):
        for name in names:
            if f"w={AFTER}" in name:
                with suppress(Missing, *look.DAMAGED):
                    found.update(look.read_task(disk, f"{layout.HELD}/{name}").after)
        yield


class Due(Struct, frozen=True):
    """A task that does not stay. `expires`: until when its pack is kept, empty where it goes now."""

    entry: Entry
    task: Task
    body: bytes
    expires: str
    files: str  # the directory of its files, empty where it has none


class Dues:
    """Decides for some tasks of one directory."""

    def __init__(
        self, disk: Disk, settings: Settings, excess: Excess, now: int, awaited: Container[str]
    ) -> None:
        """`awaited`: what others wait for; that stays, but for the limits of count and bytes."""
        self.awaited = awaited
        self.disk = disk
        self.settings = settings
        self.excess = excess
        self.now = now
        self._filed: dict[str, frozenset[str]] = {}

    def of(self, path: str) -> Due | None:
        """What is due for the task whose entry is here, None where it stays; DAMAGED, Missing."""
        state, date, _ = path.split("/")
        entry = look.entry_at(path)
        what, expires = retention.fate(self.settings, state, date, entry.task, self.now)
        aged = what == retention.DROP
        if aged and entry.id in self.awaited:
            what, aged = retention.KEEP, False
        if not aged and self.excess.takes(state, entry.task, entry.time):
            what = retention.DROP
        files = "" if what == retention.KEEP else self._files(entry.id)
        if what == retention.KEEP or (what == retention.PACK and files):
            return None  # a task with files is not packed, and goes with them
        body = self.disk.read(path, look.BODY_LIMIT)
        task = decode_task(body)
        if task.key_for and task.duplicate_of is None:  # its record says until when it has its key
            free = day_start(date) + DAY_US + task.key_for
            expires = max(expires, date_of(free + DAY_US - 1))
            if aged and self.now < free:
                what = retention.PACK
        if what == retention.PACK and files:
            return None
        return Due(entry, task, body, expires if what == retention.PACK else "", files)

    def _files(self, task_id: str) -> str:
        path = layout.files(task_id)
        above = layout.parent_of(path)
        if above not in self._filed:
            names = look.names(self.disk, above)
            self._filed[above] = frozenset(f"{above}/{name}" for name in names)
        return path if path in self._filed[above] else ""
