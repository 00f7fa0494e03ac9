"""What starts now: the head of the highest class that may run, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from spool import heldfor, layout, limitkey
from spool.names import MAX_US
from spool.owncopy import deadline_of
from spool.times import FOREVER, SECOND
from spoold.core import attempts, gate, limits, moves, order, policy, scans, slots, table
from spoold.core.values import Ask, Message, Move, Run, Start

if TYPE_CHECKING:
    from spool.actions import Task
    from spool.names import Entry
    from spool.place import Place
    from spool.settings import Handler
    from spoold.core.state import State
    from spoold.core.values import Action, Now

HEARD = 10 * SECOND  # us in which a parent's word may be read that came while no daemon ran
AT_ONCE = 256  # claims in one group of transitions, so that the loop hears other things between


def dispatch(state: State, now: Now) -> list[Action]:
    """Claim what may start; ask the disk for bodies that are not in memory; scan where needed."""
    state.ripen(now.wall)
    out: list[Action] = []
    wanted: list[Entry] = []
    late: list[Entry] = []
    state.gate.look_again(now)
    while not state.paused() and len(out) + len(wanted) + len(late) < AT_ONCE:
        found = slots.next_start(state)
        entry, ahead = found or (state.gate.passer(state, now), False)
        if entry is None:
            state.gate.wait(state, now)
            break
        if _is_past(state, entry, now, late):
            continue
        answer, why = _may_start(state, entry, now, ahead=ahead)
        if answer == gate.BLIND:
            break
        if answer == gate.NEVER:
            state.discard(entry)
            if entry.task not in state.not_ours:
                out.append(_park(entry, layout.pending(entry), why))
        if answer != gate.YES:
            continue
        task = state.bodies.take(entry.id)
        reserve(state, entry, now, ahead=ahead)
        limits.spend(state, entry.mark, state.handler_of(entry))
        state.limits.have_turn(entry)
        if task is None or task.results:
            wanted.append(entry)
        else:
            out += _ask(wanted)  # they come before it
            out += claim(state, entry, task, layout.pending(entry), now)
    out += _ask(wanted)
    out += ask_late(state, late)
    out += slots.recall(state)
    out += state.gate.settle(state, now)
    return out + scans.wanted(state, now)


def _ask(wanted: list[Entry]) -> list[Action]:
    """What is to be read of the disk before it starts; nothing of it is wanted any more."""
    if not wanted:
        return []
    paths = {entry.id: layout.pending(entry) for entry in wanted}
    ask = Ask("claim", tuple(paths), paths, entries={entry.id: entry for entry in wanted})
    wanted.clear()
    return [ask]


def _is_past(state: State, entry: Entry, now: Now, late: list[Entry]) -> bool:
    """Whether the next is none that may start; `late` gets those whose deadline has passed."""
    if entry.id in state.runs or entry.id in state.claiming:
        state.discard(entry)  # a name that a scan had seen before it changed
    elif entry.time > now.wall:  # the clock was set back
        state.discard(entry)
        state.insert(entry, now.wall)
    elif entry.deadline is not None and order.has_missed(entry, now.wall):
        state.discard(entry)  # more deadlines have passed than there is room for in memory
        late.append(entry)
    else:
        return False
    return True


def ask_late(state: State, passed: list[Entry]) -> list[Action]:
    """What is to be read of the disk of tasks whose deadline has passed, which are out of the windows."""
    state.asked |= {entry.id: entry for entry in passed}
    paths = {entry.id: layout.pending(entry) for entry in passed}
    return [Ask("late", tuple(paths), paths)] if paths else []


def _may_start(state: State, entry: Entry, now: Now, *, ahead: bool) -> tuple[str, str]:
    """What the gate says, and why a task is held where that is never.

    Coroutines, and what is handed ahead, are no processes more, and do not ask it; but programs that
    start where others have ended start while somebody looks at the machine.
    """
    handler = state.handler_of(entry)
    if not state.knows(entry.task):
        return gate.NEVER, heldfor.NO_HANDLER
    if ahead or state.is_beside(entry.task, handler):
        program = ahead and handler is not None and handler.exec
        return state.gate.see(state, now) if program else gate.YES, ""
    return state.gate.ask(state, entry, handler, now), heldfor.NO_ROOM


def reserve(state: State, entry: Entry, now: Now, *, ahead: bool = False) -> None:
    """Take an entry out of the windows, and (unless `ahead`) a slot of its handler."""
    state.discard(entry)
    state.claiming[entry.id] = entry
    slots.occupy(state, entry, now, ahead=ahead)


def unreserve(state: State, task_id: str, now: Now) -> Entry | None:
    """Give back what `reserve` took."""
    entry = state.claiming.pop(task_id, None)
    if entry is not None:
        slots.vacate(state, task_id, state.handler_of(entry), now)
        limits.spend(state, entry.mark, state.handler_of(entry), -1)
    return entry


def looked(state: State, found: dict[str, Place | None], now: Now) -> list[Action]:
    """The bodies of tasks that are to be claimed are there (or the tasks are gone)."""
    out: list[Action] = []
    for task_id, place in found.items():
        entry = state.claiming.get(task_id)
        if entry is None:
            continue
        if place is None or place.state != table.PENDING:
            unreserve(state, task_id, now)  # someone was faster, or it is damaged and in quarantine
            continue
        if place.later:
            unreserve(state, task_id, now)
            state.insert(entry, now.wall)  # it is the next again
            continue
        if place.lacks:
            unreserve(state, task_id, now)
            out.append(attempts.lacking(state, entry, place, now))
            continue
        out += claim(state, entry, place.task, place.path, now)
    return out


def claim(  # noqa: C901, PLR0911 - one reason each not to
    state: State, entry: Entry, task: Task, path: str, now: Now
) -> list[Action]:
    """One task to running/: its handler starts, or its parent is told that it is ready."""
    handler = state.handler_of(entry)
    worker = policy.does_work(task, handler)
    marked = limitkey.marked(entry, task, handler)
    if marked != entry:  # it came when its handler told tasks apart in another way, or not at all
        unreserve(state, entry.id, now)
        state.insert(marked, now.wall)
        return [scans.renamed(marked, path, "its handler tells tasks apart by their key")]
    if task.duplicate_of is not None:  # a crash has kept it from ending when it came
        unreserve(state, entry.id, now)
        return [attempts.duplicate(state, entry, task, path, now)]
    if handler is None and worker is None:
        unreserve(state, entry.id, now)
        return [_park(entry, path, heldfor.NO_HANDLER)]
    if handler and (why := policy.unfit(task, handler, state.code.get(handler.pattern))):
        unreserve(state, entry.id, now)
        return [] if state.leaves(entry, task.version) else [_park(entry, path, why)]
    passed = entry.deadline is not None and (deadline_of(task, entry) or 0) <= now.wall
    if passed and not order.decided(entry):
        unreserve(state, entry.id, now)  # its name tells the whole second; or the disk was full since
        return ask_late(state, [entry])
    parent = policy.parent(task, handler)
    if state.waits_for(parent):
        unreserve(state, entry.id, now)  # stays on disk, and is found again when the parent has read
        return []
    state.claiming.pop(entry.id, None)
    span = policy.timeout(task, handler, state.settings)
    if entry.why:
        entry = replace(entry, why="")  # somebody moved its file out of held/ by hand
    if worker is not None:
        entry = replace(entry, timeout=min(now.wall + span, MAX_US))
    ahead = slots.is_ahead(state, entry.id, handler)
    run = Run(
        entry=entry,
        path=layout.running(state.node, entry),
        task=task,
        handler=handler,
        parent=parent,
        started=now.wall,
        began=now.mono,
        limit=FOREVER if ahead else now.mono + span,
        passed=state.gate.passing_why if entry.id == state.gate.passing else "",
    )
    state.run(run)
    if entry.mark and handler is not None and handler.by is not None:
        state.limits.words[entry.mark] = limitkey.words(handler.by, task)
    state.counts["started"] += 1
    move = Move(
        event="claim",
        entry=entry,
        before=table.PENDING,
        after=table.after(table.PENDING, "claim"),
        source=path,
        target=run.path,
        message=_ready(state, run, worker, now) if worker is not None else None,
        note=_claim_note(state, run),
        key=task.key,
    )
    if worker is not None or handler is None:
        return [move]
    own = slots.plain(state, handler.pattern) if ahead else 0
    return [move, Start(entry, task, handler, own, order.rank(entry))]


def _claim_note(state: State, run: Run) -> dict[str, Any]:
    handler = run.handler.pattern if run.handler else None
    note = {"attempt": run.entry.attempt, "handler": handler, "parent": run.parent}
    if not run.passed:
        return note
    state.counts["gate_passed"] += 1
    return {**note, "passed": run.passed}


def _ready(state: State, run: Run, worker: str, now: Now) -> Message:
    state.tells(worker)
    return attempts.message(state, "ready", run.entry, run.task, worker, now, started=now.wall)


def _park(entry: Entry, path: str, why: str) -> Move:
    return moves.parked(entry, table.PENDING, path, why, note={"why": why})


def adopt(state: State, place: Place, since: int, now: Now) -> Run:
    """A task found in running/ at start: it counts as running until its end is decided."""
    entry, task = place.entry, place.task
    handler: Handler | None = state.handler_of(entry)
    if entry.timeout is not None and handler is not None and not handler.notify:
        handler = None  # it came since: a parent does the work
    state.discard(entry)
    if handler is not None:
        slots.occupy(state, entry, now, ahead=False)
    left = 0
    if entry.timeout is not None:
        # Where the clock is back it is what it was when this was written, or less.
        span = max(policy.timeout(task, handler, state.settings), entry.timeout - since)
        left = min(entry.timeout - now.wall, span)
    run = Run(
        entry=entry,
        path=place.path,
        task=task,
        handler=handler,
        parent=policy.parent(task, handler),
        started=min(since, now.wall),
        began=now.mono - max(0, now.wall - since),
        limit=now.mono + max(HEARD, left),
    )
    state.run(run)
    return run
