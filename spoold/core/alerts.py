"""Alerts: an event that somebody wants to hear of becomes a task, which runs the program of [alerts].

So an alert has retries, a log and a record as any task has. What becomes of it never raises another.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from spool.names import id_from
from spool.owncopy import Task
from spool.patterns import matches
from spool.runargs import ALERT
from spoold.core.submit import take_in

if TYPE_CHECKING:
    from spoold.core.state import State
    from spoold.core.values import Action, Message, Move, Now

KEPT = 1000  # kinds of events whose last alert is remembered


def raised(state: State, actions: list[Action], now: Now) -> list[Move]:
    """The tasks that tell of the events among these actions, at most one of a kind within `every`."""
    alerts = state.settings.alerts
    if not alerts.exec:
        return []
    out: list[Move] = []
    for action in actions:
        message: Message | None = getattr(action, "message", None)
        if message is None or message.task == ALERT or message.event not in alerts.events:
            continue
        if not matches(alerts.task, message.task):
            continue
        kind = _kind(message)
        last, held = state.alerted.get(kind, (None, 0))
        state.alerts_changed = True
        if last is not None and 0 <= now.wall - last < alerts.every:
            state.alerted[kind] = last, held + 1
            continue
        if kind not in state.alerted and len(state.alerted) >= KEPT:
            del state.alerted[next(iter(state.alerted))]
        state.alerted[kind] = now.wall, 0
        state.groups.said = True  # what is noted of it is written at once
        out.append(take_in(state, _task(message, held, now), now))
    return out


def plain(state: State) -> list[Any]:
    """The last alerts for JSON."""
    return [[kind, last, held] for kind, (last, held) in state.alerted.items()]


def recall(state: State, rows: object) -> None:
    """Take over what `plain` has made; what is not of that form counts as never told."""
    for row in rows[:KEPT] if isinstance(rows, list) else ():
        match row:
            case [[*kind], int(last), int(held)] if all(isinstance(word, str) for word in kind):
                state.alerted[tuple(kind)] = last, held


def _kind(message: Message) -> tuple[str, ...]:
    """What is not told of twice within `every`: of a recurring error, each thing that is told once."""
    if message.event != "recurring-error":
        return message.event, message.task
    why = (message.content.get("group") or {}).get("why", "")
    return message.event, message.task, message.content["error"]["fingerprint"], why


def _task(message: Message, held: int, now: Now) -> Task:
    seed = f"{message.event}.{message.id}.{message.at}.{message.parent}"
    return Task(
        id=id_from(now.wall, hashlib.sha256(seed.encode()).digest()),
        task=ALERT,
        args={"event": message.content, "held_back": held},
        at=now.wall,
        submitted_at=now.wall,
        digest=hashlib.sha256(seed.encode()).hexdigest()[:32],
    )
