"""How many tasks of a handler, or of one key of it, may run at once, or start in a time, on all nodes.

Nothing is agreed on: each node counts its own, and the places are divided among the nodes that are
alive and take tasks, the same way on all that see the same nodes. A key with one place has one node.
When the nodes change, a node that gets places waits until the others know, and as long as what it was
told runs elsewhere leaves no room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from spool import limitkey
from spool.names import id_and_task
from spool.times import FOREVER, format_utc
from spoold.core import order
from spoold.core.share import ranked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spool.limitkey import Rate
    from spool.names import Entry
    from spool.settings import Handler
    from spoold.core.state import State
    from spoold.core.values import Now

LOOK = 64  # so many tasks at the head of a lane are looked through for one that may start
MANY = 1 << 30
KEPT = 10_000  # buckets, as long as others than full ones are not more
OLDEST = 8  # each so many-th start is that of the oldest task, whoever had a turn
HEAVY = 4  # so many of one key at the head of a lane that takes turns have a lane of their own
APART = 1000  # keys with lanes of their own, as many at most


class Limits:
    """What runs, by handler's pattern and by mark of a key; and who else shares the places."""

    def __init__(self) -> None:
        self.marks: dict[str, str] = {}  # of what runs here, by id
        self.busy: dict[str, int] = {}  # how many of each mark run here
        self.words: dict[str, str] = {}  # what key a mark stands for, as far as one of it has run
        self.apart: set[str] = set()  # marks whose tasks have lanes of their own
        self.elsewhere: dict[str, int] = {}  # by pattern or mark, as last read
        self.live: frozenset[str] = frozenset()  # who shares the places, and who did before
        self.before: tuple[frozenset[str], ...] = ()
        self.until = 0  # monotonic instant from which on all know that they share them
        self.full_at: dict[str, int] = {}  # by pattern or mark, when its bucket of tokens is full again
        self.empty_at = -FOREVER  # when buckets of which nothing else is known had no token
        self.turns: dict[str, int] = {}  # of the keys that had one, the longest ago first
        self.starts = 0
        self.now: Now | None = None
        self.wake = FOREVER  # the next token that something waits for

    def take(self, entry: Entry) -> None:
        """A task is about to start here."""
        if mark := entry.mark:
            self.marks[entry.id] = mark
            self.busy[mark] = self.busy.get(mark, 0) + 1

    def have_turn(self, entry: Entry) -> None:
        """A key has had its turn."""
        self.starts += 1
        self.turns.pop(entry.mark, None)
        self.turns[entry.mark] = self.starts
        if len(self.turns) > KEPT:
            del self.turns[next(iter(self.turns))]

    @property
    def is_oldest(self) -> bool:
        """Whether the next start is that of the oldest, so that none starves."""
        return self.starts % OLDEST == 0

    def turn(self, entry: Entry) -> tuple[int, str]:
        """Who comes first of those that take turns."""
        return 0 if self.is_oldest else self.turns.get(entry.mark, 0), order.key(entry)

    def give_back(self, task_id: str) -> str:
        """It has ended, or does not start: its mark, if none of it runs any more."""
        mark = self.marks.pop(task_id, "")
        if not mark:
            return ""
        self.busy[mark] -= 1
        if self.busy[mark]:
            return ""
        del self.busy[mark]
        self.words.pop(mark, None)
        return mark


def places(most: int, name: str, node: str, live: Iterable[str]) -> int:
    """How many of `most` are a node's: as many for each, what is left to the first ones."""
    order = ranked(name, live)
    if node not in order:
        return 0
    return most // len(order) + (order.index(node) < most % len(order))


def _own(handler: Handler, mark: str, node: str, live: frozenset[str]) -> int:
    """The places of a node: of a handler, or of a key of it, which go to nodes that have some of it."""
    total = handler.concurrency_total
    if not mark:
        return places(total or 0, handler.pattern, node, live)
    able = live if total is None else ranked(handler.pattern, live)[:total]
    if handler.rate_per_key is None:
        return places(handler.concurrency_per_key or 0, mark, node, able)
    mine = ranked(mark, able)[:1] == [node]  # one node counts the tokens
    return (handler.concurrency_per_key or MANY) if mine else 0


def allowed(state: State, handler: Handler, mark: str = "") -> int:
    """How many of a handler, or of a key of it, may run here now."""
    limits = state.limits
    most = (handler.concurrency_per_key if mark else handler.concurrency_total) or MANY
    own = most
    if not _is_alone(limits):
        own = min(_own(handler, mark, state.node, live) for live in (limits.live, *limits.before))
    return min(own, most - limits.elsewhere.get(mark or handler.pattern, 0))


def _is_alone(limits: Limits) -> bool:
    """Whether all places are of this node, but for those where something runs that others started."""
    return len(limits.live) < 2 and not limits.before


def is_sure(state: State, handler: Handler) -> bool:
    """Whether a key of which nothing runs here has a place in any case."""
    alone = _is_alone(state.limits) and not state.limits.elsewhere
    return handler.concurrency_key is None or (alone and handler.rate_per_key is None)


def full(state: State, handler: Handler | None, mark: str) -> str:
    """Which limit keeps a task of a handler, whose key has this mark, from starting; else empty."""
    if handler is None:
        return ""
    if handler.concurrency_total and state.busy.get(handler.pattern, 0) >= allowed(state, handler):
        return "concurrency_total"
    if handler.rate is not None and not _token(state, handler, handler.rate, ""):
        return "rate"
    return key_full(state, handler, mark) if mark else ""


def key_full(state: State, handler: Handler, mark: str) -> str:
    """The same as far as its key goes."""
    if handler.concurrency_key is None:
        return ""
    if state.limits.busy.get(mark, 0) >= allowed(state, handler, mark):
        return "concurrency_per_key"
    rate = handler.rate_per_key
    return "rate_per_key" if rate is not None and not _token(state, handler, rate, mark) else ""


# Rates: a bucket holds `burst` tokens, and is known by when it is full again.


def _bucket(state: State, handler: Handler, rate: Rate, mark: str) -> tuple[int, int, int]:
    """The us between two tokens here, how many the bucket holds, and when it is full (monotonic)."""
    limits = state.limits
    nodes = 1 if mark else max(1, *(len(live) for live in (limits.live, *limits.before)))
    each, depth = rate.each * nodes, max(1, handler.burst // nodes)
    full_at = limits.full_at.get(mark or handler.pattern, -FOREVER)
    return each, depth, max(full_at, limits.empty_at + depth * each)


def next_token(state: State, handler: Handler, rate: Rate, mark: str) -> int:
    """The monotonic instant at which there is one."""
    each, depth, full_at = _bucket(state, handler, rate, mark)
    return full_at - (depth - 1) * each


def _token(state: State, handler: Handler, rate: Rate, mark: str) -> bool:
    limits = state.limits
    at = next_token(state, handler, rate, mark)
    if limits.now is None or at <= limits.now.mono:
        return True
    limits.wake = min(limits.wake, at)
    return False


def spend(state: State, own: str, handler: Handler | None, tokens: int = 1) -> None:
    """A task with the mark `own` is about to start, or (-1) does not."""
    limits = state.limits
    if handler is None or limits.now is None:
        return
    for rate, mark in ((handler.rate, ""), (handler.rate_per_key if own else None, own)):
        if rate is not None:
            each, _, full_at = _bucket(state, handler, rate, mark)
            limits.full_at[mark or handler.pattern] = max(full_at, limits.now.mono) + tokens * each
    if len(limits.full_at) > KEPT:
        limits.full_at = {name: at for name, at in limits.full_at.items() if at > limits.now.mono}


def remember(state: State, since: int, claims: Iterable[tuple[int, str, str]], now: Now) -> None:
    """What was started before this daemon: instant (us UTC), task and mark of each, oldest first.

    All that was since `since` is among them; of earlier times it is taken that no token was left.
    """
    limits = state.limits
    limits.empty_at = now.mono - max(0, now.wall - since)
    for at, task, mark in claims:
        handler = state.settings.handler_for(task)
        limits.now = replace(now, mono=now.mono - max(0, now.wall - at))
        if handler is not None:
            spend(state, mark, handler)
    limits.now = now


def said(state: State, handler: Handler, mark: str) -> str:
    """The limit that holds a task back, in words; empty where none does."""
    name = full(state, handler, mark)
    if not name:
        return ""
    total = name == "concurrency_total"
    if name.startswith("rate"):
        return _said_rate(state, handler, mark if name == "rate_per_key" else "")
    most = handler.concurrency_total if total else handler.concurrency_per_key
    what = "" if total else f" with {state.limits.words.get(mark, f'this {handler.concurrency_key}')}"
    here = state.busy.get(handler.pattern, 0) if total else state.limits.busy.get(mark, 0)
    if here >= (most or 0):
        return f"handler {handler.pattern} runs {here}{what} already ({name})"
    shared = f"handler {handler.pattern} may run {most}{what} on all nodes ({name})"
    return f"{shared}: {here} here, the rest is for other nodes or runs there"


def _said_rate(state: State, handler: Handler, mark: str) -> str:
    limits, rate = state.limits, handler.rate_per_key if mark else handler.rate
    if limits.now is None or rate is None:
        return ""
    at = limits.now.wall + next_token(state, handler, rate, mark) - limits.now.mono
    what = f" of one {handler.concurrency_key}" if mark else ""
    name = "rate_per_key" if mark else "rate"
    return f"handler {handler.pattern} starts {rate.text}{what} ({name}), the next at {format_utc(at)}"


def foreign(state: State, entry_mark: str, handler: Handler | None) -> bool:
    """Whether a task is left to other nodes: its key has no place here."""
    limits = state.limits
    if not entry_mark or handler is None or handler.concurrency_key is None:
        return False
    return len(limits.live) > 1 and not _own(handler, entry_mark, state.node, limits.live)


def is_limited(handler: Handler | None) -> bool:
    """Whether a handler has limits or turns that are not its alone to keep."""
    return handler is not None and bool(
        handler.concurrency_total or handler.concurrency_key or handler.rate or handler.fair
    )


def heard(state: State, names: Iterable[str]) -> None:
    """What stands in running/ of other nodes: of what has limits it takes places until it is gone."""
    found: dict[str, int] = {}
    for name in names:
        _, task = id_and_task(name)
        pattern = state.lane_of(task)[0] if task else ""
        if pattern not in state.limited:
            continue
        for one in (pattern, limitkey.mark_in(name)):
            if one:
                found[one] = found.get(one, 0) + 1
    state.limits.elsewhere = found
    state.passed |= bool(found)  # it ends without a sign: to be looked at again


def shared_by(state: State, now: Now) -> None:
    """Who shares the places now; where that has changed, who gets some waits until all know."""
    limits = state.limits
    limits.now, limits.wake = now, FOREVER
    live = state.taking
    if live != limits.live:
        if limits.live or len(live) > 1:
            limits.before = (*limits.before, limits.live)
            limits.until = limits.empty_at = now.mono + state.lease // 4
            state.forget_all()
        limits.live = live
    elif limits.before and now.mono >= limits.until:
        limits.before = ()
        state.forget_all()  # what runs elsewhere is read anew, and then counts
