"""Deadlines: near, a task is lifted to high, once; passed, its parent is told, once, and on_miss decides.

It decides of what waits: of what runs when its attempt has ended, and it would run again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from spool import layout
from spool.owncopy import deadline_of
from spool.records import error
from spool.times import format_span
from spoold.core import attempts, dispatch, moves, order, policy, scans, soon, table, verbs
from spoold.core.values import Ask, Kill, Message, Move, Seen, Tell

if TYPE_CHECKING:
    from spool.actions import Task
    from spool.names import Entry
    from spool.place import Place
    from spoold.core.state import State
    from spoold.core.values import Action, Looked, Now, Run


def due(state: State, now: Now) -> list[Action]:
    """What deadlines have caused by now among what waits, what is held and what runs."""
    out: list[Action] = []
    passed: list[Entry] = []
    while (place := state.urgent.first()) is not None and place[0] <= now.wall:
        entry = state.urgent.entries[place]
        state.urgent.discard(place)
        if state.waiting.get(entry.id) != entry:
            continue  # from before it moved: the usual run time, and so its place, has changed since
        if entry.deadline is not None and entry.deadline <= now.wall:
            state.discard(entry)
            passed.append(entry)
        else:
            out.append(lift(state, entry, now))
    out += dispatch.ask_late(state, passed)
    if paths := {entry.id: layout.held(entry) for entry in state.overdue.due(now.wall)}:
        out.append(Ask("overdue", tuple(paths), paths))
    while (run := state.next_deadline()) is not None and (run.deadline or 0) <= now.wall:
        out.append(_late_run(state, run, now))
    return out


def lift(state: State, entry: Entry, now: Now) -> Move:
    """An entry goes to the high class; nothing but its class changes."""
    state.discard(entry)
    raised = order.lifted(entry)
    state.insert(raised, now.wall)
    return moves.made("lift", raised, table.PENDING, layout.pending(entry))


def looked(state: State, event: Looked, now: Now) -> list[Action]:
    """The bodies of tasks whose deadline has passed: told once, then run, dropped or failed."""
    out: list[Action] = []
    held = event.ask.why == "overdue"
    for task_id, place in event.found.items():
        known = held or state.asked.pop(task_id, None) is not None
        if known and place is not None and place.state == (table.HELD if held else table.PENDING):
            out += _late(state, place, now)
    return out


def _late(state: State, place: Place, now: Now) -> list[Action]:
    entry, task, held = place.entry, place.task, place.state == table.HELD
    deadline = deadline_of(task, entry)
    if order.decided(entry) or deadline is None or deadline > now.wall:
        if not held:
            state.insert(entry, now.wall)  # another node has told it, or changed its deadline
        return []
    parent = state.parent_of(task)
    if state.waits_for(parent):
        state.overdue.unheard |= held
        return []  # stays on disk, and is found again when the parent has read
    told = _message(state, entry, task, parent, now) if entry.lifted < 2 else None
    if entry.miss == "run":
        moved = replace(order.lifted(entry), lifted=2)
        if not held:
            state.insert(moved, now.wall)
        move = moves.made("late", moved, place.state, place.path, message=told)
        if not held:
            return [move]
        # A scan that looks for what may go on may come by with its old name.
        return [move, *scans.released(state, Seen("held", "", "", [move.target.rpartition("/")[2]]))]
    event = "expire" if entry.miss == "fail" else "drop"
    move = attempts.ending(
        state,
        event,
        entry,
        task,
        before=place.state,
        source=place.path,
        outcome="error" if event == "expire" else "cancelled",
        now=now,
        parent=parent,
        to=replace(entry, lifted=2, why=""),
        error=_problem(entry, place.last),
    )
    return [move] if told is None else [Tell(told), move]


def _problem(entry: Entry, last: dict[str, Any] | None) -> dict[str, Any]:
    """What a task ends with: where it has been tried, with what its last attempt that began came to."""
    if entry.attempt == 1 or (last is not None and last.get("started_at") is None):
        return error("deadline", "its deadline passed before it could start")
    last = last or {}
    text = f"its deadline passed after attempt {last.get('attempt') or entry.attempt - 1}"
    if not (cause := last.get("error")):
        return error("deadline", text)
    said = ": ".join(dict.fromkeys((cause["type"], cause["message"])))
    return error("deadline", f"{text}: {said}", cause["trace"])


def _late_run(state: State, run: Run, now: Now) -> Move:
    entry = run.entry
    told = _message(state, entry, run.task, run.parent, now)
    move = verbs.rename_run(state, run, replace(entry, lifted=2), "late")
    return replace(move, message=told)


def _message(state: State, entry: Entry, task: Task, parent: str, now: Now) -> Message:
    state.tells(parent)
    return attempts.message(state, "late", entry, task, parent, now)


def timeouts(state: State, now: Now) -> list[Action]:
    """Runs that have used up their time: a process is killed, a parent's attempt is lost."""
    out: list[Action] = []
    while (run := state.next_limit()) is not None and run.limit <= now.mono:
        if run.is_process:
            run.ending = "timeout"
            out.append(Kill(run.entry.id, run.entry.attempt, state.settings.grace, run.ending))
        else:
            span = format_span(policy.timeout(run.task, run.handler, state.settings))
            out += attempts.lose(state, run, f"no word from {run.parent} within {span}", now)
    return out


def next_wake(state: State, now: Now) -> int:
    """The us from now until something here is due: one timer is armed for it."""
    waits = [state.settings.housekeeping]
    if (ahead := soon.wait(state, now)) is not None:
        waits.append(ahead)
    first = state.future.first()
    if first is not None:
        waits.append(state.future.entries[first].time - now.wall)
    urgent = state.urgent.first()
    if urgent is not None:
        waits.append(urgent[0] - now.wall)
    if (passes := state.overdue.wake()) is not None:
        waits.append(passes - now.wall)
    if (run := state.next_limit()) is not None:
        waits.append(run.limit - now.mono)
    if (run := state.next_deadline()) is not None and run.deadline is not None:
        waits.append(run.deadline - now.wall)
    waits += [one.until - now.mono for one in state.broken.values() if one.until]
    if not state.paused():
        waits += [state.gate.next_wake(state, now), state.limits.wake - now.mono]
        if state.limits.before:
            waits.append(state.limits.until - now.mono)
    if not state.reread:  # else rows are looked at when they have been read
        waits += [int(r["until"]) - now.wall for r in state.rows() if r.get("until") is not None]
    return max(0, min(waits))
