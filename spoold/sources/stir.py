"""When pending/ is read anew because others change it: a reading may cost more than it brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool.times import SECOND
from spoold.core.values import Stirred

if TYPE_CHECKING:
    from spoold.core.state import State
    from spoold.core.values import Event, Now

SOON, OFTEN = SECOND // 20, SECOND  # us between two readings of pending/
SHARE = 20  # a reading takes at most one part in so many of the time,
SELDOM = 60 * SECOND  # but is not put off for longer


class Stir:
    """Soon where this node has nothing left to start, now and then where it has."""

    def __init__(self) -> None:
        self._asked = False
        self._last = self._took = self._started = 0
        self._reads = False

    def ask(self) -> None:
        """Others have changed something."""
        self._asked = True

    def due(self, state: State, now: Now) -> int | None:
        """In how many us it is to be read; None: not."""
        if len(state.peers) < 2 or not (self._asked or state.passed) or self._reading(state):
            return None
        dry = state.head() is None and state.counts["started"] != self._started
        rest = min(SELDOM, max(SOON if dry else OFTEN, SHARE * self._took))
        return max(0, self._last + rest - now.mono)

    def step(self, state: State, now: Now) -> list[Event]:
        """Stirred where it is due."""
        self.settle(state, now)
        if self.due(state, now) != 0:
            return []
        self._asked, self._reads, self._last = False, True, now.mono
        self._started = state.counts["started"]
        return [Stirred()]

    def settle(self, state: State, now: Now) -> None:
        """After each turn of the loop, which may sleep next: a reading that is done took until now."""
        if self._reads and not self._reading(state):
            self._reads, self._took = False, now.mono - self._last

    def _reading(self, state: State) -> bool:
        return self._reads and bool(state.scanning or not all(state.known.values()))
