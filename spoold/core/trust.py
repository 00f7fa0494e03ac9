"""Whether the clock is right when files are asked how old they are. Pure.

What was deleted does not come back. Where the clock shows more than a day later than it should, files are
as old as they would be by the time that was known before, for an hour: long enough for somebody, or NTP,
to set it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool.times import DAY, HOUR

if TYPE_CHECKING:
    from spoold.core.values import Now

LEAP = DAY  # us ahead of what is known from which on the clock is doubted
LONG = HOUR  # us, by a clock that nobody sets


class Trust:
    """What is known of the clock. `until` (us, monotonic): how long it is doubted."""

    def __init__(self) -> None:
        self.until = 0
        self._seen: int | None = None  # the clock minus the monotonic one, when last looked at
        self._known = 0  # the same, before it was doubted

    def look(self, now: Now) -> int:
        """By how many us the clock has gone forward by itself since the last look."""
        found = now.wall - now.mono
        step = 0 if self._seen is None else found - self._seen
        self._seen = found
        if step > LEAP:
            self.doubt(now.wall - step, now)
        return step

    def doubt(self, known: int, now: Now) -> None:
        """The clock is ahead of what is known to be the time, us UTC."""
        if not self.doubts(now):
            self._known = known - now.mono
        self.until = now.mono + LONG

    def doubts(self, now: Now) -> bool:
        """Whether the clock is ahead of the time by which files are old."""
        return now.mono < self.until and now.wall > now.mono + self._known + LEAP

    def time(self, now: Now) -> int:
        """The time by which files are old, us UTC."""
        return now.mono + self._known if self.doubts(now) else now.wall
