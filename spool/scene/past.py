"""The journal from now backwards, as far as the time given for it goes."""

from __future__ import annotations

import heapq
import os
import time
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from spool import journal
from spool.disk import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.journal import Filter, Line

BLOCK = 1 << 18


class Found(Struct, frozen=True):
    """`lines`: the wanted ones, latest first. `reached`: where it stopped, None: at the end."""

    lines: list[Line]
    reached: str | None


def search(
    root: str, wanted: Filter, many: int, seconds: float, ends: dict[str, int] | None = None
) -> Found:
    """At most so many lines, in about so many seconds; all of a block that was read.

    `ends`: nothing behind these offsets of these files is looked at, nor any other file that grows.
    """
    end = time.monotonic() + seconds
    by_node: dict[str, list[str]] = {}
    for _, node, paths in reversed(journal.days(root, wanted)):
        by_node.setdefault(node, []).extend(reversed(paths))
    streams = [_backwards(paths, wanted, ends) for paths in by_node.values()]
    found: list[Line] = []
    at: str | None = None
    for line, keeps in heapq.merge(*streams, key=lambda pair: str(pair[0].get("at")), reverse=True):
        at = str(line.get("at"))
        if keeps:
            found.append(line)
        if len(found) >= many or (not keeps and time.monotonic() > end):
            return Found(found, at)
    return Found(found, None)


def _backwards(
    paths: list[str], wanted: Filter, ends: dict[str, int] | None
) -> Iterator[tuple[Any, bool]]:
    """(line, whether it is wanted) of some files, each from its end; lines stand for their block."""
    for path in paths:
        end = None if ends is None else ends.get(path, 0)
        for block in _packed(path) if path.endswith(".gz") else _blocks(path, end):
            lines = list(journal.parsed(block, wanted))
            yield from ((line, True) for line in reversed(lines))
            first = next(journal.parsed(block, journal.Filter()), None)
            if first is not None:
                yield first, False  # a sign of how far it has come


def _packed(path: str) -> list[list[bytes]]:
    import gzip
    import zlib

    try:
        with journal.opened(path) as file:
            return [file.read().splitlines()]
    except (*journal.GONE, gzip.BadGzipFile, zlib.error, EOFError):
        return []  # pruned meanwhile, or damaged: fsck names it


def _blocks(path: str, end: int | None) -> Iterator[list[bytes]]:
    """The whole lines of a file, some at a time, from its end."""
    try:
        file = open(open_regular(path), "rb")  # noqa: SIM115 - closed below
    except journal.GONE:
        return
    with file:
        at = os.fstat(file.fileno()).st_size if end is None else end
        rest = b""
        while at:
            start = max(0, at - BLOCK)
            file.seek(start)
            data = file.read(at - start) + rest
            rest, _, whole = data.partition(b"\n") if start else (b"", b"", data)
            at = start
            yield whole.splitlines()
