"""What is measured of transitions as they pass: counts and histograms by task name, bounded. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from functools import cache
from typing import TYPE_CHECKING

from spool.failures import FAILURES
from spool.times import MINUTE
from spoold.core import table

if TYPE_CHECKING:
    from spoold.core.values import Move

NAMED = 100  # task names told apart; the rest is "other"
OTHER = "other"
BOUNDS = (0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 43_200)  # seconds
LATELY = 15  # minutes that are remembered


class Histogram:
    """Counts of values in buckets, and their sum: seconds."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """One more value."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class Meter:
    """Sees every transition that stands once."""

    def __init__(self) -> None:
        self.changed = True
        self.seen = 0  # transitions, in all
        self.names: set[str] = set()
        self.transitions: defaultdict[tuple[str, str], int] = defaultdict(int)  # task, event
        self.waits: defaultdict[str, Histogram] = defaultdict(Histogram)  # from its time to its start
        self.runs: defaultdict[str, Histogram] = defaultdict(Histogram)
        # From its deadline to its end, where it was missed.
        self.late: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.met: defaultdict[str, int] = defaultdict(int)  # ended before their deadline
        self._minutes: deque[tuple[int, defaultdict[str, int]]] = deque(maxlen=LATELY)

    def see(self, move: Move, now: int) -> None:
        """A transition happens. `now`: us UTC."""
        self.changed = True
        self.seen += 1
        entry, event, before, after = move.entry, move.event, move.before, move.after
        name = entry.task if entry.task in self.names else self._name(entry.task)
        self.transitions[name, event] += 1
        if event == "claim":
            self.waits[name].add(max(0, now - entry.time) / 1e6)
        seconds = move.record.get("seconds") if move.record is not None else None
        if seconds is not None and before == table.RUNNING:
            self.runs[name].add(seconds)
        if entry.deadline is not None and after in table.TERMINAL:
            if now > entry.deadline:
                self.late[name].add((now - entry.deadline) / 1e6)
            else:
                self.met[name] += 1
        if what := _what(event, before, after):
            minute = now // MINUTE
            if not self._minutes or self._minutes[-1][0] != minute:
                self._minutes.append((minute, defaultdict(int)))
            row = self._minutes[-1][1]
            for one in what:
                row[one] += 1

    def lately(self, now: int, minutes: int = 5) -> dict[str, int]:
        """What the last minutes saw: taken, started, done, failed (for good), failures (attempts)."""
        found = dict.fromkeys(("taken", "started", "done", "failed", "failures"), 0)
        for minute, row in self._minutes:
            if minute > now // MINUTE - minutes:
                for name, count in row.items():
                    found[name] += count
        return found

    def _name(self, task: str) -> str:
        if len(self.names) >= NAMED:
            return OTHER
        self.names.add(task)
        return task


@cache
def _what(event: str, before: str, after: str) -> tuple[str, ...]:
    """What `lately` calls a transition."""
    found = {
        "taken": before == table.NEW,
        "started": event == "claim",
        after: after in (table.DONE, table.FAILED),
        "failures": event in FAILURES,
    }
    return tuple(name for name, is_one in found.items() if is_one)
