"""Reading the journal: the lines of all nodes in the order of time, filtered, and as they come.

A day of a node is `journal/NODE/DATE.jsonl`, or, once it is packed, one or more gzip files
`DATE.jsonl.gz`, `DATE.2.jsonl.gz`. What is torn or no JSON is skipped: fsck names it.
"""

from __future__ import annotations

import gzip
import heapq
import os
import re
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import orjson
from msgspec import Struct

from spool import layout
from spool.disk import NotRegular, open_regular
from spool.names import date_of
from spool.patterns import matches
from spool.safe import as_utf8
from spool.times import format_utc
from spool.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Line = dict[str, Any]
BUFFER = 1 << 20
EVENTS = (  # transitions, then what else is told
    "submit", "park", "claim", "lift", "late", "move", "hold", "release", "retry", "extend", "kill",
    "cancel", "succeed", "fail", "give_up", "lose", "interrupt", "snooze", "return", "poison", "drop",
    "expire", "duplicate", "strand", "quarantine",
    "pause", "resume", "drain", "resolve", "mute", "reopen", "prune", "schedule", "match", "refuse",
    "shed", "gate", "load",
)  # fmt: skip
GONE = (FileNotFoundError, IsADirectoryError, NotRegular)  # packed or pruned meanwhile; nothing of ours
LOAD = "load"  # lines of this event, one a minute, are for plots: they are wanted where asked for by name
DAY = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:\.([0-9]+))?\.jsonl(\.gz)?")


class Filter(Struct, frozen=True, kw_only=True):
    """Which lines are wanted; None, or nothing in it, is no condition. Instants are us UTC.

    `ids`: of these tasks. `task`: a name or pattern. `state`: that led there. `event`: of this kind.
    `key`: of tasks with this key. `error`: failures of this fingerprint, or of all that begin so.
    `writer`: the uid that asked. `file`: the name of an action on all that match.
    """

    ids: frozenset[str] = frozenset()
    task: str | None = None
    state: str | None = None
    event: str | None = None
    parent: str | None = None
    key: str | None = None
    error: str | None = None
    writer: int | None = None
    file: str | None = None
    node: str | None = None
    since: int | None = None
    until: int | None = None

    def needles(self) -> list[bytes]:
        """Bytes that a wanted line holds, so that most others need not be parsed."""
        found = [orjson.dumps({name: as_utf8(v)}).decode()[1:-1] for name, v in self._exact().items()]
        if len(self.ids) == 1:
            found.append(f'"{next(iter(self.ids))}"')
        if self.task is not None and "*" not in self.task:
            found.append(f'"task":"{self.task}"')
        if self.error is not None:
            found.append(f'"error":"{self.error}')
        if self.writer is not None:
            found.append(f'"uid":{self.writer}')
        return [as_utf8(text).encode() for text in found]

    def keeps(self, line: Line) -> bool:
        """Whether a line is wanted; times are compared by `between`."""
        get = line.get
        if self.ids and str(get("id")) not in self.ids:
            return False
        if self.event is None and get("event") == LOAD:
            return False
        if self.task is not None and not matches(self.task, str(get("task") or "")):
            return False
        if self.error is not None and not str(get("error") or "").startswith(self.error):
            return False
        if self.writer is not None and self.writer not in _askers(line):
            return False
        return all(get(name) == value for name, value in self._exact().items())

    def _exact(self) -> dict[str, str]:
        """What a wanted line says word for word."""
        rows = {"to": self.state, "event": self.event, "parent": self.parent}
        rows |= {"key": self.key, "file": self.file}
        return {name: value for name, value in rows.items() if value is not None}


def _askers(line: Line) -> Iterator[Any]:
    """The uids of who asked for what a line tells."""
    yield line.get("uid")
    for told in (line.get("by"), line.get("reason")):
        if isinstance(told, dict):
            yield told.get("uid")


def days(root: str, wanted: Filter) -> list[tuple[str, str, list[str]]]:
    """(date, node, paths) of every day that may hold wanted lines, oldest first."""
    first = None if wanted.since is None else date_of(wanted.since)
    last = None if wanted.until is None else date_of(wanted.until)
    found: list[tuple[str, str, list[str]]] = []
    for node in _names(f"{root}/{layout.JOURNAL}"):
        if wanted.node not in (None, node):
            continue
        folder = f"{root}/{layout.JOURNAL}/{node}"
        by_date: dict[str, list[tuple[bool, int, str]]] = {}
        for name in _names(folder):
            match = DAY.fullmatch(name)
            if match and (first is None or match[1] >= first) and (last is None or match[1] <= last):
                # What is packed came before what has come since (after a clock was set back).
                row = (match[3] is None, int(match[2] or 1), f"{folder}/{name}")
                by_date.setdefault(match[1], []).append(row)
        found += [(date, node, [row[2] for row in sorted(rows)]) for date, rows in by_date.items()]
    return sorted(found)


def read(root: str, wanted: Filter, seen: dict[str, int] | None = None) -> Iterator[Line]:
    """The wanted lines, oldest first: per node in the order they were written, nodes merged.

    `seen` gets how far each file was read, for `follow` to go on from there.
    """
    by_date: dict[str, list[list[str]]] = {}
    for date, _, paths in days(root, wanted):
        by_date.setdefault(date, []).append(paths)
    for parts in by_date.values():
        streams = [_lines(paths, wanted, seen) for paths in parts]
        yield from streams[0] if len(streams) == 1 else heapq.merge(*streams, key=_at)


def follow(root: str, wanted: Filter, seen: dict[str, int]) -> Iterator[Line]:
    """The wanted lines that are written after what was `seen`, as they come, without end."""
    above = f"{root}/{layout.JOURNAL}"
    with Watch([above, *(f"{above}/{node}" for node in _names(above))]) as watch:
        while True:
            lines: list[Line] = []
            for path in [path for _, _, paths in days(root, wanted) for path in paths]:
                if not path.endswith(".gz"):
                    whole, seen[path] = _grown(path, seen.get(path, 0))
                    lines += parsed(whole, wanted)
            yield from sorted(lines, key=_at)
            if not lines:
                watch.wait()


def ends(root: str, wanted: Filter) -> dict[str, int]:
    """Where the whole lines of each file that grows end by now, for `follow` to go on from there."""
    paths = [path for _, _, paths in days(root, wanted) for path in paths]
    return {path: _end(path) for path in paths if not path.endswith(".gz")}


def _end(path: str) -> int:
    start = max(0, _size(path) - BUFFER)
    end = _grown(path, start)[1]
    return end if end > start else _grown(path, 0)[1]  # no line is so long, but who knows


def _grown(path: str, start: int) -> tuple[list[bytes], int]:
    """The whole lines behind an offset, and where they end."""
    try:
        with open(open_regular(path), "rb") as file:
            file.seek(start)
            data = file.read()
    except GONE:
        return [], start
    end = data.rfind(b"\n") + 1
    return data[:end].splitlines(), start + end


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The lines of a day, which may be packed; NotRegular where it is no file."""
    with open(open_regular(path), "rb", BUFFER) as file:
        if not path.endswith(".gz"):
            yield file
            return
        with gzip.open(file) as text:
            yield cast("BinaryIO", text)


def _lines(paths: list[str], wanted: Filter, seen: dict[str, int] | None) -> Iterator[Line]:
    for path in paths:
        try:
            with opened(path) as file:
                lines = file if seen is None or path.endswith(".gz") else _marked(file, path, seen)
                yield from parsed(lines, wanted)
        except GONE:
            continue
        except (gzip.BadGzipFile, zlib.error, EOFError):
            continue  # damaged: what came before the damage was read; fsck names it


def _marked(file: BinaryIO, path: str, seen: dict[str, int]) -> Iterator[bytes]:
    """The lines that are whole by now; `seen` says where they end."""
    end, at = os.fstat(file.fileno()).st_size, 0
    for line in file:
        if at + len(line) > end or line[-1:] != b"\n":
            break
        at += len(line)
        yield line
    seen[path] = at


def parsed(lines: Iterable[bytes], wanted: Filter) -> Iterator[Line]:
    """Those of some lines that are wanted."""
    needles = wanted.needles()
    first = needles[0] if needles else b""
    since = "" if wanted.since is None else format_utc(wanted.since)
    until = "~" if wanted.until is None else format_utc(wanted.until)
    for line in lines:
        if first and first not in line:
            continue
        if any(needle not in line for needle in needles[1:]):
            continue
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(found, dict) and since <= _at(found) < until and wanted.keeps(found):
            yield found


def _at(line: Line) -> str:
    return str(line.get("at") or "")


def _names(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
