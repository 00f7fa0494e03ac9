"""What is measured of transitions as they pass: counts and histograms by task name, bounded. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING

from spoold.core import table

if TYPE_CHECKING:
    from spoold.core.values import Move

NAMED = 100  # task names told apart; the rest is "other"
OTHER = "other"
BOUNDS = (0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 43_200)  # seconds
MINUTE = 60_000_000
LATELY = 15  # minutes that are remembered
FAILURES = ("fail", "give_up", "poison", "expire")


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
    """Sees every transition once; a transition that the disk undoes is counted all the same."""

    def __init__(self) -> None:
        self.changed = True
        self.names: set[str] = set()
        self.transitions: dict[tuple[str, str], int] = {}  # task, event
        self.waits: dict[str, Histogram] = {}  # from its time to its start
        self.runs: dict[str, Histogram] = {}
        self.late: dict[str, Histogram] = {}  # from its deadline to its end, where it was missed
        self.met: dict[str, int] = {}  # ended before their deadline
        self._minutes: deque[tuple[int, dict[str, int]]] = deque(maxlen=LATELY)

    def see(self, move: Move, now: int) -> None:
        """A transition happens. `now`: us UTC."""
        self.changed = True
        entry = move.entry
        name = self._name(entry.task)
        key = name, move.event
        self.transitions[key] = self.transitions.get(key, 0) + 1
        if move.event == "claim":
            _of(self.waits, name).add(max(0, now - entry.time) / 1e6)
        seconds = move.record.get("seconds") if move.record is not None else None
        if seconds is not None and move.before == table.RUNNING:
            _of(self.runs, name).add(seconds)
        if move.after in table.TERMINAL and entry.deadline is not None:
            if now > entry.deadline:
                _of(self.late, name).add((now - entry.deadline) / 1e6)
            else:
                self.met[name] = self.met.get(name, 0) + 1
        self._lately(move, now)

    def lately(self, now: int, minutes: int = 5) -> dict[str, int]:
        """What the last minutes saw: taken, started, done, failed (for good), failures (attempts)."""
        found = dict.fromkeys(("taken", "started", "done", "failed", "failures"), 0)
        for minute, row in self._minutes:
            if minute > now // MINUTE - minutes:
                for name, count in row.items():
                    found[name] += count
        return found

    def _lately(self, move: Move, now: int) -> None:
        what = []
        if move.before == table.NEW:
            what.append("taken")
        if move.event == "claim":
            what.append("started")
        if move.after in (table.DONE, table.FAILED):
            what.append(move.after)
        if move.event in FAILURES:
            what.append("failures")
        if not what:
            return
        minute = now // MINUTE
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append((minute, {}))
        row = self._minutes[-1][1]
        for name in what:
            row[name] = row.get(name, 0) + 1

    def _name(self, task: str) -> str:
        if task in self.names:
            return task
        if len(self.names) >= NAMED:
            return OTHER
        self.names.add(task)
        return task


def _of(histograms: dict[str, Histogram], name: str) -> Histogram:
    found = histograms.get(name)
    if found is None:
        found = histograms[name] = Histogram()
    return found
