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

    def add(self, order: StartOrder) -> None:
        """An order, to its place."""
        orders = self.waiting.setdefault(order.lane, [])
        insort(orders, order)
        self._given[order.lane] = len(orders)

    def next(self, running: Iterable[Attempt]) -> StartOrder | None:
        """An order whose turn it is; it is out of here."""
        lanes = [attempt.lane for attempt in running]
        for lane, orders in self.waiting.items():
            if lanes.count(lane) < orders[0].ahead:
                return self._take(lane, 0)
        return None

    def has_enough(self, lane: str) -> bool:
        """Whether more than half of what was given waits still: spoold need not hurry to give more."""
        return lane in self.waiting and 2 * len(self.waiting[lane]) > self._given[lane]

    def take(self, key: str) -> bool:
        """Whether an attempt waits; it does no more."""
        for lane, orders in self.waiting.items():
            for at, order in enumerate(orders):
                if order.key == key:
                    self._take(lane, at)
                    return True
        return False

    def clear(self, lane: str) -> list[str]:
        """The keys of all that wait in a lane, in turn; none does any more."""
        self._given.pop(lane, None)
        return [order.key for order in self.waiting.pop(lane, ())]

    def due(self, running: Iterable[Attempt]) -> dict[str, float]:
        """When patience with what runs in the lanes of those that wait is over, as time.monotonic()."""
        found = dict.fromkeys(self.waiting, 0.0)
        for attempt in running:
            if attempt.lane in found:
                found[attempt.lane] = max(found[attempt.lane], attempt.since + SLOW)
        return found

    def _take(self, lane: str, at: int) -> StartOrder:
        found = self.waiting[lane].pop(at)
        if not self.waiting[lane]:
            del self.waiting[lane], self._given[lane]
        return found
