"""Keys: who has one is told by a file in keys/ that is named by the key's hash.

The file holds the key, the id of its holder and how long the key stays taken after the holder's end.
While the holder is being taken in, the file has a second name in that node's staging directory. A
file with one name whose holder has ended, or is not known, stands for a key that is free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct

from spool import layout, packs, waiting
from spool.disk import Missing, NotRegular, TooLarge
from spool.names import is_id
from spool.place import COMING, UNFINISHED, WINDOW, Rival, mark_of
from spool.times import parse_utc

if TYPE_CHECKING:
    from spool.disk import Disk
    from spool.owncopy import Task

LIMIT = 4096


class Claim(Struct, frozen=True):
    """What the file of a key says. `key_for` in us; `shared`: its holder is being taken in."""

    mark: str
    id: str
    node: str
    key_for: int
    ino: int
    shared: bool


def encode(task: Task, node: str) -> bytes:
    """The bytes of the file that says that a task has its key."""
    span, writer = task.key_for or 0, task.writer
    return orjson.dumps({"key": task.key, "id": task.id, "key_for": span, "node": node, "writer": writer})


def encode_lock(node: str) -> bytes:
    """The bytes of a lock."""
    return orjson.dumps({"node": node})


def node_of(disk: Disk, path: str) -> str:
    """The node that has made a lock: empty where the lock is damaged, - where there is none."""
    try:
        found: Any = orjson.loads(disk.read(path, LIMIT))
    except Missing:
        return "-"
    except (orjson.JSONDecodeError, NotRegular, TooLarge):
        return ""
    node = found.get("node") if isinstance(found, dict) else None
    return node if isinstance(node, str) else ""


def read(disk: Disk, path: str) -> Claim | None:
    """What stands at a path, None where nothing does; damaged, it is of nobody."""
    info = disk.info(path)
    if info is None:
        return None
    try:
        found: Any = orjson.loads(disk.read(path, LIMIT))
    except Missing:
        return None
    except (orjson.JSONDecodeError, NotRegular, TooLarge):
        found = None
    if not isinstance(found, dict):
        found = {}
    key, task_id, node, span = (found.get(n) for n in ("key", "id", "node", "key_for"))
    writer = found.get("writer")
    sound = isinstance(key, str) and isinstance(task_id, str) and is_id(task_id)
    sound = sound and isinstance(node, str) and isinstance(writer, str | None)
    if not sound or type(span) is not int:
        return Claim("", "", "", 0, info.ino, shared=False)
    return Claim(mark_of(key, writer), task_id, node, span, info.ino, shared=info.nlink > 1)


def rival(disk: Disk, claim: Claim, now: int) -> Rival | None:
    """Whether a key is taken by who claims it; None where it is free. `now`: us UTC."""
    if claim.shared:
        return Rival(claim.id, COMING)
    if not claim.id:
        return None
    path = layout.own_copy(claim.id)
    own = disk.info(path)
    if own is None and disk.stamp(layout.parent_of(path)) is not None:
        own = disk.info(path)  # who looked for it before it was there may not see it otherwise, on NFS
    if own is not None and own.nlink < 2:
        if packs.known(disk, claim.id) is None:
            return None  # it never got its place
        own = None  # it is being packed
    last = waiting.last_word(disk, claim.id)
    if last is None and own is not None:
        return Rival(claim.id, UNFINISHED)
    if not claim.key_for:
        return None
    ended = _ended(waiting.packed_end(packs.find(disk, claim.id)) if last is None else last)
    return Rival(claim.id, WINDOW) if ended is not None and now < ended + claim.key_for else None


def _ended(record: dict[str, Any] | None) -> int | None:
    """When a task ended that keeps its key; one that was cancelled does not: it may have made way."""
    try:
        return None if not record or record["outcome"] == "cancelled" else parse_utc(record["ended_at"])
    except (KeyError, TypeError, ValueError):
        return None
