"""Tasks that were taken in just now and are due: no need to read them back when they start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from spool.owncopy import Task

MANY = 4096
LARGE = 1 << 20  # bytes of all args together, as JSON; in memory they are several times that


class Bodies:
    """Those that came first stay until they start: they are the next ones. What has no room is on disk.

    Where as many again have come in and found no room, and none of these has started meanwhile, they wait
    for something, or others run them.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Task, int]] = {}
        self._size = 0
        self._turned = 0  # found no room since one left

    def keep(self, task: Task) -> None:
        """Remember it, if there is room."""
        if task.id is None or task.id in self._kept:
            return
        if len(self._kept) < MANY:
            size = len(orjson.dumps((task.args, task.meta, task.extra)))
            if self._size + size <= LARGE:
                self._kept[task.id] = task, size
                self._size += size
                return
        self._turned += 1
        if self._turned > MANY:
            self._kept.clear()
            self._size = self._turned = 0

    def take(self, task_id: str) -> Task | None:
        """The task, and no more of it here."""
        task, size = self._kept.pop(task_id, (None, 0))
        if task is not None:
            self._size -= size
            self._turned = 0
        return task
