"""Keys: what a task does that finds its key taken, before and after the one that has it was dealt with.

A task that is a duplicate comes in all the same, so that its id is known and its end is told, and is
cancelled at once: its own copy says what it is a duplicate of, and with that it never runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from spool.actions import Move as MoveRequest
from spool.actions import Submit, Verb
from spool.place import COMING, UNFINISHED, WORDS
from spoold.core import attempts, submit, table, verbs
from spoold.core.values import Ask, Drop, FreeKeys, TakeKeys

if TYPE_CHECKING:
    from spool.actions import Task
    from spool.place import Place, Rival
    from spoold.core.state import State
    from spoold.core.values import Action, KeysTaken, Looked, Now, Refuse, Source


def wants_key(ask: Ask, place: Place) -> bool:
    """Whether what is asked brings a task back that let go of its key when it ended."""
    retried = isinstance(ask.request, Verb) and ask.request.kind == "retry"
    again = place.state in table.TERMINAL and "retry" in table.TABLE[place.state]
    return retried and again and place.task.key is not None and place.task.duplicate_of is None


def taken(state: State, event: KeysTaken, now: Now) -> list[Action]:
    """Each task has its key, or it is known who has."""
    asked = event.asked
    rivals = {task_id: rival for task_id, rival in event.rivals.items() if rival is not None}
    if not isinstance(asked.request, Submit):
        if (found := state.seeks.get(asked.source)) is not None:
            found.duplicates += len(rivals)
        return [a for task in asked.tasks for a in _one(state, task, rivals.get(task.id or ""), now)]
    ids = tuple(event.rivals)
    wanted = [task for task in asked.tasks if task.id in rivals]
    if any(rival.stand == COMING for rival in rivals.values()):
        return _again(state, asked.request, ids)
    for task in wanted:
        if task.on_duplicate == "reject":
            rival = rivals[task.id or ""]
            rule = f"is taken by {rival.id}, {WORDS[rival.stand]}"
            return [FreeKeys(ids), _refusal(state, asked.request, asked.source, task, rule)]
    stirred = [t for t in wanted if rivals[t.id or ""].stand == UNFINISHED]
    if asked.last and any(t.on_duplicate == "replace" for t in stirred):
        return _again(state, asked.request, ids)  # another node has it
    moved = [rivals[t.id or ""].id for t in stirred if t.on_duplicate in ("replace", "extend")]
    if moved and not asked.last:
        known = {i: state.path_of(i) for i in moved}
        hints = {i: path for i, path in known.items() if path is not None}
        return [Ask("rival", tuple(moved), hints, asked.request, asked.source)]
    out = [a for t in asked.request.tasks for a in _one(state, t, rivals.get(t.id or ""), now)]
    return [*out, Drop(asked.source)]


def _again(state: State, request: Submit, ids: tuple[str, ...]) -> list[Action]:
    """The action stays, and so does what is asked of its tasks."""
    for task in request.tasks:
        state.turn_away(task.id or "")
    return [FreeKeys(ids, again=True)]


def looked(state: State, event: Looked, now: Now) -> list[Action]:
    """Where those stand that are to be replaced or put off: it is done, and the keys are tried again."""
    request, source = event.ask.request, event.ask.source
    if source is None or not isinstance(request, Submit):
        return []
    keyed = {task.key: task for task in request.tasks if task.key is not None}
    ids = tuple(task.id or "" for task in keyed.values())
    rivals: list[tuple[str, Task]] = []
    for task_id, place in event.found.items():
        old = state.runs.get(task_id) or place
        task = keyed.get(old.task.key or "") if old is not None else None
        if task is None:
            continue
        rivals.append((task_id, task))
        try:
            if (asked := _asked(state, task, task_id, place)) is not None:
                verbs.check(state, asked, task_id, place, source, now)
        except verbs.Denied as problem:
            rule = f"is taken by {task_id}, which stays as it is: {problem}"
            return [FreeKeys(ids), _refusal(state, request, source, task, rule)]
    out: list[Action] = []
    over: set[str] = set()
    for task_id, task in rivals:
        run, place = state.runs.get(task_id), event.found[task_id]
        if run is None and place and place.state == table.RUNNING and task.on_duplicate == "replace":
            left = verbs.leave(state, source, {place.node or ""})
            return [*out, *_again(state, request, ids), *left]
        if (asked := _asked(state, task, task_id, place)) is not None:
            out += verbs.on_one(state, asked, task_id, place, source, now)
        over |= {task_id} if run is not None and run.ending == "cancelled" else set()
    return [*out, TakeKeys(source, request, tuple(keyed.values()), frozenset(over), last=True)]


def _asked(state: State, task: Task, old: str, place: Place | None) -> Verb | MoveRequest | None:
    """Who has the key makes way, or is put off until the newcomer's time; None: it stays as it is."""
    run = state.runs.get(old)
    waits = run is None and place is not None and place.state in (table.PENDING, table.HELD)
    if task.on_duplicate == "replace" and (run is not None or waits):
        return Verb(kind="cancel", ids=(old,), match=None, why=f"replaced by {task.id}")
    if task.on_duplicate == "extend" and waits and place is not None and place.entry.time < task.at:
        why = f"put off by {task.id}"
        return MoveRequest(
            ids=(old,), match=None, priority=None, front=None, at=task.at, deadline=None, why=why
        )
    return None


def _one(state: State, task: Task, rival: Rival | None, now: Now) -> list[Action]:
    """A task comes in: with its key, or as a duplicate."""
    if rival is None:
        return [submit.take_in(state, task, now)]
    made = replace(task, duplicate_of=rival.id, at=task.submitted_at, deadline=None)
    move = submit.to_pending(state, made)
    return [move, attempts.duplicate(state, move.entry, made, move.target, now)]


def _refusal(state: State, request: Submit, source: Source, task: Task, rule: str) -> Refuse:
    field = f"tasks[{request.tasks.index(task)}].key" if request.batch else "key"
    reason = {"field": field, "value": task.key, "rule": rule, "action": "submit"}
    parent = state.parent_of(task)
    return verbs.refuse(state, source, reason, parent, task.task, task.id or "")
