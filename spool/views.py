"""What a client sees: a task, a line of a listing, an event; values, read once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from msgspec import structs

from spool import handed, layout
from spool.errors import Invalid
from spool.names import parse_event
from spool.owncopy import Task, deadline_of
from spool.times import format_utc, maybe_utc, parse_utc

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    from spool.disk import Disk
    from spool.dropped import Waiting
    from spool.names import Entry
    from spool.place import Place

TOO_DEEP = (RecursionError, TypeError)  # raised of JSON whose depth was not looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One task as its file name alone tells it. Instants are microseconds since 1970, UTC.

    `state`: pending, held, running, done, failed or cancelled. `priority` is the class it stands
    in. `at` is its next run (for what has ended, its last). `attempt` is the number of the attempt
    that runs or comes next; of what has failed, of the last that ran. `why` says why it is held.
    `path` is relative to the spool.
    """

    id: str
    task: str
    state: str
    priority: str
    at: int
    deadline: int | None
    attempt: int
    why: str
    node: str | None
    path: str
    entry: Entry = field(repr=False)

    def plain(self) -> dict[str, Any]:
        """The same for JSON, instants as RFC 3339."""
        return {
            "id": self.id,
            "task": self.task,
            "state": self.state,
            "priority": self.priority,
            "at": format_utc(self.at),
            "deadline": maybe_utc(self.deadline),
            "attempt": self.attempt,
            "why": self.why or None,
            "node": self.node,
            "path": self.path,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """Everything there is to know of one task. Instants are microseconds since 1970, UTC.

    `state` is that of `Listed`, or incoming: dropped, not taken in yet. `attempts` are the records
    of all attempts that have ended, oldest first, as spool(5) describes them; `result` and `error`
    are those of the newest one. `why` says why it is held, or will be refused. `files`: bytes of each
    of its files, by name. `signer`: whose key signed it.
    """

    id: str
    task: str
    args: Any
    state: str
    priority: str | None
    at: int | None
    deadline: int | None
    attempt: int
    attempts: tuple[dict[str, Any], ...]
    result: Any
    error: dict[str, Any] | None
    why: str
    node: str | None
    path: str
    version: int | str | None = None
    notify: str | None = None
    key: str | None = None
    duplicate_of: str | None = None
    recurring: dict[str, Any] | None = None
    after: tuple[str, ...] = ()
    on_failure: str | None = None
    files: dict[str, int] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    submitted_at: int | None = None
    uid: int | None = None
    signer: str | None = None
    entry: Entry | None = field(default=None, repr=False)

    def plain(self) -> dict[str, Any]:
        """The same for JSON, instants as RFC 3339."""
        found = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "entry"}
        found |= {name: maybe_utc(found[name]) for name in ("at", "deadline", "submitted_at")}
        by = {"uid": found.pop("uid"), "key": found.pop("signer")}
        return {**found, "why": self.why or None, "submitted_by": by}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a parent's outbox. Instants are microseconds since 1970, UTC.

    `event`: ready, done, failed, retrying, cancelled, late, rejected, recurring-error, progress.
    `name` is its file's name, `parent` the outbox it stands in, `record` all of it as spool(5)
    describes it. `attempt` is None for a refusal.
    """

    name: str
    event: str
    id: str
    task: str
    attempt: int | None
    args: Any
    result: Any
    error: dict[str, Any] | None
    outcome: str | None
    will_retry: bool
    next_at: int | None
    meta: dict[str, Any]
    parent: str
    record: dict[str, Any] = field(repr=False)


def listed(path: str, entry: Entry) -> Listed:
    """A line of a listing from where an entry stands and what its name says."""
    parts = path.split("/")
    return Listed(
        id=entry.id,
        task=entry.task,
        state=parts[0],
        priority=entry.prio,
        at=entry.time,
        deadline=entry.deadline,
        attempt=attempt(parts[0], entry),
        why=entry.why,
        node=parts[1] if parts[0] == layout.RUNNING else None,
        path=path,
        entry=entry,
    )


def task_view(place: Place, records: list[dict[str, Any]]) -> TaskView:
    """A task that was taken in, and what its attempts came to."""
    entry = place.entry
    last = records[-1] if records else {}
    return replace(
        _of(entry.id, place.task, place.state, place.path),
        task=entry.task,
        priority=entry.prio,
        at=entry.time,
        deadline=deadline_of(place.task, entry),
        attempt=attempt(place.state, entry),
        attempts=tuple(records),
        result=last.get("result"),
        error=last.get("error"),
        why=entry.why,
        node=place.node,
        entry=entry,
    )


def dropped_view(disk: Disk, waits: Waiting, zone: tzinfo) -> TaskView:
    """A task that is still in incoming/, as it will be taken in; local times are read in `zone`.

    Of one that will be refused, as far as it is understood.
    """
    from spool.actions import Submit, interpret

    came, uid, why = waits.info.ctime_us, waits.info.uid, ""

    def read(doc: dict[str, Any]) -> tuple[Task, ...]:
        asked = interpret(doc, now=came, dropped=came, zone=zone, uid=uid)
        return asked.tasks if isinstance(asked, Submit) else ()

    try:
        found = next((task for task in read(waits.action) if task.id == waits.id), None)
    except (Invalid, *TOO_DEEP) as problem:
        found, why = None, f"will be refused: {problem}"
    if found is None:
        more = _understood(waits.body, read) or Task(task="", at=came, submitted_at=came, uid=uid)
        name, args = str(waits.body.get("task", "")), waits.body.get("args", {})
        found = structs.replace(more, task=name, args=args)
    given = ((name, handed.info(disk, layout.given(waits.id, name))) for name in found.files)
    files = {name: info.size for name, info in given if info is not None}
    return replace(_of(waits.id, found, layout.INCOMING, waits.path), files=files, why=why)


def _understood(body: dict[str, Any], read: Callable[[dict[str, Any]], tuple[Task, ...]]) -> Task | None:
    """What `read` makes of it without the fields that break a rule; its name and args aside."""
    doc = {name: value for name, value in body.items() if name not in ("args", "every", "tasks")}
    doc["task"] = "x"
    while True:
        try:
            return next(iter(read(doc)), None)
        except Invalid as problem:
            if (field := re.split(r"[.[]", problem.field)[0]) not in doc:
                return None
            del doc[field]
        except TOO_DEEP:
            return None


def _of(task_id: str, task: Task, state: str, path: str) -> TaskView:
    """What a task says itself."""
    return TaskView(
        id=task_id,
        task=task.task,
        args=task.args,
        state=state,
        priority=task.priority,
        at=task.at,
        deadline=task.deadline,
        attempt=1,
        attempts=(),
        result=None,
        error=None,
        why="",
        node=None,
        path=path,
        version=task.version,
        notify=task.notify,
        key=task.key,
        duplicate_of=task.duplicate_of,
        recurring=task.recurring,
        after=task.after,
        on_failure=task.on_failure if task.after else None,
        meta=task.meta,
        submitted_at=task.submitted_at,
        uid=task.uid,
        signer=task.signer,
    )


def event_of(name: str, parent: str, record: dict[str, Any]) -> Event:
    """An event from its file's name and content; Invalid where they do not agree."""
    _, task_id, task, event = parse_event(name) or ("", "", "", "")
    if (task_id, task, event) != tuple(record.get(part) for part in ("id", "task", "event")):
        raise Invalid("record", None, "is not of the event that its name says")
    meta, next_at = record.get("meta"), record.get("next_at")
    attempt, error = record.get("attempt"), record.get("error")
    return Event(
        name=name,
        event=event,
        id=task_id,
        task=task,
        attempt=attempt if isinstance(attempt, int) else None,
        args=record.get("args"),
        result=record.get("result"),
        error=error if isinstance(error, dict) else None,
        outcome=record.get("outcome"),
        will_retry=bool(record.get("will_retry")),
        next_at=parse_utc(next_at) if isinstance(next_at, str) else None,
        meta=meta if isinstance(meta, dict) else {},
        parent=parent,
        record=record,
    )


def attempt(state: str, entry: Entry) -> int:
    """The number of the attempt that runs or comes next; of what has failed, the last that ran."""
    return entry.attempt - (state == layout.FAILED and entry.fails > 0)
