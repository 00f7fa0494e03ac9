"""What workers tell of Python tasks: how an attempt has ended, how far it is, what their code takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from spool import heldfor
from spool.records import error
from spool.times import FOREVER, format_span
from spoold.core import attempts, moves, order, policy, table, verbs
from spoold.core.values import NO_CODE, Move, Scan, Waits

if TYPE_CHECKING:
    from spoold.core.state import State
    from spoold.core.values import (
        Action,
        Answered,
        Begun,
        Broken,
        Now,
        Progressed,
        Registered,
        Returned,
        Run,
    )

# What an attempt that was told to end may answer because of that; any other answer is its own.
CUT_SHORT = {
    "timeout": ("cancelled", "crashed"),
    "interrupt": ("cancelled", "crashed", "failed", "timeout"),
}


def answered(state: State, event: Answered, now: Now) -> list[Action]:
    """An attempt in a worker has ended."""
    run = state.run_of(event.id, event.attempt)
    if run is None:
        return []  # an attempt that was ended before its worker answered
    attempts.heard(state, run, event.began, now)
    attempts.learn(state, run, event.facts, ended=event.outcome == "done")
    if run.ending and (run.ending == "cancelled" or event.outcome in CUT_SHORT[run.ending]):
        return _killed(state, run, event, now)
    if event.outcome == "failed" and event.why == NO_CODE and len(state.peers) > 1:
        return _back(state, run, now)  # another node may have better code
    match event.outcome:
        case "done":
            ended = attempts.end(state, run, "succeed", "ok", now, result=event.result, **event.facts)
        case "parked":
            ended = _park(state, run, event.why, now)
        case "snoozed":
            ended = _snooze(state, run, event, now)
        case "cancelled" if not state.stopping:
            problem = event.error
            ended = attempts.end(state, run, "cancel", "cancelled", now, error=problem, **event.facts)
        case "crashed":
            ended = _crashed(state, run, event, now)
        case _:
            return _not_done(state, run, event, now)
    return [ended]


def _not_done(state: State, run: Run, event: Answered, now: Now) -> list[Action]:
    """It has failed, or was cut off because spoold is to stop, or another task was to end."""
    if event.outcome == "cancelled":
        return attempts.interrupt(state, run, now, **event.facts)
    if event.outcome == "interrupted":
        return attempts.interrupt(state, run, now, event.why, **event.facts)
    outcome = "timeout" if event.outcome == "timeout" else "error"
    problem = event.error or error(outcome, "")
    return attempts.failed(
        state, run, outcome, problem, now, final=event.final, delay=event.delay, **event.facts
    )


def _killed(state: State, run: Run, event: Answered, now: Now) -> list[Action]:
    """It has ended because we wanted it to."""
    if run.ending == "cancelled":
        said = event.error if event.outcome == "failed" else None  # while it cleaned up
        return [
            attempts.end(state, run, "cancel", "cancelled", now, by=run.who, error=said, **event.facts)
        ]
    if run.ending == "interrupt":
        return attempts.interrupt(state, run, now, **event.facts)
    limit = format_span(policy.timeout(run.task, run.handler, state.settings))
    trace = (event.error or {}).get("trace")
    problem = error("timeout", f"took longer than {limit}, and grace: its worker was killed", trace)
    return attempts.failed(state, run, "timeout", problem, now, **event.facts)


def _crashed(state: State, run: Run, event: Answered, now: Now) -> Move:
    """Its worker died with it: back to the queue after a pause, or held as poison.

    Of several that died with it none is blamed: they run again in half the company each time, until
    the one that does it is alone.
    """
    pause = order.backoff(
        policy.backoff(run.task, run.handler, state.settings), run.entry.id, run.entry.lost + 1
    )
    problem, at = event.error or error("crashed", "its worker died"), now.wall + pause
    if not event.among:
        return attempts.gone(state, run, "crashed", problem, now, at=at, **event.facts)
    spent = run.entry.interrupted + 1
    entry = replace(run.entry, time=at, interrupted=spent, among=event.among, timeout=None)
    return attempts.end(state, run, "interrupt", "crashed", now, to=entry, error=problem, **event.facts)


def _snooze(state: State, run: Run, event: Answered, now: Now) -> Move:
    """It asked to run later: no attempt is used, its class stays."""
    until = event.until if event.until is not None else now.wall + (event.delay or 0)
    entry = replace(
        run.entry,
        time=max(until, now.wall),
        interrupted=run.entry.interrupted + 1,
        among=0,
        front=False,
        timeout=None,
    )
    problem = event.error
    return attempts.end(state, run, "snooze", "snoozed", now, to=entry, error=problem, **event.facts)


def _park(state: State, run: Run, why: str, now: Now) -> Move:
    """Nothing of it has run: held, with no attempt used and no record."""
    attempts.release(state, run, now)
    why = why if why in heldfor.WANTING else heldfor.NO_HANDLER
    return moves.parked(run.entry, table.RUNNING, run.path, why, note={"why": why})


def begun(state: State, event: Waits | Begun, now: Now) -> list[Action]:
    """Its time counts when its worker is ready: it is not to blame for the start of a worker."""
    run = state.run_of(event.id, event.attempt)
    if run is None or run.ending:
        return []
    if isinstance(event, Waits):
        state.extend(run, FOREVER)
    else:
        attempts.has_begun(run, event.began or now.mono, now)
        state.extend(run, run.began + policy.timeout(run.task, run.handler, state.settings))
    return []


def returned(state: State, event: Returned, now: Now) -> list[Action]:
    """It was handed on ahead of time, and has not begun: back, as if it had not been."""
    run = state.run_of(event.id, event.attempt)
    if run is None:
        return []
    if run.handler is not None:
        state.ahead.brisk.discard(run.handler.pattern)
    if run.ending == "cancelled":
        return [attempts.end(state, run, "cancel", "cancelled", now, by=run.who)]
    return _back(state, run, now)


def _back(state: State, run: Run, now: Now) -> list[Action]:
    state.counts["started"] -= 1
    return [attempts.give_back(state, run, now)]


def progressed(state: State, event: Progressed, now: Now) -> list[Action]:
    """How far it is goes to its parent."""
    run = state.run_of(event.id, event.attempt)
    if run is None:
        return []
    return [verbs.progress(state, run, event.percent, event.note, now)]


def broken(state: State, event: Broken) -> list[Action]:
    """Code cannot be imported: what waits for it keeps nobody from a slot."""
    state.broken |= dict.fromkeys(event.patterns, event)
    state.ahead.brisk.difference_update(event.patterns)
    return []


def registered(state: State, event: Registered) -> list[Action]:
    """Code was imported: what is held for want of it is looked at."""
    for pattern in event.patterns:
        state.broken.pop(pattern, None)
    same = all(state.code.get(pattern) == event.takes for pattern in event.patterns)
    if not same:
        state.code |= dict.fromkeys(event.patterns, event.takes)
        state.learn()
    if any(state.asyncs.get(pattern, frozenset()) != event.asyncs for pattern in event.patterns):
        state.asyncs |= dict.fromkeys(event.patterns, event.asyncs)
        state.forget_all()  # other lanes: what waits is sorted anew from the disk
    return [] if same and not event.asked else [Scan("held")]
