"""What a scan of pending/ read goes into the windows; nothing is opened, names are enough."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from spool import layout
from spool.names import PRIORITIES, BadName, parse_entry
from spoold.core import order, table
from spoold.core.values import Move, Quarantine, Scan

if TYPE_CHECKING:
    from spool.names import Entry
    from spoold.core.state import State
    from spoold.core.values import Action, Now, Scanned, Seen
    from spoold.core.window import Window


def wanted(state: State, now: Now) -> list[Action]:
    """The scans that windows are hungry for; each window gathers from this moment on."""
    out: list[Action] = []
    for kind in state.hungry():
        state.scanning.add(kind)
        if kind == "future":
            state.future.gather()
        else:
            state.due_from = now.wall
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
        if name.startswith("."):
            continue
        place = order.stamp_of_name(date, name)
        text = f"{date}/{prio}/{name}"
        if state.urgent.gathered is not None and ",d=" in name:
            _deadline(state, text)
        if place >= limit:
            if event.scan == "future":
                future.offer(place, text)
        elif event.scan == "due":
            _ready(state, prio, name, place, text)
        elif place >= order.stamp(state.due_from):
            _ripe(state, text, now)
    gathered = future.gathered
    return gathered is not None and len(gathered) > future.limit


def _ripe(state: State, text: str, now: Now) -> None:
    """It was not due yet when the scan of what is due came by, and is no more of the future."""
    try:
        entry = entry_of(text)
    except BadName:
        return  # found out by the next scan
    if not {entry.id} & (state.runs.keys() | state.claiming.keys() | state.waiting.keys()):
        state.insert(entry, now.wall)


def _deadline(state: State, text: str) -> None:
    try:
        entry = entry_of(text)
    except BadName:
        return  # its lane sees to it
    when = order.moment(entry, state.p95(entry.task))
    if when is not None:
        state.urgent.offer((when, entry.id), entry)


def _ready(state: State, prio: str, name: str, place: str, text: str) -> None:
    parts = name.split(",", 3)
    if len(parts) < 3:
        parts = [name, "", ""]  # no entry: found out, and quarantined, when the scan has ended
    task = parts[2].removesuffix(".json") if len(parts) == 3 else parts[2]
    rest = parts[3] if len(parts) > 3 else ""
    window = state.lane(prio, task)
    if window.gathered is not None:
        window.offer(order.key_of_stamp(place, front="p=f" in rest), text)


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


def entry_of(text: str) -> Entry:
    """The entry that DATE/PRIO/NAME stands for; BadName."""
    date, prio, name = text.split("/", 2)
    return parse_entry(name, date=date, prio=prio)


def scanned(state: State, event: Scanned, now: Now) -> list[Action]:
    """A scan has ended: what it gathered becomes entries; damaged names go to quarantine."""
    out: list[Action] = []
    if event.scan == "future":
        state.scanning.discard("future")
        _settle(state, state.future, out)
        state.ripen(now.wall)
    elif event.prio is not None:
        state.known[event.prio] = True
        for window in state.lanes[event.prio].values():
            if window.gathered is not None:
                _settle(state, window, out)
    else:
        state.scanning.discard("due")
        state.known = dict.fromkeys(PRIORITIES, True)
        if state.urgent.gathered is not None:
            for place, found in state.urgent.settle():
                if not isinstance(found, str):
                    state.urgent.add(place, found)
                    state.waiting[found.id] = found
    return out


def _settle(state: State, window: Window[str], out: list[Action]) -> None:
    for place, found in window.settle():
        try:
            entry = entry_of(found) if isinstance(found, str) else found
        except BadName as problem:
            out.append(Quarantine(f"{layout.PENDING}/{found}", str(problem)))
            continue
        if entry.id in state.claiming or entry.id in state.runs:
            continue  # the name is older than the claim
        window.add(place, entry)
        state.waiting[entry.id] = entry
        when = order.moment(entry, state.p95(entry.task)) if window is state.future else None
        if when is not None:
            state.urgent.add((when, entry.id), entry)
        if isinstance(found, str) and layout.pending(entry) != f"{layout.PENDING}/{found}":
            out.append(_renamed(entry, f"{layout.PENDING}/{found}"))


def _renamed(entry: Entry, path: str) -> Move:
    """A name that says the same in other words gets the words we look for."""
    return Move(
        event="move",
        entry=entry,
        before=table.PENDING,
        after=table.after(table.PENDING, "move"),
        source=path,
        target=layout.pending(entry),
        note={"why": "its name was not in the usual form"},
    )
