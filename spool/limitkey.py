"""By what a handler tells its tasks apart to limit them: the key of a task, and its mark for names."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from msgspec.structs import replace

from spool.names import MARK, MARKED

if TYPE_CHECKING:
    from spool.names import Entry
    from spool.owncopy import Task
    from spool.settings import Handler

OTHERS = "*"  # in a status: the keys that have no row of their own
RULE = "must be writer, or a field such as args.customer or meta.tenant.id"
_PATH = re.compile(r"writer|(args|meta)(\.[A-Za-z0-9_-]{1,64}){1,8}")


class Rate(NamedTuple):
    """So many in a time: as it is written, and the us from one to the next."""

    text: str
    each: int


def is_path(text: str) -> bool:
    """Whether text says by what tasks are told apart."""
    return _PATH.fullmatch(text) is not None


def value_of(path: str, task: Task) -> Any:
    """The key of a task: any JSON value; None where it has none."""
    if path == "writer":
        return task.writer or task.signer or task.uid
    found: Any = task.args if path.startswith("args.") else task.meta
    for name in path.split(".")[1:]:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def mark_of(pattern: str, path: str, value: Any) -> str:
    """12 hex digits that stand for a key of a handler in names; empty for no key."""
    if value is None:
        return ""
    said = orjson.dumps([pattern, path, value], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(said).hexdigest()[:12]


def marked(entry: Entry, task: Task, handler: Handler | None) -> Entry:
    """The entry with the mark that is its task's, as far as its handler asks for one."""
    if handler is None or handler.by is None:
        return entry
    mark = mark_of(handler.pattern, handler.by, value_of(handler.by, task))
    if mark == entry.mark:
        return entry
    others = [(name, text) for name, text in entry.extra if name != MARK]
    return replace(entry, extra=tuple(sorted([*others, (MARK, mark)] if mark else others)))


def mark_in(name: str) -> str:
    """The mark that an entry's name carries, without parsing it."""
    return name.partition(MARKED)[2].partition(",")[0].partition(".")[0]


def words(path: str, task: Task) -> str:
    """The key of a task for people."""
    text = orjson.dumps(value_of(path, task)).decode()
    return f"{path} {text if len(text) <= 60 else text[:57] + '...'}"
