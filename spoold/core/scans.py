"""What a scan of pending/ read goes into the windows; nothing is opened, names are enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from spool import layout, limitkey
from spool.heldfor import AFTER, VERSION, WANTING
from spool.names import (
    HAS_DEADLINE,
    ID_AT,
    MARKED,
    PRIORITIES,
    REST,
    TO_FRONT,
    BadName,
    date_of,
    id_and_task,
    is_task,
    parse_entry,
)
from spoold.core import limits, moves, order, policy, share, table
from spoold.core.state import LOWEST_KEY
from spoold.core.values import Ask, Move, Quarantine, Scan
from spoold.core.window import shorten

if TYPE_CHECKING:
    from spool.names import Entry
    from spool.place import Place
    from spoold.core.state import State
    from spoold.core.values import Action, Now, Scanned, Seen
    from spoold.core.window import Window

_LAST = "~"  # after every name
HELP = 8  # every so many readings no share is left to others


def wanted(state: State, now: Now) -> list[Action]:
    """The scans that windows are hungry for; each window gathers from this moment on."""
    out: list[Action] = [Scan("held")] if state.overdue.wanted() else []
    for kind in state.hungry():
        state.scanning[kind] = set()
        edge = date_of(now.wall)
        if kind == "future":
            state.future.gather()
            edge = state.future.bound or ""
        else:
            state.horizon = f"{edge}/~"
            state.met = {}
            if state.future.bound == LOWEST_KEY:
                state.future.gather()
            for by_lane in state.lanes.values():
                for window in by_lane.values():
                    window.fit()
                    if window.bound is not None:
                        window.gather(shared=True)
            if state.urgent.hungry:
                state.urgent.gather()
        alone = len(state.peers) < 2
        if alone:
            limits.heard(state, ())
        out.append(Scan(kind, edge, "" if alone else state.node))
    return out


def seen(state: State, event: Seen, now: Now) -> None:
    """Sort one slice of names in; the text DATE/PRIO/NAME stands for an entry until it is needed."""
    if not event.date:
        limits.heard(state, event.names)
        return
    date, prio = event.date, event.prio
    limit = order.stamp(now.wall + 1)
    future, changed = state.future, state.scanning[event.scan]
    end = (future.cut or _LAST)[: order.INSTANT] + _LAST  # what comes at the same time is compared
    for name in _of_use(state, event, limit) if event.scan == "due" else event.names:
        if name.startswith(".") or (changed and name[ID_AT] in changed):
            continue  # nothing of ours, or older than what is known of that task
        place = order.stamp_of_name(date, name)
        text = f"{date}/{prio}/{name}"
        if state.urgent.gathered is not None and HAS_DEADLINE in name:
            _deadline(state, text)
        if place >= limit:
            if place < end:
                future.offer(order.coming_of_stamp(place, prio, front=TO_FRONT in name), text)
        elif event.scan == "due":
            _ready(state, prio, name, place, text)
    if event.scan == "due":
        _shorten(state, prio, ended=False)
    _ripe(state, now)


def _of_use(state: State, event: Seen, limit: str) -> list[str]:
    """The names of a slice, less those that come after all that their lane has room for.

    Of a long backlog that is most of them, so little is done for each: a name with fields behind the
    task is left to the rest of us, and so is what is not due.
    """
    # by task: the name from which on nothing is of use
    ends = {task: _end(state, event, task) for task in {name[REST] for name in event.names}}
    edge = limit[11:] if event.date == limit[:10] else _LAST
    if len(ends) > 1:
        return [name for name in event.names if name < ends[name[REST]] or name >= edge]
    end = next(iter(ends.values()))
    return [name for name in event.names if name < end or name >= edge]


def _end(state: State, event: Seen, task: str) -> str:
    lane = state.lanes[event.prio].get(state.lane_of(task)) if is_task(task) else None
    cut = lane.cut if lane is not None else None
    if cut is None:
        return _LAST
    plain = order.key_of_stamp(f"{event.date}/", front=False)
    if cut < plain:
        return ""
    return cut.removeprefix(plain) if cut.startswith(plain) else _LAST


def _shorten(state: State, prio: str, *, ended: bool) -> None:
    shorten(list(state.lanes[prio].values()), state.shared(prio), ended=ended)


def _ripe(state: State, now: Now) -> None:
    """What the first scan of all met before its time, and has its time now, is ready."""
    if state.future.bound != LOWEST_KEY:
        return  # `State.ripen` sees to it
    for found in state.future.take_below(order.stamp(now.wall + 1)):
        try:
            entry = entry_of(found) if isinstance(found, str) else found
        except BadName:
            continue  # found out by the next scan
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
    task = name[REST].partition(",")[0]  # where it is no entry: found out when the scan has ended
    if task in state.not_ours or name[ID_AT] in state.left:
        return  # what only the code of another node takes has no room here
    mark = limitkey.mark_in(name) if MARKED in name else ""
    if mark and state.is_foreign(task, mark):
        state.passed = True
        return  # however many they are, they take no room from what may start here
    if mark and mark not in state.limits.apart:
        met = state.met.setdefault(state.lane_of(task)[0], {})
        if mark in met or len(met) < limits.KEPT:
            met[mark] = met.get(mark, 0) + 1
    window = state.lane(prio, task, mark)
    if window.gathered is not None:
        window.offer(order.key_of_stamp(place, front=TO_FRONT in name), text)


WORDS = {AFTER: "what it waited for has ended"}


def released(state: State, event: Seen) -> list[Action]:
    """Of what nothing here could run, what may run now: names may be old, so the disk is asked."""
    paths: dict[str, str] = {}
    for name in event.names:
        if not any(f"w={why}" in name for why in WANTING):
            continue
        try:
            entry = parse_entry(name)
        except BadName:
            continue
        if _may_run(state, entry):
            paths[entry.id] = f"{layout.HELD}/{name}"
    return [Ask("release", tuple(paths), paths)] if paths else []


def freed(state: State, found: dict[str, Place | None], now: Now) -> list[Action]:
    """What still stands in held/ for want of a handler goes on."""
    out: list[Action] = []
    for place in found.values():
        if place is None or _is_for_nobody(state, place):
            continue
        free = replace(place.entry, why="")
        state.insert(free, now.wall)
        note = {"why": WORDS.get(place.entry.why, "something here may run it now")}
        out.append(moves.made("release", free, table.HELD, place.path, note=note))
    return out


def _is_for_nobody(state: State, place: Place) -> bool:
    """Whether a task stands in held/ for want of a version that no node takes yet."""
    handler = state.handler_of(place.entry)
    takes = state.code.get(handler.pattern) if handler is not None else None
    if place.entry.why != VERSION or not policy.unfit(place.task, handler, takes):
        return False
    return not state.leaves(place.entry, place.task.version)


def _may_run(state: State, entry: Entry) -> bool:
    """Whether some node knows a task's name; which versions it takes is seen at its claim."""
    handler = state.settings.handler_for(entry.task)
    if handler is None or handler.python is None:
        return handler is not None
    return entry.task in state.not_ours or entry.task in state.code.get(handler.pattern, {})


def entry_of(text: str) -> Entry:
    """The entry that DATE/PRIO/NAME stands for; BadName."""
    date, prio, name = text.split("/", 2)
    return parse_entry(name, date=date, prio=prio)


def scanned(state: State, event: Scanned, now: Now) -> list[Action]:
    """A scan has ended: what it gathered becomes entries; damaged names go to quarantine."""
    out: list[Action] = []
    _ripe(state, now)
    if event.scan == "future":
        state.scanning.pop("future")
        _settle(state, state.future, out)
    elif event.prio is not None:
        state.known[event.prio] = True
        _shorten(state, event.prio, ended=True)
        for window in state.lanes[event.prio].values():
            if window.gathered is not None:
                _settle(state, window, out)
    else:
        state.scanning.pop("due")
        state.blind = False
        for mark in state.limits.apart - state.limits.busy.keys():
            state.rejoin(mark)
        if state.future.bound == LOWEST_KEY:
            _settle(state, state.future, out, state.horizon)
        state.known = dict.fromkeys(PRIORITIES, True)
        if state.urgent.gathered is not None:
            for place, found in state.urgent.settle():
                if not isinstance(found, str):
                    state.urgent.add(place, found)
                    state.waiting[found.id] = found
    return out


def _settle(state: State, window: Window[str], out: list[Action], seen: str | None = None) -> None:
    rows = window.settle(seen)
    for place, found in rows if window is state.future else _share(state, rows):
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
            was = f"{layout.PENDING}/{found}"
            out.append(renamed(entry, was, "its name was not in the usual form"))


def _share(state: State, rows: list[tuple[str, Entry | str]]) -> list[tuple[str, Entry | str]]:
    """Of what is ready, what this node tries first: its share, or all of it where that is nothing.

    Every so often it is all of it in any case: a node may live and not get anything started.
    """
    if len(state.peers) < 2:
        return rows
    if state.stirs % HELP == 0:
        return rows
    taking = state.taking
    mine = [
        row
        for row in rows
        if not isinstance(row[1], str)
        or limits.is_limited(state.settings.handler_for(id_and_task(row[1])[1]))
        or share.first(row[1].rpartition("/")[2][ID_AT], taking or state.peers) == state.node
    ]
    if not mine:
        return rows
    state.passed |= len(mine) < len(rows)
    return mine


def renamed(entry: Entry, path: str, why: str) -> Move:
    """A task that waits gets the name we look for."""
    return moves.made("move", entry, table.PENDING, path, note={"why": why})
