"""What a scan of pending/ read goes into the windows; nothing is opened, names are enough."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from spool import layout
from spool.names import PRIORITIES, BadName, parse_entry
from spoold.core import order, table
from spoold.core.values import Move, Scan

if TYPE_CHECKING:
    from spool.names import Entry
    from spoold.core.state import State
    from spoold.core.values import Action, Now, Scanned, Seen
    from spoold.core.window import Window


def wanted(state: State) -> list[Action]:
    """The scans that windows are hungry for; each window gathers from this moment on."""
    out: list[Action] = []
    for kind in state.hungry():
        state.scanning.add(kind)
        if kind == "future":
            state.future.gather()
        else:
            for by_lane in state.lanes.values():
                for window in by_lane.values():
                    if window.hungry:
                        window.gather()
            if state.urgent.hungry:
                state.urgent.gather()
        out.append(Scan(kind))
    return out


def seen(state: State, event: Seen, now: Now) -> bool:
    """Sort one slice of names in; the text DATE/PRIO/NAME stands for an entry until it is needed.

    Returns whether a scan of the future has found enough.
    """
    date, prio = event.date, event.prio
    limit = order.stamp(now.wall + 1)
    future = state.future
    for name in event.names:
        place = order.stamp_of_name(date, name)
        if place >= limit:
            if event.scan == "future":
                future.offer(place, f"{date}/{prio}/{name}")
            continue
        if event.scan == "due":
            _ready(state, date, prio, name, place)
    gathered = future.gathered
    return gathered is not None and len(gathered) > future.limit


def _ready(state: State, date: str, prio: str, name: str, place: str) -> None:
    parts = name.split(",", 3)
    if len(parts) < 3:
        return  # no entry: fsck and the quarantine see to it
    task = parts[2].removesuffix(".json") if len(parts) == 3 else parts[2]
    rest = parts[3] if len(parts) > 3 else ""
    text = f"{date}/{prio}/{name}"
    window = state.lane(prio, task)
    if window.gathered is not None:
        window.offer(order.key_of_stamp(place, front="p=f" in rest), text)
    if state.urgent.gathered is not None and "d=" in rest:
        entry = entry_of(text)
        when = order.moment(entry, state.p95(entry.task)) if entry else None
        if entry and when is not None:
            state.urgent.offer((when, entry.id), entry)


def released(state: State, event: Seen, now: Now) -> list[Action]:
    """Of what is held for want of a handler, what has one now."""
    out: list[Action] = []
    for name in event.names:
        if "w=no-handler" not in name:
            continue
        try:
            entry = parse_entry(name)
        except BadName:
            continue
        if state.settings.handler_for(entry.task) is None:
            continue
        free = replace(entry, why="")
        state.insert(free, now.wall)
        out.append(
            Move(
                event="release",
                entry=free,
                before=table.HELD,
                after=table.after(table.HELD, "release"),
                source=layout.held(entry),
                target=layout.pending(free),
                note={"why": "a handler is there now"},
            )
        )
    return out


def entry_of(text: str) -> Entry | None:
    """The entry that DATE/PRIO/NAME stands for, None where the name is damaged."""
    date, prio, name = text.split("/", 2)
    try:
        return parse_entry(name, date=date, prio=prio)
    except (BadName, ValueError):
        return None


def scanned(state: State, event: Scanned, now: Now) -> list[str]:
    """A scan has ended: what it gathered becomes entries. Returns the paths of damaged names."""
    bad: list[str] = []
    if event.scan == "future":
        state.scanning.discard("future")
        _settle(state, state.future, bad)
        state.ripen(now.wall)
    elif event.prio is not None:
        state.known[event.prio] = True
        for window in state.lanes[event.prio].values():
            if window.gathered is not None:
                _settle(state, window, bad)
    else:
        state.scanning.discard("due")
        state.known = dict.fromkeys(PRIORITIES, True)
        if state.urgent.gathered is not None:
            for place, found in state.urgent.settle():
                if not isinstance(found, str):
                    state.urgent.add(place, found)
                    state.waiting[found.id] = found
    return bad


def _settle(state: State, window: Window[str], bad: list[str]) -> None:
    for place, found in window.settle():
        entry = entry_of(found) if isinstance(found, str) else found
        if entry is None:
            bad.append(f"pending/{found}")
        elif entry.id not in state.claiming and entry.id not in state.runs:
            window.add(place, entry)
            state.waiting[entry.id] = entry
