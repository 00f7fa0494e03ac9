"""The gate of admission: what was admitted, whether it is shut, and when it is looked at again.

It is asked before a process is started, with a look at the machine that is at most INTERVAL old; the
core asks for a new one (Measure) only when a task waits at the gate. While it is shut all handlers
that are processes are blocked, so nothing lower passes a higher task that waits here. A task whose
deadline is near passes all the same, one at a time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from spool.names import PRIORITIES
from spool.times import FOREVER, SECOND, format_utc
from spoold.core import limits, order
from spoold.core.admit import LOOK_FIRST, LOOK_LAST, Demand, Limits, admit, foresee, signals
from spoold.core.pace import BEYOND, Pace, adapt
from spoold.core.values import Measure, Note

if TYPE_CHECKING:
    from spool.names import Entry
    from spool.settings import Handler
    from spoold.core.admit import Machine, Verdict
    from spoold.core.state import State
    from spoold.core.values import Action, Now

INTERVAL = SECOND  # us that a look at the machine is good for
TELL = 50 * SECOND  # us between two lines of the journal that tell the load: one in each minute
TRACE = 60 * SECOND  # us in which the load average forgets all but 1/e
FEW = 20  # deadlines that are looked at for the next that lifts a task; names that are told of
YES, NO, NEVER, BLIND = "yes", "no", "never", "blind"


class Gate:
    """What is known of the machine, and what it keeps from starting."""

    def __init__(self) -> None:
        self.machine: Machine | None = None
        self.booked: dict[str, Demand] = {}  # what processes that run, or are about to, will need
        self.pace: Pace | None = None  # how many at once, once the machine was looked at
        self.ended = 0  # processes
        self._peak = 0  # most at once since the last look
        self.closed: frozenset[str] = frozenset()  # signals beyond their threshold
        self.pressed = False  # at the last look there were some
        self.shut = False
        self.since: Now | None = None  # when it began to hold back
        self.why = ""
        self.too_large: dict[str, str] = {}  # by task name, what needs more than there is: in words
        self.look = 0  # monotonic instant of the next look, while it is shut
        self.room: int | None = None  # how many processes there were when the machine had no more
        self._more = 1  # how many more are tried next
        self._more_at = 0  # monotonic instant of that
        self._wait = LOOK_FIRST // 2  # us until then, from the last time that the machine had no more
        self.pass_at = 0  # wall instant at which the next deadline lets a task pass
        self.pass_task = ""
        self.passing = ""  # the id of the task that passes because of its deadline
        self.passing_why = ""
        self._tried = False  # a task was to pass, and not even its deadline let it
        self._blind = False
        self._waits = False  # a task would have a slot, if the machine had not been busy
        self._cores = 0.0  # what booked tasks keep busy
        self._trace = 0.0  # what the load average shows of that
        self._ticked = 0
        self._tell = 0  # monotonic instant from which the load is told again

    # What was admitted.

    def book(self, task_id: str, demand: Demand, now: Now) -> None:
        """A process is about to start."""
        self._tick(now.mono)
        self.booked[task_id] = demand
        self._peak = max(self._peak, len(self.booked))
        self._cores += demand.cores

    def unbook(self, task_id: str, now: Now) -> None:
        """It has ended, or did not start: others may."""
        found = self.booked.pop(task_id, None)
        if found is not None:
            self._tick(now.mono)
            self._cores = sum(need.cores for need in self.booked.values())
            self.look = self.pass_at = 0
            self.ended += 1
        if task_id == self.passing:
            self.passing = ""

    def pass_on(self, task_id: str, heir: str, demand: Demand | None = None) -> None:
        """It has ended, and another one goes on in its process, or in its place, and needs this."""
        found = self.booked.pop(task_id, None)
        if found is not None:
            self.booked[heir] = demand or found
            self.look = self.pass_at = 0
            self.ended += 1
        if task_id == self.passing:
            self.passing = ""

    def _tick(self, mono: int) -> None:
        past = math.exp(min(0, self._ticked - mono) / TRACE)
        self._trace = self._cores + (self._trace - self._cores) * past
        self._ticked = mono

    def resident_of(self, task: str) -> int:
        """The most memory that a run of this name has taken by now."""
        resident = self.machine.resident if self.machine is not None else {}
        same = (resident.get(i, 0) for i, need in self.booked.items() if need.task == task)
        return max(same, default=0)

    # Looking.

    @property
    def open(self) -> bool:
        """Whether it held nothing back after the last round."""
        return self.since is None

    def measured(self, state: State, machine: Machine, now: Now) -> None:
        """A look at the machine: how many may run at once follows it."""
        self.machine = machine
        self._blind = False
        self._tick(now.mono)
        state.cpus = max(2, math.ceil(machine.cores))
        usual = state.usual_limit
        _, closed = signals(foresee(machine, self.booked, self._trace), self._limits(state))
        self.pressed = bool(closed)
        self.pace = adapt(
            self.pace or Pace(level=usual),
            pressed=self.pressed,
            full=self._peak >= state.limit,
            ended=self.ended,
            usual=usual,
            most=state.settings.concurrency or BEYOND * usual,
            now=machine.at,
            least=max(1, state.settings.admission.floor),
        )
        self._peak = len(self.booked)

    def _limits(self, state: State) -> Limits:
        since = self.since.mono if self.since is not None else None
        return Limits(admission=state.settings.admission, closed=self.closed, since=since)

    def look_again(self, now: Now) -> None:
        """All who wait at it, or for a slot, are asked for again: it is open where none is refused."""
        self._waits = False
        if self._is_full() and now.mono >= self._more_at:
            self.room = len(self.booked) + self._more
            self._more *= 2
            self._more_at = now.mono + LOOK_FIRST
        if (self.shut or self._tried) and now.mono >= self.look:
            self.shut = self._tried = False
            self.pass_at = 0

    def see(self, state: State, now: Now) -> str:
        """Whether the machine was looked at lately (YES, BLIND), for what starts without asking."""
        if not state.settings.admission.enabled or self._look(now) is not None:
            return YES
        return BLIND

    def _look(self, now: Now) -> Machine | None:
        """The last look, where it is good still; else one is wanted."""
        if self.machine is not None and 0 <= now.mono - self.machine.at < INTERVAL:
            return self.machine
        self._blind = True
        return None

    def ask(self, state: State, entry: Entry, handler: Handler | None, now: Now) -> str:
        """Whether a task may start: YES, NO, NEVER (not on this machine), BLIND (look first)."""
        admission = state.settings.admission
        if handler is None or handler.notify or not admission.enabled:
            return YES
        machine = self._look(now)
        if machine is None:
            return BLIND
        self._tick(now.mono)
        ahead = foresee(machine, self.booked, self._trace)
        verdict = admit(ahead, demand(state, entry, handler), self._limits(state), now.mono)
        self.closed = verdict.closed
        if entry.id == self.passing:
            return self._pass(verdict)
        if verdict.never:
            if len(self.too_large) >= FEW:
                self.too_large.pop(next(iter(self.too_large)))
            self.too_large[entry.task] = verdict.why
            return NEVER
        if verdict.yes:
            return YES
        self.shut, self.why, self.look = True, verdict.why, verdict.look
        return NO

    def wait(self, state: State, now: Now) -> None:
        """Nothing more starts: what waits for a slot is asked for too, lest nobody looks at the machine.

        But not where it was open, and as many run as may on an idle machine.
        """
        entry, fewer = state.ahead.first, state.processes < state.usual_limit
        if entry is not None and (fewer or not self.open) and state.settings.admission.enabled:
            self._waits = self.ask(state, entry, state.handler_of(entry), now) != NO

    def _pass(self, verdict: Verdict) -> str:
        if verdict.hard:
            self.passing, self._tried, self.look = "", True, verdict.look
            return NO
        self.passing_why = verdict.why or "fewer run than may, since it was busy"
        return YES

    def close(self, why: str, now: Now, *, surely: bool) -> None:
        """No process starts before the next look, or the end of one, whatever admits it.

        Where it is `surely` the machine, no more run than do now, until one more is tried: less and less
        often while that fails.
        """
        wait = LOOK_FIRST
        if surely:
            if not self.shut:
                self._wait = min(LOOK_LAST, 2 * self._wait) if self._more <= 2 else LOOK_FIRST
            wait, self.room, self._more = self._wait, max(1, len(self.booked)), 1
            self._more_at = now.mono + wait
        self.shut = self._tried = True
        self.why, self.look = why, now.mono + wait

    def _is_full(self) -> bool:
        """Whether as many run as the machine could have."""
        return self.room is not None and len(self.booked) >= self.room

    def settle(self, state: State, now: Now) -> list[Action]:
        """After all that may start has: a look that is wanted, the load, whether the gate has changed."""
        if self._blind:
            return [Measure()]
        notes: list[Action] = []
        if self.machine is not None and self.machine.load is not None and self.machine.at >= self._tell:
            self._tell = self.machine.at + TELL
            notes.append(Note("load", {"load": round(self.machine.load, 2)}))
        if self.shut is not self.open or not (self.shut or state.ahead.sure):
            return notes  # it does not open because it is not known who waits
        state.counts["gate_closed" if self.shut else "gate_opened"] += 1
        if self.shut:
            self.since = now
            return [*notes, Note("gate", {"open": False, "why": self.why})]
        held = now.mono - self.since.mono if self.since is not None else 0
        self.since, self.why = None, ""
        return [*notes, Note("gate", {"open": True, "held": round(held / SECOND, 3)})]

    # Deadlines.

    def meet(self, entry: Entry, usual: int) -> None:
        """A task with a deadline waits: it may be the next to pass."""
        if entry.deadline is not None:
            self._pass_at(entry.deadline - order.lead(entry, usual), entry)

    def _pass_at(self, at: int, entry: Entry) -> None:
        if at < self.pass_at:
            self.pass_at, self.pass_task = at, entry.task

    def passer(self, state: State, now: Now) -> Entry | None:
        """The first task whose deadline lets it pass the gate; the others of those wait for its end."""
        if now.wall < self.pass_at or not self._lets_pass(state):
            return None
        self.pass_at = FOREVER
        if self.passing in state.runs or self.passing in state.claiming:
            return None
        best: str | None = None
        found: Entry | None = None
        for lane, window in state.lanes[PRIORITIES[0]].items():
            if state.busy_with(lane, state.usual_limit):
                continue
            for key, entry in window.entries.items():
                if entry.deadline is None or limits.full(state, state.handler_of(entry), entry.mark):
                    continue
                at = entry.deadline - order.lead(entry, state.p95(entry.task))
                if at > now.wall:
                    self._pass_at(at, entry)
                elif best is None or key < best:
                    best, found = key, entry
        if found is not None:
            self.passing, self.pass_at = found.id, 0
        else:
            self._foresee_lift(state, now)
        return found

    def _foresee_lift(self, state: State, now: Now) -> None:
        """What is lifted next passes then."""
        for entry in state.urgent.head(FEW):
            at = order.moment(entry, state.p95(entry.task))
            if at is None or at == entry.deadline or not max(now.wall, entry.time - 1) < at:
                continue
            if not state.busy_with(state.lane_of(entry.task), state.usual_limit):
                self._pass_at(at, entry)
                return

    def holds(self, state: State) -> bool:
        """Whether something waits here, or for a slot that the machine has taken away."""
        return self.shut or state.limit <= state.processes < state.usual_limit

    def _lets_pass(self, state: State) -> bool:
        return self.holds(state) and not self._tried and not self._is_full()

    def next_wake(self, state: State, now: Now) -> int:
        """The us until something may change here."""
        looks = self.look - now.mono if self.shut or self._tried else FOREVER
        passes = self.pass_at - now.wall if self._lets_pass(state) else FOREVER
        more = self._more_at - now.mono if self._is_full() else FOREVER
        if self._waits and self.machine is not None:
            more = min(more, self.machine.at + INTERVAL - now.mono)
        return max(0, min(looks, passes, more))

    def plain(self, now: Now) -> dict[str, Any]:
        """For the status: instants as RFC 3339."""
        passes = self.pass_at if not self.open and now.wall < self.pass_at < FOREVER else None
        return {
            "open": self.open,
            "since": format_utc(self.since.wall) if self.since is not None else None,
            "why": self.why or None,
            "look_at": format_utc(now.wall + max(0, self.look - now.mono)) if not self.open else None,
            "deadline_at": format_utc(passes) if passes is not None else None,
            "deadline_task": self.pass_task if passes is not None else None,
            "too_large": dict(self.too_large),
        }


def demand(state: State, entry: Entry, handler: Handler) -> Demand:
    """What a task will need: as its name has shown, else as its handler says, else as a setting does."""
    known = state.history.of(entry.task)
    most = handler.memory
    cores = min(known.cores, float(state.cpus)) if known is not None else 1.0
    if known is None or not known.need:
        now = state.gate.resident_of(entry.task)
        memory = max(now, most or state.settings.admission.first_memory)
        return Demand(task=entry.task, memory=memory, cores=cores, shown=False)
    memory = min(known.need, most) if most and handler.exec else known.need  # it gets no more
    return Demand(task=entry.task, memory=memory, cores=cores, shown=True)
