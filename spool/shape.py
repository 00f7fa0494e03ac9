"""The shape of a queue: how many tasks stand where, and for how long what waits has been due. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spool import layout
from spool.names import PRIORITIES, day_start
from spool.times import format_utc

if TYPE_CHECKING:
    from collections.abc import Iterable

# Upper ends of the buckets, seconds: each about five times the one before.
BOUNDS = (1, 5, 30, 120, 600, 3600, 21_600, 86_400, 604_800)
LABELS = ("1s", "5s", "30s", "2m", "10m", "1h", "6h", "1d", "7d", "older")
NAMED = 200  # task names told apart; the rest is "other"
OTHER = "other"


@dataclass(slots=True)
class Shape:
    """What one look at the names finds. `at`: us UTC, when it began.

    `counts`: as spool.look.count gives them. `tasks`: name -> class -> [due later, then one count
    for each bucket]. `oldest`: the task that has been due the longest, `following`: the next one due.
    """

    at: int
    counts: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    oldest: tuple[int, str, str] | None = None

    def __post_init__(self) -> None:
        """All states at nothing."""
        for state in layout.STATES:
            keys = [state] if state != layout.PENDING else [f"{state}/{prio}" for prio in PRIORITIES]
            for key in keys:
                self.counts.setdefault(key, 0)

    def count(self, state: str, many: int) -> None:
        """So many entries of a state (other than pending), by their number alone."""
        self.counts[state] += many

    def wait(self, folder: str, names: Iterable[str]) -> None:
        """Entries of pending/DATE/PRIO, cut up and not parsed: there may be a million."""
        _, date, prio = folder.split("/")
        try:
            start = day_start(date)
        except ValueError:
            return  # no directory of ours; fsck names it
        for name in names:
            parts = name.split(",", 3)
            clock = parts[0]
            if len(parts) < 3 or len(clock) != 13 or not (clock[:6] + clock[7:]).isdigit():
                continue  # being prepared, or no entry
            time = (int(clock[:2]) * 60 + int(clock[2:4])) * 60 + int(clock[4:6])
            due = start + time * 1_000_000 + int(clock[7:])
            self._waits(due, prio, parts[1], parts[2].removesuffix(".json"))

    def _waits(self, due: int, prio: str, task_id: str, task: str) -> None:
        self.counts[f"{layout.PENDING}/{prio}"] += 1
        name = task if task in self.tasks or len(self.tasks) < NAMED else OTHER
        row = self.tasks.setdefault(name, {}).get(prio)
        if row is None:
            row = self.tasks[name][prio] = [0] * (len(BOUNDS) + 2)
        age = self.at - due
        if age < 0:
            row[0] += 1
            return
        row[1 + bisect_left(BOUNDS, age / 1e6)] += 1
        if self.oldest is None or due < self.oldest[0]:
            self.oldest = due, task_id, task

    def plain(self) -> dict[str, Any]:
        """The same for JSON."""
        oldest = None
        if self.oldest is not None:
            at, task_id, task = self.oldest
            oldest = {"id": task_id, "task": task, "at": format_utc(at)}
        return {
            "at": format_utc(self.at),
            "counts": self.counts,
            "oldest": oldest,
            "bounds": list(BOUNDS),
            "tasks": self.tasks,
        }
