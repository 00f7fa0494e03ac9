"""Fair between writers: each has his turn, and so many actions a minute, whatever the others do."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from spool.times import MINUTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spoold.core.values import Now

T = TypeVar("T")
FIRST = 50  # actions that may come at once, whatever the rate


def in_turn(queues: Mapping[int, list[T]], most: int, allowed: Mapping[int, int], last: int) -> list[T]:
    """At most `most` of what waits, the first of each writer, then the second of each, and so on.

    They are taken out of the queues. `allowed`: how many each writer may have; left out, any number.
    `last`: who had the last turn before; those behind him are the first.
    """
    taken: list[T] = []
    left = dict(allowed)
    going = [writer for writer, queue in queues.items() if queue and left.get(writer, 1) > 0]
    going.sort(key=lambda writer: (writer <= last, writer))
    at = dict.fromkeys(going, 0)
    while going and len(taken) < most:
        for writer in going[: most - len(taken)]:
            taken.append(queues[writer][at[writer]])
            at[writer] += 1
            if writer in left:
                left[writer] -= 1
        going = [w for w in going if at[w] < len(queues[w]) and left.get(w, 1) > 0]
    for writer, number in at.items():
        del queues[writer][:number]
    return taken


class Rates:
    """A bucket for each writer: it fills evenly, an action takes one out."""

    def __init__(self) -> None:
        self._full: dict[int, int] = {}  # writer -> monotonic us at which his bucket is full again

    def left(self, writer: int, rate: int, now: Now) -> int:
        """How many actions a writer may have now, at `rate` a minute."""
        return max(0, self._depth(rate) - self._owed(writer, rate, now))

    def take(self, writer: int, rate: int, now: Now, number: int = 1) -> None:
        """So many were taken in."""
        each = MINUTE // max(rate, 1)
        self._full[writer] = max(self._full.get(writer, 0), now.mono) + number * each
        if len(self._full) > 10_000:  # those that are full again are as good as unknown
            self._full = {w: at for w, at in self._full.items() if at > now.mono}

    def wait(self, writer: int, rate: int, now: Now) -> int:
        """In how many us there will be one, us; 0 where there is."""
        if self.left(writer, rate, now) > 0:
            return 0
        each = MINUTE // max(rate, 1)
        return max(0, self._full.get(writer, 0) - now.mono - (self._depth(rate) - 1) * each)

    def _depth(self, rate: int) -> int:
        return min(max(rate, 1), max(FIRST, rate // 60))

    def _owed(self, writer: int, rate: int, now: Now) -> int:
        each = MINUTE // max(rate, 1)
        return -(-max(0, self._full.get(writer, 0) - now.mono) // max(each, 1))
