"""Whoever waits for the machine is not forgotten: it is looked at as long as somebody does, and told as it is.

No disk and no processes: the real core, and a clock that goes from one of its timers to the next.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from spool.names import PRIORITIES, id_from
from spool.owncopy import Task
from spool.place import Place
from spool.settings import load
from spoold.core import dispatch
from spoold.core.admit import LOOK_LAST, Machine
from spoold.core.deadlines import next_wake
from spoold.core.decide import decide, elapse
from spoold.core.pace import STEP
from spoold.core.state import State
from spoold.core.submit import take_in
from spoold.core.values import Ask, Exited, Looked, Measure, Measured, Note, Now, Start

if TYPE_CHECKING:
    from collections.abc import Iterable

SECOND = 1_000_000
WALL = 1_795_305_540_000_000
GIB = 1 << 30
CALM: dict[str, Any] = {}
BUSY = ({"available": GIB}, {"memory_pressure": 90.0}, {"io_pressure": 90.0})


class Driver:
    """Tasks that run until they are ended by hand, on a machine that is as said."""

    def __init__(self, toml: str, cpus: int) -> None:
        self.state = State("n", load(f'{toml}\n[handlers."x.*"]\nexec = ["x"]\n'), cpus)
        self.state.known = dict.fromkeys(self.state.known, True)
        self.state.future.bound = self.state.urgent.bound = None
        self.cpus, self.machine = cpus, CALM
        self.mono = 0
        self.tasks: dict[str, Task] = {}
        self.running: dict[str, int] = {}  # attempt
        self.looked = 0

    @property
    def now(self) -> Now:
        return Now(WALL + self.mono, self.mono)

    @property
    def waiting(self) -> int:
        return sum(len(window) for lanes in self.state.lanes.values() for window in lanes.values())

    @property
    def most(self) -> int:
        """How many run on an idle machine, where none has ended yet."""
        settings = self.state.settings
        return settings.concurrency or max(self.state.usual_limit, settings.admission.floor)

    @property
    def held(self) -> bool:
        """Whether something waits that would run, if it were not for the machine."""
        return self.waiting > 0 and self.state.processes < self.most

    def drop(self, prio: str) -> None:
        """One more task, of a name that nobody knows."""
        task_id = id_from(WALL + self.mono, len(self.tasks).to_bytes(10, "big"))
        self.tasks[task_id] = Task(
            id=task_id, task="x.a", args={}, at=WALL + self.mono, deadline=None, lead=None,
            priority=prio, front=False, retries=None, backoff=None, timeout=None, version=None,
            notify=None, on_miss="run", trace=None, meta={}, extra={}, submitted_at=WALL + self.mono,
            uid=0, digest="",
        )  # fmt: skip
        self.turn([take_in(self.state, self.tasks[task_id], self.now)])

    def end(self) -> None:
        """What has run longest ends."""
        if self.running:
            task_id = next(iter(self.running))
            attempt = self.running.pop(task_id)
            end = Exited(
                id=task_id, attempt=attempt, exit=0, signal=None, cpu=0, logged=0, tail="", seconds=1, rss=1
            )  # fmt: skip
            self.turn(decide(self.state, end, self.now))

    def pass_time(self, span: int) -> None:
        """Wake as often as the core wants to be woken."""
        end, turns = self.mono + span, 0
        while (wake := self.mono + next_wake(self.state, self.now)) <= end:
            self.mono, turns = wake, turns + 1
            assert turns < 10 + 3 * span // SECOND, "it does not sleep"
            self.turn()
        self.mono = end
        self.turn()

    def turn(self, actions: Iterable[Any] = ()) -> None:
        """One round of the loop, after which what is waited for has its timer."""
        self._perform(actions)
        self._perform(elapse(self.state, self.now))
        self._perform(dispatch.dispatch(self.state, self.now))
        gate = self.state.gate
        if self.held:
            assert self.mono - self.looked <= LOOK_LAST, "nobody looks"
            assert gate.plain(self.now)["open"] is not gate.pressed
            assert next_wake(self.state, self.now) <= LOOK_LAST

    def _perform(self, actions: Iterable[Any]) -> None:
        queue = deque(actions)
        while queue:
            match queue.popleft():
                case Measure():
                    assert self.waiting, "who has nothing to start looks at nothing"
                    grows = not self.state.settings.concurrency  # as long as that gets more done
                    assert self.held or grows or self.state.gate.since is not None
                    assert not self.looked or self.mono - self.looked >= SECOND
                    self.looked = self.mono
                    queue.extendleft(reversed(decide(self.state, Measured(self._look()), self.now)))
                case Ask() as ask:
                    found: Any = {
                        i: Place("pending", path, ask.entries[i], self.tasks[i])
                        for i, path in ask.paths.items()
                    }
                    queue.extendleft(reversed(decide(self.state, Looked(ask, found), self.now)))
                case Start(entry=entry):
                    self.running[entry.id] = entry.attempt
                case Note(event="gate", facts=facts):
                    held = self.waiting and self.state.gate.pressed
                    assert not (facts["open"] and held), "it opens, and nobody has looked"

    def _look(self) -> Machine:
        known = {"total": 64 * GIB, "available": 60 * GIB} | self.machine
        return Machine(at=self.mono, cpus=self.cpus, cores=self.cpus, **known)


moves = st.tuples(
    st.integers(0, 15 * SECOND), st.sampled_from([*PRIORITIES, "end", "calm", "scan", *range(len(BUSY))])
)


@given(st.integers(0, 6), st.integers(0, 3), st.integers(2, 4), st.lists(moves, max_size=40))
def test_as_long_as_somebody_waits_for_the_machine_it_is_looked_at_and_all_start_when_it_is_idle(
    concurrency: int, floor: int, cpus: int, history: list[tuple[int, str | int]]
) -> None:
    made = Driver(f"concurrency = {concurrency}\nadmission.floor = {floor}", cpus)
    for span, move in history:
        made.pass_time(span)
        if isinstance(move, int):
            made.machine = BUSY[move]
        elif move == "calm":
            made.machine = CALM
        elif move == "scan":
            made.state.known["low"] = False
            made.turn()
            made.state.known["low"] = True
            made.turn()
        elif move == "end":
            made.end()
        else:
            made.drop(move)
    made.machine = CALM
    made.pass_time(LOOK_LAST + made.state.usual_limit * STEP)  # and nothing ends
    assert not made.held
    assert made.state.gate.plain(made.now)["open"] or not made.waiting
