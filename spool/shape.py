"""The shape of a queue: how many tasks stand where, and for how long what waits has been due. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spool import layout
from spool.names import PRIORITIES
from spool.times import format_utc

if TYPE_CHECKING:
    from spool.names import Entry

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

    def waits(self, entry: Entry) -> None:
        """One entry of pending/."""
        self.counts[f"{layout.PENDING}/{entry.prio}"] += 1
        name = entry.task if entry.task in self.tasks or len(self.tasks) < NAMED else OTHER
        row = self.tasks.setdefault(name, {}).setdefault(entry.prio, [0] * (len(BOUNDS) + 2))
        age = self.at - entry.time
        if age < 0:
            row[0] += 1
            return
        seconds = age / 1e6
        row[1 + next((i for i, bound in enumerate(BOUNDS) if seconds <= bound), len(BOUNDS))] += 1
        if self.oldest is None or entry.time < self.oldest[0]:
            self.oldest = entry.time, entry.id, entry.task

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
