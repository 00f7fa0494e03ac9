"""A task comes in: it gets its entry and its place, and is compared with what comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool import limitkey
from spool.heldfor import AFTER, NO_HANDLER
from spool.owncopy import first_entry
from spool.place import mark_of
from spoold.core import moves, policy, rights, table, verbs
from spoold.core.values import Drop, Move, TakeKeys

if TYPE_CHECKING:
    from spool.actions import Submit, Task
    from spoold.core.state import State
    from spoold.core.values import Action, Arrived, Now


def submit(state: State, event: Arrived, request: Submit, now: Now) -> list[Action]:
    """Every task of the action is taken in; the file goes when all of them are on disk."""
    who = event.source.who
    if who is not None:
        live = state.live.get(who.token, 0)
        if why := rights.why_not_submit(state.settings, who, request.tasks, now.wall, live):
            return [verbs.forbidden(state, event.source, request, why)]
    keyed = tuple(task for task in request.tasks if task.key is not None)
    if keyed:
        return [TakeKeys(event.source, request, keyed)]
    out: list[Action] = [take_in(state, task, now) for task in request.tasks]
    out.append(Drop(event.source))
    return out


def take_in(state: State, task: Task, now: Now) -> Move:
    """One task to pending/, or to held/ where nothing can run it."""
    move = to_pending(state, task)
    if task.after or not policy.runnable(task, state.settings.handler_for(task.task)):
        why = AFTER if task.after else NO_HANDLER
        more = {"note": move.note, "key": task.key, "mark": move.mark}
        return moves.parked(move.entry, table.NEW, None, why, body=task, **more)
    if move.entry.time <= now.wall:
        state.bodies.keep(task)
    state.insert(move.entry, now.wall)
    return move


def to_pending(state: State, task: Task) -> Move:
    """The transition itself; memory does not know of it yet."""
    handler = state.settings.handler_for(task.task)
    entry = limitkey.marked(first_entry(task, handler), task, handler)
    state.counts["taken"] += 1
    state.turned_away.pop(entry.id, None)
    note: dict[str, Any] = {"uid": task.uid, "parent": policy.parent(task, handler)}
    if task.signer is not None:
        note["signer"] = task.signer
    if task.replay_of is not None:
        note["replay_of"] = task.replay_of
    mark = None if task.key is None or task.duplicate_of else mark_of(task.key, task.writer)
    return moves.made("submit", entry, table.NEW, None, body=task, note=note, key=task.key, mark=mark)
