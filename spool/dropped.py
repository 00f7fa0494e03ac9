"""Questions about actions that were dropped: which one holds this task, was it refused, and why."""

from __future__ import annotations

import os
from bisect import bisect
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from spool import handed, layout, look
from spool.disk import Missing, Unreadable
from spool.errors import Refused
from spool.fields import ATTEMPTS
from spool.names import DAY_US, date_of, id_time, is_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk, Info

LIMIT = 64 << 20
SEARCHED = 1000  # files of others whose content is searched for an id: next to it, and newest


class Waiting(NamedTuple):
    """A task that still lies where it was dropped: its file, the whole action, its own part of that."""

    id: str
    path: str
    info: Info
    action: dict[str, Any]
    body: dict[str, Any]


def waiting(disk: Disk, task_id: str) -> Waiting | None:
    """The task as it still lies where it was dropped; None where it does not (or may not be seen)."""
    for path in chain.from_iterable(_candidates(disk, folder, task_id) for folder in folders(disk)):
        info = handed.info(disk, path)
        found = _task_in(disk, path, task_id)
        if found is not None and info is not None:
            return Waiting(task_id, path, info, *found)
    return None


def ids(disk: Disk) -> set[str]:
    """The ids of all tasks that still lie where they were dropped."""
    paths = (f"{folder}/{name}" for folder in folders(disk) for name in look.names(disk, folder))
    found = (_tasks_in(disk, path) for path in paths if path.endswith(".json"))
    return {str(body.get("id")) for _, bodies in found for body in bodies}


def folders(disk: Disk) -> list[str]:
    """Where actions are dropped: incoming/, and the boxes of single writers that may be seen."""
    try:
        own = disk.names(layout.WRITERS)
    except Missing:
        own = []
    except PermissionError:  # in it only one's own can be seen
        own = [str(os.geteuid())]
    found = [f"{layout.WRITERS}/{name}" for name in own]
    return [layout.INCOMING, *(folder for folder in found if handed.info(disk, folder) is not None)]


def refusal(disk: Disk, task_id: str, now: int) -> str | None:
    """Why the submission of a task was refused; None where it was not. `now`: us UTC."""
    for date in dict.fromkeys(date_of(us) for us in (now, now - DAY_US, id_time(task_id))):
        for path in _candidates(disk, f"{layout.REJECTED}/{date}", task_id):
            if path.endswith(layout.REASON):
                continue
            if _task_in(disk, path, task_id) is not None or _is_closed(disk, path, task_id):
                return reason(disk, path)
    return None


def nameless_refusal(disk: Disk, task_id: str) -> str | None:
    """Why what came without an id was refused, and where that lies; it was told by one of its drop."""
    folder = f"{layout.REJECTED}/{date_of(id_time(task_id))}"
    for path in _candidates(disk, folder, task_id):
        doc = None if path.endswith(layout.REASON) else _reason(disk, path)
        if doc is not None and doc.get("id") == task_id and not _each(doc):
            return f"{_text(doc)} ({path}{layout.REASON})"
    return None


def action_refusal(disk: Disk, stem: str, dropped: int, now: int) -> Refused | None:
    """The refusal of the action incoming/STEM.json; None where it was not. Instants: us UTC."""
    for date in dict.fromkeys((date_of(dropped), date_of(now))):
        if (doc := _reason(disk, f"{layout.REJECTED}/{date}/{stem}.json")) is not None:
            return Refused(stem, _text(doc), _each(doc))
    return None


def reason(disk: Disk, path: str) -> str | None:
    """The reason that stands beside a refused file, as one line."""
    doc = _reason(disk, path)
    return None if doc is None else _text(doc)


def _reason(disk: Disk, path: str) -> dict[str, Any] | None:
    try:
        found = orjson.loads(disk.read(path + layout.REASON, LIMIT))
    except Missing:
        return None
    except PermissionError:
        raise
    except (OSError, orjson.JSONDecodeError):
        found = None
    return found if isinstance(found, dict) else {"text": "the reason file is damaged"}


def _text(doc: dict[str, Any]) -> str:
    return str(doc.get("text") or doc.get("rule"))


def _each(doc: dict[str, Any]) -> dict[str, str]:
    """Task id -> why, where it is said of tasks."""
    rule, value = doc.get("rule"), doc.get("value")
    if isinstance(rule, dict):
        return {task_id: str(why) for task_id, why in rule.items()}
    if isinstance(value, str) and is_id(value):
        return {value: str(rule)}
    return {str(doc.get("id")): _text(doc)} if doc.get("action") in ATTEMPTS else {}


def _candidates(disk: Disk, folder: str, task_id: str) -> Iterator[str]:
    """Files that may hold a task: named by its id, those named next, then the others, newest first.

    The client names a batch after it has named its tasks.
    """
    own = f"{folder}/{task_id}.json"
    if handed.info(disk, own) is not None:
        yield own
    try:
        names = disk.names(folder)
    except (Missing, PermissionError):
        return
    names = [n for n in names if n.endswith(".json") and not n.startswith(".")]
    yield from (f"{folder}/{n}" for n in names if n.startswith(f"{task_id}-"))
    others = sorted(n for n in names if not n.startswith(task_id) and not n.endswith(layout.REASON))
    at = bisect(others, task_id)
    rest = others[:at] + others[at + SEARCHED :]
    yield from (f"{folder}/{n}" for n in (*others[at : at + SEARCHED], *rest[: -SEARCHED - 1 : -1]))


def _is_closed(disk: Disk, path: str, task_id: str) -> bool:
    """Whether a file may not or cannot be read; its name tells then, as a client makes it."""
    try:
        return path.rpartition("/")[2].startswith(task_id) and not disk.read(path, LIMIT)
    except (PermissionError, Unreadable):
        return True
    except OSError:
        return False


def _task_in(disk: Disk, path: str, task_id: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The action, signed or not, and the task with this id in it, alone or in a batch."""
    doc, bodies = _tasks_in(disk, path, task_id)
    return next(((doc, body) for body in bodies if body.get("id") == task_id), None)


def _tasks_in(disk: Disk, path: str, text: str = "") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The action, if it holds this text, and its tasks; none where it is no submission."""
    try:
        data = disk.read(path, LIMIT)
        doc = orjson.loads(data) if text.encode() in data else None
        if isinstance(doc, dict) and isinstance(doc.get("signed"), str):
            doc = orjson.loads(doc["signed"])
    except (OSError, orjson.JSONDecodeError):
        return {}, []
    if not isinstance(doc, dict) or doc.get("action", "submit") != "submit":
        return {}, []
    bodies = [*doc["tasks"], doc.get("then")] if isinstance(doc.get("tasks"), list) else [doc]
    return doc, [body for body in bodies if isinstance(body, dict)]
