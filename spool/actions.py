"""What a JSON object dropped into incoming/ asks for, as a typed value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from spool import scheduled
from spool.backoff import Backoff
from spool.dependencies import check_after
from spool.errors import Invalid
from spool.fields import (
    ACTIONS,
    CARES,
    CONTROLS,
    MAX_TASKS,
    REQUIRED,
    TAKES,
    VERBS,
    nearest,
)
from spool.kinds import Moment, free, read
from spool.owncopy import Task, canonical, decode_task, digest_of, encode_task
from spool.requests import (
    Ack,
    Action,
    Care,
    Control,
    Extend,
    Fail,
    Match,
    Move,
    Progress,
    Prune,
    Replay,
    Schedule,
    Submit,
    Verb,
)
from spool.results import NEEDLE, named
from spool.runargs import RESERVED, RUN, check_run_args
from spool.strict import Incomplete, decode, label

if TYPE_CHECKING:
    from datetime import tzinfo

__all__ = [
    "Ack", "Action", "Backoff", "Care", "Control", "Extend", "Fail", "Incomplete", "Match", "Move",
    "Progress", "Prune", "Replay", "Schedule", "Submit", "Task", "Verb", "check_run_args", "decode",
    "decode_task", "encode_task", "interpret",
]  # fmt: skip


def interpret(doc: dict[str, Any], *, now: int, dropped: int, zone: tzinfo, uid: int | None) -> Action:
    """The action a decoded document asks for; Invalid names field, value and rule.

    now and dropped are us UTC: relative times count from the drop, and so does an `at` left out, but for
    a drop by a clock that is ahead of ours.
    Local times are read in the document's `tz`, else in zone. uid is who wrote the file.
    """
    moment = Moment(now=now, dropped=dropped, zone=zone)
    kind = _kind(doc)
    if kind == "submit":
        if "tasks" in doc:
            return Submit(tasks=_batch(doc, moment, uid), batch=True)
        if "every" in doc:
            return _recurring(doc, moment)
        task = _task(doc, moment, uid)
        check_after((task,), ("",))
        return Submit(tasks=(task,), batch=False)
    given, _ = _given(kind, doc, moment)
    _check_together(kind, given)
    return _made(kind, given)


def _kind(doc: dict[str, Any]) -> str:
    kind = doc.get("action", "submit")
    if isinstance(kind, str) and kind in TAKES:
        return kind
    near = nearest(kind, ACTIONS) if isinstance(kind, str) else None
    raise Invalid("action", kind, f"must be one of {', '.join(ACTIONS)}", near)


def _given(kind: str, doc: dict[str, Any], moment: Moment) -> tuple[dict[str, Any], dict[str, Any]]:
    """The checked fields of an action, and its x-... fields as they are."""
    rows = TAKES[kind]
    given: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    if "tz" in doc and "tz" in rows:
        local = read(rows["tz"], doc["tz"], moment)
        moment = Moment(now=moment.now, dropped=moment.dropped, zone=local)
    for name, value in doc.items():
        row = rows.get(name)
        if row is not None:
            given[name] = read(row, value, moment)
        elif name[:2] == "x-":
            extra[name] = free(name, value)
        elif name != "action":
            raise _unknown(kind, name, value)
    for name in REQUIRED[kind]:
        if name not in given:
            raise Invalid(name, None, "is required")
    return given, extra


def _unknown(kind: str, name: str, value: object) -> Invalid:
    others = _BESIDE if kind == "submit" else {}
    if name in others:
        return Invalid(name, value, others[name])
    rule = f"is no field of {kind}; free fields go into meta or are called x-..."
    return Invalid(label(name), value, rule, nearest(name, (*TAKES[kind], *others, "action")))


def _recurring(doc: dict[str, Any], moment: Moment) -> Schedule:
    """A task that comes again and again: a schedule called as its key, else as the task."""
    for field in ("id", "tz"):
        if field in doc:  # of the id that is all: a schedule has none of its own
            read(TAKES["submit"][field], doc[field], moment)
    table = {name: value for name, value in doc.items() if name not in ("action", "id", "key", "tz")}
    if "tz" in doc:
        table["timezone"] = doc["tz"]
    called = "key" if "key" in doc else "task"
    name = doc.get(called)
    if not isinstance(name, str):
        raise Invalid(called, name, "is required" if name is None else "must be text")
    try:
        scheduled.checked(name, table)
    except Invalid as problem:
        field = called if problem.field == "recurring" else problem.field
        raise Invalid(field, problem.value, problem.rule, problem.near) from None
    return Schedule(name=name, table=table, why=None)


def _task(doc: dict[str, Any], moment: Moment, uid: int | None) -> Task:
    given, extra = _given("submit", doc, moment)
    args = given.get("args", {})
    content = canonical({k: v for k, v in doc.items() if k not in ("id", "action")})
    results = named(args) if NEEDLE in content else ()
    for name, other in (
        ("key_for", "key"),
        ("on_duplicate", "key"),
        ("on_failure", "after"),
        ("files", "id"),
    ):
        default = TAKES["submit"][name].default
        asks = given.get(name, default) != default
        if asks and other not in given and not (other == "after" and results):
            raise Invalid(name, doc[name], f"goes with {other} and not without it")
    if given["task"] == RUN:
        check_run_args(args)
    elif given["task"].startswith(RESERVED):
        rule = f"must not begin with {RESERVED}, which is for spool's own tasks; {RUN} may be submitted"
        raise Invalid("task", given["task"], rule)
    came = min(moment.dropped, moment.now)
    given.pop("tz", None)  # its times have been read
    given.setdefault("at", came)
    given["front"] = given.pop("position", None) == "front"
    if results:
        given["after"] = tuple(dict.fromkeys((*given.get("after", ()), *results)))
    return Task(
        **given, results=results, extra=extra, submitted_at=came, uid=uid, digest=digest_of(content)
    )


def _batch(doc: dict[str, Any], moment: Moment, uid: int | None) -> tuple[Task, ...]:
    for name, value in doc.items():
        if name not in ("action", "tasks", "then"):
            near = None if name in TAKES["submit"] else nearest(name, ("action", "tasks", "then"))
            rule = "must stand in each task: tasks stands alone, or with then"
            raise Invalid(label(name), value, rule, near)
    bodies = doc["tasks"]
    if not isinstance(bodies, list) or not 1 <= len(bodies) <= MAX_TASKS:
        raise Invalid("tasks", None, f"must be a list of 1 to {MAX_TASKS} tasks")
    where = [f"tasks[{index}]" for index in range(len(bodies))]
    tasks = [_one_of(body, place, moment, uid) for body, place in zip(bodies, where, strict=True)]
    if "then" in doc:
        where.append("then")
        tasks = _then(doc["then"], tasks, moment, uid)
    seen: set[str] = set()
    keys: set[str] = set()
    for task, place in zip(tasks, where, strict=True):
        if task.id is not None and task.id in seen:
            raise Invalid(f"{place}.id", task.id, "must not occur twice in a batch")
        seen.add(task.id or "")
        if task.key is not None and task.key in keys:
            raise Invalid(f"{place}.key", task.key, "must not occur twice in a batch")
        keys.add(task.key or "")
    check_after(tasks, [f"{place}." for place in where])
    return tuple(tasks)


def _then(body: Any, tasks: list[Task], moment: Moment, uid: int | None) -> list[Task]:
    """The tasks, and behind them the one that runs after all of them, or after the first failure."""
    if isinstance(body, dict) and "after" in body:
        raise Invalid("then.after", None, "must not be given: it is all tasks of the batch")
    refs = {task.ref for task in tasks}
    named = []
    for index, task in enumerate(tasks):
        ref = f"task-{index}"
        while ref in refs:
            ref += "-"
        named.append(task if task.id or task.ref else replace(task, ref=ref))
    if isinstance(body, dict):
        body = {"on_failure": "run", **body, "after": [task.id or task.ref for task in named]}
    return [*named, _one_of(body, "then", moment, uid)]


def _one_of(body: object, where: str, moment: Moment, uid: int | None) -> Task:
    if not isinstance(body, dict):
        raise Invalid(where, body, "must be an object")
    for name in ("action", "tasks"):
        if name in body:
            raise Invalid(f"{where}.{name}", None, "must not stand in a task of a batch")
    try:
        return _task(body, moment, uid)
    except Invalid as error:
        raise Invalid(f"{where}.{error.field}", error.value, error.rule, error.near) from None


def _check_together(kind: str, given: dict[str, Any]) -> None:
    """The rules that no field can tell by itself."""
    if "match" in TAKES[kind] and ("ids" in given) == ("match" in given):
        both = "match" in given
        rule = "must not be given with ids: one or the other" if both else "is required, or match"
        raise Invalid("match" if both else "ids", None, rule)
    if kind == "move" and not given.keys() & {"priority", "position", "at", "deadline"}:
        raise Invalid("move", None, "must say at least one of priority, position, at, deadline")
    if kind == "schedule" and "table" in given:
        try:
            scheduled.checked(given["name"], given["table"])
        except Invalid as error:
            raise Invalid(f"table.{error.field}", error.value, error.rule, error.near) from None
    if kind in CONTROLS and "node" in given and "task" in given:
        raise Invalid("node", given["node"], "must not be given with task: one or the other")


def _made(kind: str, given: dict[str, Any]) -> Action:
    """The typed value of an action other than submit, defaults filled in from the table."""
    shape, rows = _SHAPES[kind], TAKES[kind]
    given["kind"] = kind
    if "position" in given:
        given["front"] = given["position"] == "front"
    names = [name for name in shape.__struct_fields__ if name != "past"]  # which no file says
    defaults = {name: rows[name].default if name in rows else None for name in names}
    made: Action = shape(**{name: given.get(name, default) for name, default in defaults.items()})
    return made


_BESIDE = {
    "every": "stands in a task that comes alone, or in a schedule",
    "tasks": "stands alone, or with then",
    "then": "stands beside tasks, and in no task",
}
_SHAPES: dict[str, Any] = {
    **dict.fromkeys(VERBS, Verb),
    **dict.fromkeys(CONTROLS, Control),
    **dict.fromkeys(CARES, Care),
    "move": Move,
    "replay": Replay,
    "prune": Prune,
    "schedule": Schedule,
    "ack": Ack,
    "fail": Fail,
    "extend": Extend,
    "progress": Progress,
}
