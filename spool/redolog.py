"""The format of the redo log, nodes/redo, and whether it holds what a power cut has undone.

It is a file of two halves that never grows, so a record costs one fdatasync and no commit of the file
system's journal. A record is a page or more:

    'redo' crc32 length seq                4, 4, 4 and 8 bytes, little-endian; the crc is of all after it
    {"safe": N, "boot": ID, ...}           JSON, then zeros up to the next page

`seq` counts up by one. All that records up to `safe` did is on disk: replay after a power cut begins
behind it. Whether the power failed, or only a daemon died and the kernel still knows everything, is told
by two things: the boot, and nodes/redo.seen, into which each seq is written before its record and never
synced.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any
from zlib import crc32

import orjson
from msgspec import Struct, field

from spool import layout
from spool.disk import Missing, NotRegular, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk

HALF = 2 << 20  # bytes
PAGE = 4096
HEAD = struct.Struct("<4sIIQ")
MAGIC = b"redo"
SAYS = {"safe", "boot"}


class Log(Struct):
    """What a log holds. `now` is the half in use, `end` where its next record goes."""

    chain: list[tuple[int, dict[str, Any]]] = field(default_factory=list)  # seq and record, in order
    last: list[int] = field(default_factory=lambda: [0, 0])  # the newest seq of each half
    now: int = 0
    end: int = 0

    @property
    def safe(self) -> int:
        """All that records up to this did is on disk."""
        if not self.chain:
            return 0
        seq, newest = self.chain[-1]
        at_rest = newest["safe"] == seq - 1 and newest.keys() == SAYS
        return seq if at_rest else int(newest["safe"])

    def undone(self, boot: str, seen: int) -> list[dict[str, Any]]:
        """The records to replay in this life of the machine; none where the kernel knows them."""
        if not self.chain:
            return []
        seq, newest = self.chain[-1]
        if newest["boot"] == boot and seen >= seq:
            return []
        return [record for seq, record in self.chain if seq > self.safe]


def read(disk: Disk, half: int = HALF) -> Log | None:
    """The log of a spool, None where there is none or it is not whole."""
    try:
        data = disk.read(layout.REDO, 2 * half)
    except (Missing, NotRegular, TooLarge):
        return None
    if len(data) != 2 * half or disk.info(layout.REDO_SEEN) is None:
        return None
    halves = [list(_records(data[at : at + half])) for at in (0, half)]
    found = Log(last=[records[-1][0] if records else 0 for records in halves])
    found.now = found.last.index(max(found.last))
    now, other = halves[found.now], halves[1 - found.now]
    found.end = sum(size for _, _, size in now)
    if now and other and other[-1][0] == now[0][0] - 1:
        now = other + now
    found.chain = [(seq, record) for seq, record, _ in now]
    return found


def seen(disk: Disk) -> int:
    """The newest seq the kernel knows of."""
    try:
        return int.from_bytes(disk.read(layout.REDO_SEEN, 8), "little")
    except (Missing, NotRegular, TooLarge):
        return 0


def frame(seq: int, record: dict[str, Any]) -> bytes:
    """A record as it is written."""
    body = orjson.dumps(record)
    checked = HEAD.pack(MAGIC, 0, len(body), seq)[8:] + body
    data = MAGIC + crc32(checked).to_bytes(4, "little") + checked
    return data + bytes(-len(data) % PAGE)


def _records(half: bytes) -> Iterator[tuple[int, dict[str, Any], int]]:
    """Seq, record and size of the records of a half, as far as they are whole and follow each other."""
    at, before = 0, None
    while at + HEAD.size <= len(half):
        magic, crc, length, seq = HEAD.unpack_from(half, at)
        end = at + HEAD.size + length
        if magic != MAGIC or end > len(half) or crc32(half[at + 8 : end]) != crc:
            return
        if before is not None and seq != before + 1:
            return  # of an earlier round
        size = HEAD.size + length + (-(HEAD.size + length) % PAGE)
        yield seq, orjson.loads(half[at + HEAD.size : end]), size
        at, before = at + size, seq
