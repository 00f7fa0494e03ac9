"""Who may run now: slots for processes, and short tasks handed on ahead of time.

A worker, or the keeper of programs, that has to wait for the disk before each task waits longer than a
short task takes. So where nothing that comes before it waits for a slot, a task of a handler that has
slots may be claimed without one: it begins as soon as what is before it has ended, in the same worker or
as the next program, and takes over the slot then. How much is handed ahead is bounded by a span; what has
not begun goes back when something of a higher place wants the slot (Recall), and no attempt is used.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from spool.names import PRIORITIES
from spoold.core import gate, limits, order
from spoold.core.values import Recall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.names import Entry
    from spool.settings import Handler
    from spoold.core.admit import Demand
    from spoold.core.state import Lane, State
    from spoold.core.values import Action, Now
    from spoold.core.window import Window

# A lane, what keeps its next, the place of its first that may start, and its next (None: only on disk).
Head = tuple["Lane", int, str, "Entry | None"]

# us of usual run time that are handed ahead for each slot, in a class and those above: to a worker, or as
# programs, of which each costs the daemon as much as several functions where they come one by one
SPAN, PROGRAMS = 4_000, 8_000
SHORTEST = 60  # us; nothing is taken to be shorter
FREE, SLOT, SHUT = range(3)  # a lane's next may start; it waits for a slot; or for something else


class Handed(NamedTuple):
    """A task that was claimed ahead: its usual run time (us) and its place."""

    cost: int
    rank: tuple[int, str]
    task: str


class Ahead:
    """What was claimed ahead, by handler and id, in the order it was."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Handed]] = {}
        self.spans: dict[str, list[int]] = {}  # by handler, what the rows of each class cost together
        self.recalled: set[str] = set()  # handlers whose tasks were, as far as they had not begun
        self.brisk: set[str] = set()  # handlers whose tasks end as soon as was foreseen
        # The place of the first that waits for a slot, and by handler of the first for one of its own.
        self.bar: tuple[int, str] | None = None
        self.bars: dict[str, tuple[int, str]] = {}
        self.first: Entry | None = None  # what is in that place, where it is in memory
        self.sure = False  # there is nothing that may start: the disk need not be asked
        self.former: dict[str, set[str]] = {}  # by handler, what runs as it did before it was changed
        self._mixed: set[str] = set()  # handlers whose rows are not in the order of their places

    def add(self, pattern: str, task_id: str, row: Handed) -> None:
        """A task is claimed ahead."""
        self.recalled.discard(pattern)
        rows = self.rows.setdefault(pattern, {})
        if rows and rows[next(reversed(rows))].rank > row.rank:
            self._mixed.add(pattern)
        rows[task_id] = row
        self.spans.setdefault(pattern, [0] * len(PRIORITIES))[row.rank[0]] += row.cost

    def drop(self, pattern: str, task_id: str) -> str | None:
        """A run of a handler has ended: who takes over its slot, if anybody was handed ahead."""
        rows = self.rows.get(pattern)
        if not rows:
            return None
        heir = task_id if task_id in rows else next(iter(rows))
        if heir != task_id and pattern in self._mixed:
            heir = min(rows, key=lambda one: rows[one].rank)
        row = rows.pop(heir)
        if not rows:
            self._mixed.discard(pattern)
        self.spans[pattern][row.rank[0]] -= row.cost
        return heir

    def change(self, pattern: str, running: set[str]) -> None:
        """A handler was changed, while these ran: nothing takes over their slots."""
        self.brisk.discard(pattern)
        if running:
            self.former[pattern] = running | self.former.get(pattern, set())

    def forget(self, pattern: str, task_id: str) -> None:
        """A run has given back its slot."""
        former = self.former.get(pattern)
        if former is not None:
            former.discard(task_id)
            if not former:
                del self.former[pattern]

    def in_turn(self, pattern: str, rank: tuple[int, str]) -> bool:
        """Whether nothing that comes before a task of a handler waits for a slot that it may get."""
        own = self.bars.get(pattern)
        return (self.bar is None or rank < self.bar) and (own is None or rank < own)


def fits(state: State, entry: Entry) -> bool:
    """Whether a task may be claimed ahead, as far as its handler goes."""
    handler = state.handler_of(entry)
    if handler is None or handler.notify or handler.pattern not in state.ahead.brisk:
        return False
    if limits.is_limited(handler) or handler.pattern in state.ahead.former:
        return False
    if state.processes > state.limit:
        return False
    usual, own = state.p95(entry.task), plain(state, handler.pattern)
    if not usual or not own or (handler.concurrency and own > handler.concurrency):
        return False
    spans = state.ahead.spans.get(handler.pattern, ())
    span = sum(spans[: PRIORITIES.index(entry.prio) + 1]) + max(usual, SHORTEST)
    if handler.python:
        return span <= SPAN * own
    return span <= PROGRAMS * own and usual <= PROGRAMS and _as_small(state, entry, handler)


def _as_small(state: State, entry: Entry, handler: Handler) -> bool:
    """Whether a program needs no more memory, as far as is known, than those whose place it may take.

    Nor is anything of the machine beyond its threshold.
    """
    if state.settings.admission.enabled and state.gate.pressed:
        return False
    need = gate.demand(state, entry, handler).memory
    booked = state.gate.booked.values()
    own = [one.memory for one in booked if state.settings.handler_for(one.task) is handler]
    return bool(own) and min(own) >= need


def plain(state: State, pattern: str) -> int:
    """How many slots of a handler may be taken over: those of coroutines are given back."""
    return state.busy.get(pattern, 0) - [*state.beside.values()].count(pattern)


def occupy(state: State, entry: Entry, now: Now, *, ahead: bool) -> None:
    """A task is about to start: in a slot of its own, or ahead."""
    handler = state.handler_of(entry)
    if handler is None:
        return
    if ahead:
        row = Handed(max(state.p95(entry.task), SHORTEST), order.rank(entry), entry.task)
        state.ahead.add(handler.pattern, entry.id, row)
        return
    state.busy[handler.pattern] = state.busy.get(handler.pattern, 0) + 1
    state.limits.take(entry)
    if state.is_beside(entry.task, handler):
        state.beside[entry.id] = handler.pattern
    elif not handler.notify:
        state.gate.book(entry.id, gate.demand(state, entry, handler), now)


def vacate(state: State, task_id: str, handler: Handler | None, now: Now) -> None:
    """It has ended, or does not start: its slot goes to what was handed ahead, or is free."""
    if handler is None:
        return
    state.ahead.forget(handler.pattern, task_id)
    if mark := state.limits.give_back(task_id):
        state.rejoin(mark)
    heir = None
    if task_id in state.beside:
        del state.beside[task_id]
    elif not handler.notify:
        heir = state.ahead.drop(handler.pattern, task_id)
        if heir is None:
            state.gate.unbook(task_id, now)
        else:
            state.gate.pass_on(task_id, heir, _demand(state, heir, handler))
    if heir is None:
        state.busy[handler.pattern] = state.busy.get(handler.pattern, 1) - 1


def _demand(state: State, heir: str, handler: Handler) -> Demand | None:
    """What a program that takes over a slot needs; None where that is its worker's."""
    run = state.runs.get(heir)
    entry = run.entry if run is not None else state.claiming.get(heir)
    return gate.demand(state, entry, handler) if handler.exec and entry is not None else None


def is_ahead(state: State, task_id: str, handler: Handler | None) -> bool:
    """Whether a task was claimed ahead, and has not taken over a slot."""
    return handler is not None and task_id in state.ahead.rows.get(handler.pattern, ())


def next_start(state: State) -> tuple[Entry, bool] | None:
    """The next task that may start, and whether ahead; None also where the disk has to be asked."""
    state.ahead.bar, state.ahead.first, state.ahead.sure = None, None, False
    state.ahead.bars.clear()
    for number, prio in enumerate(PRIORITIES):
        if not state.known[prio] or (number and state.lift_unknown):
            return None
        found = _next_of(state, number, prio)
        if found == "":
            return None
        if found is not None and not isinstance(found, str):
            return found
    state.ahead.sure = True
    return None


def _next_of(state: State, number: int, prio: str) -> tuple[Entry, bool] | str | None:
    """The same for one class; the empty text where what comes first may be only on disk."""
    lanes: list[tuple[str, Entry, bool]] = []
    ahead: list[tuple[str, str, Entry]] = []
    free: list[tuple[Lane, str, Entry]] = []
    blind: list[str] = []  # places from which on there may be something that is not in memory
    for lane, kept, first, entry in chain(_common(state, prio), _own(state, prio)):
        if kept == FREE and entry is None:
            blind.append("" if _is_fair(state, lane) else first)
        elif kept == FREE and entry is not None and lane[0] in state.limited:
            free.append((lane, first, entry))
        elif entry is not None and kept == FREE:
            lanes.append((first, entry, False))
        elif entry is not None and fits(state, entry):
            ahead.append((lane[0], first, entry))
        else:
            _bar(state, lane, (number, first), entry)
    if free:
        lanes += _turns(state, free)
    for pattern, first, entry in ahead:
        if state.ahead.in_turn(pattern, (number, first)):
            lanes.append((first, entry, True))
    chosen = min(lanes, key=lambda row: row[0], default=None)
    if blind and (chosen is None or min(blind) <= chosen[0]):
        state.blind = True
        return ""
    return None if chosen is None else chosen[1:]


def _common(state: State, prio: str) -> Iterator[Head]:
    """What comes next in the lanes that are not of one key, once all keys that want lanes have them."""
    for lane, window in _spread(state, prio):
        kept = _kept(state, lane)
        found = _head(state, lane, window) if kept != SHUT else None
        if found is not None:
            yield lane, kept, *found
        elif window.unknown and kept != SHUT:
            yield lane, kept, window.bound or "", None


def _own(state: State, prio: str) -> Iterator[Head]:
    """What comes next of the keys with lanes of their own: of each handler one, whose key has a place.

    They are looked through for each start, and are many: as little as can be is done for each.
    """
    busy, turns = state.limits.busy, state.limits.turns
    for lane, windows in state.sorted_lanes(prio).own.items():
        kept, handler = _kept(state, lane), state.settings.handlers.get(lane[0])
        if kept == SHUT or handler is None:
            continue
        sure = limits.is_sure(state, handler)
        rows = [
            (place, mark, window)
            for mark, window in windows
            if (place := window.next) is not None
            and ((sure and mark not in busy) or not limits.key_full(state, handler, mark))
        ]
        if not rows:
            continue
        first, _, window = min(rows)
        place = first
        if handler.fair is not None and kept == FREE:
            blind = next((row for row in rows if row[0] == row[2].bound), None)
            oldest = state.limits.is_oldest
            turn = min(rows, key=lambda row: (0 if oldest else turns.get(row[1], 0), row[0]))
            place, _, window = blind or turn
        yield lane, kept, first, window.entries.get(place)


def _turns(state: State, free: list[tuple[Lane, str, Entry]]) -> Iterator[tuple[str, Entry, bool]]:
    """Of the lanes of a handler whose tasks take turns one: as old as the oldest, whose turn it is."""
    fair: dict[str, list[tuple[str, Entry]]] = {}
    for lane, first, entry in free:
        if _is_fair(state, lane):
            fair.setdefault(lane[0], []).append((first, entry))
        else:
            yield first, entry, False
    for rows in fair.values():
        chosen = min((entry for _, entry in rows), key=state.limits.turn)
        yield min(first for first, _ in rows), chosen, False


def _is_fair(state: State, lane: Lane) -> bool:
    handler = state.settings.handlers.get(lane[0])
    return handler is not None and handler.fair is not None


def _spread(state: State, prio: str) -> Iterator[tuple[Lane, Window[str]]]:
    """The lanes of a class that are not of one key, once each key that wants lanes of its own has them.

    Where tasks take turns, a key that has many waiting gets lanes of its own: others are behind it.
    """
    for lane, window in state.sorted_lanes(prio).common:
        while _is_fair(state, lane) and len(state.limits.apart) < limits.APART:
            head = window.head(limits.LOOK)
            counts = Counter(mark for entry in head if (mark := entry.mark))
            most = min(limits.HEAVY, window.least // 4)
            heavy = {mark for mark, count in counts.items() if count > most}
            if not heavy or (window.bound is None and len(window) == len(head)):
                break
            state.part(lane[0], heavy)
        yield lane, window


def _head(state: State, lane: Lane, window: Window[str]) -> tuple[str, Entry] | None:
    """The task of a lane that may start, as its key goes, and the place of the first such task."""
    pattern = lane[0]
    handler = state.settings.handlers[pattern] if pattern in state.limited else None
    if handler is None or handler.by is None:
        first = window.first()
        return None if first is None else (first, window.entries[first])
    while True:
        head = window.head(limits.LOOK)
        able = (e for e in head if not e.mark or not limits.key_full(state, handler, e.mark))
        if (entry := next(able, None)) is not None:
            chosen = entry if handler.fair is None else min((entry, *able), key=state.limits.turn)
            return order.key(entry), chosen
        # What waits for its key is in the way of what may be behind it, in memory or on disk.
        apart = state.limits.apart
        if not head or (window.bound is None and len(window) == len(head)) or len(apart) >= limits.APART:
            return None
        state.part(pattern, {entry.mark for entry in head})


def _bar(state: State, lane: Lane, rank: tuple[int, str], entry: Entry | None) -> None:
    """A task waits for a slot that others might leave: none that comes after it is handed ahead.

    Where its handler has as many as it may have, it is one of that handler's.
    """
    pattern, ahead = lane[0], state.ahead
    handler = state.settings.handlers.get(pattern)
    if handler is not None and _is_full(state, handler):
        ahead.bars[pattern] = min(rank, ahead.bars.get(pattern, rank))
    elif state.processes >= state.limit and (ahead.bar is None or rank < ahead.bar):
        ahead.bar, ahead.first = rank, entry


def _kept(state: State, lane: Lane) -> int:
    """What keeps the next task of a lane from starting."""
    pattern, paused, beside, mark = lane
    handler = state.settings.handlers.get(pattern)
    full = pattern in state.limited and limits.full(state, handler, mark)
    if paused or full or (state.broken and state.out_of_order(pattern)):
        return SHUT
    if handler is None:
        return FREE
    if handler.notify or beside:
        return SHUT if state.busy_with(lane, state.limit) else FREE
    if state.gate.shut:
        return SHUT
    if state.processes >= state.limit:
        return SLOT
    return SLOT if _is_full(state, handler) else FREE


def _is_full(state: State, handler: Handler) -> bool:
    """Whether a handler has as many processes as it may have, others aside."""
    own = handler.concurrency
    return own is not None and state.busy.get(handler.pattern, 0) >= own


def recall(state: State) -> list[Action]:
    """What was handed ahead and is no more to begin: something comes before it, or all is paused."""
    out: list[Action] = []
    paused, ahead = bool(state.paused()), state.ahead
    for pattern, rows in ahead.rows.items():
        if not rows or pattern in ahead.recalled:
            continue
        barred = ahead.bar is not None or pattern in ahead.bars
        behind = barred and not all(ahead.in_turn(pattern, row.rank) for row in rows.values())
        if paused or behind or any(state.lane_of(row.task)[1] for row in rows.values()):
            ahead.recalled.add(pattern)
            out.append(Recall(pattern))
    return out
