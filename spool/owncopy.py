"""A task as it was taken in: the value, the bytes of spool's own copy of it."""

from __future__ import annotations

import hashlib
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct

from spool import names
from spool.backoff import Backoff, parse_backoff, plain_backoff, seconds
from spool.errors import Invalid
from spool.times import format_utc, parse_duration, parse_utc

if TYPE_CHECKING:
    from collections.abc import Callable

    from spool.settings import Handler

VERSION = 1
DUPLICATES = ("keep", "replace", "reject", "extend")
_DURATIONS = ("lead", "timeout", "key_for")
ON_FAILURE = ("wait", "cancel", "run", "only")
_CHOICES = {"on_miss": "run", "on_duplicate": "keep", "on_failure": "wait"}
_TEXTS = ("priority", "notify", "trace", "replay_of", "key", "duplicate_of")
_PLAIN = (*_TEXTS, "retries", "version", "recurring", "after", "results", "files")
_durations_of, _plain_of, _choices_of = (attrgetter(*them) for them in (_DURATIONS, _PLAIN, _CHOICES))


class Task(Struct, frozen=True, kw_only=True):
    """One submitted task; instants and durations are microseconds, instants since 1970 UTC.

    None: not given, so the handler, then the spool decides. `extra` holds the x-... fields and,
    in an own copy, fields of newer versions. `uid` is who wrote the file, `digest` what it said,
    `signer` whose key signed it, `writer` in whose quota it counts (None in a user's own spool).
    `after`: the ids (in a batch that is not taken in yet also the `ref`s) of tasks it waits for;
    `results`: of those whose results its args name. `files`: the names of those that came with it.
    `duplicate_of`: the task that had its key when it came; it never runs. `recurring`: of which
    schedule it is (`name`, `scheduled_at`, `late`: whether that was missed, and is made up for).
    """

    id: str | None = None
    task: str
    args: Any = {}
    at: int
    deadline: int | None = None
    lead: int | None = None
    priority: str | None = None
    front: bool = False
    retries: int | None = None
    backoff: Backoff | None = None
    timeout: int | None = None
    version: int | str | None = None
    notify: str | None = None
    on_miss: str = "run"
    trace: str | None = None
    replay_of: str | None = None
    key: str | None = None
    key_for: int | None = None
    on_duplicate: str = "keep"
    duplicate_of: str | None = None
    recurring: dict[str, Any] | None = None
    after: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    on_failure: str = "wait"
    ref: str | None = None
    meta: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    submitted_at: int
    uid: int | None = None
    digest: str = ""
    signer: str | None = None
    writer: str | None = None


def first_entry(task: Task, handler: Handler | None = None) -> names.Entry:
    """The entry a task starts with, in the class that it asks for, or its handler."""
    chosen = task.priority or (handler and handler.priority) or "medium"
    return names.Entry(
        time=task.at,
        id=task.id or "",
        task=task.task,
        prio=chosen,
        base=chosen,
        # As the name says it: what is read back from the disk must be the same entry.
        deadline=None if task.deadline is None else names.whole_second(task.deadline),
        lead=task.lead,
        front=task.front,
        miss=task.on_miss,
        extra=() if task.writer is None else ((names.OWNER, task.writer),),
    )


def deadline_of(task: Task, entry: names.Entry) -> int | None:
    """The deadline to the us: as it was submitted, where the name, rounded up, has no other since."""
    own = task.deadline
    same = own is not None and names.whole_second(own) == entry.deadline
    return own if same else entry.deadline


def canonical(body: dict[str, Any]) -> bytes:
    """JSON that is the same for the same content, whatever the order of its keys."""
    try:
        return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise Invalid("document", None, f"must be JSON: {error}") from None


def digest_of(content: bytes) -> str:
    """32 hex digits of a content in its canonical form."""
    return hashlib.sha256(content).hexdigest()[:32]


def encode_task(task: Task) -> bytes:
    """Bytes of spool's own copy; what was not given is left out."""
    if task.id is None:
        raise Invalid("id", None, "is required in spool's own copy")
    doc: dict[str, Any] = {"v": VERSION, "id": task.id, "task": task.task, "args": task.args}
    doc["at"] = format_utc(task.at)
    if task.deadline is not None:
        doc["deadline"] = format_utc(task.deadline)
    spans = zip(_DURATIONS, _durations_of(task), strict=True)
    doc |= {name: seconds(us) for name, us in spans if us is not None}
    plain = zip(_PLAIN, _plain_of(task), strict=True)
    doc |= {name: value for name, value in plain if value is not None and value != ()}
    if task.front:
        doc["position"] = "front"
    if task.backoff is not None:
        doc["backoff"] = plain_backoff(task.backoff)
    choices = zip(_CHOICES, _choices_of(task), strict=True)
    doc |= {name: value for name, value in choices if value != _CHOICES[name]}
    doc["meta"] = task.meta
    doc["submitted_at"] = format_utc(task.submitted_at)
    doc["submitted_by"] = _by(task)
    doc["digest"] = task.digest
    return orjson.dumps(doc | task.extra)


def _by(task: Task) -> dict[str, Any]:
    by = {"uid": task.uid, "key": task.signer}
    return by if task.writer is None else {**by, "writer": task.writer}


def decode_task(data: bytes) -> Task:
    """The task of an own copy; unknown fields are kept in extra. Raises Invalid on damage."""
    try:
        doc = orjson.loads(data)
    except ValueError as error:
        raise Invalid("own copy", None, f"is damaged: {error}") from None
    if not isinstance(doc, dict) or type(doc.get("v")) is not int:
        raise Invalid("own copy", None, "is damaged: it is no object with a version")
    if doc.pop("v") != VERSION:
        raise Invalid("own copy", None, "is of a version this spool cannot read; upgrade it")
    return _read(doc)


def _read(doc: dict[str, Any]) -> Task:
    """A task from the fields of an own copy; takes them out, so that what stays is unknown."""
    by = _take(doc, "submitted_by", dict, {})
    uid, signer, writer = by.get("uid"), by.get("key"), by.get("writer")
    task_id, name = _need(doc, "id"), _need(doc, "task")
    if not names.is_id(task_id) or not names.is_task(name) or "args" not in doc:
        raise Invalid("own copy", task_id, "is damaged: it needs an id, a task and args")
    if uid is not None and type(uid) is not int:
        raise Invalid("submitted_by", uid, "is damaged: uid must be an integer")
    if not all(isinstance(name, str | None) for name in (signer, writer)):
        raise Invalid("submitted_by", None, "is damaged: key and writer must be texts")
    found: dict[str, Any] = {
        "args": doc.pop("args"),
        "at": _sure(doc, "at"),
        "submitted_at": _sure(doc, "submitted_at"),
    }
    for field, read in _READ.items():
        if field in doc:
            found[field] = read(doc, field)
    if found.pop("position", None) == "front":
        found["front"] = True
    # What is null in the file was not given.
    given = {field: value for field, value in found.items() if value is not None or field == "args"}
    facts = {"id": task_id, "task": name, "uid": uid, "signer": signer, "writer": writer}
    return Task(**given, **facts, extra=doc)


def _take(doc: dict[str, Any], name: str, kind: Any, default: Any = None) -> Any:
    """A field taken out, default where it is missing or null; a bool is no int."""
    value = doc.pop(name, None)
    if value is None:
        return default
    if not isinstance(value, kind) or isinstance(value, bool):
        raise Invalid(name, value, "is damaged: a value of another type was written there")
    return value


def _need(doc: dict[str, Any], name: str) -> str:
    value: str | None = _take(doc, name, str)
    if value is None:
        raise Invalid(name, None, "is damaged: it is missing")
    return value


def _choice(doc: dict[str, Any], name: str, known: tuple[str, ...], default: str | None) -> str | None:
    value: str | None = _take(doc, name, str, default)
    if value is not None and value not in known:
        raise Invalid(name, value, f"is damaged: it must be one of {', '.join(known)}")
    return value


def _instant(doc: dict[str, Any], name: str) -> int | None:
    text: str | None = _take(doc, name, str)
    try:
        return None if text is None else parse_utc(text)
    except ValueError as error:
        raise Invalid(name, text, f"is damaged: {error}") from None


def _sure(doc: dict[str, Any], name: str) -> int:
    us = _instant(doc, name)
    if us is None:
        raise Invalid(name, None, "is damaged: it is missing")
    return us


def _span(doc: dict[str, Any], name: str) -> int | None:
    value = _take(doc, name, (int, float))
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise Invalid(name, value, f"is damaged: {error}") from None


def _wait(doc: dict[str, Any], name: str) -> Backoff:
    return parse_backoff(doc.pop(name))


def _ids(doc: dict[str, Any], name: str) -> tuple[str, ...] | None:
    found = _take(doc, name, list)
    if found is not None and not names.are_ids(found):
        raise Invalid(name, None, "is damaged: it must be a list of ids")
    return None if found is None else tuple(found)


def _names(doc: dict[str, Any], name: str) -> tuple[str, ...] | None:
    found = _take(doc, name, list)
    if found is not None and not all(isinstance(one, str) and names.is_task(one) for one in found):
        raise Invalid(name, None, "is damaged: it must be a list of names")
    return None if found is None else tuple(found)


def _is(kind: Any) -> Callable[[dict[str, Any], str], Any]:
    return lambda doc, name: _take(doc, name, kind)


def _one_of(*known: str) -> Callable[[dict[str, Any], str], Any]:
    return lambda doc, name: _choice(doc, name, known, None)


_READ: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "deadline": _instant,
    "lead": _span,
    "priority": _one_of(*names.PRIORITIES),
    "position": _one_of("front", "back"),
    "retries": _is(int),
    "backoff": _wait,
    "timeout": _span,
    "version": _is((int, str)),
    "notify": _is(str),
    "on_miss": _one_of("run", "drop", "fail"),
    "trace": _is(str),
    "replay_of": _is(str),
    "key": _is(str),
    "key_for": _span,
    "on_duplicate": _one_of(*DUPLICATES),
    "duplicate_of": _is(str),
    "recurring": _is(dict),
    "after": _ids,
    "results": _ids,
    "files": _names,
    "on_failure": _one_of(*ON_FAILURE),
    "meta": _is(dict),
    "digest": _is(str),
}
