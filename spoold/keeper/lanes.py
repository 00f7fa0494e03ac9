"""Orders that wait for a process of their lane to end: none waits for spoold between two."""

from __future__ import annotations

from bisect import insort

TYPE_CHECKING = False  # typing takes long to import
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .attempt import Attempt
    from .order import StartOrder

SLOW = 0.02  # seconds that a handler may hold up what waits behind it


class Lanes:
    """By lane, in the order of their rank, the orders that were given ahead and have not begun."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[StartOrder]] = {}
        self._given: dict[str, int] = {}  # how many waited when the last was given
        self._width: dict[str, int] = {}  # how many of a lane may run, while some wait

    def add(self, order: StartOrder) -> None:
        """An order, to its place. One that is not ahead brings a slot, for the first of its lane."""
        lane = order.lane
        orders = self.waiting.setdefault(lane, [])
        insort(orders, order)
        self._given[lane] = len(orders)
        before = self._width.get(lane, 0)
        self._width[lane] = max(before, order.ahead) if order.ahead else before + 1

    def next(self, running: Iterable[Attempt]) -> StartOrder | None:
        """An order whose turn it is; it is out of here."""
        lanes = [attempt.lane for attempt in running]
        for lane, orders in self.waiting.items():
            if lanes.count(lane) < self._width[lane]:
                return self._take(lane, orders[0])
        return None

    def has_enough(self, lane: str) -> bool:
        """Whether more than half of what was given waits still: spoold need not hurry to give more."""
        return lane in self.waiting and 2 * len(self.waiting[lane]) > self._given[lane]

    def take(self, key: str) -> bool:
        """Whether an attempt waits; it does no more."""
        found = next((o for orders in self.waiting.values() for o in orders if o.key == key), None)
        if found is not None:
            self._take(found.lane, found)
        return found is not None

    def clear(self, lane: str) -> list[str]:
        """The keys of all that wait in a lane, in turn; none does any more."""
        keys = [order.key for order in self.waiting.get(lane, ())]
        self._forget(lane)
        return keys

    def due(self, running: Iterable[Attempt]) -> dict[str, float]:
        """When patience with what runs in the lanes of those that wait is over, as time.monotonic()."""
        found = dict.fromkeys(self.waiting, 0.0)
        for attempt in running:
            if attempt.lane in found:
                found[attempt.lane] = max(found[attempt.lane], attempt.since + SLOW)
        return found

    def _take(self, lane: str, order: StartOrder) -> StartOrder:
        self.waiting[lane].remove(order)
        if not self.waiting[lane]:
            self._forget(lane)
        return order

    def _forget(self, lane: str) -> None:
        for kept in (self.waiting, self._given, self._width):
            kept.pop(lane, None)
