"""Schedules set by actions: one more table, another one, or one less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool.layout import SCHEDULES
from spool.scheduled import MOST
from spoold.core import control, verbs
from spoold.core.values import Drop, Rows

if TYPE_CHECKING:
    from spool.actions import Schedule
    from spoold.core.state import State
    from spoold.core.values import Action, Arrived


def scheduled(state: State, event: Arrived, request: Schedule) -> list[Action]:
    """The tables are kept on disk by one node for all; what spool.toml says is changed there."""
    if not state.leads:
        return verbs.leave(state, event.source, {state.leader})
    if state.reread:
        state.later = True
        return []
    name, table = request.name, request.table
    rule = ""
    if any(schedule.name == name for schedule in state.settings.recurring):
        rule = "is a schedule of spool.toml: change it there"
    elif table is None and name not in state.schedules:
        rule = "is no schedule; `spool cron ls` lists them"
    elif table is not None and len(state.schedules) >= MOST and name not in state.schedules:
        rule = f"would be one more than {MOST} schedules"
    if rule:
        reason = {"field": "name", "value": name, "rule": rule, "action": "schedule"}
        return [verbs.refuse(state, event.source, reason, None, "unknown", verbs.id_of(event.source))]
    tables = {n: t for n, t in state.schedules.items() if n != name}
    if table is not None:
        tables[name] = table
    state.schedules = tables
    rows: list[dict[str, Any]] = [{"name": n, "table": t} for n, t in tables.items()]
    note = {"event": "schedule", "name": name, "table": table, **event.source.by, "why": request.why}
    out: list[Action] = [Rows(rows, note, SCHEDULES)]
    paused = [row for row in state.pauses if row.get("task") == f"@{name}"]
    if table is None and paused:  # one that is set anew under this name is not paused
        control.replace_rows(state, [row for row in state.pauses if row not in paused])
        scope = {"node": None, "task": f"@{name}"}
        told = {"event": "resume", **event.source.by, "scope": scope, "why": "the schedule is removed"}
        out.append(Rows(state.pauses, told))
    return [*out, Drop(event.source)]
