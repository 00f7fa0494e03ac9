"""Tasks of the past in packs: gzip files of JSON lines, one line a task with all its attempts.

`packed/DATE/EXPIRES.N.jsonl.gz` holds tasks whose id is of this UTC date and which are kept until
the date EXPIRES; `EXPIRES.N.ids` beside it has a line `ID DIGEST` for each, and stays longer.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct

from spool import layout, look, quarantine, records
from spool.disk import Missing, NotRegular, TooLarge, Unreadable
from spool.errors import Invalid, NoSuchTask, Past, PutAside
from spool.names import BadName, id_date, is_id
from spool.owncopy import decode_task
from spool.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk
    from spool.names import Entry
    from spool.owncopy import Task

PACK = ".jsonl.gz"
IDS = ".ids"
NAME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.([0-9]+)(\.jsonl\.gz|\.ids)")
LINE = 66  # bytes of a line of a list of ids
BATCH = 128  # tasks in one, at most
LIMIT = 256 << 20  # bytes of a pack, and of what it holds
UNREAD = (Missing, NotRegular, TooLarge)


class Packed(Struct, frozen=True):
    """One task of a pack: where its entry stood, its own copy, its attempt records, oldest first."""

    path: str
    task: Task
    body: dict[str, Any]
    attempts: tuple[dict[str, Any], ...]

    @property
    def state(self) -> str:
        """Its terminal state."""
        return self.path.partition("/")[0]

    @property
    def entry(self) -> Entry:
        """Its entry; BadName where the path is none."""
        return look.entry_at(self.path)

    @property
    def error(self) -> str | None:
        """The fingerprint of its newest failure."""
        return records.failure(reversed(self.attempts))

    def place(self) -> Place:
        """Where it stood."""
        last = self.attempts[-1] if self.attempts else None
        return Place(self.state, self.path, self.entry, self.task, last)


def line(path: str, body: bytes, attempts: list[dict[str, Any]]) -> bytes:
    """A task's line of a pack."""
    found = {"v": 1, "entry": path, "task": orjson.loads(body), "attempts": attempts}
    return orjson.dumps(found, option=orjson.OPT_APPEND_NEWLINE)


def _listing(disk: Disk, task_id: str) -> Iterator[tuple[str, str]]:
    """(pack, digest) where a task is in the list of ids of a pack, be the pack there or not."""
    folder = f"{layout.PACKED}/{id_date(task_id)}"
    for name in look.names(disk, folder):
        if name.endswith(IDS) and name[0] != ".":
            digest = _digest(disk, f"{folder}/{name}", task_id)
            if digest is not None:
                yield f"{folder}/{name.removesuffix(IDS)}{PACK}", digest


def known(disk: Disk, task_id: str) -> str | None:
    """The digest of a task that was packed, as far back as packs and their lists are kept."""
    return next((digest for _, digest in _listing(disk, task_id)), None)


def lives(disk: Disk, task_id: str) -> bool:
    """Whether a task stands somewhere, whatever a pack says: it may be retried while it is packed."""
    info = disk.info(layout.own_copy(task_id))
    return info is not None and info.nlink > 1


def digest(disk: Disk, task_id: str) -> str | None:
    """The digest of a task that stands somewhere, empty where its own copy is damaged, or was packed."""
    if not lives(disk, task_id):
        return known(disk, task_id)
    try:
        return decode_task(disk.read(layout.own_copy(task_id), LIMIT)).digest
    except (*UNREAD, Invalid, Unreadable):
        return ""


def is_taken(disk: Disk, task_id: str) -> bool:
    """Whether a task of this id stands somewhere, or was packed."""
    return lives(disk, task_id) or known(disk, task_id) is not None


def past(disk: Disk, task_id: str) -> str | None:
    """Why a task can no longer be changed, as a rule with its remedy; None where it is in no pack."""
    for path, _ in _listing(disk, task_id) if is_id(task_id) else ():
        if disk.info(path) is None:
            return "has ended, and nothing but its id is kept; submit it anew"
        return f"has ended and is packed; to run it once more: `spool replay {task_id}`"
    return None


def is_gone(disk: Disk, task_id: str) -> bool:
    """Whether nothing of a packed task is kept but its id."""
    found = [path for path, _ in _listing(disk, task_id)]
    return bool(found) and all(disk.info(path) is None for path in found)


def missing(disk: Disk, task_id: str) -> NoSuchTask:
    """What is to be said of a task that `find` does not find either."""
    rule = past(disk, task_id)
    if rule is None:
        aside = quarantine.of(disk, task_id) if is_id(task_id) else None
        return NoSuchTask(task_id) if aside is None else PutAside(task_id, aside)
    damaged = [path for path, _ in _listing(disk, task_id) if disk.info(path) is not None]
    if damaged:
        rule = f"has ended, and its pack {damaged[0]} is damaged; `spool fsck` tells more"
    return Past(task_id, rule)


def find(disk: Disk, task_id: str) -> Packed | None:
    """A packed task by its id; None where it is in no pack (any more). Of two lives the later one."""
    if not is_id(task_id) or lives(disk, task_id):
        return None
    rows: list[Packed] = []
    for path, _ in _listing(disk, task_id):
        found = read(disk, path, f'"{task_id}"'.encode())
        rows += [row for row in found if row.task.id == task_id]
    return max(rows, key=lambda row: row.entry.attempt, default=None)


def packs(disk: Disk) -> Iterator[str]:
    """The paths of all packs, oldest date first."""
    for date in look.names(disk, layout.PACKED):
        for name in look.names(disk, f"{layout.PACKED}/{date}"):
            if NAME.fullmatch(name) and name.endswith(PACK):
                yield f"{layout.PACKED}/{date}/{name}"


def read(disk: Disk, path: str, needle: bytes = b"") -> Iterator[Packed]:
    """The tasks of a pack whose line holds the needle; damage ends it, fsck names it."""
    for text in lines(disk, path):
        if needle in text:
            try:
                yield _packed(text)
            except (Invalid, BadName, ValueError, KeyError, TypeError):
                continue


def lines(disk: Disk, path: str) -> list[bytes]:
    """The lines of a pack, each with its end; none where it is damaged."""
    try:
        data = zlib.decompressobj(wbits=31).decompress(disk.read(path, LIMIT), LIMIT)
    except (*UNREAD, zlib.error):
        return []
    return data.splitlines(keepends=True)


def entry_of(text: bytes) -> tuple[str, Entry] | None:
    """(state, entry) of the task of a line; None where it is damaged."""
    try:
        path = orjson.loads(text)["entry"]
        return path.partition("/")[0], look.entry_at(path)
    except (BadName, ValueError, KeyError, TypeError, AttributeError):
        return None


def _packed(text: bytes) -> Packed:
    found = orjson.loads(text)
    task = decode_task(orjson.dumps(found["task"]))
    return Packed(str(found["entry"]), task, found["task"], tuple(found["attempts"]))


def digests(disk: Disk, path: str) -> dict[str, str]:
    """All that a list of ids says: id -> digest."""
    try:
        rows = disk.read(path, LIMIT).decode("ascii", "replace").splitlines()
    except UNREAD:
        return {}
    return dict(row.split(" ", 1) for row in rows if " " in row)


def _digest(disk: Disk, path: str, task_id: str) -> str | None:
    """What a list of ids says of one; read whole: 256 tasks are 17 KB."""
    try:
        data = disk.read(path, LIMIT)
    except UNREAD:
        return None
    at = data.find(task_id.encode())
    end = data.find(b"\n", at)
    return data[at + 33 : end].decode() if at >= 0 and end >= 0 else None
