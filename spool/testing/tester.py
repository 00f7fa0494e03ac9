"""A throw-away spool and the daemon's own core over it, driven by the test."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast, overload

import msgspec
import orjson
from msgspec.structs import replace

from spool import layout, look, machine, settings
from spool.client import Spool
from spool.errors import Invalid
from spool.init import init
from spool.tasks import registry
from spool.tasks.define import using
from spool.testing.clock import Clock, MovedDisk
from spool.testing.inline import Inline
from spool.times import moment, parse_duration
from spool.worker.kept import Kept
from spoold.core.state import State
from spoold.core.values import Answered, Registered, Tick
from spoold.effects.outboxes import OutboxLimits
from spoold.effects.store import Store
from spoold.loop import Core
from spoold.recovery import recover
from spoold.sources.backlog import Backlog
from spoold.sources.intake import Intake
from spoold.sources.machine import Gauge

if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from spool import tasks
    from spool.body import Span
    from spool.owncopy import Task
    from spoold.core.values import Event
    from spoold.effects.handlers import Handlers

    Named: TypeAlias = str | tasks.Task[..., Any]

NODE = "test"
LOOKING = "nothing starts outside of run_ready and run_all"
ATTEMPTS = 10_000  # that one call runs: more are taken for a task that submits itself for ever
TOML = """
durability = "relaxed"
[admission]
enabled = false
[handlers."*"]
python = "tests"
"""


class NotSubmitted(AssertionError):
    """No task, or one that should not be there, was submitted."""


class Tester:
    """A spool of its own, the clock, and what there is to ask and assert."""

    __test__ = False  # no class of tests, whatever its name begins with

    def __init__(self, place: str | os.PathLike[str], toml: str = TOML) -> None:
        """Make a spool in the directory `place`; `toml` is its spool.toml. One task runs at a time."""
        self.path = os.path.join(os.fspath(place), "spool")
        init(self.path)
        with open(os.path.join(self.path, layout.SETTINGS), "w") as file:
            file.write(toml)
        self.spool = Spool(self.path)
        self._clock = Clock()
        found = replace(settings.load(toml), concurrency=1)
        disk = self._disk = MovedDisk(self.path, self._clock)
        store = Store(disk, NODE, durable=False)
        disk.make_dir(store.stage_dir)
        state = self._state = State(NODE, found, 1)
        state.shut = LOOKING
        self._events: list[Event] = list(recover(disk, store, found))
        self._inline = Inline(found, self._clock, Kept(self.path))
        backlog = Backlog(disk, lambda: len(state.future.gathered or ()) > state.future.limit)
        handlers = cast("Handlers", self._inline)
        limits, gauge = OutboxLimits(disk, state), Gauge(state, self.path, dict)
        self._core = Core(state, disk, store, handlers, backlog, limits, gauge)
        self._intake = Intake(disk, found, machine.zone_of(found.timezone))

    def close(self) -> None:
        """Let go of it; the directory stays."""
        self.spool.close()
        self._disk.close()

    # The clock.

    @property
    def now(self) -> datetime:
        """The time of the test: aware, UTC."""
        return moment(self._clock.now().wall)

    def move(self, span: Span) -> None:
        """Move the clock ahead: a timedelta, seconds, or text such as "2h". Nothing runs by that."""
        try:
            us = parse_duration(span.total_seconds() if isinstance(span, timedelta) else span)
        except ValueError as rule:
            raise Invalid("span", span, str(rule)) from None
        self._turn()  # what was dropped before is of before
        self._clock.move(us)

    # Running.

    def run_ready(self) -> list[dict[str, Any]]:
        """Run what may run now, what that submits and what waited for it, until nothing is left to start.

        The clock stands still meanwhile: what is due later, a retry too, waits however long the
        rest takes. Returns the records of the attempts that ended, in order, as spool(5) describes
        them. A KeyboardInterrupt, whoever raises it, is the test's, and no end of an attempt.
        """
        with self._clock.still():
            return self._run(later=False)

    def run_all(self) -> list[dict[str, Any]]:
        """As `run_ready`, with the clock moved to whatever comes next, until nothing waits."""
        with self._clock.still():
            return self._run(later=True)

    def _run(self, *, later: bool) -> list[dict[str, Any]]:
        names = tuple(self._state.settings.handlers)
        ended: list[dict[str, Any]] = []
        ran: list[Event] = []
        for _ in range(ATTEMPTS):
            takes = {name: frozenset(versions) for name, versions in registry.takes().items()}
            self._events.append(Registered(names, takes))  # what runs may import more
            self._turn()
            keys = [(e.id, e.attempt) for e in ran if isinstance(e, Answered)]
            ended += [r for i, n in keys for r in look.records(self._disk, i) if r["attempt"] == n]
            self._start()
            with using(self.spool):
                ran = self._inline.events()
            self._events += ran
            if not ran and not (later and self._skip()):
                return ended
        raise AssertionError(
            f"{ATTEMPTS} attempts have run, and there is more: does a task submit itself?"
        )

    def _turn(self) -> None:
        """Take in what was dropped, and do whatever the core has to but start something."""
        self._intake.ring()
        self._rounds()

    def _start(self) -> None:
        """Claim the next task that may run, of all that is there by now."""
        self._state.ahead.brisk.clear()  # nothing is handed ahead of its turn
        self._state.shut = ""
        self._rounds()
        self._state.shut = LOOKING

    def _rounds(self) -> None:
        core = self._core
        self._events.append(Tick())
        while self._busy():
            now = self._clock.now()
            events, self._events = self._events, []
            if self._intake.busy:
                events += self._intake.look(now)
            events += core.after.look(now)
            events += core.backlog.step()
            events += core.limits.look(now)
            core.round(events, now)

    def _busy(self) -> bool:
        core = self._core
        at_hand = self._events or self._intake.busy or core.backlog.busy or core.again or core.more
        return bool(at_hand) or core.after.due(self._clock.now()) == 0

    def _skip(self) -> bool:
        """Move the clock to the next task that waits for its time; False where there is none."""
        following = self._state.next_event()
        if following is None:
            return False
        self._clock.move(max(0, following.time - self._clock.now().wall))
        return True

    # Asking. A task is named by its name, an alias, or the function itself; some take an id as well.

    def submitted(self, task: Named | None = None) -> list[Task]:
        """The tasks that were submitted, all or those of one name, wherever they are; oldest first."""
        self._turn()
        folders = look.names(self._disk, layout.IDS)
        paths = [
            f"{layout.IDS}/{d}/{n}" for d in folders for n in look.names(self._disk, f"{layout.IDS}/{d}")
        ]
        found = [look.read_task(self._disk, path) for path in paths]
        found.sort(key=lambda one: (one.submitted_at, one.id or ""))
        names = None if task is None else _names(task)
        return [one for one in found if names is None or one.task in names]

    @overload
    def assert_submitted(self, task: Named, count: Literal[0], **args: Any) -> None: ...
    @overload
    def assert_submitted(self, task: Named, count: int | None = None, **args: Any) -> Task: ...
    def assert_submitted(self, task: Named, count: int | None = None, **args: Any) -> Task | None:
        """A task of this name was submitted, with these arguments among its own; the last one that was.

        `count`: exactly so many. Raises NotSubmitted, which shows what was submitted.
        """
        found = [one for one in self.submitted(task) if _has(one.args, args)]
        if len(found) != count and (count is not None or not found):
            wanted = f"{_name(task)} {args}" if args else _name(task)
            times = "" if count is None else f" {count} times, but {len(found)}"
            raise NotSubmitted(f"{wanted} was not submitted{times}; there is:{self._shown()}")
        return found[-1] if found else None

    def refute_submitted(self, task: Named, **args: Any) -> None:
        """No task of this name, with these arguments among its own, was submitted."""
        found = [one for one in self.submitted(task) if _has(one.args, args)]
        if found:
            raise NotSubmitted(f"{_name(task)} was submitted: {found[-1].args}")

    def record_of(self, task: Named) -> dict[str, Any] | None:
        """The record of the last attempt of a task (id, or name: the last of it); None before that.

        Raises NotSubmitted, as the others do.
        """
        return look.last_record(self._disk, self._id(task))

    def outcome_of(self, task: Named) -> str:
        """How the last attempt of a task (id, or name: the last of it) ended, as its record says.

        ok, error, timeout, snoozed or cancelled; before any has ended, the state: pending, running
        (inside of it) or held.
        """
        record = self.record_of(task)
        if record is not None:
            return str(record["outcome"])
        place = look.find(self._disk, self._id(task))
        return "unknown" if place is None else place.state

    def result_of(self, task: Named) -> Any:
        """What a task (id, or name: the last of it) has returned; AssertionError with its error."""
        record = self.record_of(task)
        if record is None or record["outcome"] != "ok":
            error = record and record["error"]
            why = f"{error['type']}: {error['message']}" if error else self._standing(task)
            shown = f"\n{error['trace']}" if error and error["trace"] else ""
            raise AssertionError(f"{_name(task)} has no result: {why}{shown}")
        return record["result"]

    def _standing(self, task: Named) -> str:
        """Its outcome, and why it is held."""
        place = look.find(self._disk, self._id(task))
        if place is None or not place.entry.why:
            return self.outcome_of(task)
        try:
            registry.find(place.entry.task, place.task.version)
        except registry.NoCode as problem:
            return f"held: {problem}"
        return f"held: {place.entry.why}"

    def _id(self, task: Named) -> str:
        named = self.submitted(task) or [one for one in self.submitted() if one.id == task]
        if not named:
            raise NotSubmitted(f"{_name(task)} was not submitted; there is:{self._shown()}")
        return str(named[-1].id)

    def _shown(self) -> str:
        return "".join(f"\n  {one.task} {one.args}" for one in self.submitted()) or " nothing"


def _name(task: Named) -> str:
    return task if isinstance(task, str) else task.name


def _names(task: Named) -> tuple[str, ...]:
    """A name, and whatever else the function of that name is called."""
    known = registry.REGISTRY.get(_name(task))
    return (_name(task),) if known is None else (known.name, *known.aliases)


def _has(args: Any, wanted: dict[str, Any]) -> bool:
    if not wanted:
        return True
    return isinstance(args, dict) and all(k in args and args[k] == _plain(v) for k, v in wanted.items())


def _plain(value: Any) -> Any:
    """As it is submitted; what cannot be, such as unittest.mock.ANY, as it is."""
    try:
        return orjson.loads(orjson.dumps(msgspec.to_builtins(value, str_keys=True)))
    except TypeError:
        return value
