"""The one loop: events from the sources, `decide`, actions to the effects. One thread."""

from __future__ import annotations

import logging
import selectors
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from spool import layout, look
from spool.actions import Care, Replay, Verb
from spool.actions import Move as MoveRequest
from spool.disk import DiskFull, Missing, Unreadable
from spool.errors import PutAside
from spool.failures import FAILURES
from spool.look import DAMAGED
from spool.machine import zone_of
from spool.names import date_of
from spool.place import Place
from spool.quarantine import place_for
from spool.times import SECOND, format_span
from spoold.core import attempts, deadlines, failures
from spoold.core.damaged import put_aside
from spoold.core.decide import cut_off, decide, elapse
from spoold.core.dispatch import AT_ONCE, dispatch
from spoold.core.once import wants_key
from spoold.core.table import RUNNING
from spoold.core.values import (
    Arrived,
    Ask,
    Brought,
    Drop,
    Failed,
    Forward,
    FreeKeys,
    KeysTaken,
    Kill,
    Looked,
    Measure,
    Measured,
    Move,
    Now,
    Peers,
    Quarantine,
    Recall,
    Reloaded,
    Scan,
    Seek,
    Start,
    Stop,
    TakeKeys,
    Tick,
)
from spoold.effects.errorfiles import meet
from spoold.effects.group import groups
from spoold.effects.keys import Keys
from spoold.effects.results import Results
from spoold.sources.after import After
from spoold.sources.intake import AGAIN, SHUT
from spoold.sources.lookout import Rung
from spoold.sources.relink import Relink
from spoold.sources.stir import Stir
from spoold.spared import spare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from spool.disk import Disk, Free
    from spool.names import Entry
    from spool.owncopy import Task
    from spool.place import Rival
    from spool.settings import Settings
    from spoold.core.state import State
    from spoold.core.values import Action, Event, Question
    from spoold.effects.group import Group
    from spoold.effects.handlers import Handlers
    from spoold.effects.manager import Manager
    from spoold.effects.memory import UsageFile
    from spoold.effects.outboxes import OutboxLimits
    from spoold.effects.status import Status
    from spoold.effects.store import Store
    from spoold.sources.backlog import Backlog
    from spoold.sources.doorbell import Doorbell
    from spoold.sources.intake import Intake
    from spoold.sources.machine import Gauge
    from spoold.sources.pulse import Circle
    from spoold.sources.recurring import Recurring
    from spoold.sources.signals import Signals
    from spoold.sources.timer import Timer

log = logging.getLogger("spoold")
BLIND = 1_000_000  # us between looks at incoming/ where it cannot be watched
FIRST = 250_000  # us in which what lies there goes before the watch on what comes
FULL_AGAIN = 0.5  # seconds between looks whether a full disk has room again
NOT_SHORT = (
    "; it has space and inodes left: a quota may be used up, or a directory have all the names that it "
    "can hold (ext4 without large_dir: some 8 million)"
)
SEE = "see ASSUMPTIONS in spool(7)"
KEPT = f"for an hour nothing is removed for its age: set it right, or `spool prune`; {SEE}"
FULL = "the disk is full: waiting for room"
ROOM = "there is room on the disk again"
CATCHING_UP = f"{ROOM}: what was asked for meanwhile comes first"
LITTLE = 1 << 20  # bytes free that are no room, whatever min_free_bytes says
TOKEN = 1_000_000  # us that `until_idle` waits for the next token of a rate
# Asked of a name, whoever has it else.
PLAIN: tuple[Question, ...] = ("claim", "release", "strand", "soon")
LATE: tuple[Question, ...] = ("late", "overdue")
INODES = 2  # a task takes: its own copy, and its record (or on tmpfs, its second name)


def clock() -> Now:
    """The clocks of this machine."""
    return Now(time.time_ns() // 1000, time.monotonic_ns() // 1000)


class Chore(Protocol):
    """Work that nothing waits for: a little of it in each round, when it is due."""

    def due(self, now: Now) -> int | None:
        """In how many us there is something to do; None where nothing is."""
        ...

    def step(self, now: Now) -> None:
        """Do a little of it, if it is due: at most some milliseconds."""
        ...


class Core:
    """Decides and performs rounds of events; knows no file descriptors, so a simulator can drive it."""

    def __init__(  # noqa: PLR0913 - the parts a round needs
        self,
        state: State,
        disk: Disk,
        store: Store,
        handlers: Handlers,
        backlog: Backlog,
        limits: OutboxLimits,
        gauge: Gauge,
    ) -> None:
        self.state = state
        self.disk = disk
        self.store = store
        self.handlers = handlers
        self.backlog = backlog
        self.limits = limits
        self.gauge = gauge
        self.keys = Keys(disk, store.node)
        self.results = Results(disk)
        self.after = After(disk, state)
        self.unfinished: deque[Group] = deque()
        self.again = False  # something was undone: look at what may start once more
        self.more = False  # there may be more to start than one round does
        self.came: Callable[[str, Now], Mapping[str, Any]] = lambda *_: {}  # what the journal tells
        self.check: Callable[[], None] | None = None  # raises where nothing may start any more
        self._starts: dict[str, Start] = {}
        self._aside: dict[str, str] = {}  # what is to be said of what was just found damaged
        self._changed = False
        # What a full disk interrupts is gone on with in `finish`.
        self._events: deque[Event] = deque()
        self._actions: deque[Action] = deque()
        self._writes: list[Action] = []
        self._recalls: list[Recall] = []  # after what was claimed before them has started
        self._touched: set[str] = set()

    def round(self, events: Iterable[Event], now: Now) -> bool:
        """Everything these events lead to. Returns whether anything changed."""
        self._events.extend(events)
        self.again = self._changed = False
        if now.wall < self.state.latest - SECOND:
            back = format_span(self.state.latest - now.wall)
            log.warning("the clock was set back by %s: what came before may wait as long, %s", back, SEE)
        self.look_at_the_clock(now)
        self.results.turn(now)
        self._decide(now)
        found = elapse(self.state, now)
        self._actions += found
        # To read ahead changes nothing: no status is written a moment before a start.
        self._changed |= any(not isinstance(action, Ask) or action.why != "soon" for action in found)
        self._perform(now)  # a task whose deadline has passed may be the first to start
        self._actions += dispatch(self.state, now)
        self.more = len(self._actions) >= AT_ONCE
        self._changed |= bool(self._actions)
        self.finish(now)
        return self._changed

    def look_at_the_clock(self, now: Now) -> None:
        """Say when it has leapt, before anything is removed for its age."""
        if (step := self.state.trust.look(now)) > SECOND:
            level, kept = (
                (logging.WARNING, f"; {KEPT}") if self.state.trust.doubts(now) else (logging.INFO, "")
            )
            log.log(level, "the clock has gone forward by %s%s", format_span(step), kept)

    def finish(self, now: Now) -> None:
        """Put what is decided on disk; DiskFull leaves the rest for the next call."""
        if self.unfinished:
            for group in self.unfinished:
                self.store.lapse(group, now.wall)
            self._write(now)
        self._perform(now)
        self._decide(now)
        self._write(now)
        while self._actions:  # events that tell of what was written
            self._perform(now)
            self._write(now)
        for recall in self._recalls:
            self.handlers.recall(recall)
        self._recalls.clear()
        self.keys.settle(list(self.keys.open))

    def _decide(self, now: Now) -> None:
        """One event after the other.

        A question is answered before the next event is looked at: what comes later, the end of a task
        that is to be cancelled, say, would else be on disk first.
        """
        while self._events:
            event = self._events.popleft()
            match event:
                case Peers() | Brought():
                    self.after.again()  # another node had taken in what waits
                case Arrived(request=Care(errors=errors)):
                    self._meet(errors)
                case _:
                    pass
            self._actions += decide(self.state, event, now)
            self._changed |= bool(self._actions)
            self._perform(now)

    def _perform(self, now: Now) -> None:
        """Actions in their order; one that a full disk interrupts stays the first."""
        while self._actions:
            action = self._actions.popleft()
            try:
                self._one(action, now)
            except DiskFull:
                self._actions.appendleft(action)
                raise

    def _one(self, action: Action, now: Now) -> None:  # noqa: C901, PLR0912 - one arm an action
        match action:  # the three that every task brings come first
            case Move():
                self._touched.add(action.entry.id)
                self.after.see(action)
                if action.entry.deadline is not None:
                    self.state.overdue.see(action)
                self.state.count_live(action)
                self._writes.append(action)
                if action.event in FAILURES and not self._is_unsure(action):
                    self._fail(action, now)
            case Start():
                self._starts[action.entry.id] = action
            case Drop():
                self._writes.append(action)
            case Ask():
                self._answer(action, now)
            case Kill():
                self.handlers.kill(action)
            case Recall():
                self._recalls.append(action)
            case Measure():
                measured = Measured(self.gauge.look(now.mono))
                self._actions.extendleft(reversed(decide(self.state, measured, now)))
            case TakeKeys():
                self._take_keys(action, now)
            case FreeKeys():
                self.keys.give_back(action.ids)
                self.state.later |= action.again
            case Scan():
                self.backlog.start(action.kind, action.edge, action.but)
            case Seek():
                self.backlog.seek(action)
            case Forward():
                self.state.later |= not self.store.forward(action)
            case Quarantine():
                self.store.quarantine(action.path, action.why)
            case _:
                self._writes.append(action)

    def _answer(self, ask: Ask, now: Now) -> None:
        """A question about a task waits for what was decided on it before."""
        if not self._touched.isdisjoint(ask.ids):
            self._write(now)
        found = self._found(ask, now)
        if self._aside and isinstance(request := ask.request, Verb | MoveRequest):
            past = (*request.past, *self._aside.items())
            ask = replace(ask, request=replace(request, past=past))
        self._aside.clear()
        answer = Looked(ask, found)
        self._actions.extendleft(reversed(decide(self.state, answer, now)))
        if ask.why == "claim" and not self.state.runs.keys() >= set(ask.ids):
            self.again = True  # a slot was kept for what cannot start: others may
        if ask.why not in ("claim", "soon"):
            self.again = True  # what was released, retried or moved may start now

    def _take_keys(self, asked: TakeKeys, now: Now) -> None:
        """Who has a key may be about to end, or to come in: that is put on disk first."""
        if not asked.over.isdisjoint(self._touched):
            self._write(now)
        rivals: dict[str, Rival | None] = {}
        for task in asked.tasks:
            rivals[task.id or ""] = self._take_key(task, now, asked.over)
        answer = KeysTaken(asked, rivals)
        self._actions.extendleft(reversed(decide(self.state, answer, now)))

    def _take_key(self, task: Task, now: Now, over: frozenset[str] = frozenset()) -> Rival | None:
        durable = self.store.durable
        found = self.keys.take(task, now.wall, over, durable=durable)
        if found is not None and found.id in self._touched:
            self._write(now)
            found = self.keys.take(task, now.wall, over, durable=durable)
        return found

    def _write(self, now: Now) -> None:
        self.unfinished.extend(groups(self._writes))
        self._writes.clear()
        while self.unfinished:
            group = self.unfinished[0]
            undone = self.store.perform(group, now.wall, self._established)
            self.unfinished.popleft()
            for move in group.moves:
                self.state.meter.see(move, now.wall)
                if move.record is not None:
                    attempts.count(self.state, move)
                if move.event in FAILURES and self._is_unsure(move):
                    self._fail(move, now)
            for event in undone:
                self._starts.pop(event.move.entry.id, None)
                decide(self.state, event, now)
                self.again = True
        self.keys.settle(self._touched)
        self._touched.clear()

    def _is_unsure(self, move: Move) -> bool:
        """Whether another node may be about to do the same: it counts when it stands.

        What a crash just then takes along is the event that tells of its group.
        """
        return self.store.shared and move.before != RUNNING

    def _fail(self, move: Move, now: Now) -> None:
        """A failure counts in its group, as all nodes know that."""
        if mark := failures.mark(move):
            self._meet([mark])
            told = decide(self.state, Failed(move), now)
            self.state.groups.said |= self.store.shared and bool(told)  # that no other node tells it too
            self._actions.extendleft(reversed(told))

    def _meet(self, marks: Iterable[str]) -> None:
        if self.store.shared:
            meet(self.disk, self.state, marks)

    def _established(self, group: Group) -> None:
        """The claims of a group stand: their handlers start while the directories are synced."""
        for move in group.moves:
            start = self._starts.pop(move.entry.id, None) if move.event == "claim" else None
            if start is not None:
                if self.check is not None:
                    self.check()
                self.handlers.start(start)
        self.handlers.flush()

    def _found(self, ask: Ask, now: Now) -> dict[str, Place | None]:
        found: dict[str, Place | None] = {}
        for task_id in ask.ids:
            path = ask.paths.get(task_id)
            place: Place | None
            try:
                if ask.why in PLAIN and path is not None:
                    place = self.results.known(path) or _plain(self.disk, path, ask.entries.get(task_id))
                elif ask.why in ("match", "overdue") and path is not None:
                    place = look.at(self.disk, path)  # moved meanwhile: no longer what was meant
                else:
                    place = look.find(self.disk, task_id, path)
                if place is not None and ask.why == "claim" and place.task.results:
                    place = self.results.put_in(place, self.state.settings.max_action_bytes)
                if place is not None and ask.why in LATE:
                    place = look.tried(self.disk, place)
                if place is not None and wants_key(ask, place):
                    rival = self._take_key(place.task, now)
                    place = place if rival is None else replace(place, rival=rival.id)
            except Missing:
                place = None
            except DAMAGED as problem:
                place = None
                self._damaged(task_id, getattr(problem, "path", path), problem, now)
            except Unreadable as problem:
                place = None
                self._unread(ask, task_id, problem, now)
            found[task_id] = place
        return found

    def _damaged(self, task_id: str, path: str | None, problem: Exception, now: Now) -> None:
        log.error("task %s is damaged: %s", task_id, problem)
        if path is None:
            return
        if path.partition("/")[0] not in (layout.PENDING, layout.HELD):
            # It runs, or has ended, as its record tells: its id stays taken, and it ends no other way.
            self._aside[task_id] = f"is damaged, see {path}; `spool fsck` tells more"
            return
        entry, target, came = look.entry_at(path), place_for(self.disk, path), self.came(task_id, now)
        self._actions.appendleft(put_aside(self.state, entry, path, target, str(problem), came, now))
        self._aside[task_id] = PutAside(task_id, target).rule

    def _unread(self, ask: Ask, task_id: str, problem: Unreadable, now: Now) -> None:
        """One that waits is put aside, so that it does not stop the queue; what is at rest stays there.

        Not what more depends on: who has a key, a record, a task that runs.
        """
        path = str(problem.filename)
        state = path.partition("/")[0]
        if ask.why == "rival" or state not in (layout.PENDING, layout.HELD, *layout.ENDED):
            raise problem
        if state == layout.PENDING and f",{task_id}," in path:
            self._damaged(task_id, path, problem, now)
        else:
            spare(problem)


def _plain(disk: Disk, path: str, entry: Entry | None) -> Place:
    """A task that is to start, or to wait again: its records are of no interest."""
    known = entry or look.entry_at(path)
    return Place(path.partition("/")[0], path, known, look.read_task(disk, path))


class Loop:
    """Waits, gathers, and has the core do the rest, until it is told to stop."""

    def __init__(  # noqa: PLR0913 - all the sources
        self,
        core: Core,
        intake: Intake,
        doorbell: Callable[[], Doorbell | None],
        timer: Timer,
        signals: Signals,
        status: Status,
        reload: Callable[[], Settings | None],
        usage: UsageFile,
        recurring: Recurring,
        manager: Manager,
        circle: Circle,
        is_elsewhere: Callable[[], bool],
        chores: Sequence[Chore] = (),
        *,
        until_idle: bool = False,
    ) -> None:
        """`doorbell` is called when what lay there has been looked at, and chores wait for that too."""
        self.core = core
        self.intake = intake
        intake.immovable = core.store.immovable
        intake.trust = core.state.trust
        self.doorbell: Doorbell | None = None
        self._hang: Callable[[], Doorbell | None] | None = doorbell  # None: it hangs
        self.timer = timer
        self.signals = signals
        self.status = status
        self.reload = reload
        self.usage = usage
        self.recurring = recurring
        self.manager = manager
        self.chores = (*chores, manager)
        self.until_idle = until_idle
        self.circle = circle
        self.is_elsewhere = is_elsewhere
        self.stir = Stir()
        self.relink = Relink(core.disk, core.state)
        core.store.ids_lost = self.relink.begin
        self._stop_by: int | None = None
        self._next_care = 0
        self._next_look = 0
        self._next_place = 0
        self.elsewhere = False
        self._selector = selectors.DefaultSelector()
        for fd in (timer.fd, timer.stepped_fd, signals.fd, core.handlers.fd, circle.fd):
            self._selector.register(fd, selectors.EVENT_READ)

    def run(self, first: list[Event]) -> None:
        """Serve until stopped, or (until_idle) until there is nothing left to do."""
        events: list[Event] = [*first, Tick()]
        begun = awake = clock().mono
        while True:
            now = clock()
            try:
                changed = self.core.round(events, now)
            except DiskFull as problem:
                self._wait_for_room(str(problem))
                changed = True
            self.stir.settle(self.core.state, clock())
            self.intake.took(clock().mono - awake)
            if changed or events:  # a stop or a full outbox may lead to nothing and is to be seen
                self.status.change()
            self.status.write(clock())
            if self._hang is None or self.until_idle:
                for chore in self.chores:
                    chore.step(clock())
            if self._over():
                return
            patience = self._patience()
            if self._hang is not None and (
                patience is None or self.intake.behind or clock().mono - begun > FIRST
            ):
                self._listen(self._hang)
                patience = 0
            ready = {key.fd for key, _ in self._selector.select(patience)}
            awake = clock().mono
            events = [*self._placed(clock()), *self._gather(ready)]

    def _listen(self, hang: Callable[[], Doorbell | None]) -> None:
        """Have the doorbell ring from now on; what came before is found by a look at everything."""
        self._hang, self.doorbell = None, hang()
        if self.doorbell is not None:
            self._selector.register(self.doorbell.fd, selectors.EVENT_READ)
        self._next_care = 0

    # What to wait for.

    def _patience(self) -> float | None:
        """0 where there is work at hand, else None with the timer armed."""
        if self.intake.busy and not self.core.state.relinking:
            return 0
        if self.core.backlog.busy or self.core.again or self.core.more or self.relink.busy:
            return 0
        now = clock()
        waits = [deadlines.next_wake(self.core.state, now), max(0, self._next_care - now.mono)]
        if (wait := self._wants_look()) is not None:
            waits.append(max(0, self._next_look - now.mono) if self._next_look else wait)
        others = [self.status.due(now), self.core.limits.due(now), self.core.handlers.due()]
        others.append(self.stir.due(self.core.state, now))
        if shut := self.core.state.shut:
            waits.append(0 if shut == CATCHING_UP else int(FULL_AGAIN * 1e6))
        if not self._is_closed():
            others += [self.recurring.due(now), self.core.after.due(now)]
        waits += [w for w in (*others, *(c.due(now) for c in self.chores)) if w is not None]
        if self._stop_by is not None:
            waits.append(max(0, self._stop_by - now.mono))
        self.timer.arm(min(waits))
        return None

    def _is_closed(self) -> bool:
        """Whether nothing is taken in: no room on disk, or who has an id is not known."""
        return bool(self.core.state.shut) or self.core.state.relinking

    def _wants_look(self) -> int | None:
        """In how many us incoming/ is to be looked at again because of what lies there."""
        return AGAIN if self.core.state.later else self.intake.next_look()

    def _gather(self, ready: set[int]) -> list[Event]:
        for fd in (self.timer.fd, self.timer.stepped_fd):
            if fd in ready:
                self.timer.drain(fd)
        now = clock()
        self.core.look_at_the_clock(now)
        events: list[Event] = []
        if self.core.handlers.fd in ready or self.core.handlers.due() == 0:
            events += self.core.handlers.events()
        if self.circle.fd in ready:
            events += self._heard()
        events += self.stir.step(self.core.state, now)
        if self.signals.fd in ready:
            events += self._asked(now)
        if self.doorbell is not None and self.doorbell.fd in ready:
            events += self._rung(self.doorbell)
        if now.mono >= self._next_care:
            events += self._care(now)
        state = self.core.state
        self.intake.among(state.peers)
        wait = self._wants_look()
        if wait is not None and now.mono >= self._next_look:
            self._next_look = now.mono + wait
            (self.intake.ring if state.later else self.intake.again)()
            state.later = False
        self.relink.step()
        events += self._taken(now)
        if not self._is_closed():
            events += self.recurring.look(now)
            events += self.core.after.look(now)
        events += self.core.backlog.step()
        events += self.core.limits.look(now)
        return events

    def _heard(self) -> list[Event]:
        """News of the other nodes; what they have changed is read when it is worth it."""
        events: list[Event] = []
        for event in self.circle.events():
            if isinstance(event, Peers) and len(event.live) > 1:
                self.core.store.end_log()
            if not isinstance(event, Rung):
                events.append(event)
            elif event.where == "incoming":
                self.intake.ring()
            elif event.where == "ended":
                self.core.after.ask()
            else:
                self.stir.ask()
        return events

    def _rung(self, doorbell: Doorbell) -> list[Event]:
        rung = doorbell.answer()
        self.intake.heard(doorbell.latest)
        doorbell.latest.clear()
        if any(name.startswith("incoming") for name in rung):
            self.intake.ring()
        return self._reloaded() if "root" in rung else []

    def _taken(self, now: Now) -> list[Event]:
        """A slice of incoming/: what there is room for, and what adds nothing."""
        state = self.core.state
        if self.intake.busy and not state.relinking:
            self.relink.glance()
        if not self.intake.busy and not state.shut:
            return []
        free = self.core.disk.free()
        lacks = self._lacks(free)
        if lacks or not state.relinking:  # until that is done nothing is read of what was asked meanwhile
            self._shut(lacks)
        room = SHUT if lacks else (free.inodes - state.settings.min_free_inodes) // INODES
        return [] if state.relinking else [*self.intake.look(now, room)]

    def _care(self, now: Now) -> list[Event]:
        """Housekeeping, at least once a minute: nothing here is needed for correctness."""
        self.intake.catch_up()
        self.status.write(now, always=True)
        if self.doorbell is not None:
            self.doorbell.grow()
        if self.doorbell is not None and not self.doorbell.sound:
            log.error("the watch on incoming/ was lost; start spoold again to be quick")
        self.usage.save()
        self.core.store.tidy(date_of(now.wall))
        self.relink.look()
        events: list[Event] = [Tick(), *self._reloaded(), *self.intake.stale(now)]
        often = BLIND if self.doorbell is None else self.core.state.settings.housekeeping
        self._next_care = now.mono + often
        return events

    def _lacks(self, free: Free) -> str:
        settings = self.core.state.settings
        if free.bytes < settings.min_free_bytes:
            return f"disk full: {free.bytes} bytes free, min_free_bytes is {settings.min_free_bytes}"
        if free.inodes < settings.min_free_inodes:
            return f"disk full: {free.inodes} inodes free (min_free_inodes)"
        return ""

    def _shut(self, why: str) -> None:
        """Start nothing for want of room, and after that until what all that match are to do is done."""
        state = self.core.state
        was = state.shut
        if was and not why:
            unread = self.intake.overdue and (self.intake.busy or was != CATCHING_UP)
            verbs = any(not isinstance(seek.request, Replay) for seek in state.seeks.values())
            why = CATCHING_UP if unread or verbs else ""
        state.shut = why
        if why != was:
            self.status.change()
        if bool(why) != bool(was):  # another number is for the status alone
            log.warning("%s", why or ROOM)

    def _wait_for_room(self, problem: str) -> None:
        """What has happened must be written before anything else may happen."""
        free, settings = self.core.disk.free(), self.core.state.settings
        least = max(settings.min_free_bytes, LITTLE)
        short = free.bytes < least or free.inodes < max(settings.min_free_inodes, INODES)
        log.error("the disk is full, waiting for room: %s%s", problem, "" if short else NOT_SHORT)
        self.status.extra["state"] = FULL
        while True:
            self.status.write(clock(), always=True)
            time.sleep(FULL_AGAIN)
            self.manager.step(clock())
            try:
                self.core.finish(clock())
            except DiskFull:
                if self.signals.stop or self._placed(clock()):
                    raise
                continue
            log.warning(ROOM)
            del self.status.extra["state"]
            self.core.again = True  # the round may have stopped before it looked at what may start
            return

    def _placed(self, now: Now) -> list[Event]:
        """An end at once where the spool is elsewhere: what goes by path, as results do, is lost."""
        if now.mono < self._next_place or self.elsewhere:
            return []
        self._next_place = now.mono + SECOND
        self.elsewhere = self.is_elsewhere()
        if not self.elsewhere:
            return []
        log.error("the spool is elsewhere now: stopping")
        self._stop_by = now.mono
        self.core.handlers.workers.drain()
        return [Stop()]

    # Being told.

    def _asked(self, now: Now) -> list[Event]:
        events: list[Event] = []
        for name in self.signals.drain():
            if name == "reload":
                self.core.handlers.workers.reload()
                self._zones_anew()
                events += self._reloaded()
                self.status.extra["reloads"] += 1
                self.status.change()
            elif self._stop_by is None:
                grace = self.core.state.settings.drain_grace
                self._stop_by = now.mono + grace
                log.info("stopping: waiting up to %g s for what runs", grace / 1e6)
                self.core.handlers.workers.drain()
                events.append(Stop())
            else:
                self._stop_by = now.mono  # asked twice: no more waiting
        return events

    def _zones_anew(self) -> None:
        ZoneInfo.clear_cache()
        with suppress(ValueError):  # a zone that is not known any more stays as it was
            self.intake.zone = zone_of(self.core.state.settings.timezone)
        self.recurring.anew()

    def _reloaded(self) -> list[Event]:
        settings = self.reload()
        return [Reloaded(settings)] if settings is not None else []

    def _over(self) -> bool:
        state = self.core.state
        if self._stop_by is not None:
            if not state.processes and not state.beside:
                return True
            if clock().mono >= self._stop_by:
                for kill in cut_off(state):
                    if isinstance(kill, Kill):
                        self.core.handlers.kill(kill)
                self._stop_by = clock().mono + 2 * state.settings.grace
            return False
        return self.until_idle and self._idle()

    def _idle(self) -> bool:
        state, core = self.core.state, self.core
        short, shut = self.intake.short, state.shut
        busy = self.intake.busy or core.backlog.busy or core.again or state.relinking
        busy = busy or (self.intake.unsettled > 0 and not short)  # else it may be about what has no room
        busy = busy or (not shut and 0 in (core.after.due(clock()), self.recurring.due(clock())))
        ready = state.head() is not None
        waits = state.halted or shut
        if busy or state.runs or state.claiming or (ready and not waits) or state.scanning:
            return False
        if state.limits.wake - clock().mono <= TOKEN:
            return False
        if ready and state.halted:
            log.warning("nothing runs and a %s goes on, the rest stays", state.halted)
        elif paused := state.paused_ready():
            log.warning("nothing runs and a %s goes on, the rest stays", ", a ".join(paused))
        if shut and (ready or short):
            log.warning("nothing runs and there is no room, the rest stays: %s", shut)
        if not state.gate.open:
            log.warning("nothing runs and the gate is shut, the rest stays: %s", state.gate.why)
        return True
