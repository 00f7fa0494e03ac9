"""The shape of a queue: how many tasks stand where, and for how long what waits has been due. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from spool import layout
from spool.names import DAY_US, PRIORITIES, day_start
from spool.times import format_utc

if TYPE_CHECKING:
    from collections.abc import Iterable

# Upper ends of the buckets, seconds: each about five times the one before.
BOUNDS = (1, 5, 30, 120, 600, 3600, 21_600, 86_400, 604_800)
LABELS = ("1s", "5s", "30s", "2m", "10m", "1h", "6h", "1d", "7d", "older")
NAMED = 200  # task names told apart; the rest is "other"
OTHER = "other"
_ENTRY = re.compile(r"^([0-9]{6}\.[0-9]{6}),([^,\n]*),([^,\n]*)", re.MULTILINE)


class Shape(Struct):
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
        rows = _ENTRY.findall("\n".join(names))  # without what is being prepared, or no entry
        if not rows:
            return
        edges = [*(self.at - 1_000_000 * bound for bound in reversed(BOUNDS)), self.at + 1]
        cuts = [_clock(edge, start) for edge in edges]
        found = Counter((bisect_right(cuts, clock), task) for clock, _, task in rows)
        for (cut, task), many in found.items():
            self._waits(task, prio, len(cuts) - cut, many)
        clock, task_id, task = min(rows)
        first = start + _us(clock), task_id, task.removesuffix(".json")
        if first[0] <= self.at and (self.oldest is None or first < self.oldest):
            self.oldest = first

    def _waits(self, task: str, prio: str, bucket: int, many: int) -> None:
        """So many of a name; in bucket 0 what is due later."""
        self.counts[f"{layout.PENDING}/{prio}"] += many
        task = task.removesuffix(".json")
        name = task if task in self.tasks or len(self.tasks) < NAMED else OTHER
        row = self.tasks.setdefault(name, {}).setdefault(prio, [0] * (len(BOUNDS) + 2))
        row[bucket] += many

    def add(self, other: Shape) -> None:
        """What another look has found elsewhere, at the same time."""
        for key, many in other.counts.items():
            if not key.startswith(layout.PENDING):
                self.counts[key] += many
        for task, rows in other.tasks.items():
            for prio, row in rows.items():
                for bucket, many in enumerate(row):
                    self._waits(task, prio, bucket, many)
        if other.oldest is not None and (self.oldest is None or other.oldest < self.oldest):
            self.oldest = other.oldest

    def settled(self, folder: str, now: int) -> bool:
        """Whether what was found in one directory holds at `now`, if the same names are there."""
        state, *rest = folder.split("/")
        if state != layout.PENDING:
            return True
        try:
            begins = day_start(rest[0])
        except ValueError:
            return False
        for at in (self.at, now):
            later, older = begins > at, begins + DAY_US + 1_000_000 * BOUNDS[-1] < at
            if not later and not older:
                return False
        return (begins > self.at) == (begins > now)

    def kept(self) -> dict[str, Any]:
        """All of it for JSON, for `recall`."""
        return {"at": self.at, "counts": self.counts, "tasks": self.tasks, "oldest": self.oldest}

    @classmethod
    def recall(cls, kept: Any) -> Shape:
        """What `kept` has made; ValueError, KeyError, TypeError or AttributeError from all else."""
        found = cls(int(kept["at"]))
        for key in found.counts:
            if not key.startswith(layout.PENDING):
                found.counts[key] = int(kept["counts"][key])
        for task, rows in kept["tasks"].items():
            for prio, row in rows.items():
                for bucket, many in zip(range(len(BOUNDS) + 2), row, strict=True):
                    found._waits(task, prio, bucket, int(many))
        if kept["oldest"] is not None:
            at, task_id, task = kept["oldest"]
            found.oldest = int(at), str(task_id), str(task)
        return found

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


def _clock(at: int, start: int) -> str:
    """An instant as the names of a day write it; another day's is before or after all of them."""
    past = at - start
    if not 0 <= past < DAY_US:
        return "" if past < 0 else "~"
    seconds, us = divmod(past, 1_000_000)
    return f"{seconds // 3600:02}{seconds // 60 % 60:02}{seconds % 60:02}.{us:06}"


def _us(clock: str) -> int:
    seconds = (int(clock[:2]) * 60 + int(clock[2:4])) * 60 + int(clock[4:6])
    return seconds * 1_000_000 + int(clock[7:])
