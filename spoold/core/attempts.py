"""An attempt ends, well or badly: where its task goes, and what is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from spool import layout
from spool.failures import FAILURES
from spool.fingerprint import fingerprint
from spool.heldfor import POISON
from spool.records import error, record
from spool.times import SECOND, format_span
from spoold.core import moves, order, policy, slots, table
from spoold.core.values import Message, Move

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spool.actions import Task
    from spool.names import Entry
    from spool.place import Place
    from spoold.core.state import State
    from spoold.core.values import Action, Exited, Now, Run

SIGKILL = 9
LATEST = 60 * SECOND  # us until a task that the machine could not start is tried again, at most
PERMANENT = {64, 65, 66, 69, 70, 76, 77, 78}  # sysexits(3): trying again cannot help
TELLS = {
    "succeed": "done",
    "give_up": "failed",
    "fail": "retrying",
    "lose": "retrying",
    "interrupt": "retrying",
    "snooze": "retrying",
    "poison": "recurring-error",
    "cancel": "cancelled",
    "drop": "cancelled",
    "duplicate": "cancelled",
    "strand": "cancelled",
    "expire": "failed",
}


def exited(state: State, event: Exited, now: Now) -> list[Action]:
    """A handler process has ended."""
    run = state.run_of(event.id, event.attempt)
    if run is None:
        return []  # an attempt that was ended before its process was
    facts: dict[str, Any] = {
        "exit": event.exit,
        "signal": event.signal,
        "seconds": round(event.seconds, 6),
        "peak_rss": event.rss,
        "cpu": round(event.cpu, 6),
        "log": layout.log(event.id, event.attempt) if event.logged else None,
    }
    heard(state, run, event.began, now)
    ended = event.exit == 0 and event.result_error is None
    killed = event.signal == SIGKILL and not run.ending  # most likely the kernel had no more
    learn(state, run, facts, ended=ended, more=event.rss // 4 if killed else 0)
    if run.ending == "interrupt":
        return interrupt(state, run, now, **facts)
    if run.ending == "cancelled":
        return [end(state, run, "cancel", "cancelled", now, by=run.who, **facts)]
    if run.ending == "timeout":
        limit = format_span(policy.timeout(run.task, run.handler, state.settings))
        problem = error("timeout", f"took longer than {limit}", event.tail or None)
        return failed(state, run, "timeout", problem, now, **facts)
    if ended:
        return [end(state, run, "succeed", "ok", now, result=event.result, **facts)]
    problem = _problem(event)
    final = event.exit in PERMANENT
    return failed(state, run, "error", problem, now, final=final, **facts)


def heard(state: State, run: Run, began: int | None, now: Now) -> None:
    """What ran it tells of its end, and when it began, where that is known."""
    if began is not None:
        has_begun(run, began, now)
    if run.handler is not None:
        state.ahead.brisk.add(run.handler.pattern)


def has_begun(run: Run, began: int, now: Now) -> None:
    """When what runs it began (monotonic us), which may be some time after it was claimed."""
    run.began, run.started = began, now.wall - (now.mono - began)


def learn(state: State, run: Run, facts: Mapping[str, Any], *, ended: bool, more: int = 0) -> None:
    """What an attempt needed. One that was cut off tells of memory alone, and that it needs `more`."""
    took, cpu = 0, None
    if ended and not run.ending:
        took = int((facts.get("seconds") or 0) * 1e6)
        cpu = int(facts["cpu"] * 1e6) if facts.get("cpu") is not None else None
    memory = (facts.get("peak_rss") or 0) + more
    state.history.learn(run.entry.task, took=took, cpu=cpu, memory=memory)


def _problem(event: Exited) -> dict[str, Any]:
    if event.exit == 0:
        return error("result", event.result_error or "", event.tail or None)
    kind = f"exit {event.exit}" if event.exit is not None else f"signal {event.signal}"
    lines = [line for line in event.tail.splitlines() if line.strip()]
    return error(kind, lines[-1][:500] if lines else kind, event.tail or None)


def failed(  # noqa: PLR0913 - the facts of one attempt
    state: State,
    run: Run,
    outcome: str,
    problem: dict[str, Any],
    now: Now,
    *,
    final: bool = False,
    delay: int | None = None,
    **facts: Any,
) -> list[Action]:
    """A failed attempt: one class lower and later, or, where none is left, failed for good."""
    failures = run.entry.fails + 1
    if final or failures > policy.retries(run.task, run.handler, state.settings):
        spent = replace(run.entry, fails=failures, timeout=None)
        return [end(state, run, "give_up", outcome, now, to=spent, error=problem, **facts)]
    wait = policy.backoff(run.task, run.handler, state.settings)
    pause = delay if delay is not None else order.backoff(wait, run.entry.id, failures)
    entry = replace(
        run.entry,
        time=now.wall + pause,
        fails=failures,
        among=0,
        prio=order.demoted(run.entry.prio),
        front=False,
        timeout=None,
    )
    return [end(state, run, "fail", outcome, now, to=entry, error=problem, **facts)]


def give_back(state: State, run: Run, now: Now) -> Move:
    """It was claimed, and has not begun: back, as if it had not been."""
    release(state, run, now)
    if not run.task.results:
        state.bodies.keep(run.task)
    state.insert(run.entry, now.wall)
    note = {"attempt": run.entry.attempt}
    return moves.made("return", run.entry, table.RUNNING, run.path, note=note)


def lose(state: State, run: Run, why: str, now: Now, **facts: Any) -> list[Action]:
    """What ran it is gone, which is no failure of the task: back to its place, or held as poison."""
    return [gone(state, run, "lost", error("lost", why), now, at=run.entry.time, **facts)]


def gone(  # noqa: PLR0913 - the facts of one attempt
    state: State, run: Run, outcome: str, problem: dict[str, Any], now: Now, *, at: int, **facts: Any
) -> Move:
    """The same, to run again at `at`; `outcome`: lost, or crashed."""
    entry = replace(run.entry, lost=run.entry.lost + 1, timeout=None)
    if entry.lost < state.settings.poison_after:
        entry = replace(entry, time=at)
        return end(state, run, "lose", outcome, now, to=entry, error=problem, **facts)
    text = f"{problem['message']}, for the {entry.lost}. time; held until somebody releases it"
    problem = error("poison", text, problem["trace"])
    entry = replace(entry, why=POISON)
    return end(state, run, "poison", "crashed", now, to=entry, error=problem, **facts)


def crowded_out(state: State, run: Run, why: str, now: Now) -> list[Action]:
    """The machine can have no process more: all that are processes wait, this one behind others.

    Were it the program, and not the machine, the others would still have their turns: one that has run
    before is not to blame.
    """
    again = now.wall + min(LATEST, SECOND << min(run.entry.interrupted, 16))
    actions = interrupt(state, run, now, f"the machine could not start it: {why}", at=again)
    proven = state.history.of(run.entry.task) is not None
    state.gate.close(f"the machine can start no process: {why}", now, surely=proven)
    return actions


def interrupt(
    state: State,
    run: Run,
    now: Now,
    said: str = "spoold was asked to stop",
    *,
    at: int | None = None,
    **facts: Any,
) -> list[Action]:
    """Cut off by a drain, or because of another task: back to its place, no failure and no poison."""
    time = run.entry.time if at is None else at
    entry = replace(run.entry, time=time, interrupted=run.entry.interrupted + 1, timeout=None)
    problem = error("interrupted", said)
    return [end(state, run, "interrupt", "lost", now, to=entry, error=problem, **facts)]


def end(  # noqa: PLR0913 - the facts of one attempt
    state: State,
    run: Run,
    event: str,
    outcome: str,
    now: Now,
    *,
    to: Entry | None = None,
    by: dict[str, Any] | None = None,
    **facts: Any,
) -> Move:
    """The one way out of running: forget the run, write the record, move the entry, tell."""
    release(state, run, now)
    if run.passed:
        facts["passed"] = run.passed
    facts.setdefault("seconds", round(max(0, now.mono - run.began) / 1e6, 6))
    return ending(
        state,
        event,
        run.entry,
        run.task,
        before=table.RUNNING,
        source=run.path,
        outcome=outcome,
        now=now,
        to=to,
        by=by,
        parent=run.parent,
        started=run.started,
        **facts,
    )


def ending(  # noqa: PLR0913 - the facts of one attempt
    state: State,
    event: str,
    entry: Entry,
    task: Task,
    *,
    before: str,
    source: str,
    outcome: str,
    now: Now,
    parent: str | None = None,
    to: Entry | None = None,
    by: dict[str, Any] | None = None,
    **facts: Any,
) -> Move:
    """A transition with a record: an attempt that ended, or a task that ends without one.

    `parent`: who is told, where that is not what the task and its handler say now.
    """
    if parent is None:
        parent = state.parent_of(task)
    after = table.after(before, event)
    plain = entry.timeout is None and not entry.why
    moved = to or (entry if plain else replace(entry, timeout=None, why=""))
    target = moves.place(after, moved, now.wall)
    told = TELLS[event]
    content = record(
        event=told,
        task=task,
        entry=entry,
        node=state.node,
        parent=parent,
        now=now.wall,
        outcome=outcome,
        next_at=moved.time if after == table.PENDING else None,
        will_retry=after == table.PENDING,
        **facts,
    )
    content["entry"] = target
    note: dict[str, Any] = {"attempt": entry.attempt, "outcome": outcome, "parent": parent}
    if event in FAILURES and content["error"]:
        mark = fingerprint(entry.task, content["error"])
        content["error"] = {**content["error"], "fingerprint": mark}
        note |= {"error": mark, "type": content["error"]["type"]}
    if after == table.PENDING:
        state.insert(moved, now.wall)
    if by:
        note["by"] = content["by"] = by
    return Move(
        event=event,
        entry=moved,
        before=before,
        after=after,
        source=source,
        target=target,
        record=content,
        message=Message(told, parent, state.told_at(now.wall), entry.id, entry.task, content),
        note=note,
        key=task.key,
    )


def message(  # noqa: PLR0913 - what an event says
    state: State, event: str, entry: Entry, task: Task, parent: str, now: Now, **more: Any
) -> Message:
    """What is told of a task without a record of its own."""
    content = record(
        event=event, task=task, entry=entry, node=state.node, parent=parent, now=now.wall, **more
    )
    return Message(event, parent, state.told_at(now.wall), entry.id, entry.task, content)


def duplicate(state: State, entry: Entry, task: Task, path: str, now: Now) -> Move:
    """A task whose key another one had when it came ends before it runs."""
    return ending(
        state,
        "duplicate",
        entry,
        task,
        before=table.PENDING,
        source=path,
        outcome="cancelled",
        now=now,
        error=error("duplicate", f"its key {task.key} is taken by {task.duplicate_of}"),
        duplicate_of=task.duplicate_of,
    )


def lacking(state: State, entry: Entry, place: Place, now: Now) -> Move:
    """A task whose args name a result that is not there fails: no attempt would find it."""
    return ending(
        state,
        "give_up",
        entry,
        place.task,
        before=table.PENDING,
        source=place.path,
        outcome="error",
        now=now,
        to=replace(entry, fails=entry.fails + 1),
        error=error("result", place.lacks),
    )


def release(state: State, run: Run, now: Now) -> None:
    """A run gives back its slots."""
    state.runs.pop(run.entry.id, None)
    if run.is_process:
        state.parents.untold[run.parent] -= 1
    slots.vacate(state, run.entry.id, run.handler, now)


def count(state: State, move: Move) -> None:
    """An attempt has ended, on disk too."""
    name = {table.DONE: "done", table.FAILED: "failed", table.PENDING: "retried"}.get(move.after)
    if name:
        state.counts[name] += 1
