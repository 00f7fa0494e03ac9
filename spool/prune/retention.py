"""What becomes of what has ended: how long it is kept as it is, packed, or not at all. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct

from spool import layout
from spool.names import DAY_US, date_of, day_start

if TYPE_CHECKING:
    from spool.settings import Settings

KEEP, PACK, DROP = "keep", "pack", "drop"
SPAN = 600_000_000  # us; what ended within the same span has no order among itself


class Keep(Struct, frozen=True):
    """How long something is kept (us), how many of it, how many bytes of it; None: no such limit."""

    age: int | None
    count: int | None = None
    bytes: int | None = None

    @property
    def limited(self) -> bool:
        """Whether anything but age matters."""
        return self.count is not None or self.bytes is not None


def by_state(settings: Settings) -> dict[str, Keep]:
    """What the settings say of each terminal state."""
    return {
        layout.DONE: settings.keep_done,
        layout.FAILED: settings.keep_failed,
        layout.CANCELLED: settings.keep_cancelled,
    }


def kept(settings: Settings, state: str, task: str) -> int:
    """For how long a task of this name is kept that ended in this state, us."""
    handler = settings.handler_for(task)
    if handler is not None and handler.keep is not None and handler.keep.age is not None:
        return handler.keep.age
    return by_state(settings)[state].age or 0


def age(date: str, now: int) -> int:
    """How long a UTC date is over, us; not positive while it is not."""
    return now - day_start(date) - DAY_US


def fate(settings: Settings, state: str, date: str, task: str, now: int) -> tuple[str, str]:
    """What is to be done with a task that ended on this date, and until when a pack of it is kept.

    Whole days count: nothing is packed or dropped on the day it ended.
    """
    old, span = age(date, now), kept(settings, state, task)
    expires = date_of(day_start(date) + DAY_US + span)
    if old >= max(span, 0) and old >= 0:
        return DROP, expires
    return (PACK if 0 <= settings.pack_after <= old else KEEP), expires


def stirs(settings: Settings, date: str, now: int) -> bool:
    """Whether anything that ended on this date may be due for something."""
    keeps = [*by_state(settings).values(), *(h.keep for h in settings.handlers.values() if h.keep)]
    spans = [settings.pack_after, *(keep.age for keep in keeps if keep.age is not None)]
    return age(date, now) >= max(0, min(spans))


def is_date(name: str) -> bool:
    """Whether the name of a directory is a UTC date."""
    try:
        day_start(name)
    except ValueError:
        return False
    return True


Key = tuple[str, str]  # the pattern of a handler that has limits of its own (else ""), the state


class Excess:
    """What is too much by count and bytes: first for its handler, then for its state; the oldest goes.

    All of it is told (`tell`), then it is decided (`decide`), then each is asked for once (`takes`).
    """

    def __init__(self, settings: Settings) -> None:
        self._handler_for = settings.handler_for
        self._states = {state: keep for state, keep in by_state(settings).items() if keep.limited}
        named = ((pattern, handler.keep) for pattern, handler in settings.handlers.items())
        self._handlers = {pattern: keep for pattern, keep in named if keep and keep.limited}
        limits = [*self._states.values(), *self._handlers.values()]
        self.wanted = bool(limits)  # whether there is any limit
        self.weighed = any(keep.bytes is not None for keep in limits)  # whether sizes matter
        self.left = 0  # how many are to be taken still
        self._rows: dict[Key, dict[int, tuple[int, int]]] = {}
        self._surplus: Counter[tuple[Key, int]] = Counter()

    def concerns(self, state: str, task: str) -> bool:
        """Whether a task falls under a limit."""
        return self._key(state, task) is not None

    def _key(self, state: str, task: str) -> Key | None:
        handler = self._handler_for(task) if self._handlers else None
        pattern = handler.pattern if handler is not None and handler.pattern in self._handlers else ""
        return (pattern, state) if pattern or state in self._states else None

    def tell(self, state: str, task: str, time: int, size: int) -> None:
        """There is such a task: when it ran last (us UTC), how many bytes it takes."""
        key = self._key(state, task)
        if key is not None:
            rows = self._rows.setdefault(key, {})
            many, large = rows.get(time // SPAN, (0, 0))
            rows[time // SPAN] = many + 1, large + size

    def decide(self) -> None:
        """All is told."""
        for pattern, keep in self._handlers.items():
            self._trim([key for key in self._rows if key[0] == pattern], keep)
        for state, keep in self._states.items():
            self._trim([key for key in self._rows if key[1] == state], keep)

    def _trim(self, keys: list[Key], keep: Keep) -> None:
        rows = sorted((span, key) for key in keys for span in self._rows[key])
        many = sum(self._rows[key][span][0] for span, key in rows)
        large = sum(self._rows[key][span][1] for span, key in rows)
        for span, key in rows:
            count, size = self._rows[key][span]
            surplus = 0 if keep.count is None else many - keep.count
            if keep.bytes is not None and large > keep.bytes:
                surplus = max(surplus, -(-(large - keep.bytes) * count // max(1, size)))
            taken = max(0, min(count, surplus))
            freed = size * taken // max(1, count)
            many, large = many - taken, large - freed
            self._rows[key][span] = count - taken, size - freed
            self._surplus[key, span] += taken
            self.left += taken

    def takes(self, state: str, task: str, time: int) -> bool:
        """Whether this one goes."""
        key = self._key(state, task) if self.left else None
        if key is None or self._surplus[key, time // SPAN] <= 0:
            return False
        self._surplus[key, time // SPAN] -= 1
        self.left -= 1
        return True
