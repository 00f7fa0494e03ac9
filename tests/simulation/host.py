"""One daemon of the simulation: the real core, store, intake and recovery, with handlers of our own."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from spool import layout, look, settings
from spool.beats import Beat
from spool.disk import DiskFull
from spool.records import error
from spoold.core import deadlines
from spoold.core.admit import Machine
from spoold.core.decide import cut_off
from spoold.core.state import Lane, State
from spoold.core.values import (
    Answered,
    Begun,
    Brought,
    Crashed,
    Exited,
    Kill,
    NotStarted,
    Peers,
    Registered,
    Reloaded,
    Repaused,
    Returned,
    Stop,
    Tick,
)
from spoold.effects.outboxes import OutboxLimits
from spoold.effects.redo import Redo
from spoold.effects.store import Store
from spoold.loop import Core
from spoold.reclaim import reclaim
from spoold.recovery import start_up
from spoold.sources import claims
from spoold.sources.backlog import Backlog
from spoold.sources.intake import AGAIN, Intake
from spoold.sources.neighbours import Fenced, Neighbours
from spoold.sources.pauses import read_pauses
from spoold.sources.recurring import Recurring
from spoold.sources.stir import Stir
from tests.simulation.far import Doubting, Far
from tests.simulation.faults import Careful

if TYPE_CHECKING:
    from spool.settings import Settings
    from spoold.core.values import Event, Now, Recall, Start
    from spoold.core.window import Window
    from tests.simulation.world import World

SECOND = 1_000_000
QUICK = ("py.quick", "run.quick", "solo.quick")
SLOW = SECOND // 50  # us that what was handed ahead may wait
HALF = 32 << 10  # of the redo log: a story fills it several times
TOML = """
concurrency = 3
retries = 2
backoff = "4s"
timeout = "60s"
grace = "1s"
poison_after = 3
{more}
[handlers."run.*"]
exec = ["/bin/true"]
[handlers."solo*"]
exec = ["/bin/true"]
concurrency = 1
[handlers."order.*"]
notify = "shop"
timeout = "40s"
[handlers."urgent.*"]
exec = ["/bin/true"]
priority = "high"
[handlers."py.*"]
python = "app"
"""
LATE_HANDLER = """
[handlers."later.*"]
exec = ["/bin/true"]
"""


class TinyState(State):
    """Windows smaller than the daemon would make them, so that few tasks are already too many."""

    def _room(self, lanes: dict[Lane, Window[str]], more: int = 1) -> int:
        return 4


@dataclass(slots=True)
class Running:
    """A handler process: what it will do, and when."""

    id: str
    attempt: int
    began: int
    ends: int | None  # monotonic; None: never by itself
    outcome: str
    python: bool = False
    lane: str = ""  # the handler whose tasks may be handed ahead behind it


class FakeHandlers:
    """What spoold.effects.handlers is to the core; a task's args say how its runs go.

    args["run"] is a list of [outcome, seconds], one for each attempt; further ones are ok. Outcomes:
    ok, bad-result, nostart, full, crash, never, or an exit status as a number, or SIG and a number; snooze
    of a Python task. A worker is ready a second after the start; its code knows py.a, a coroutine, and
    py.quick, which, as the program of run.quick, takes ms where others take seconds; py.late only when
    the world has learned.
    """

    fd = -1

    def __init__(self, world: World, host: Host) -> None:
        self.world = world
        self.host = host
        self.active: dict[str, Running] = {}
        self.ready: int | None = world.mono + SECOND
        self.queue: list[Start] = []  # handed ahead, and not begun
        self.told: list[Event] = []
        self.most: int | None = None  # processes that the machine can have

    def start(self, start: Start) -> None:
        if not start.ahead:
            self._begin(start)
            return
        self.queue.append(start)
        self.queue.sort(key=lambda start: start.rank)

    def flush(self) -> None:
        """What was handed ahead begins as soon as something has ended."""
        for start in [*self.queue]:
            if sum(r.lane == start.handler.pattern for r in self.active.values()) < start.ahead:
                self.queue.remove(start)
                self._begin(start)
                self.told.append(Begun(start.entry.id, start.entry.attempt))

    def recall(self, recall: Recall) -> None:
        self._back([s for s in self.queue if s.handler.pattern == recall.pattern])

    def _back(self, starts: list[Start]) -> None:
        self.queue = [s for s in self.queue if s not in starts]
        self.told += [Returned(s.entry.id, s.entry.attempt) for s in starts]

    def _slow(self) -> dict[str, int]:
        """By handler, when what was handed ahead has waited too long."""
        found = {start.handler.pattern: self.world.mono for start in self.queue}
        for run in self.active.values():
            if run.lane in found:
                found[run.lane] = max(found[run.lane], run.began + SLOW)
        return found

    def _begin(self, start: Start) -> None:
        entry, mono = start.entry, self.world.mono
        if entry.task not in self._known() and start.handler.python:
            self.active[f"{entry.id}.{entry.attempt}"] = Running(
                entry.id, entry.attempt, mono, mono + SECOND // 10, "park", python=True
            )
            return
        self.world.watch.started(self.host, start)
        plan = start.task.args.get("run", []) if isinstance(start.task.args, dict) else []
        outcome, took = plan[entry.attempt - 1] if entry.attempt <= len(plan) else ("ok", 1)
        quick = entry.task in QUICK
        unit = SECOND // 1000 if quick and took < 5 else SECOND
        ends = None if outcome == "never" else mono + int(took * unit)
        if self.most is not None and sum(r.outcome != "full" for r in self.active.values()) >= self.most:
            outcome, ends = "full", mono
        python = start.handler.python is not None
        lane = start.handler.pattern if quick or not python else ""
        self.active[f"{entry.id}.{entry.attempt}"] = Running(
            entry.id, entry.attempt, mono, ends, str(outcome), python, lane
        )
        if (
            start.task.args.get("result") and not start.handler.python
        ):  # it has written a result, and not ended yet
            path = f"{layout.RUNNING}/{self.host.node}/.{entry.id}.{entry.attempt}.result"
            if self.world.disk.info(path) is None:
                self.world.disk.write(path, b'"half')

    def kill(self, kill: Kill) -> None:
        found = self.active.get(f"{kill.id}.{kill.attempt}")
        if found is not None:
            soon = self.world.mono + SECOND // 2
            found.ends = soon if found.ends is None else min(soon, found.ends)
            if found.outcome not in ("nostart", "full", "park"):
                found.outcome = kill.why if found.python else "SIG15"
        for start in [s for s in self.queue if s.entry.id == kill.id]:
            self.queue.remove(start)
            self.told.append(Returned(kill.id, kill.attempt))

    def events(self) -> list[Event]:
        due = [key for key, r in self.active.items() if r.ends is not None and r.ends <= self.world.mono]
        ended = [self._ended(self.active.pop(key)) for key in due]
        self.flush()
        slow = {lane for lane, at in self._slow().items() if at <= self.world.mono}
        self._back([s for s in self.queue if s.handler.pattern in slow])
        ended += self.told
        self.told = []
        if self.ready is None or self.ready > self.world.mono:
            return ended
        self.ready = None
        return [
            *ended,
            Registered(("py.*",), dict.fromkeys(self._known(), frozenset({1})), frozenset({"py.a"})),
        ]

    def _known(self) -> tuple[str, ...]:
        late = ("py.late",) if "|" in self.world.settings[0] else ()
        return ("py.a", "py.quick", *late)

    def next_end(self) -> int | None:
        ends = [r.ends for r in self.active.values() if r.ends is not None]
        ends += self._slow().values()
        ends += [] if self.ready is None else [self.ready]
        ends += [self.world.mono] if self.told else []
        return min(ends, default=None)

    def _ended(self, run: Running) -> Event:
        if run.python:
            return self._answered(run)
        path = f"{layout.RUNNING}/{self.host.node}/.{run.id}.{run.attempt}.result"
        if self.world.disk.info(path) is not None:
            self.world.disk.remove(path)
        if run.outcome == "nostart":
            return NotStarted(run.id, run.attempt, "no such program")
        if run.outcome == "full":
            return NotStarted(run.id, run.attempt, "no process more", full=True)
        if run.outcome == "crash":
            return Crashed(run.id, run.attempt, "the keeper died")
        status = run.outcome if run.outcome.isdigit() else None
        signal = int(run.outcome[3:]) if run.outcome.startswith("SIG") else None
        ok = run.outcome in ("ok", "bad-result")
        return Exited(
            id=run.id,
            attempt=run.attempt,
            exit=0 if ok else None if signal else int(status or 1),
            signal=signal,
            seconds=(self.world.mono - run.began) / SECOND,
            rss=1 << 20,
            cpu=min(0.1, (self.world.mono - run.began) / SECOND),
            logged=0,
            tail="" if ok else "it went wrong",
            result={"of": run.attempt} if ok else None,
            result_error="the result is not JSON" if run.outcome == "bad-result" else None,
        )

    def _answered(self, run: Running) -> Event:
        outcome = {
            "ok": "done", "bad-result": "done", "snooze": "snoozed", "park": "parked",
            "timeout": "timeout", "cancelled": "cancelled", "interrupt": "cancelled", "crash": "crashed",
        }.get(run.outcome, "crashed" if run.outcome.startswith("SIG") else "failed")  # fmt: skip
        return Answered(
            id=run.id,
            attempt=run.attempt,
            outcome=outcome,
            result={"of": run.attempt} if outcome == "done" else None,
            error=None if outcome == "done" else error(outcome, "it went wrong"),
            final=run.outcome == "65",
            delay=5 * SECOND if outcome == "snoozed" else None,
            why="no-handler" if outcome == "parked" else "",
            facts={"seconds": (self.world.mono - run.began) / SECOND},
        )


class FakeGauge:
    """What spoold.sources.machine is to the core: the world says how the machine is."""

    def __init__(self, world: World, host: Host) -> None:
        self.world = world
        self.host = host
        self.looks = 0

    def look(self, mono: int) -> Machine:
        self.looks += 1
        resident = {run.id: 1 << 20 for run in self.host.handlers.active.values()}
        usual = {"at": mono, "cpus": 3, "cores": 3, "total": 1 << 34, "available": 1 << 33, "load": 0.5}
        return Machine(**usual | self.world.machine, resident=resident)


class Host:
    """A daemon from boot to death. `step` is one turn of its loop; `wake` says when the next is due."""

    def __init__(self, world: World, node: str, disk: Any = None) -> None:
        self.world = world
        self.node = node
        below = disk if disk is not None else world.disk
        if world.far:
            late = int(world.far * SECOND)
            below = Far(below, lambda: world.mono, late, Random(f"{node} {world.mono}"))
        self.disk = Careful(below)
        usual: Any = Doubting(self.disk) if world.far else self.disk
        self.settings = load(world.settings)
        self.stuck = False  # the disk is full: a group waits for room
        self.stopping = False
        self.neighbours: Neighbours | None = None
        if world.lease:
            self.neighbours = self._joined(world.lease)
            self.disk.guard = self.neighbours.check
        kind = TinyState if world.tiny else State
        self.state = kind(node, self.settings, 3)
        self.state.pauses = read_pauses(self.disk)
        if self.neighbours is not None:
            self.state.peers, self.state.lease = self.neighbours.live, self.neighbours.lease
            self.state.reread = True
        self.store = Store(usual, node, durable=self.settings.durability == "durable")
        self.store.shared = bool(world.lease)
        if world.store_hook is not None:
            world.store_hook(self.store)
        usual.make_dir(self.store.stage_dir)
        log = self._log() if world.redo and not world.lease else None
        self.first: list[Event] = [*start_up(usual, self.store, log, self.settings), Tick()]
        claims.recall(usual, self.state, world.now())
        self.redo = self.store.redo
        world.watch.recovered(self)
        self.handlers = FakeHandlers(world, self)
        state = self.state
        size = 3 if world.tiny else 2000
        backlog = Backlog(usual, lambda: len(state.future.gathered or ()) > state.future.limit, size)
        self.gauge = FakeGauge(world, self)
        self.core = Core(
            state,
            usual,
            self.store,
            self.handlers,
            backlog,
            OutboxLimits(usual, state),
            self.gauge,
        )
        if self.neighbours is not None:
            self.core.check = self.neighbours.check
        self.intake = Intake(usual, self.settings, ZoneInfo("UTC"))
        self.intake.node = node
        self.recurring = Recurring(usual, self.state, "5eed")
        self._next_care = self._next_later = 0
        self.stir = Stir()
        self._rows = self.state.pauses
        self._known: dict[str, dict[str, int | None]] = {}

    def _joined(self, lease: int) -> Neighbours:
        """Live among the others, however long that takes; they go on meanwhile."""
        world = self.world
        facts = {"host": self.node if world.same_host else f"other{world.mono}"}
        beat = Beat(self.node, f"{world.mono:x}", 0, lease)
        found = Neighbours(
            self.disk, beat, lambda: world.now().mono - world.skipped, facts, lambda old: old == facts
        )
        while not found.join():
            world.pass_time(SECOND // 4)
            for other in world.up():
                if other is not self:
                    other.turn()
        return found

    def turn(self) -> bool:
        """A step, and what follows where it shows that the node must begin anew."""
        try:
            return self.step()
        except (Fenced, OSError) as problem:
            over = isinstance(problem, Fenced)
            try:
                if self.neighbours is not None:
                    self.neighbours.check()
            except Fenced:
                over = True  # what it stumbled over is what another node has done
            if not over:
                raise
            self.world.fenced(self.node)
            return True

    def _watch_others(self, now: Now) -> list[Event]:
        """Beat, look, and bring back what the dead have left."""
        if self.neighbours is None:
            return []
        self.neighbours.step()
        events: list[Event] = list(self._rows_of_others())
        if self.neighbours.live != self.state.peers:
            events.append(Peers(self.neighbours.live))
        for node in list(self.neighbours.deaths):
            events += reclaim(self.store.disk, node, self.node, self.settings, now)
            self.neighbours.buried(node)
            events.append(Brought())
        return events

    def _rows_of_others(self) -> list[Repaused]:
        """What another node has paused."""
        if (rows := read_pauses(self.disk)) == self._rows:
            return []
        self._rows = rows
        return [Repaused(tuple(rows))]

    def _log(self) -> Redo | None:
        """The redo log, where this daemon makes one or finds one, and no other daemon has it."""
        there = self.disk.info(layout.REDO) is not None
        if any(h.redo is not None for h in self.world.up()) or not (there or self.store.durable):
            return None
        redo = Redo(self.disk, "sim", half=HALF)
        return redo if redo.open() else None

    def step(self) -> bool:
        """One turn; whether something was done."""
        now = self.world.now()
        try:
            self.first += self._watch_others(now)
        except DiskFull:
            pass  # the next turn tries again
        if self.redo is not None:
            self.redo.step(now)
        if self.stuck:
            return self._go_on()
        events, self.first = [*self.first, *self._anew(now)], []
        events += self.handlers.events()
        if now.mono >= self._next_care:
            self._next_care = now.mono + self.settings.housekeeping
            self.intake.ring()
            events.append(Tick())
        self.intake.among(self.state.peers)
        waits = self.intake.unsettled or self.state.later
        if waits and now.mono >= self._next_later:
            self._next_later = now.mono + AGAIN
            (self.intake.ring if self.state.later else self.intake.again)()
            self.state.later = False
        if self.intake.busy:
            events += self.intake.look(now)
        events += self.recurring.look(now)
        events += self.core.after.look(now)
        events += self.core.backlog.step()
        events += self.core.limits.look(now)
        self.world.watch.before(self)
        try:
            changed = self.core.round(events, now)
        except DiskFull:
            self.stuck = True
            return True
        self.stir.settle(self.state, self.world.now())
        self.world.watch.after(self, now)
        return changed or bool(events)

    def _go_on(self) -> bool:
        try:
            self.core.finish(self.world.now())
        except DiskFull:
            return False
        self.world.watch.after(self, self.world.now())
        self.stuck = False
        return True

    def _anew(self, now: Now) -> list[Event]:
        """Others change pending/ as well: now and then all is read again."""
        if self.neighbours is None:
            return []
        if self._changed("pending", layout.PENDING, *look.folders(self.disk, (layout.PENDING,))):
            self.stir.ask()
        if self._changed("ended", *look.folders(self.disk, layout.ENDED)):
            self.core.after.ask()
        return self.stir.step(self.state, now)

    def _changed(self, what: str, *folders: str) -> bool:
        before, stamps = self._known.get(what), {path: self.disk.stamp(path) for path in folders}
        self._known[what] = stamps
        return stamps != before

    @property
    def busy(self) -> bool:
        """Whether the next turn is due at once."""
        core = self.core
        at_hand = self.intake.busy or core.backlog.busy or core.again or core.more
        return bool(self.first or self.stuck or at_hand)

    def wake(self) -> int:
        """In how many us the next turn is due."""
        now = self.world.now()
        waits = [deadlines.next_wake(self.state, now), max(0, self._next_care - now.mono)]
        if self.intake.unsettled or self.state.later:
            waits.append(AGAIN)
        if (due := self.stir.due(self.state, now)) is not None:
            waits.append(due)
        if (end := self.handlers.next_end()) is not None:
            waits.append(max(0, end - now.mono))
        chores = (self.core.limits, self.recurring, self.core.after, self.redo)
        waits += [due for c in chores if c is not None and (due := c.due(now)) is not None]
        return min(waits)

    def ring(self) -> None:
        """Something was dropped."""
        self.intake.ring()

    def reload(self) -> None:
        """spool.toml has changed."""
        self.settings = self.intake.settings = load(self.world.settings)
        self.first.append(Reloaded(self.settings))
        self.handlers.ready = self.world.mono

    def stop(self) -> None:
        """TERM: nothing starts any more."""
        if not self.stopping:
            self.stopping = True
            self.first.append(Stop())

    def cut_off(self) -> None:
        """The grace of a stop is over."""
        for kill in cut_off(self.state):
            if isinstance(kill, Kill):
                self.handlers.kill(kill)

    @property
    def outlived(self) -> bool:
        """Whether its lease is over, as it finds out next: a thread kills its handlers at that moment."""
        known = self.neighbours
        return known is not None and known.fence_at is not None and known.clock() >= known.fence_at

    @property
    def over(self) -> bool:
        """Whether a stopping daemon may end."""
        return self.stopping and not self.first and not self.state.processes and not self.state.beside


_loaded: dict[tuple[str, int], Settings] = {}


def load(wanted: tuple[str, int]) -> Settings:
    """Settings from lines of spool.toml and a window, which may be smaller than users may set."""
    more, window = wanted
    if wanted not in _loaded:
        top, _, handlers = more.partition("|")
        _loaded[wanted] = replace(settings.load(TOML.format(more=top) + handlers), window=window)
    return replace(_loaded[wanted])
