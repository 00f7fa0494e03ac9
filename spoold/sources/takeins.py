"""What the journal says of when a task was taken in, looked for within bounds: the loop waits for it."""

from __future__ import annotations

import os
from bisect import bisect_left
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from spool import layout
from spool.disk import open_regular
from spool.journal import Filter, parsed
from spool.names import DAY_US, id_time
from spool.times import format_utc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.journal import Line
    from spoold.core.values import Now

BLOCK = 1 << 16  # bytes
HEAD = 1 << 12  # bytes of one, in which a line should begin
OF_A_FILE = 64  # blocks read of one
A_ROUND = 1024  # blocks read in one round of the loop; to open a file costs as much as one
NEW_LINE = b'\n{"at":"'


class TakeIns:
    """Looks in the journal of the date inside an id, and of the next one, from about that time on."""

    def __init__(self, root: str, node: str) -> None:
        self.root = root
        self.node = node
        self.left = 0  # blocks that this round may read
        self._round: Now | None = None

    def find(self, task_id: str, now: Now) -> Line:
        """The line of a task; {}: it is not where it should be, or this round has read enough."""
        if now != self._round:
            self._round, self.left = now, A_ROUND
        for path in self._paths(id_time(task_id)):
            if self.left <= 0:
                break
            self.left -= 1
            with suppress(OSError):  # packed, say
                if found := self._search(f"{self.root}/{path}", task_id):
                    return found
        return {}

    def _paths(self, begun: int) -> Iterator[str]:
        days = (begun, begun + DAY_US)
        yield from (layout.journal(self.node, day) for day in days)
        with suppress(OSError):
            others = [name for name in os.listdir(f"{self.root}/{layout.JOURNAL}") if name != self.node]
            yield from (layout.journal(name, day) for name in others for day in days)

    def _search(self, path: str, task_id: str) -> Line:
        needle, wanted = f'"{task_id}"'.encode(), Filter(ids=frozenset((task_id,)))
        with open(open_regular(path), "rb") as file:
            file.seek(_place(file, format_utc(id_time(task_id)).encode()))
            for _ in range(min(self.left, OF_A_FILE)):
                self.left -= 1
                block = file.read(BLOCK) + file.readline(BLOCK)
                if needle in block:
                    for line in parsed(block.splitlines(), wanted):
                        if line.get("from") == "new":
                            return line
                if len(block) < BLOCK:
                    break
        return {}


def _place(file: BinaryIO, begun: bytes) -> int:
    """A little before the lines of a time, which stand in its order."""
    blocks = range(0, os.fstat(file.fileno()).st_size, BLOCK)
    return BLOCK * max(0, bisect_left(blocks, begun, key=lambda block: _time(file, block)) - 2)


def _time(file: BinaryIO, block: int) -> bytes:
    """That of the first line which begins there."""
    return os.pread(file.fileno(), HEAD, block).partition(NEW_LINE)[2].partition(b'"')[0]
