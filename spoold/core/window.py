"""A bounded window on a sorted backlog: the smallest keys in memory, the rest on disk."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from spool.names import Entry

K = TypeVar("K", str, tuple[int, str])


class Window(Generic[K]):
    """Sorted keys with their entries, all of them below `bound`.

    `bound` is the promise: every entry of this backlog whose key is below it is in memory. None
    means that nothing is left on disk; `low` (below every key) that nothing is known yet.
    It holds `limit` entries: as many as it was made for, or, where it shares room with others (see
    `shorten`), as many as were its part at the last scan.
    """

    __slots__ = ("_cut", "_keys", "_shared", "_soonest", "bound", "entries", "gathered", "least", "limit")

    def __init__(self, limit: int, low: K) -> None:
        self.least = self.limit = limit
        self._shared = False
        self.bound: K | None = low
        self._keys: list[K] = []
        self.entries: dict[K, Entry] = {}
        self.gathered: dict[K, Entry | str] | None = None
        self._cut: K | None = None
        self._soonest: K | None = None

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def next(self) -> K | None:
        """Where the next is, or behind which place, if it is only on disk; None where there is none."""
        return self._keys[0] if self._keys else self.bound

    @property
    def unknown(self) -> bool:
        """Whether what comes first may be on disk: nothing here, and something there."""
        return not self._keys and self.bound is not None

    @property
    def hungry(self) -> bool:
        """Whether a scan should fill it up."""
        return self.bound is not None and len(self._keys) * 4 < self.limit

    def before(self, place: K) -> int:
        """How many in memory come before a place."""
        return bisect_left(self._keys, place)

    def head(self, count: int) -> list[Entry]:
        """The first so many in memory."""
        return [self.entries[place] for place in self._keys[:count]]

    def first(self) -> K | None:
        """The smallest key in memory."""
        return self._keys[0] if self._keys else None

    def add(self, place: K, entry: Entry) -> Entry | None:
        """Keep an entry that is on disk, if it falls into the window.

        Returns the entry that is left to the disk for it: itself, the last one, or none.
        """
        if self.bound is not None and place >= self.bound:
            self._keep(place, entry)  # a scan under way may have passed its name already
            return entry
        if place not in self.entries:
            insort(self._keys, place)
        self.entries[place] = entry
        if len(self._keys) > self.limit:
            self.bound = self._keys.pop()
            gone = self.entries.pop(self.bound)
            self._keep(self.bound, gone)  # a scan under way has passed it by, it was in memory then
            return gone
        return None

    def discard(self, place: K) -> None:
        """Forget a key, in memory and in a scan under way."""
        if self.gathered is not None:
            self.gathered.pop(place, None)
        if self.entries.pop(place, None) is not None:
            del self._keys[bisect_left(self._keys, place)]

    def part(
        self, group: Callable[[Entry | str], str], names: Iterable[str], limit: int
    ) -> dict[str, Window[K]]:
        """A window of each group named, whose entries leave this one."""
        found: dict[str, Window[K]] = {}
        for name in names:
            made = found[name] = Window(limit, self.bound)  # type: ignore[arg-type]
            if self.gathered is not None:
                made.gathered, made._cut, made._shared = {}, self._cut, self._shared
        for place, entry in list(self.entries.items()):
            if (own := found.get(group(entry))) is not None:
                own.entries[place] = self.entries.pop(place)
        for place, one in list((self.gathered or {}).items()):
            own = found.get(group(one))
            if own is not None and own.gathered is not None:
                own.gathered[place] = one
                del self.gathered[place]  # type: ignore[union-attr]
        self.sort()
        for own in found.values():
            own.sort()
        return found

    def sort(self) -> None:
        """What was put into it, or taken out, is in order."""
        self._keys = sorted(self.entries)
        self._soonest = min(self.gathered or (), default=None)
        self.fit()

    def fit(self) -> None:
        """It has room for what it holds now, and no more than that and what it was made for."""
        self.limit = max(self.least, len(self._keys))

    def gather(self, *, shared: bool = False) -> None:
        """A scan begins: from now on `offer` collects what lies beyond the bound.

        Where room is shared, the caller sees to it that it is not too much.
        """
        self.gathered, self._shared = {}, shared
        self._cut = self._soonest = None

    def offer(self, place: K, found: Entry | str) -> None:
        """What a scan saw: an entry, or whatever text the caller makes one of at the end."""
        wanted = self.gathered
        if wanted is None or self.bound is None or place < self.bound:
            return
        if self._cut is not None and place >= self._cut:
            return
        self._keep(place, found)
        if not self._shared and len(wanted) > 2 * self.limit:
            self.trim(self.limit)

    def _keep(self, place: K, found: Entry | str) -> None:
        if self.gathered is not None:
            self.gathered[place] = found
            if self._soonest is None or place < self._soonest:
                self._soonest = place

    @property
    def cut(self) -> K | None:
        """From where on a scan that is under way offers in vain; None where anything may be of use."""
        return self._cut if self.gathered is not None else None

    @property
    def due(self) -> int:
        """How many of what it has gathered it may keep in any case."""
        return max(0, self.least - len(self._keys))

    def trim(self, count: int, cut: K | None = None) -> None:
        """Of what is gathered keep the first so many, and what is below `cut`; the rest is on disk."""
        wanted = self.gathered or {}
        places = sorted(wanted)
        count = max(count, bisect_left(places, cut) if cut is not None else 0)
        if count < len(places):
            left = places[count]
            self._cut = left if self._cut is None or left < self._cut else self._cut
            self.gathered = {place: wanted[place] for place in places[:count]}

    def take_below(self, limit: K) -> list[Entry | str]:
        """What a scan under way has gathered below `limit`: it is taken out."""
        if self.gathered is None or self._soonest is None or self._soonest >= limit:
            return []
        found = [self.gathered.pop(place) for place in sorted(self.gathered) if place < limit]
        self._soonest = min(self.gathered, default=None)
        return found

    def settle(self, seen: K | None = None) -> list[tuple[K, Entry | str]]:
        """The scan has ended: what it found that fits, smallest first, and the new bound.

        `seen` is where it ended, if not at the end of all. The caller adds each with `add` after
        making an entry of it.
        """
        wanted, cut = self.gathered or {}, self._cut
        if seen is not None:
            cut = seen if cut is None else min(cut, seen)
        self.gathered = None
        keep = sorted(p for p in wanted if cut is None or p < cut)
        room = len(keep) if self._shared else max(self.limit - len(self._keys), 1)
        self.bound = keep[room] if len(keep) > room else cut
        if self._shared:
            self.limit = max(self.least, len(self._keys) + room)
        return [(place, wanted[place]) for place in keep[:room]]


def shorten(windows: list[Window[K]], room: int, *, ended: bool) -> None:
    """Windows that share room keep what comes first in all, so many, beside what each may in any case.

    While a scan goes on it may be `room` more, so that they are not sorted for each slice of names.
    """
    spare = max(0, room - sum(max(0, len(window) - window.least) for window in windows))
    over = sum(max(0, len(window.gathered or ()) - window.due) for window in windows)
    if over <= (spare if ended else spare + room):
        return
    cut = sorted(place for w in windows for place in sorted(w.gathered or ())[w.due :])[spare]
    for window in windows:
        window.trim(window.due, cut)
