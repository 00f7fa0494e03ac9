"""What an observer of the simulation notes down and objects to while things happen."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from spool import layout, look
from spool.disk import Missing
from spool.names import BadName, Entry
from spool.waiting import end_of, how_ended
from spoold.core import limits, order, slots

if TYPE_CHECKING:
    from spoold.core.values import Now, Start
    from tests.simulation.host import Host
    from tests.simulation.model import ModelDisk
    from tests.simulation.world import World


class Broken(AssertionError):
    """A promise was not kept."""


class Watch:
    """Looks over the daemons' shoulders: what starts, in which order, and what is told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.starts: list[tuple[str, int, int]] = []  # id, attempt, wall
        self.attempts: dict[str, tuple[int, int]] = {}  # id: last attempt, power cuts before it
        self.told: defaultdict[tuple[str, Any, str], list[dict[str, Any]]] = defaultdict(list)
        self.seen: Counter[tuple[str, str, int]] = Counter()  # parent, event file, power cuts
        self._pending: set[str] = set()
        self._running: set[str] = set()
        self._held: set[str] = set()
        self._elsewhere: set[str] = set()  # what runs on any node: it may come to another one
        self._paused = ""
        self.full_at: dict[str, int] = {}  # of buckets of tokens, monotonic

    def started(self, host: Host, start: Start) -> None:
        """A handler is started."""
        entry, world = start.entry, self.world
        for other in world.hosts.values():
            if other is None or other.node in world.frozen or other.outlived:
                continue  # its processes stand still, and are killed before anything else
            for run in other.handlers.active.values():
                if run.id == entry.id:
                    raise Broken(f"{entry.id} starts attempt {entry.attempt} while {run} runs")
        if start.handler.concurrency_total is not None:
            self._limits(start)
        if start.handler.rate is not None:
            self._rates(host, start)
        asked = world.writers.asked.get(entry.id, set())
        only = start.task.on_failure == "only"
        bad, again = False, False
        for task_id in start.task.after if asked.isdisjoint(("release", "retry")) else ():
            end = how_ended(world.disk, task_id)
            again = "retry" in world.writers.asked.get(task_id, ())  # it was done, and may be so again
            bad |= again or end in ("failed", "cancelled")
            if not only and end != "done" and not (again or (end and start.task.on_failure == "run")):
                raise Broken(f"{entry.id} starts before {task_id}, which is {end or 'not ended'}")
        if only and not bad and asked.isdisjoint(("release", "retry")):
            raise Broken(f"{entry.id} starts and none of {start.task.after} has failed")
        self._given(start, asked)
        self._attempt(host, entry)

    def _given(self, start: Start, asked: set[str]) -> None:
        """Args hold the results they name: null of what is not done, and of a done task what it told.

        What somebody released or retried, or what one failure starts, may have begun when the other was not done yet.
        """
        args = start.task.args if start.task.results else {}
        for task_id, got in args.get("got", {}).items():
            end = end_of(self.world.disk, task_id) or {}
            told = end["result"] if end.get("event") == "done" else None
            early = start.task.on_failure == "only" or not asked.isdisjoint(("release", "retry"))
            if (
                got != told
                and not (early and got is None)
                and not (isinstance(told, dict) and got == told["of"])
            ):
                raise Broken(f"{start.entry.id} is given {got} of {task_id}, which came to {told}")

    def _limits(self, start: Start) -> None:
        """With this one no more run than may, on all nodes together and of its key."""
        handler, world = start.handler, self.world
        held = [
            task
            for host in world.hosts.values()
            if host is not None and host.node not in world.frozen
            for run in host.handlers.active.values()
            if (task := host.state.runs.get(run.id)) is not None and task.handler is not None
        ]
        same = [
            run for run in held if run.entry.task == start.entry.task and run.entry.id != start.entry.id
        ]
        if len(same) >= (handler.concurrency_total or 0):
            raise Broken(
                f"{start.entry.id} starts beside {[r.entry.id for r in same]}: concurrency_total"
            )
        who = start.task.args.get("who")
        mine = [run for run in same if who is not None and run.task.args.get("who") == who]
        if len(mine) >= (handler.concurrency_per_key or 0):
            raise Broken(f"{start.entry.id} starts beside {[r.entry.id for r in mine]}: key {who}")

    def _rates(self, host: Host, start: Start) -> None:
        """No more were decided to start than the tokens of their buckets allow, whatever died meanwhile.

        Each node rounds up to a token of its own, and so does each that is new. Where the clock was set
        while no daemon ran, nobody knows for how long none did.
        """
        if self.world.stepped:
            return
        handler, at = start.handler, host.state.runs[start.entry.id].began
        who = start.task.args.get("who")
        slack = 0 if self.world.nodes == 1 else 2 * self.world.nodes
        for rate, name in ((handler.rate, ""), (handler.rate_per_key, who)):
            if rate is None or name is None:
                continue
            full_at = max(self.full_at.get(name, 0), at) + rate.each
            if full_at > at + (handler.burst + slack) * rate.each:
                raise Broken(f"{start.entry.id} starts without a token of {rate.text} {name}")
            self.full_at[name] = full_at

    def _attempt(self, host: Host, entry: Entry) -> None:
        world = self.world
        last, cuts = self.attempts.get(entry.id, (0, world.cuts))
        again = world.cuts and not world.durable
        if (not again and entry.attempt < last) or (entry.attempt == last and cuts == world.cuts):
            raise Broken(f"{entry.id} starts attempt {entry.attempt} after attempt {last}")
        self.attempts[entry.id] = entry.attempt, world.cuts
        self.starts.append((entry.id, entry.attempt, world.wall))
        # What was decided is done, whatever the clock says when it can be: after a full disk, for one.
        run = host.state.runs.get(entry.id)
        if entry.time > max(world.wall, run.started if run is not None else 0):
            raise Broken(f"{entry} starts {(entry.time - world.wall) / 1e6} s before its time")

    def recovered(self, host: Host) -> None:
        """Start-up has put running/NODE/ in order."""
        left = [n for n in self.world.disk.names(host.store.stage_dir) if n.startswith(".")]
        if left:
            raise Broken(f"left in staging after recovery: {left}")

    # Order: what stood in pending/ before and after a turn could have started in it.

    def before(self, host: Host) -> None:
        """A turn begins."""
        self._pending = set(pending(self.world))
        self._running = running(self.world, host.node)
        self._held = {*self.world.disk.names(layout.HELD)}
        self._elsewhere = {n for node in self.world.hosts for n in running(self.world, node)}
        self._paused = host.state.paused()

    def after(self, host: Host, now: Now) -> None:
        """A turn has ended."""
        state = host.state
        claims = [e for n in running(self.world, host.node) - self._running if (e := _entry(n))]
        before = {(e.id, e.attempt) for n in self._elsewhere if (e := _entry(n))}
        for entry in claims:
            if (entry.id, entry.attempt) not in before and entry.timeout is not None:
                known = self.attempts.get(entry.id)
                if known is None or known[0] != entry.attempt or known[1] != self.world.cuts:
                    self._attempt(host, entry)
        if self.world.nodes == 1 and claims and (self.world.durable or not self.world.cuts):
            self._order(host, claims, now)
        check_memory(self.world, host, now)
        self._passed(host, now)
        if claims and self._paused and state.paused() and not state.stopping:
            fresh = [e for e in claims if not any(e.id in n for n in self._elsewhere)]
            if fresh:
                raise Broken(f"{fresh[0]} starts although {self._paused}")

    def _passed(self, host: Host, now: Now) -> None:
        """What was held before this turn is told late in it, if its deadline has passed."""
        world, known = self.world, host.state.overdue
        full = host.state.full - {layout.DEFAULT_PARENT}
        quiet = not (full or known.unheard or known.window.unknown or known.window.gathered is not None)
        if world.nodes > 1 or world.strangers or not quiet or not (world.durable or not world.cuts):
            return
        for name in self._held & {*world.disk.names(layout.HELD)}:
            entry = _at(f"{layout.HELD}/{name}")
            late = entry is not None and entry.deadline is not None and entry.deadline <= now.wall
            if entry is not None and late and not order.decided(entry):
                raise Broken(f"{name} is held past its deadline, which was not told, or not obeyed")

    def _order(self, host: Host, claims: list[Entry], now: Now) -> None:
        was_running = " ".join(self._running)
        fresh = [e for e in claims if e.id not in was_running]
        if not fresh:
            return
        self._ahead(host, fresh, now)
        fresh = [entry for entry in fresh if not _takes_turns(host, entry)]
        if host.core.again:  # a slot was kept for what then could not start: what needs none went by
            fresh = [entry for entry in fresh if not _needs_none(host, entry)]
        if not fresh:
            return
        last = max(fresh, key=order.rank)
        passed = [
            entry
            for path in self._waiting(host)
            if (entry := _at(path)) is not None
            and entry.time <= now.wall
            and order.rank(entry) < order.rank(last)
            and not host.state.blocked((*host.state.lane_of(entry.task)[:3], entry.mark))
            and layout.pending(entry) == path
            and not _takes_turns(host, entry)
            and not (host.core.again and _is_limited(host, entry))  # a token was kept, as the slot above
        ]
        if passed:
            raise Broken(f"{last} starts before {passed[0]}")

    def _ahead(self, host: Host, fresh: list[Entry], now: Now) -> None:
        """Nothing that waits for a slot comes before what was handed ahead."""
        state = host.state
        ahead = [e for e in fresh if slots.is_ahead(state, e.id, state.handler_of(e))]
        if not ahead:
            return
        for path in self._waiting(host):
            entry = _at(path)
            if entry is None or entry.time > now.wall or layout.pending(entry) != path:
                continue
            handler = state.handler_of(entry)
            if handler is None or handler.notify or state.lane_of(entry.task)[1] or state.gate.shut:
                continue
            if limits.full(state, handler, entry.mark):
                continue
            if state.is_beside(entry.task, handler):
                continue
            own = handler.concurrency and state.busy.get(handler.pattern, 0) >= handler.concurrency
            if not own and state.processes < state.limit:
                continue
            rivals = [e for e in ahead if state.handler_of(e) is handler] if own else ahead
            last = max(rivals, key=order.rank, default=entry)
            if order.rank(entry) < order.rank(last):
                raise Broken(f"{last} is handed ahead of {entry}, which waits for a slot")

    def _waiting(self, host: Host) -> set[str]:
        """What waits since before this turn, but for what results are still read for."""
        return self._pending & set(pending(self.world)) - host.core.results.begun.keys()

    # Events.

    def tell(self, parent: str, name: str, content: dict[str, Any]) -> None:
        """A parent has found an event in its outbox."""
        # The clock may be set back to the microsecond: what they say tells two events apart.
        about = content["attempt"] or content["error"]
        key = parent, f"{name} {about}", self.world.cuts
        self.seen[key] += 1
        # Progress may be told again where the daemon died before its action was gone.
        if self.seen[key] > 1 + (self.world.crashes if content["event"] == "progress" else 0):
            raise Broken(f"{parent} is told {name} twice")
        self.told[content["id"], content["attempt"], content["event"]].append(content)


def _needs_none(host: Host, entry: Entry) -> bool:
    handler = host.state.handler_of(entry)
    return entry.id in host.state.beside or (handler is not None and bool(handler.notify))


def _is_limited(host: Host, entry: Entry) -> bool:
    handler = host.state.handler_of(entry)
    limits = handler and (
        handler.rate or handler.rate_per_key or handler.concurrency or handler.concurrency_total
    )
    return bool(limits)


def _takes_turns(host: Host, entry: Entry) -> bool:
    handler = host.state.handler_of(entry)
    return handler is not None and handler.fair is not None


def check_memory(world: World, host: Host, now: Now) -> None:
    """Memory is bounded, and what it says comes next does; what will be told is counted."""
    state, most = host.state, 0
    untold = Counter(run.parent for run in state.runs.values() if run.is_process)
    if Counter(state.parents.untold) != untold:
        raise Broken(f"{state.parents.untold} is what will be told, and not {untold}")
    for by_lane in state.lanes.values():
        for window in by_lane.values():
            most += window.limit
            if len(window) > window.limit:
                raise Broken(f"{len(window)} entries in a window of {window.limit}")
    most += state.future.limit + state.urgent.limit
    if len(state.waiting) > most + 1:
        raise Broken(f"{len(state.waiting)} entries in memory, more than the windows hold")
    if not world.durable and world.cuts:
        return  # what is damaged is found out when its turn comes
    quiet = not (state.scanning or host.busy or state.claiming or state.asked)
    full = state.full - {layout.DEFAULT_PARENT}  # what a full outbox holds up may stay on disk
    if full or not quiet or world.nodes > 1 or world.strangers:
        return
    found = [e for p in pending(world) if (e := _at(p)) is not None]
    ready = [e for e in found if e.time <= now.wall]
    ready.sort(key=order.rank)
    ready.sort(key=lambda entry: bool(state.lane_of(entry.task)[1]))  # what is paused by name is last
    future = sorted((e.time, *order.rank(e), e.id) for e in found if e.time > now.wall)
    paused = not ready or state.lane_of(ready[0].task)[1]
    wanted = future[0][-1] if paused and future else ready[0].id if ready else None
    known = state.next_event()
    if (known.id if known else None) != wanted:
        raise Broken(f"next on disk is {wanted}, in memory {known}")


def pending(world: World) -> list[str]:
    """Paths of all that stands in pending/."""
    disk = world.disk
    if world.known[0] != disk.changes:
        world.known = disk.changes, _pending(disk)
    return world.known[1]


def _pending(disk: ModelDisk) -> list[str]:
    return [
        f"{folder}/{name}"
        for folder in look.folders(disk, (layout.PENDING,))
        for names in disk.slices(folder, 1 << 20)
        for name in names
        if not name.startswith(".")
    ]


def running(world: World, node: str) -> set[str]:
    """Names of all that stands in running/NODE/."""
    try:
        names = world.disk.names(f"{layout.RUNNING}/{node}")
    except Missing:
        return set()
    return {n for n in names if not n.startswith(".")}


def _entry(name: str) -> Entry | None:
    return _at(f"{layout.RUNNING}/x/{name}")


_parsed: dict[str, Entry | None] = {}


def _at(path: str) -> Entry | None:
    if path not in _parsed:
        if len(_parsed) > 20_000:
            _parsed.clear()
        try:
            _parsed[path] = look.entry_at(path)
        except BadName:
            _parsed[path] = None
    return _parsed[path]
