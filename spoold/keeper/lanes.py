"""Orders that wait for a process of their lane to end: none waits for spoold between two."""

from __future__ import annotations

from bisect import insort

TYPE_CHECKING = False  # typing takes long to import
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .attempt import Attempt
    from .orders import StartOrder

SLOW = 0.02  # seconds that a handler may hold up what waits behind it


class Lane:
    """What waits in one lane, the first by rank before the others."""

    __slots__ = ("given", "orders", "width")

    def __init__(self) -> None:
        self.orders: list[StartOrder] = []
        self.given = 0  # how many waited when the last was given
        self.width = 0  # how many of the lane may run


class Lanes:
    """By name, the lanes in which orders wait that were given ahead and have not begun."""

    def __init__(self) -> None:
        self.waiting: dict[str, Lane] = {}

    def add(self, order: StartOrder) -> None:
        """An order, to its place. One that is not ahead brings a slot, for the first of its lane."""
        lane = self.waiting.setdefault(order.lane, Lane())
        insort(lane.orders, order)
        lane.given = len(lane.orders)
        lane.width = max(lane.width, order.ahead) if order.ahead else lane.width + 1

    def next(self, running: Iterable[Attempt]) -> StartOrder | None:
        """An order whose turn it is; it is out of here."""
        names = [attempt.lane for attempt in running]
        for name, lane in self.waiting.items():
            if names.count(name) < lane.width:
                return self._take(lane.orders[0])
        return None

    def first(self) -> list[StartOrder]:
        """The next order of each lane."""
        return [lane.orders[0] for lane in self.waiting.values()]

    def close(self) -> bool:
        """Let go of what was made ready for any that wait; whether there was something."""
        ready = [o for lane in self.waiting.values() for o in lane.orders if o.streams is not None]
        for order in ready:
            order.close()
        return bool(ready)

    def has_enough(self, name: str) -> bool:
        """Whether more than half of what was given waits still: spoold need not hurry to give more."""
        lane = self.waiting.get(name)
        return lane is not None and 2 * len(lane.orders) > lane.given

    def take(self, key: str) -> bool:
        """Whether an attempt waits; it does no more."""
        found = next((o for lane in self.waiting.values() for o in lane.orders if o.key == key), None)
        if found is not None:
            self._take(found).close()
        return found is not None

    def clear(self, name: str) -> list[str]:
        """The keys of all that wait in a lane, in turn; none does any more."""
        lane = self.waiting.pop(name, None)
        for order in lane.orders if lane is not None else ():
            order.close()
        return [] if lane is None else [order.key for order in lane.orders]

    def due(self, running: Iterable[Attempt]) -> dict[str, float]:
        """When patience with what runs in the lanes of those that wait is over, as time.monotonic()."""
        found: dict[str, float] = {}
        for attempt in running if self.waiting else ():
            if attempt.lane in self.waiting:
                found[attempt.lane] = max(found.get(attempt.lane, 0.0), attempt.since + SLOW)
        return found

    def _take(self, order: StartOrder) -> StartOrder:
        lane = self.waiting[order.lane]
        lane.orders.remove(order)
        if not lane.orders:
            del self.waiting[order.lane]
        return order
