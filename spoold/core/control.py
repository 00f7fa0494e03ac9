"""Pause, resume, drain: rows that say who holds what, why and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spoold.core import verbs
from spoold.core.values import Drop, Rows

if TYPE_CHECKING:
    from spool.actions import Control
    from spoold.core.state import State
    from spoold.core.values import Action, Arrived, Now


def control(state: State, event: Arrived, request: Control, now: Now) -> list[Action]:
    """One more row, or one less; the rows are kept on disk and survive restarts.

    One node keeps them for all, and the others read what it has written.
    """
    if not state.leads:
        return verbs.leave(state, event.source, {state.leader})
    if state.reread:
        state.later = True
        return []
    scope = {"node": request.node, "task": request.task}
    rows = [r for r in state.pauses if {"node": r.get("node"), "task": r.get("task")} != scope]
    note: dict[str, Any] = {**event.source.by, "scope": scope, "why": request.why}
    if request.kind != "resume":
        row = {
            "kind": request.kind,
            **scope,
            "who": request.who,
            **event.source.by,
            "why": request.why,
            "since": now.wall,
            "until": request.until,
        }
        rows.append(row)
    replace_rows(state, rows)
    return [Rows(rows, {"event": request.kind, **note}), Drop(event.source)]


def expire(state: State, now: Now) -> list[Action]:
    """Rows whose time is over."""
    rows = [r for r in state.pauses if r.get("until") is None or int(r["until"]) > now.wall]
    if len(rows) == len(state.pauses) or state.reread:
        return []
    replace_rows(state, rows)
    return [Rows(rows, {"event": "resume", "why": "its time is over"})] if state.leads else []


def replace_rows(state: State, rows: list[dict[str, Any]]) -> None:
    """Other rows make other lanes: what waits is sorted anew from the disk."""
    patterns = {r.get("task") for r in state.pauses} ^ {r.get("task") for r in rows}
    state.pauses = rows
    if patterns - {None}:
        state.forget_all()
