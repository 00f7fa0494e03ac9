"""How many tasks of a handler, or of one key of it, may run at once on all nodes together.

Nothing is agreed on: each node counts its own, and the places are divided among the nodes that are
alive and take tasks, the same way on all that see the same nodes. A key with one place has one node.
When the nodes change, a node that gets places waits until the others know, and as long as what it was
told runs elsewhere leaves no room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from spool import limitkey

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spool.names import Entry
    from spool.settings import Handler
    from spoold.core.state import State
    from spoold.core.values import Now

LOOK = 64  # so many tasks at the head of a lane are looked through for one that may start
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

    def take(self, entry: Entry) -> None:
        """A task is about to start here."""
        if mark := entry.mark:
            self.marks[entry.id] = mark
            self.busy[mark] = self.busy.get(mark, 0) + 1

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


def ranked(name: str, live: Iterable[str]) -> list[str]:
    """Nodes in the order in which they get places of a name; the same on all."""
    weights = ((crc32(f"{one},{name}".encode("utf-8", "surrogateescape")), one) for one in live)
    return [one for _, one in sorted(weights, reverse=True)]


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
    return places(handler.concurrency_per_key or 0, mark, node, able)


def allowed(state: State, handler: Handler, mark: str = "") -> int:
    """How many of a handler, or of a key of it, may run here now."""
    limits = state.limits
    most = (handler.concurrency_per_key if mark else handler.concurrency_total) or 0
    if len(limits.live) < 2 and not limits.before:
        return most
    own = min(_own(handler, mark, state.node, live) for live in (limits.live, *limits.before))
    return min(own, most - limits.elsewhere.get(mark or handler.pattern, 0))


def full(state: State, handler: Handler | None, mark: str) -> str:
    """Which limit keeps a task of a handler, whose key has this mark, from starting; else empty."""
    if handler is None:
        return ""
    if handler.concurrency_total and state.busy.get(handler.pattern, 0) >= allowed(state, handler):
        return "concurrency_total"
    return "concurrency_per_key" if mark and key_full(state, handler, mark) else ""


def key_full(state: State, handler: Handler, mark: str) -> bool:
    """The same as far as its key goes."""
    if handler.concurrency_key is None:
        return False
    return state.limits.busy.get(mark, 0) >= allowed(state, handler, mark)


def said(state: State, handler: Handler, mark: str) -> str:
    """The limit that holds a task back, in words; empty where none does."""
    name = full(state, handler, mark)
    if not name:
        return ""
    total = name == "concurrency_total"
    most = handler.concurrency_total if total else handler.concurrency_per_key
    what = "" if total else f" with {state.limits.words.get(mark, f'this {handler.concurrency_key}')}"
    here = state.busy.get(handler.pattern, 0) if total else state.limits.busy.get(mark, 0)
    if here >= (most or 0):
        return f"handler {handler.pattern} runs {here}{what} already ({name})"
    shared = f"handler {handler.pattern} may run {most}{what} on all nodes ({name})"
    return f"{shared}: {here} here, the rest is for other nodes or runs there"


def foreign(state: State, entry_mark: str, handler: Handler | None) -> bool:
    """Whether a task is left to other nodes: its key has no place here."""
    limits = state.limits
    if not entry_mark or handler is None or handler.concurrency_key is None:
        return False
    return len(limits.live) > 1 and not _own(handler, entry_mark, state.node, limits.live)


def is_limited(handler: Handler | None) -> bool:
    """Whether a handler has a limit over all nodes."""
    return handler is not None and bool(handler.concurrency_total or handler.concurrency_key)


def heard(state: State, names: Iterable[str]) -> None:
    """What stands in running/ of other nodes: it takes places until it is gone from there."""
    found: dict[str, int] = {}
    for name in names:
        parts = name.split(",", 3)
        if name.startswith(".") or len(parts) < 3:
            continue
        pattern = state.lane_of(parts[2].removesuffix(".json"))[0]
        mark = limitkey.mark_in(parts[3]) if len(parts) > 3 else ""
        for one in (pattern, mark):
            if one:
                found[one] = found.get(one, 0) + 1
    state.limits.elsewhere = found
    state.passed |= bool(found)  # it ends without a sign: to be looked at again


def shared_by(state: State, now: Now) -> None:
    """Who shares the places now; where that has changed, who gets some waits until all know."""
    limits = state.limits
    live = state.taking
    if live != limits.live:
        if limits.live or len(live) > 1:
            limits.before = (*limits.before, limits.live)
            limits.until = now.mono + state.lease // 4
            state.forget_all()
        limits.live = live
    elif limits.before and now.mono >= limits.until:
        limits.before = ()
        state.forget_all()  # what runs elsewhere is read anew, and then counts
