"""The log of an attempt as it grows: bytes until the attempt has ended and all of it is read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from spool import layout, look, packs
from spool.disk import open_regular
from spool.waiting import last_word
from spool.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk

CHUNK = 1 << 16


class Log:
    """The log of one attempt, which need not be there yet."""

    def __init__(self, disk: Disk, root: str, task_id: str, attempt: int) -> None:
        self.disk = disk
        self.path = os.path.join(root, layout.log(task_id, attempt))
        self.task_id = task_id
        self.record = layout.record(task_id, attempt)
        self._places = [os.path.dirname(self.path), f"{root}/{layout.parent_of(self.record)}"]
        self._fd: int | None = None

    def __enter__(self) -> Log:  # noqa: PYI034 - never subclassed
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def read(self) -> Iterator[bytes]:
        """What there is now and was not read before."""
        if self._fd is None:
            try:
                self._fd = open_regular(self.path)
            except FileNotFoundError:
                return
        while part := os.read(self._fd, CHUNK):
            yield part

    def _has_ended(self) -> bool:
        """Its record is there, or was packed with the task; or the task has ended without it."""
        if self.disk.info(self.record) is not None:
            return True
        if not look.may_be_known(self.disk, self.task_id):
            return packs.known(self.disk, self.task_id) is not None
        return self._fd is None and last_word(self.disk, self.task_id) is not None

    def follow(self) -> Iterator[bytes]:
        """All of it, as it comes, until the attempt has ended."""
        with Watch(self._places) as watch:
            while True:
                ended = self._has_ended()  # first: then nothing comes after
                yield from self.read()
                if ended:
                    return
                watch.wait()
