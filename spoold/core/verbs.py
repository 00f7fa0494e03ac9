"""What people and parents ask of tasks that are there: one function a verb."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from spool import heldfor, layout
from spool.actions import Ack, Extend, Fail, Progress, Replay, Submit, Verb
from spool.actions import Move as MoveRequest
from spool.errors import Invalid
from spool.names import MAX_US, OWNER, id_from, whole_second
from spool.place import mark_of
from spool.records import error
from spool.requests import kind_of
from spool.safe import as_utf8
from spool.times import format_utc
from spoold.core import attempts, moves, order, rights, table
from spoold.core.values import Ask, Drop, Forward, Kill, Message, Move, Refuse, Tell

if TYPE_CHECKING:
    from spool.actions import Action as Request
    from spool.names import Entry
    from spool.place import Place
    from spoold.core.state import State
    from spoold.core.values import Action, Arrived, Invalidated, Looked, Now, Run, Source, Who

# What a record of an attempt has, and a refusal has nothing of.
_NOTHING = (
    "version", "replay_of", "key", "args", "exit", "signal", "deadline",
    "started_at", "ended_at", "seconds", "peak_rss", "log", "next_at",
)  # fmt: skip
Asked = Verb | MoveRequest | Ack | Fail | Extend | Progress


class Denied(Exception):
    """A verb that cannot be carried out on one task; str() says why. Fields: attempt, if it is stale."""

    def __init__(self, why: str, attempt: int | None = None) -> None:
        super().__init__(why)
        self.attempt = attempt


class Elsewhere(Exception):
    """Another node runs the task, or is about to be found dead. Fields: node."""

    def __init__(self, node: str) -> None:
        super().__init__(node)
        self.node = node


def arrived(state: State, event: Arrived, request: Asked, now: Now) -> list[Action]:
    """Tasks that run are at hand; where the others are, the disk is asked first."""
    ids = request.ids if isinstance(request, Verb | MoveRequest) else (request.id,)
    absent = tuple(i for i in ids if i not in state.runs)
    if absent:
        known = {i: layout.pending(e) for i in absent if (e := state.waiting.get(i))}
        return [Ask("verb", absent, known, request, event.source)]
    return carry_out(state, request, event.source, {}, now)


def looked(state: State, event: Looked, now: Now) -> list[Action]:
    """The disk has answered: the verb is carried out on all its tasks."""
    request, source = event.ask.request, event.ask.source
    if source is None or not isinstance(request, Asked):
        return []
    return carry_out(state, request, source, event.found, now)


def carry_out(
    state: State, request: Asked, source: Source, found: dict[str, Place | None], now: Now
) -> list[Action]:
    """One verb on each of its tasks; what cannot be done is refused in one answer."""
    out: list[Action] = []
    back = 0
    denied: dict[str, Denied | table.Illegal] = {}
    elsewhere: set[str] = set()
    ids = request.ids if isinstance(request, Verb | MoveRequest) else (request.id,)
    away = [i for i in ids if i in state.turned_away and found.get(i) is None and i not in state.runs]
    if away:  # asked of what waits in incoming/: so does this, and is looked at after it
        for task_id in away:
            del state.turned_away[task_id]
        state.later = True
        return []
    for task_id in ids:
        try:
            done = on_one(state, request, task_id, found.get(task_id), source, now, back)
        except (Denied, table.Illegal) as problem:
            denied[task_id] = problem
        except Elsewhere as other:
            elsewhere.add(other.node)
        else:
            out += done
            back += come_back(done, source.who)
    if elsewhere:
        return [*out, *leave(state, source, elsewhere)]
    if not denied:
        return [*out, Drop(source, frozenset(ids))]
    return [*out, _refusal(state, request, source, denied, found)]


def leave(state: State, source: Source, nodes: set[str]) -> list[Action]:
    """What only another node can do goes to it; while none of them is known to live, it stays."""
    live = sorted((nodes & state.peers) - {state.node})
    # Else every node looks at it; where it is signed, its name and time stand for what was used.
    if live and not state.settings.guarded and source.who is None:
        return [Forward(source, live[0])]
    state.later = True
    return []


def asker(request: Asked | Replay, source: Source) -> dict[str, Any]:
    """Who asked, and why."""
    why = request.why if isinstance(request, Verb | MoveRequest | Replay) else None
    return {**source.by, "why": why} if why else source.by


def on_one(  # noqa: PLR0913 - one more than five
    state: State,
    request: Asked,
    task_id: str,
    place: Place | None,
    source: Source,
    now: Now,
    back: int = 0,
) -> list[Action]:
    """A verb on one task; Denied, or table.Illegal. `back`: so many of his came back by this action."""
    run, by = state.runs.get(task_id), asker(request, source)
    check(state, request, task_id, place, source, now)
    if run is not None:
        return _on_run(state, request, run, by, now)
    if (who := source.who) is not None and place is not None and _is_retry(request, place):
        live = state.live.get(who.token, 0) + back
        if why := rights.why_not_back(state.settings, who, place.task, live):
            raise Denied(why)
    return _on_place(state, request, task_id, place, by, now)


def _is_retry(request: Asked, place: Place) -> bool:
    """Whether a task is to come back that has ended."""
    return kind_of(request) == "retry" and place.state in table.TERMINAL


def come_back(actions: list[Action], who: Who | None) -> int:
    """How many tasks of a writer that had ended have not any more."""
    moved = [one.entry for one in actions if isinstance(one, Move) and one.before in table.TERMINAL]
    return sum(who is not None and (OWNER, who.token) in entry.extra for entry in moved)


def check(  # noqa: PLR0913 - one more than five
    state: State, request: Asked, task_id: str, place: Place | None, source: Source, now: Now
) -> None:
    """Denied where who asks may not do this to one task."""
    old = state.runs.get(task_id) or place
    if source.who is None or old is None:
        return
    parent = state.parent_of(old.task)
    if why := rights.why_not_task(state.settings, source.who, request, old.task, parent, now.wall):
        raise Denied(why)


def id_of(source: Source) -> str:
    """An id for what belongs to no task: the same whenever the same file is refused."""
    return id_from(source.ctime, hashlib.sha256(source.path.encode("utf-8", "replace")).digest())


def _refusal(
    state: State,
    request: Asked,
    source: Source,
    denied: dict[str, Denied | table.Illegal],
    found: dict[str, Place | None],
) -> Refuse:
    first, problem = next(iter(denied.items()))
    if len(denied) > 1:
        why = {task_id: str(each) for task_id, each in denied.items()}
        reason: dict[str, Any] = {"field": "ids", "value": list(denied), "rule": why}
    elif (attempt := getattr(problem, "attempt", None)) is not None:
        reason = {"field": "attempt", "value": attempt, "rule": str(problem)}
    else:
        field = "ids" if isinstance(request, Verb | MoveRequest) else "id"
        reason = {"field": field, "value": first, "rule": str(problem)}
    reason["action"] = kind_of(request)
    place, run = found.get(first), state.runs.get(first)
    task = run.task if run else place.task if place else None
    parent = state.parent_of(task) if task else None
    # Told under the task asked of first: the same whichever node says it, and whatever it still found.
    asked = _asked(request) or id_of(source)
    return refuse(state, source, reason, parent, task.task if task else "unknown", asked)


def _asked(request: Request) -> str | None:
    """The task that an action is about, or the first of them."""
    if isinstance(request, Verb | MoveRequest | Replay):
        return next(iter(request.ids), None)
    return request.id if isinstance(request, Ack | Fail | Extend | Progress) else None


def forbidden(state: State, source: Source, request: Request, why: str) -> Refuse:
    """What [policy] does not allow."""
    first = request.tasks[0] if isinstance(request, Submit) and request.tasks else None
    action = kind_of(request)
    reason = {"field": "policy", "value": None, "rule": why, "action": action}
    if first is None:
        asked = _asked(request)
        run = state.runs.get(asked or "")
        entry = run.entry if run else state.waiting.get(asked or "")
        task = entry.task if entry else "unknown"
        return refuse(state, source, reason, None, task, asked or id_of(source))
    return refuse(state, source, reason, first.notify, first.task, first.id or id_of(source))


def invalidated(state: State, event: Invalidated) -> list[Action]:
    """A file that is no valid action; if it is about a task that runs, its parent is told."""
    parent, task = event.parent, event.task
    if parent is None and (run := state.runs.get(event.id)) is not None:
        parent, task = run.parent, run.entry.task
    return [refuse(state, event.source, event.reason, parent, task, event.id)]


def refuse(  # noqa: PLR0913 - everything a refusal says
    state: State,
    source: Source,
    reason: dict[str, Any],
    parent: str | None,
    task: str,
    task_id: str,
) -> Refuse:
    """The answer to an action that is not carried out."""
    state.counts["refused"] += 1
    handler = state.settings.handler_for(task)
    box = parent or (handler.notify if handler and handler.notify else layout.DEFAULT_PARENT)
    if source.who is not None and not rights.may_tell(state.settings, source.who, box):
        box = layout.DEFAULT_PARENT  # strangers do not fill the outboxes of others
    reason.setdefault("text", _in_words(reason))
    content = {
        "v": 1,
        "event": "rejected",
        "id": task_id,
        "task": task,
        "attempt": None,
        "outcome": "rejected",
        "result": None,
        "error": {
            **error("rejected", reason["text"]),
            "reason": {**reason, "file": as_utf8(source.path)},
        },
        "submitted_at": format_utc(source.ctime),
        "submitted_by": {"key": None, **source.by},
        "node": state.node,
        "will_retry": False,
        "parent": box,
        "at": format_utc(source.ctime),
        "meta": {},
        **dict.fromkeys(_NOTHING),
    }
    # Named by the drop's own time: the same refusal told again after a crash is the same file.
    message = Message("rejected", box, source.ctime, task_id, task, content)
    return Refuse(source, {**reason, **source.by}, message)


# On a task that runs.


def _on_run(state: State, request: Asked, run: Run, by: dict[str, Any], now: Now) -> list[Action]:
    if isinstance(request, Ack | Fail | Extend | Progress):
        if request.attempt != run.entry.attempt:
            text = f"is stale: attempt {run.entry.attempt} runs"
            raise Denied(text, request.attempt)
        return _on_attempt(state, request, run, now)
    if isinstance(request, Verb) and request.kind == "cancel":
        return cancel_run(state, run, by, now)
    raise table.Illegal(table.RUNNING, kind_of(request))


def _on_attempt(
    state: State, request: Ack | Fail | Extend | Progress, run: Run, now: Now
) -> list[Action]:
    if isinstance(request, Progress):
        return [progress(state, run, request.percent, request.note, now)]
    if isinstance(request, Extend):
        return _extend(state, request, run, now)
    if run.is_process:
        text = "its handler is a process: its exit ends the attempt"
        raise Denied(text)
    if isinstance(request, Ack):
        state.history.learn(run.entry.task, took=now.mono - run.began)
        return [attempts.end(state, run, "succeed", "ok", now, result=request.result)]
    return attempts.failed(
        state, run, "error", _problem(request), now, final=not request.retry, delay=request.delay
    )


def _problem(request: Fail) -> dict[str, Any]:
    """The error of a record, as a parent has told it."""
    told = request.error
    return error(str(told.get("type") or "error"), str(told.get("message") or ""), told.get("trace"))


def progress(state: State, run: Run, percent: float | None, note: str | None, now: Now) -> Tell:
    """How far an attempt is, told to the parent of its task."""
    run.progress = {"percent": percent, "note": note, "at": format_utc(now.wall)}
    more = {"started": run.started, "percent": percent, "note": note}
    return Tell(attempts.message(state, "progress", run.entry, run.task, run.parent, now, **more))


def _extend(state: State, request: Extend, run: Run, now: Now) -> list[Action]:
    if run.ending:
        raise Denied(f"comes too late: it is being ended ({run.ending})", request.attempt)
    state.extend(run, max(run.limit, now.mono + request.by))
    if run.entry.timeout is None:
        return []
    entry = replace(run.entry, timeout=min(now.wall + run.limit - now.mono, MAX_US))
    return [rename_run(state, run, entry, "extend")]


def rename_run(state: State, run: Run, entry: Entry, event: str) -> Move:
    """A running task's entry says something new."""
    source, run.entry = run.path, entry
    run.path = layout.running(state.node, entry)
    return Move(
        event=event,
        entry=entry,
        before=table.RUNNING,
        after=table.after(table.RUNNING, event),
        source=source,
        target=run.path,
        note={"attempt": entry.attempt},
        key=run.task.key,
    )


def cancel_run(state: State, run: Run, by: dict[str, Any], now: Now) -> list[Action]:
    """A process is killed first and is cancelled when it is gone; a parent's task is at once.

    Its name says so from now on: the cancel holds though spoold may die before the process does.
    """
    if run.is_process:
        if run.ending == "cancelled":
            return []
        run.ending, run.who = "cancelled", by
        move = rename_run(state, run, replace(run.entry, why="cancelled"), "kill")
        return [
            replace(move, note={**move.note, "by": by}),
            Kill(run.entry.id, run.entry.attempt, state.settings.grace, run.ending),
        ]
    return [attempts.end(state, run, "cancel", "cancelled", now, by=by)]


# On a task that waits, is held, or has ended.


def _on_place(  # noqa: PLR0911, PLR0913 - one more than usual, each
    state: State,
    request: Asked,
    task_id: str,
    place: Place | None,
    by: dict[str, Any],
    now: Now,
) -> list[Action]:
    if place is None:
        past = dict(request.past) if isinstance(request, Verb | MoveRequest) else {}
        raise Denied(past.get(task_id, "no task has this id"))
    if place.state == table.RUNNING:
        _check_runs_elsewhere(request, place)
        return []
    if isinstance(request, Ack | Fail | Extend | Progress):
        return _late_word(request, place)
    kind = kind_of(request)
    after = table.after(place.state, kind)
    if isinstance(request, MoveRequest):
        return [_move(state, request, place, by, now)]
    if kind == "cancel":
        return _cancel(state, place, by, now)
    if kind == "hold":
        goes_on_by_itself = place.entry.why in heldfor.WANTING  # where there is code, or room, for it
        return [_hold(state, place, by)] if place.state == table.PENDING or goes_on_by_itself else []
    if after == place.state:
        return []  # a duplicate row of the table
    if kind == "retry":
        _check_key(place)
    return [_release(state, place, kind, by, now)]


def _check_key(place: Place) -> None:
    """What has ended has let go of its key."""
    if place.task.duplicate_of is not None:
        text = f"was a duplicate of {place.task.duplicate_of}: submit or replay it"
        raise Denied(text)
    if place.rival is not None:
        text = f"its key {place.task.key} is taken by {place.rival}"
        raise Denied(text)


def _check_runs_elsewhere(request: Asked, place: Place) -> None:
    """Nothing where there is nothing to do; Elsewhere, or table.Illegal: nobody may."""
    if isinstance(request, Ack | Fail | Extend | Progress):
        raise Elsewhere(place.node or "")
    table.after(place.state, kind_of(request))
    if place.entry.why != "cancelled":  # else its node is at it
        raise Elsewhere(place.node or "")


def _late_word(request: Ack | Fail | Extend | Progress, place: Place) -> list[Action]:
    """A word about an attempt that has ended: the same word again is no error, any other is stale."""
    last = place.last or {}
    same = last.get("attempt") == request.attempt
    ended = (last.get("outcome"), last.get("result"))
    if same and isinstance(request, Ack) and ended == ("ok", request.result):
        return []
    if same and isinstance(request, Fail) and last.get("outcome") == "error":
        told = last.get("error")
        same = isinstance(told, dict) and {**told, "fingerprint": None} == _problem(request)
        if same and (request.retry or not last.get("will_retry")):
            return []
    text = f"is stale: the task is {place.state}"
    raise Denied(text, request.attempt)


def _cancel(state: State, place: Place, by: dict[str, Any], now: Now) -> list[Action]:
    if place.state == table.CANCELLED:
        return []
    state.discard(place.entry)
    return [
        attempts.ending(
            state,
            "cancel",
            place.entry,
            place.task,
            before=place.state,
            source=place.path,
            outcome="cancelled",
            now=now,
            to=replace(place.entry, why=""),
            by=by,
        )
    ]


def _hold(state: State, place: Place, by: dict[str, Any]) -> Move:
    state.discard(place.entry)
    entry = replace(place.entry, why=heldfor.ASKED)
    return moves.made("hold", entry, place.state, place.path, note={"by": by}, key=place.task.key)


def _release(state: State, place: Place, kind: str, by: dict[str, Any], now: Now) -> Move:
    """Back to pending: from held as it was, after its end with all its attempts before it again."""
    entry, task = replace(place.entry, why="", timeout=None), place.task
    if kind == "retry" or entry.lost >= state.settings.poison_after:
        # The attempt number goes on: it is the fencing token, and a record may have it.
        spent = entry.interrupted + entry.fails + entry.lost
        entry = replace(entry, fails=0, lost=0, interrupted=spent)
    if kind == "retry":
        spent = entry.interrupted
        if place.state in table.TERMINAL and place.last:
            spent = max(spent, int(place.last.get("attempt") or 0))
        entry = replace(entry, prio=entry.base, interrupted=spent, time=now.wall)
        if entry.deadline is not None and entry.deadline <= now.wall:
            entry = replace(entry, miss="run")  # it was asked for though that has passed
    state.insert(entry, now.wall)
    mark = mark_of(task.key, task.writer) if task.key and place.state in table.TERMINAL else None
    return moves.made(kind, entry, place.state, place.path, note={"by": by}, key=task.key, mark=mark)


def _move(state: State, request: MoveRequest, place: Place, by: dict[str, Any], now: Now) -> Move:
    if place.state == table.PENDING:
        state.discard(place.entry)
    entry = moved(request, place, now)
    if place.state == table.PENDING:
        state.insert(entry, now.wall)
    return moves.made("move", entry, place.state, place.path, note={"by": by}, key=place.task.key)


def moved(request: MoveRequest, place: Place, now: Now) -> Entry:
    """What a `move` makes of an entry; a new deadline is missed as it was submitted."""
    entry = place.entry
    if request.priority is not None:
        entry = replace(entry, prio=request.priority, base=request.priority)
    if request.at is not None:
        entry = replace(entry, time=request.at)
    if request.deadline is not None:
        deadline, miss = whole_second(request.deadline), place.task.on_miss
        entry = replace(order.unlifted(entry), deadline=deadline, miss=miss)
    if request.front is not None:
        entry = replace(entry, front=request.front)
        if request.at is None and entry.time <= now.wall:
            entry = replace(entry, time=now.wall)  # the latest to the front, or to the back
    return entry


def _in_words(reason: dict[str, Any]) -> str:
    """A refusal as one sentence: field, value, rule; of many tasks the rule of each."""
    rule = reason["rule"]
    if isinstance(rule, dict):
        return "; ".join(f"{task_id}: {why}" for task_id, why in rule.items())
    return str(Invalid(reason["field"], reason["value"], rule))
