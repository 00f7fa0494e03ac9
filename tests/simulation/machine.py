"""A model of a machine that is short of something, and the real core that decides what runs on it.

No disk and no processes: tasks are values, time goes in ticks. Memory is taken step by step over the
first half of a run; where it runs out the kernel kills the largest run. CPUs are shared evenly, the
load average lags by a minute, and where memory is nearly out everything crawls.
"""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from spool import settings
from spool.names import id_from
from spool.owncopy import Task
from spool.place import Place
from spoold.core import dispatch
from spoold.core.admit import Machine
from spoold.core.decide import decide, elapse
from spoold.core.state import State
from spoold.core.submit import take_in
from spoold.core.values import Ask, Exited, Looked, Measure, Measured, Move, Now, Start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SECOND = 1_000_000
TICK = SECOND // 10
MIB = 1 << 20
TRACES = Path(__file__).parent / "traces"
WALL = 1_795_305_540_000_000


@dataclass(frozen=True, slots=True)
class Kind:
    """What tasks of one name are like: peak memory (MiB), seconds when alone, CPUs kept busy."""

    name: str
    memory: int
    seconds: float
    cores: float
    share: float  # of all tasks


KINDS = (
    Kind("thumb", 64, 2.0, 1.0, 0.70),
    Kind("report", 1200, 20.0, 0.5, 0.22),
    Kind("fetch", 30, 10.0, 0.02, 0.08),
)
# What others do on the machine at a second: (share of its memory, processes that want a CPU).
Trace = tuple[float, float]


@dataclass(slots=True)
class Running:
    """One run, and how far it is."""

    id: str
    attempt: int
    kind: Kind
    began: int
    done: float = 0.0  # seconds of work
    used: float = 0.0  # seconds of CPU time
    resident: int = 0


@dataclass(slots=True)
class Outcome:
    """What became of a history."""

    done: int = 0
    killed: int = 0  # by the kernel, for want of memory
    failed: int = 0
    seconds: float = 0.0  # until the last one had ended
    latency: list[float] = field(default_factory=list)  # seconds from the drop to the end
    overshoot: int = 0  # most that ran at once beyond what fitted
    peak: int = 0  # most that ran at once
    looks: int = 0
    changes: int = 0  # of the gate

    def p99(self) -> float:
        """Seconds from the drop to the end that 99 of 100 tasks did not exceed."""
        ordered = sorted(self.latency)
        return ordered[-(-len(ordered) * 99 // 100) - 1] if ordered else math.inf


class Bench:
    """One machine, one spool, one trace of what others do."""

    def __init__(
        self, toml: str, trace: Callable[[float], Trace], cpus: int = 4, memory: int = 8192 * MIB
    ) -> None:
        handlers = "".join(f'[handlers."{k.name}"]\nexec = ["x"]\n' for k in KINDS)
        self.state = State("n", settings.load(f"{toml}\n{handlers}"), cpus)
        self.state.known = dict.fromkeys(self.state.known, True)
        self.state.future.bound = self.state.urgent.bound = None
        self.trace, self.cpus, self.memory = trace, cpus, memory
        self.mono = 0
        self.load = 0.0
        self.pressure = self.waiting = 0.0  # for memory, for a CPU: averages of ten seconds
        self.running: dict[str, Running] = {}
        self.tasks: dict[str, Task] = {}
        self.dropped: dict[str, int] = {}
        self.out = Outcome()

    @property
    def now(self) -> Now:
        return Now(WALL + self.mono, self.mono)

    def run(self, todo: Iterable[tuple[float, Kind]], patience: float = 7200) -> Outcome:
        """Drop each task at its second, and go on until all have ended."""
        waiting = deque(todo)
        total = len(waiting)
        while self.out.done + self.out.failed < total:
            assert self.mono < patience * SECOND, "it does not come to an end"
            self.mono += TICK
            actions: list[Any] = []
            while waiting and waiting[0][0] * SECOND <= self.mono:
                actions += self._drop(waiting.popleft()[1])
            for event in self._work():
                actions += decide(self.state, event, self.now)
            self._perform(actions)
            self._perform(elapse(self.state, self.now))
            self._perform(dispatch.dispatch(self.state, self.now))
            self._watch()
        self.out.seconds = self.mono / SECOND
        counts = self.state.counts
        self.out.changes = counts["gate_closed"] + counts["gate_opened"]
        return self.out

    def _drop(self, kind: Kind) -> list[Any]:
        number = len(self.tasks)
        task_id = id_from(WALL + self.mono, number.to_bytes(10, "big"))
        at = WALL + self.mono
        task = Task(id=task_id, task=kind.name, at=at, submitted_at=at, uid=0)
        self.tasks[task_id], self.dropped[task_id] = task, self.mono
        return [take_in(self.state, task, self.now)]

    def _perform(self, actions: Iterable[Any]) -> None:
        queue = deque(actions)
        while queue:
            match queue.popleft():
                case Measure():
                    self.out.looks += 1
                    queue.extendleft(reversed(decide(self.state, Measured(self._look()), self.now)))
                case Ask() as ask:
                    found = {
                        i: Place("pending", path, ask.entries[i], self.tasks[i])
                        for i, path in ask.paths.items()
                    }
                    queue.extendleft(reversed(decide(self.state, Looked(ask, found), self.now)))  # type: ignore[arg-type]
                case Start(entry=entry):
                    kind = next(k for k in KINDS if k.name == entry.task)
                    self.running[entry.id] = Running(entry.id, entry.attempt, kind, self.mono)
                case Move(after="done", entry=entry):
                    self.out.done += 1
                    self.out.latency.append((self.mono - self.dropped[entry.id]) / SECOND)
                case Move(after="failed"):
                    self.out.failed += 1

    def _others(self) -> tuple[int, float]:
        share, busy = self.trace(self.mono / SECOND)
        return int(share * self.memory), busy

    def _work(self) -> list[Exited]:
        """One tick of work, and who has ended in it."""
        taken, busy = self._others()
        wanted = busy + sum(run.kind.cores for run in self.running.values())
        speed = min(1.0, self.cpus / wanted) if wanted else 1.0
        used = taken + sum(run.resident for run in self.running.values())
        tight = used > 0.97 * self.memory
        speed *= 0.3 if tight else 1.0
        step = TICK / SECOND
        fade = math.exp(-step / 60)
        self.load = self.load * fade + wanted * (1 - fade)
        fade = math.exp(-step / 10)
        self.pressure = self.pressure * fade + (80.0 if tight else 0.0) * (1 - fade)
        self.waiting = self.waiting * fade + (100.0 if wanted > self.cpus else 0.0) * (1 - fade)
        ended = []
        for run in list(self.running.values()):
            pace = speed if run.kind.cores > 0.1 else 1.0
            run.done += step * pace
            run.used += step * pace * run.kind.cores
            ramp = min(1.0, run.done / (run.kind.seconds / 2))
            run.resident = int(run.kind.memory * MIB * ramp)
            if run.done >= run.kind.seconds:
                ended.append(self._exit(run, 0, None))
        while taken + sum(run.resident for run in self.running.values()) > self.memory:
            if not self.running:
                break
            self.out.killed += 1
            largest = max(self.running.values(), key=lambda r: (r.resident, r.id))
            ended.append(self._exit(largest, None, 9))
        return ended

    def _exit(self, run: Running, code: int | None, signal: int | None) -> Exited:
        del self.running[run.id]
        return Exited(
            id=run.id, attempt=run.attempt, exit=code, signal=signal, cpu=run.used, logged=0, tail="",
            seconds=(self.mono - run.began) / SECOND, rss=run.resident,
        )  # fmt: skip

    def _look(self) -> Machine:
        taken, _ = self._others()
        used = taken + sum(run.resident for run in self.running.values())
        return Machine(
            at=self.mono,
            cpus=self.cpus,
            cores=self.cpus,
            total=self.memory,
            available=max(0, self.memory - used),
            load=self.load,
            cpu_pressure=self.waiting,
            memory_pressure=self.pressure,
            resident={run.id: run.resident for run in self.running.values()},
        )

    def _watch(self) -> None:
        """How many more run than would fit if all took their peak now, the largest left out first."""
        self.out.peak = max(self.out.peak, len(self.running))
        taken, _ = self._others()
        peaks = sorted((run.kind.memory * MIB for run in self.running.values()), reverse=True)
        beyond = 0
        while peaks and taken + sum(peaks) > self.memory:
            peaks.pop(0)
            beyond += 1
        self.out.overshoot = max(self.out.overshoot, beyond)


def arrivals(seed: int, seconds: float, rate: float) -> list[tuple[float, Kind]]:
    """Tasks dropped at random, `rate` a second."""
    rng, at, found = Random(seed), 0.0, []
    while (at := at + rng.expovariate(rate)) < seconds:
        found.append((at, rng.choices(KINDS, [k.share for k in KINDS])[0]))
    return found


def quiet(_second: float) -> Trace:
    """Nobody else."""
    return 0.05, 0.0


def builds(second: float) -> Trace:
    """A compiler for a minute of every two, on all CPUs and more."""
    return (0.2, 10.0) if second % 120 < 60 else (0.05, 0.0)


def waves(second: float) -> Trace:
    """Memory that others take and give back, over five minutes."""
    return 0.45 + 0.4 * math.sin(second * 2 * math.pi / 300), 1.0


def recorded(name: str) -> Callable[[float], Trace]:
    """A machine as it was, second by second, again and again."""
    rows = json.loads((TRACES / f"{name}.json").read_text())["rows"]
    return lambda second: (rows[int(second) % len(rows)][0], rows[int(second) % len(rows)][1])
