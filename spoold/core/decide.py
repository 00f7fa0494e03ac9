"""The dispatcher: an event and the state in, actions out. What becomes of a task is decided here."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from msgspec.structs import replace

from spool import layout
from spool.actions import (
    Ack,
    Care,
    Control,
    Extend,
    Fail,
    Progress,
    Prune,
    Replay,
    Schedule,
    Submit,
    Verb,
)
from spool.actions import Move as MoveRequest
from spool.fields import VERBS
from spool.records import error
from spool.times import SECOND
from spoold.core import (
    after,
    alerts,
    answers,
    attempts,
    bulk,
    care,
    control,
    deadlines,
    dispatch,
    failures,
    limits,
    once,
    rights,
    scans,
    schedules,
    soon,
    table,
    verbs,
)
from spoold.core.submit import submit
from spoold.core.values import (
    Answered,
    Arrived,
    Begun,
    Broken,
    Brought,
    Crashed,
    Drop,
    Exited,
    Failed,
    Invalidated,
    KeysTaken,
    Kill,
    Looked,
    Matched,
    Measured,
    Note,
    NotStarted,
    Outboxes,
    Peers,
    Progressed,
    Recovered,
    Registered,
    Reloaded,
    Repaused,
    Returned,
    Scan,
    Scanned,
    Seen,
    Settled,
    Stirred,
    Stop,
    Takes,
    Tick,
    Undone,
    Waits,
)

if TYPE_CHECKING:
    from spoold.core.state import State
    from spoold.core.values import Action, Event, Now


def decide(state: State, event: Event, now: Now) -> list[Action]:
    """What one event leads to."""
    return _told(state, rights.shed(state, _decide(state, event, now), now), now)


def _decide(state: State, event: Event, now: Now) -> list[Action]:  # noqa: PLR0911, C901, PLR0912, PLR0915 - one arm an event
    match event:
        case Exited():
            return attempts.exited(state, event, now)
        case Answered():
            return answers.answered(state, event, now)
        case Waits() | Begun():
            return answers.begun(state, event, now)
        case Returned():
            return answers.returned(state, event, now)
        case Progressed():
            return answers.progressed(state, event, now)
        case Registered():
            return answers.registered(state, event)
        case Broken():
            return answers.broken(state, event)
        case Arrived():
            return _arrived(state, event, now)
        case Looked():
            return _looked(state, event, now)
        case KeysTaken():
            return once.taken(state, event, now)
        case Settled():
            return after.settled(state, event)
        case Matched():
            return bulk.matched(state, event, now)
        case Invalidated():
            return verbs.invalidated(state, event)
        case NotStarted() | Crashed():
            return _ended_early(state, event, now)
        case Recovered():
            return _recovered(state, event, now)
        case Undone():
            return _undone(state, event, now)
        case Failed():
            return failures.failed(state, event.move, now)
        case Seen():
            if event.scan == "held":
                state.overdue.seen(event.names)
                return scans.released(state, event)
            if event.scan in state.scanning:
                scans.seen(state, event, now)
            return []
        case Scanned(scan="held"):
            state.overdue.scanned()
            return []
        case Scanned():
            # One that began before all was forgotten has not told us what it saw.
            return scans.scanned(state, event, now) if event.scan in state.scanning else []
        case Reloaded():
            if event.settings.concurrency != state.settings.concurrency:
                state.gate.pace = None  # of so many the machine has said nothing
            old, state.settings = state.settings.handlers, event.settings
            same = {p for p, handler in event.settings.handlers.items() if old.get(p) == handler}
            for pattern in old.keys() - same:
                runs = state.runs.values()
                state.ahead.change(
                    pattern, {r.entry.id for r in runs if r.handler and r.handler.pattern == pattern}
                )
            state.code = {p: takes for p, takes in state.code.items() if p in same}
            state.asyncs = {p: names for p, names in state.asyncs.items() if p in same}
            state.broken = {p: one for p, one in state.broken.items() if p in same}
            state.gate.look = 0
            state.gate.too_large.clear()
            state.limits.apart.clear()
            state.learn()
            state.forget_all()
            state.forget_held()
            return [Scan("held")]
        case Outboxes():
            state.parents.unread.update(event.counts)
            still = {*filter(state.waits_for, state.parents.left_for)}
            if still != state.parents.left_for:
                state.parents.left_for = still
                state.forget_all()  # what was left on disk because of them is found again
                if state.overdue.unheard:
                    state.forget_held()
            return []
        case Peers():
            led, state.peers = state.leads, event.live
            state.reread |= state.leads and not led
            state.learn()
            state.forget_all()  # what was another one's share may be ours
            state.forget_held()
            return [Scan("held")]  # and what it could not run
        case Stirred():
            state.stirs += 1
            state.forget_all()
            return []
        case Brought():
            state.forget_all()
            state.forget_held()
            return [Scan("held")]
        case Takes():
            state.others = event.nodes
            state.learn()
            return [Scan("held")]  # what was parked before it was known who takes it
        case Repaused():
            control.replace_rows(state, list(event.rows))
            return []
        case Measured():
            state.counts["looks"] += 1
            state.gate.measured(state, event.machine, now)
            return dispatch.dispatch(state, now)
        case Stop():
            return _stop(state)
        case Tick():
            return []  # `elapse` looks at the clock
        case _:
            assert_never(event)


def _told(state: State, actions: list[Action], now: Now) -> list[Action]:
    """Count what is about to be told, but for what was counted when it was decided."""
    actions += alerts.raised(state, actions, now)
    for action in actions:
        message = getattr(action, "message", None)
        if message is not None and message.event not in ("ready", "late"):
            state.tells(message.parent)
    return actions


def elapse(state: State, now: Now) -> list[Action]:
    """After the events of one round: what time has brought. Then `dispatch` looks at what may start."""
    if now.wall < state.latest - SECOND:
        state.forget_all()  # the clock was set back: what was ready may not be
    state.latest = now.wall
    limits.shared_by(state, now)
    for pattern, broken in state.broken.items():
        if 0 < broken.until <= now.mono:
            state.broken[pattern] = replace(broken, until=0)
    out = [*control.expire(state, now), *deadlines.timeouts(state, now)]
    state.ripen(now.wall)
    out += [*deadlines.due(state, now), *soon.read_ahead(state, now)]
    return _told(state, out, now)


def _arrived(state: State, event: Arrived, now: Now) -> list[Action]:  # noqa: C901, PLR0911 - one arm a kind
    request, who = event.request, event.source.who
    if who is not None and (why := rights.why_not_ask(state.settings, who, request)):
        return [verbs.forbidden(state, event.source, request, why)]
    match request:
        case Submit():
            return submit(state, event, request, now)
        case Replay():
            return bulk.begin(state, event, request)
        case Verb() | MoveRequest() if request.match is not None:
            return bulk.begin(state, event, request)
        case Verb() | MoveRequest() | Ack() | Fail() | Extend() | Progress():
            return verbs.arrived(state, event, request, now)
        case Control():
            return control.control(state, event, request, now)
        case Schedule():
            return schedules.scheduled(state, event, request)
        case Prune():
            if not state.leads:
                return verbs.leave(state, event.source, {state.leader})
            state.prune_asked = now.wall
            by = {**event.source.by, "why": request.why}
            return [Note("prune", {"by": by}), Drop(event.source)]
        case Care():
            return care.care(state, event, request, now)
        case _:
            assert_never(request)


def _looked(state: State, event: Looked, now: Now) -> list[Action]:  # noqa: PLR0911 - one arm a question
    match event.ask.why:
        case "claim":
            return dispatch.looked(state, event.found, now)
        case "soon":
            return soon.looked(state, event.found)
        case "release":
            return scans.freed(state, event.found, now)
        case "strand":
            return after.looked(state, event.found, now)
        case "late" | "overdue":
            return deadlines.looked(state, event, now)
        case "rival":
            return once.looked(state, event, now)
        case "match":
            return bulk.looked(state, event, now)
        case "verb":
            return verbs.looked(state, event, now)
        case _:
            assert_never(event.ask.why)


def _ended_early(state: State, event: NotStarted | Crashed, now: Now) -> list[Action]:
    run = state.run_of(event.id, event.attempt)
    if run is None:
        return []
    if run.ending == "cancelled":
        return [attempts.end(state, run, "cancel", "cancelled", now, by=run.who)]
    if isinstance(event, Crashed):
        return attempts.lose(state, run, event.reason, now)
    if event.full:
        return attempts.crowded_out(state, run, event.error, now)
    problem = error("spawn", event.error)
    return attempts.failed(state, run, "error", problem, now)


def _recovered(state: State, event: Recovered, now: Now) -> list[Action]:
    """A task found in running/ at start: a parent may still be at it, a process is gone."""
    run = dispatch.adopt(state, event.place, event.since, now)
    if run.entry.timeout is not None:
        return []
    log = layout.log(run.entry.id, run.entry.attempt) if event.logged else None
    if run.entry.why == "cancelled":
        return [attempts.end(state, run, "cancel", "cancelled", now, log=log)]
    if not event.begun:
        return [attempts.give_back(state, run, now)]
    why = "spoold or its machine died, or was cut off, while it ran"
    return attempts.lose(state, run, why, now, log=log)


def _undone(state: State, event: Undone, now: Now) -> list[Action]:
    """The disk did not take a transition: memory follows the disk."""
    move = event.move
    state.count_live(move, -1)
    state.later |= event.why == "gone" and move.event in VERBS  # its action is there
    if move.before == table.NEW and event.why == "full":
        state.turn_away(move.entry.id)
        if move.body is not None and move.body.replay_of is not None:
            bulk.no_room(state)
    if move.after == table.RUNNING and move.before == table.PENDING:
        run = state.runs.get(move.entry.id)
        if run is not None:
            attempts.release(state, run, now)
        if event.why == "late" and move.source is not None:
            state.insert(scans.entry_of(move.source.removeprefix(f"{layout.PENDING}/")), now.wall)
    elif move.after == table.PENDING:
        known = state.waiting.get(move.entry.id)
        state.discard(move.entry)
        if known is not None and known != move.entry:
            state.waiting[known.id] = known  # it waits, under another name
    return []


def _stop(state: State) -> list[Action]:
    """Start nothing more. The loop sends `cut_off` when the grace is over."""
    state.stopping = True
    return []


def cut_off(state: State) -> list[Action]:
    """The grace of a stop is over: processes go back to the queue, parents keep theirs."""
    out: list[Action] = []
    for run in state.runs.values():
        if run.is_process and not run.ending:
            run.ending = "interrupt"
            out.append(Kill(run.entry.id, run.entry.attempt, state.settings.grace, run.ending))
    return out
