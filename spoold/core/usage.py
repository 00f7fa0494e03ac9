"""What tasks have needed until now, by their name: memory, CPU, time."""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec import Struct, field

KEPT = 64  # runs of one name
KEPT_NAMES = 1000
LATEST = 3  # runs that count in full, however many were smaller before


class Usage(Struct):
    """The last runs of one name: peak memory (bytes), CPU time and run time (us)."""

    memory: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT))
    cpu: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT))
    took: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT))
    need: int = 0  # the memory to reckon with: its p95, or the most of the latest runs
    cores: float = 1.0  # what a run keeps busy, as a rule
    usual: int = 0  # p95 of the run time
    stale: bool = False  # something was learned since they were worked out

    def reckon(self) -> None:
        """Work out what is asked for often."""
        self.stale = False
        recent = list(self.memory)[-LATEST:]
        self.need = max([p95(self.memory), *recent])
        time = median(self.took)
        self.cores = median(self.cpu) / time if time else 1.0
        self.usual = p95(self.took)


class History:
    """What is known of the names that ran last; bounded."""

    def __init__(self) -> None:
        self.names: dict[str, Usage] = {}
        self.changed = False  # since it was kept on disk

    def learn(self, task: str, *, took: int = 0, cpu: int | None = None, memory: int = 0) -> None:
        """A run of this name: 0 and None stand for what is not known."""
        found = self.names.pop(task, None) or Usage()
        if len(self.names) >= KEPT_NAMES:
            self.names.pop(next(iter(self.names)))  # the one that has not run for longest
        self.names[task] = found
        if took:
            found.took.append(took)
        if cpu is not None:
            found.cpu.append(cpu)
        if memory:
            found.memory.append(memory)
        found.stale = True
        self.changed = True

    def of(self, task: str) -> Usage | None:
        """What is known of a name."""
        found = self.names.get(task)
        if found is not None and found.stale:
            found.reckon()
        return found

    def plain(self) -> dict[str, Any]:
        """All of it for JSON."""
        return {
            "v": 1,
            "tasks": {
                task: {"memory": list(u.memory), "cpu": list(u.cpu), "took": list(u.took)}
                for task, u in self.names.items()
            },
        }

    def recall(self, found: object) -> None:
        """Take over what `plain` has made; what is not of that form counts as never learned."""
        tasks = found.get("tasks") if isinstance(found, dict) else None
        for task, row in tasks.items() if isinstance(tasks, dict) else ():
            if not isinstance(row, dict) or len(self.names) >= KEPT_NAMES:
                continue
            usage = Usage()
            for name in ("memory", "cpu", "took"):
                values = row.get(name)
                given = values if isinstance(values, list) else []
                getattr(usage, name).extend(v for v in given if type(v) is int and 0 <= v < 1 << 62)
            usage.reckon()
            self.names[task] = usage


def median(values: deque[int]) -> int:
    """The one in the middle, the upper of two; 0 where there is none."""
    return sorted(values)[len(values) // 2] if values else 0


def p95(values: deque[int]) -> int:
    """The one that 95 of 100 do not exceed; 0 where there is none."""
    return sorted(values)[-(-len(values) * 95 // 100) - 1] if values else 0
