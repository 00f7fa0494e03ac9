"""Reads the journals into a Flow, some of them at a time: the newest first, then as they grow."""

from __future__ import annotations

import gzip
import os
import zlib
from typing import TYPE_CHECKING

import orjson

from spool import journal
from spool.times import DAY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.scene.flow import Flow

CHUNK = 1 << 18  # bytes in one step: some milliseconds


class Tail:
    """Knows how far it has read. `back`: us of history wanted; `most`: bytes of a file at most."""

    def __init__(self, root: str, flow: Flow, *, back: int, most: int | None = None) -> None:
        self.root = root
        self.flow = flow
        self.back = back
        self.most = most
        self.left = 0  # bytes of the newest files that are not read yet
        self._read: dict[str, int] = {}
        self._older: Iterator[list[bytes]] | None = None

    def step(self, now: int) -> bool:
        """Read a little; whether there is more. `now`: us UTC."""
        paths = self._newest(now)
        self.left = 0
        for path in paths:
            self._grown(path)
        if self.left:
            return True
        if self.most is not None:
            return False
        if self._older is None:
            self._older = self._past(now, set(paths))
        lines = next(self._older, None)
        self._take(lines or [])
        return lines is not None

    def _newest(self, now: int) -> list[str]:
        """The files that may still grow."""
        wanted = journal.Filter(since=now - DAY)
        files = [path for _, _, paths in journal.days(self.root, wanted) for path in paths]
        return [path for path in reversed(files) if not path.endswith(".gz")]

    def _grown(self, path: str) -> None:
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                start = self._read.get(path)
                if start is None:
                    start = max(0, size - self.most) if self.most else 0
                    file.seek(start)
                    start += len(file.readline()) if start else 0
                if start > size:
                    start = 0  # another file under the same name
                file.seek(start)
                data = file.read(CHUNK)
        except FileNotFoundError:
            return  # packed or pruned meanwhile
        end = data.rfind(b"\n") + 1
        if not end and len(data) == CHUNK:
            end = CHUNK  # no line of ours
        self._read[path] = start + end
        self.left += max(0, size - start - end) if end else 0
        self._take(data[:end].splitlines())

    def _past(self, now: int, done: set[str]) -> Iterator[list[bytes]]:
        """The files of days before, newest day first."""
        for _, _, paths in reversed(journal.days(self.root, journal.Filter(since=now - self.back))):
            for path in paths:
                if path not in done:
                    yield from _chunks(path)

    def _take(self, lines: list[bytes]) -> None:
        for line in lines:
            try:
                found = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(found, dict):
                self.flow.add(found)


def _chunks(path: str) -> Iterator[list[bytes]]:
    try:
        with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
            while lines := file.readlines(CHUNK):
                yield lines
    except (FileNotFoundError, gzip.BadGzipFile, zlib.error, EOFError):
        return  # pruned meanwhile, or damaged: fsck names it
