"""Reads the journals into a Flow, some of them at a time: the newest first, then as they grow."""

from __future__ import annotations

import gzip
import os
import zlib
from typing import TYPE_CHECKING

import orjson

from spool import journal, layout
from spool.disk import open_regular
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
        self._unread: dict[str, str] = {}  # what cannot be read, and why
        self._older: Iterator[list[bytes]] | None = None

    @property
    def trouble(self) -> str:
        """What cannot be read, in words; empty where all can."""
        rows = [
            f"{os.path.relpath(path, self.root)} cannot be read: {why}"
            for path, why in self._unread.items()
            if os.path.lexists(path)  # else it was packed or pruned meanwhile
        ]
        return "; ".join(rows[:3])

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
        files = [path for paths in self._days(now - DAY) for path in paths]
        return [path for path in reversed(files) if not path.endswith(".gz")]

    def _days(self, since: int) -> list[list[str]]:
        """The files of each day and node, oldest first."""
        folder = f"{self.root}/{layout.JOURNAL}"
        try:
            found = [paths for _, _, paths in journal.days(self.root, journal.Filter(since=since))]
        except OSError as problem:
            self._unread[folder] = str(problem.strerror)
            return []
        self._unread.pop(folder, None)
        return found

    def _grown(self, path: str) -> None:
        try:
            with open(open_regular(path), "rb") as file:
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
        except OSError as problem:
            self._unread[path] = str(problem.strerror)
            return
        self._unread.pop(path, None)
        end = data.rfind(b"\n") + 1
        if not end and len(data) == CHUNK:
            end = CHUNK  # no line of ours
        self._read[path] = start + end
        self.left += max(0, size - start - end) if end else 0
        self._take(data[:end].splitlines())

    def _past(self, now: int, done: set[str]) -> Iterator[list[bytes]]:
        """The files of days before, newest day first."""
        for paths in reversed(self._days(now - self.back)):
            for path in paths:
                if path not in done:
                    yield from self._chunks(path)

    def _chunks(self, path: str) -> Iterator[list[bytes]]:
        try:
            with journal.opened(path) as file:
                while lines := file.readlines(CHUNK):
                    yield lines
        except (gzip.BadGzipFile, zlib.error, EOFError):
            return  # damaged: fsck names it
        except OSError as problem:
            self._unread[path] = str(problem.strerror)

    def _take(self, lines: list[bytes]) -> None:
        for line in lines:
            try:
                found = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(found, dict):
                self.flow.add(found)
