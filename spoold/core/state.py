"""What the core knows, all of it in memory and bounded: what waits, what runs, what is paused."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from spool import layout, limitkey
from spool.names import OWNER, PRIORITIES
from spool.patterns import matches
from spool.times import FOREVER
from spoold.core import limits, order, policy, share
from spoold.core.bodies import Bodies
from spoold.core.failures import Groups
from spoold.core.gate import Gate
from spoold.core.meter import Meter
from spoold.core.overdue import Overdue
from spoold.core.slots import Ahead, next_start
from spoold.core.table import NEW, TERMINAL
from spoold.core.trust import Trust
from spoold.core.usage import History
from spoold.core.window import Window

if TYPE_CHECKING:
    from spool.names import Entry
    from spool.owncopy import Task
    from spool.scheduled import Tables
    from spool.settings import Handler, Settings
    from spoold.core.values import Broken, Move, Run, Seeking, Source, Takers

COUNTED = (
    "started", "done", "failed", "retried", "taken", "refused",
    "gate_closed", "gate_opened", "gate_passed", "looks",
)  # fmt: skip
LOWEST_KEY = ""
LOWEST_MOMENT = (-1, "")
KEPT_NAMES = 1000
LEAST = 16
SPARE = 64  # rows of a heap that may be of what has ended
# Handler, pauses, whether its tasks are coroutines, and the mark of a key that has a lane of its own.
Lane = tuple[str, tuple[str, ...], bool, str]


class Sorted(NamedTuple):
    """The lanes of a class: those of many keys, and by what they have in common those of one key each."""

    common: list[tuple[Lane, Window[str]]]
    own: dict[Lane, list[tuple[str, Window[str]]]]


class Parents:
    """What each of them has to read, and for whom tasks wait."""

    def __init__(self) -> None:
        self.unread: dict[str, int] = {}  # events told to each and, as far as known, not read
        self.untold: dict[str, int] = {}  # processes that run for each: one event more when they end
        self.left_for: set[str] = set()  # those whose tasks are left on disk until they have read


class State:
    """The one store. What it says of tasks only the functions of spoold.core change."""

    def __init__(self, node: str, settings: Settings, cpus: int) -> None:
        self.node = node
        self.settings = settings
        self.cpus = cpus
        self.peers = frozenset({node})  # the nodes that are alive
        self.lease = 0  # us of silence after which one is dead
        self.limits = limits.Limits()
        self.runs: dict[str, Run] = {}
        self.claiming: dict[str, Entry] = {}  # asked for, body not read yet
        self.stranded: dict[str, str] = {}  # asked for, to be cancelled: why
        self.asked: dict[str, Entry] = {}  # asked for because of its deadline
        self.bodies = Bodies()
        self.turned_away: dict[str, None] = {}  # ids whose submission has to wait, in the last look at it
        self.pauses: list[dict[str, Any]] = []
        self.groups = Groups()
        self.meter = Meter()
        self.prune_asked = 0  # when somebody did, us UTC
        self.passed = False  # what is another node's share is left to it, and on disk
        self.stirs = 0  # how often all was read anew because of others
        self.later = False  # an action waits for another node, or for a key, and wants another look
        self.alerted: dict[tuple[str, ...], tuple[int, int]] = {}  # kind of event: when last, held back
        self.alerts_changed = False  # since they were kept on disk
        self.seeks: dict[Source, Seeking] = {}  # actions whose tasks are being looked for
        self.live: dict[str, int] = {}  # tasks that have not ended, of each writer of a shared spool
        self.refusals: dict[int, int] = {}  # of a writer, today
        self.refusals_of = ""  # which day that is
        self._told = 0
        self.parents = Parents()
        self.history = History()
        self.gate = Gate()
        self.schedules: Tables = {}  # set by actions
        self.reread = False  # another node has set them and paused so far: first that is read
        self.latest = 0  # wall clock of the last round
        self.trust = Trust()
        self.stopping = False
        self.relinking = False  # ids/ was deleted and is not whole again: nothing is taken in or packed
        self.shut = ""  # why nothing may start (no room on disk), for people
        self.counts = dict.fromkeys(COUNTED, 0)
        self.busy: dict[str, int] = {}  # running per handler pattern
        self.code: dict[str, dict[str, frozenset[int | str]]] = {}  # handler -> task -> versions
        self.ahead = Ahead()
        self.others: Takers = {}  # `code` by node
        self.not_ours: frozenset[str] = frozenset()  # task names that only the code of other nodes takes
        self.left: set[str] = set()  # tasks of versions of which the same holds
        self.broken: dict[str, Broken] = {}  # by handler; until 0: one task may try its code
        self.asyncs: dict[str, frozenset[str]] = {}  # handler -> tasks that are coroutines
        self.beside: dict[str, str] = {}  # coroutines that run, no process each; and their handlers
        self._limits: list[tuple[int, str]] = []  # heaps; rows of runs that have ended stay a while
        self._deadlines: list[tuple[int, str]] = []
        self.forget_held()
        self.forget_all()

    def forget_held(self) -> None:
        """Deadlines of what is held are only on disk until it has been scanned."""
        self.overdue = Overdue(self.settings.window // 4)

    def forget_all(self) -> None:
        """Start from what is on disk: nothing is known until it has been scanned."""
        self.passed = False
        self.lanes: dict[str, dict[Lane, Window[str]]] = {p: {} for p in PRIORITIES}
        self._sorted: dict[str, Sorted] = {}
        self.known = dict.fromkeys(PRIORITIES, False)
        self.blind = False  # something may start, and only the disk knows what
        self.future: Window[str] = Window(self.settings.window // 4, LOWEST_KEY)
        self.urgent: Window[tuple[int, str]] = Window(self.settings.window // 4, LOWEST_MOMENT)
        self.waiting: dict[str, Entry] = {}
        self.scanning: dict[str, set[str]] = {}  # scans under way: ids whose names changed meanwhile
        self.foreign: dict[str, bool] = {}  # by mark, whether other nodes have its places
        self.met: dict[str, dict[str, int]] = {}  # by handler and mark, how many the last scan has met
        self.read_to = LOWEST_KEY  # bodies of what is due in a moment were asked for up to this place
        self.horizon = LOWEST_KEY  # the last scan of what is due has seen all names below this
        self._lane_of: dict[str, Lane] = {}
        handlers = self.settings.handlers.items()  # asked often: most have no limit
        self.limited = frozenset(p for p, handler in handlers if limits.is_limited(handler))

    # Whom it is told.

    def told_at(self, now: int) -> int:
        """The instant in an event's name: now, and later than that of any event before it."""
        self._told = max(now, self._told + 1)
        return self._told

    def is_full(self, parent: str) -> bool:
        """Whether a parent has left so many events unread that its tasks wait."""
        return self.parents.unread.get(parent, 0) >= self.settings.outbox_limit

    def waits_for(self, parent: str) -> bool:
        """Whether a task is left on disk until its parent has read; the default outbox is nobody's.

        What is under way will be told, and is counted.
        """
        if parent == layout.DEFAULT_PARENT:
            return False
        known = self.parents
        if known.unread.get(parent, 0) + known.untold.get(parent, 0) < self.settings.outbox_limit:
            return False
        known.left_for.add(parent)
        return True

    def tells(self, parent: str) -> None:
        """One more event is told: at once where more may be decided by it in the same round."""
        self.parents.unread[parent] = self.parents.unread.get(parent, 0) + 1

    @property
    def full(self) -> frozenset[str]:
        """The parents whose outbox is full, or will be by what is under way."""
        return frozenset(p for p in self.parents.unread if self.is_full(p)) | self.parents.left_for

    def count_live(self, move: Move, step: int = 1) -> None:
        """A transition changes how many tasks its writer has that have not ended."""
        change = (move.after not in TERMINAL) - (move.before not in (NEW, *TERMINAL))
        token = dict(move.entry.extra).get(OWNER) if change else None
        if token is not None:
            self.live[token] = max(0, self.live.get(token, 0) + change * step)

    # What runs.

    @property
    def processes(self) -> int:
        """How many processes of handlers run, or are about to."""
        return len(self.gate.booked)

    def run(self, run: Run) -> None:
        """A task runs from now on."""
        self.runs[run.entry.id] = run
        if run.is_process:
            self.parents.untold[run.parent] = self.parents.untold.get(run.parent, 0) + 1
        self.extend(run, run.limit)
        if run.entry.deadline is not None and run.entry.lifted < 2:
            heappush(self._deadlines, (run.deadline or 0, run.entry.id))
            if len(self._deadlines) > 2 * len(self.runs) + SPARE:  # behind a long run lies what has ended
                self._deadlines = [row for row in self._deadlines if row[1] in self.runs]
                heapify(self._deadlines)

    def run_of(self, task_id: str, attempt: int) -> Run | None:
        """The run of this attempt; None where it has ended, though its process may not know."""
        run = self.runs.get(task_id)
        return run if run is not None and run.entry.attempt == attempt else None

    def extend(self, run: Run, limit: int) -> None:
        """A run has until another monotonic instant."""
        run.limit = limit
        if limit < FOREVER:
            heappush(self._limits, (limit, run.entry.id))
        if len(self._limits) > 2 * len(self.runs) + SPARE:
            self._limits = [(r.limit, r.entry.id) for r in self.runs.values() if r.limit < FOREVER]
            heapify(self._limits)

    def next_limit(self) -> Run | None:
        """The run whose time is up first."""
        while self._limits:
            limit, task_id = self._limits[0]
            run = self.runs.get(task_id)
            if run is not None and run.limit == limit and not run.ending:
                return run
            heappop(self._limits)
        return None

    def next_deadline(self) -> Run | None:
        """The run whose deadline passes first, and has not been told late."""
        while self._deadlines:
            deadline, task_id = self._deadlines[0]
            run = self.runs.get(task_id)
            if run is not None and run.deadline == deadline and run.entry.lifted < 2:
                return run
            heappop(self._deadlines)
        return None

    # What a task name belongs to.

    def lane_of(self, task: str) -> Lane:
        """Tasks of one lane may run, or may not, together: same handler, same pauses."""
        found = self._lane_of.get(task)
        if found is None:
            if len(self._lane_of) >= KEPT_NAMES:
                self._lane_of.clear()
            handler = self.settings.handler_for(task)
            paused = tuple(
                sorted(r["task"] for r in self.rows() if r["task"] and matches(r["task"], task))
            )
            beside = self.is_beside(task, handler)
            found = self._lane_of[task] = (handler.pattern if handler else "", paused, beside, "")
        return found

    def parent_of(self, task: Task) -> str:
        """Who is told of a task, as its handler is now."""
        return policy.parent(task, self.settings.handler_for(task.task))

    def knows(self, task: str) -> bool:
        """Whether the Python code for a task name has it, as far as that is known."""
        handler = self.settings.handler_for(task)
        return handler is None or task in self.code.get(handler.pattern, (task,))

    def learn(self) -> None:
        """Code has changed, or which nodes there are: what is left to others is found anew."""
        takes = self._takes_of_others()
        names = {task for rows in takes for row in rows.values() for task in row}
        not_ours = frozenset(name for name in names if not self.knows(name) and self._others_take(name))
        if self.left or not_ours != self.not_ours:
            self.not_ours = not_ours
            self.left.clear()
            self.forget_all()

    def leaves(self, entry: Entry, version: int | str | None) -> bool:
        """Whether a task that our code cannot run is left to a node whose code can."""
        handler = self.handler_of(entry)
        if handler is not None and handler.leaves_out(version):
            return False
        if entry.task in self.not_ours:
            return True
        if version is None or not self._others_take(entry.task, version):
            return False
        if len(self.left) >= self.settings.window:
            self.left.clear()
        self.left.add(entry.id)
        return True

    def _others_take(self, task: str, version: int | str | None = None) -> bool:
        handler = self.settings.handler_for(task)
        rows = (takes.get(handler.pattern, {}) for takes in self._takes_of_others()) if handler else ()
        return any(task in row and version in (None, *row[task]) for row in rows)

    def _takes_of_others(self) -> list[dict[str, dict[str, frozenset[int | str]]]]:
        return [self.others[node] for node in self.peers - {self.node} if node in self.others]

    def is_beside(self, task: str, handler: Handler | None) -> bool:
        """Whether a task is a coroutine, which shares a worker with others."""
        return handler is not None and task in self.asyncs.get(handler.pattern, ())

    @property
    def leader(self) -> str:
        """The node that does what one has to do for all."""
        return share.first("", self.peers)

    @property
    def leads(self) -> bool:
        """Whether this is the one."""
        return self.leader == self.node

    def rows(self) -> list[dict[str, Any]]:
        """The pauses that concern this node."""
        return [r for r in self.pauses if r.get("node") in (None, self.node)]

    @property
    def taking(self) -> frozenset[str]:
        """The nodes that are alive, and start what comes."""
        if len(self.peers) < 2:
            return self.peers
        return self.peers - {str(r["node"]) for r in self.pauses if r.get("node") and not r.get("task")}

    def part(self, pattern: str, marks: set[str]) -> None:
        """The tasks of these keys get lanes of their own: they wait, and are in the way of others.

        Where hardly any are left then, so do those of other keys of which the last scan has met many:
        each might want a scan before what is behind it is known, and so a few scans are enough. They
        are as many keys as have lanes by now; all, where keys take turns.
        """
        apart = self.limits.apart
        left = self._part(pattern, marks - apart)
        if any(window.hungry for window in left):
            met = (mark for mark, many in self.met.get(pattern, {}).items() if many > limits.LOOK)
            most = len(apart) if self.settings.handlers[pattern].fair is None else None
            if also := set(islice((mark for mark in met if mark not in apart), most)):
                self._part(pattern, also)

    def _part(self, pattern: str, marks: set[str]) -> list[Window[str]]:
        """The same, for these keys alone; the lanes of the others."""
        names = sorted(marks)[: max(1, limits.APART - len(self.limits.apart))]
        self.limits.apart.update(names)
        self._sorted.clear()
        found = []

        def mark_of(found: Entry | str) -> str:
            return limitkey.mark_in(found) if isinstance(found, str) else found.mark

        for lanes in self.lanes.values():
            for lane in [lane for lane in lanes if lane[0] == pattern and not lane[3]]:
                window = lanes[lane]
                found.append(window)
                own = window.part(mark_of, names, min(window.least, self._room(lanes, len(names))))
                whole = window.bound is None and window.gathered is None
                lanes |= {(*lane[:3], mark): w for mark, w in own.items() if len(w) or not whole}
        return found

    def sorted_lanes(self, prio: str) -> Sorted:
        """The lanes of a class: those that are not of one key, and those that are, with its mark."""
        found = self._sorted.get(prio)
        if found is None:
            found = self._sorted[prio] = Sorted([], {})
            for lane, window in self.lanes[prio].items():
                if lane[3]:
                    found.own.setdefault((*lane[:3], ""), []).append((lane[3], window))
                else:
                    found.common.append((lane, window))
        return found

    def rejoin(self, mark: str) -> None:
        """A key of which nothing waits needs no lanes of its own."""
        if mark not in self.limits.apart or "due" in self.scanning or not all(self.known.values()):
            return
        own = [(lanes, lane) for lanes in self.lanes.values() for lane in lanes if lane[3] == mark]
        if not any(len(lanes[lane]) or lanes[lane].bound is not None for lanes, lane in own):
            self.limits.apart.discard(mark)
            self._sorted.clear()
            for lanes, lane in own:
                del lanes[lane]

    def _room(self, lanes: dict[Lane, Window[str]], more: int = 1) -> int:
        """How many tasks a lane may have in memory in any case."""
        return max(LEAST, self.settings.window // (2 * len(PRIORITIES)) // max(2, len(lanes) + more))

    def shared(self, prio: str) -> int:
        """How many more the lanes of a class may have in memory together, those that come first.

        All classes together half the window; what others do not need one of them may have.
        """
        half = self.settings.window // 2
        others = sum(len(w) for p, lanes in self.lanes.items() if p != prio for w in lanes.values())
        return max(half // len(PRIORITIES), half - others)

    def lane(self, prio: str, task: str, mark: str = "") -> Window[str]:
        """The window of a lane; one that is new in a class already scanned has nothing on disk."""
        lanes = self.lanes[prio]
        name = self.lane_of(task)
        if mark and mark in self.limits.apart:
            name = (*name[:3], mark)
        found = lanes.get(name)
        if found is None:
            self._sorted.pop(prio, None)
            found = lanes[name] = Window(self._room(lanes), LOWEST_KEY)
            if self.known[prio]:
                found.bound = None
            elif "due" in self.scanning:
                found.gather(shared=True)
        return found

    def is_foreign(self, task: str, mark: str) -> bool:
        """Whether a task is left to other nodes, as its key goes."""
        if len(self.limits.live) < 2 or not mark:
            return False
        found = self.foreign.get(mark)
        if found is None:
            found = limits.foreign(self, mark, self.settings.handler_for(task))
            if len(self.foreign) < limits.KEPT:
                self.foreign[mark] = found
        return found

    def p95(self, task: str) -> int:
        """The usual run time of a task name, us; 0 where none has run."""
        known = self.history.of(task)
        return known.usual if known is not None else 0

    # What waits.

    def insert(self, entry: Entry, now: int) -> None:
        """An entry that waits in pending/ comes into memory where there is room for it."""
        self.gate.meet(entry, self.p95(entry.task))
        left = self._place(entry, now)
        self.waiting[entry.id] = entry
        for gone in left:
            if not self._in_memory(gone):
                self.waiting.pop(gone.id, None)

    def _place(self, entry: Entry, now: int) -> list[Entry]:
        if entry.time > now:
            left = [self.future.add(order.coming(entry), entry)]
        else:
            if self.is_foreign(entry.task, entry.mark):
                self.passed = True
                return [entry]
            left = [self.lane(entry.prio, entry.task, entry.mark).add(order.key(entry), entry)]
        when = order.moment(entry, self.p95(entry.task))
        if when is not None:
            left.append(self.urgent.add((when, entry.id), entry))
        return [gone for gone in left if gone]

    def _in_memory(self, entry: Entry) -> bool:
        if order.coming(entry) in self.future.entries:
            return True
        if order.key(entry) in self.lane(entry.prio, entry.task, entry.mark).entries:
            return True
        when = order.moment(entry, self.p95(entry.task))
        return when is not None and (when, entry.id) in self.urgent.entries

    def path_of(self, task_id: str) -> str | None:
        """Where a task waits, as far as it is in memory."""
        found = self.waiting.get(task_id)
        return None if found is None else layout.pending(found)

    def discard(self, entry: Entry) -> None:
        """An entry leaves pending/, or its name there changes: out of every window."""
        self.bodies.take(entry.id)
        self._take_out(entry)

    def _take_out(self, entry: Entry) -> None:
        self.waiting.pop(entry.id, None)
        for changed in self.scanning.values():
            changed.add(entry.id)  # a scan may yet come by with the old name
        stamp = order.stamp(entry.time, entry.id)
        self.future.discard(order.coming_of_stamp(stamp, entry.prio, front=entry.front))
        lane = self.lane(entry.prio, entry.task, entry.mark)
        lane.discard(order.key_of_stamp(stamp, front=entry.front))
        self._discard_urgent(entry)

    def _discard_urgent(self, entry: Entry) -> None:
        if entry.deadline is None:
            return
        gathered = self.urgent.gathered or {}  # under whatever moment a scan has met it
        stale = [k for k in gathered if k[1] == entry.id]
        when = order.moment(entry, self.p95(entry.task))
        if when is not None and (when, entry.id) in self.urgent.entries:
            stale.append((when, entry.id))
        else:  # the usual run time has changed since it was put there: look for it by id
            stale += [k for k in self.urgent.entries if k[1] == entry.id]
        for place in stale:
            self.urgent.discard(place)

    def ripen(self, now: int) -> None:
        """What waited for its time and has it now goes to its lane."""
        limit = order.stamp(now + 1)
        while (place := self.future.first()) is not None and place < limit:
            entry = self.future.entries[place]
            self._take_out(entry)  # its body, where it was read ahead, stays
            self.insert(entry, now)
        bound = self.future.bound
        if bound == LOWEST_KEY:
            bound = self.horizon
        if bound is not None and LOWEST_KEY < bound < limit:
            self.forget_all()  # more has become due than was in memory: what comes first is on disk

    # What comes next.

    def turn_away(self, task_id: str) -> None:
        """A task does not come in yet: its action stays, and so does what is asked of it."""
        if len(self.turned_away) >= KEPT_NAMES:
            self.turned_away.pop(next(iter(self.turned_away)))
        self.turned_away[task_id] = None

    def blocked(self, lane: Lane) -> str:
        """Why nothing of a lane may start now, in words; empty where it may."""
        shut = self.gate.why if not self.gate.open and self.gated(lane) else ""
        limit = self.limit
        return self.busy_with(lane, max(limit, self.usual_limit)) or shut or self.busy_with(lane, limit)

    def gated(self, lane: Lane) -> bool:
        """Whether the tasks of a lane are processes, which the gate may hold."""
        handler = self.settings.handlers.get(lane[0])
        return handler is not None and not handler.notify and not lane[2]

    def busy_with(self, lane: Lane, limit: int) -> str:
        """The same where so many processes may run at once, whatever the machine has room for."""
        pattern, paused, beside, mark = lane
        if paused:
            return f"paused ({', '.join(paused)})"
        handler = self.settings.handlers.get(pattern)
        if handler is None:
            return ""
        if why := self.out_of_order(pattern):
            return why
        own = limits.said(self, handler, mark)
        return own or self._busy_handler(handler, limit, beside=beside)

    def out_of_order(self, pattern: str) -> str:
        """Why nothing of a handler may start whose code cannot be imported: one task at a time tries."""
        broken = self.broken.get(pattern)
        return broken.why if broken is not None and (broken.until or self.busy.get(pattern)) else ""

    def _busy_handler(self, handler: Handler, limit: int, *, beside: bool) -> str:
        pattern = handler.pattern
        if handler.concurrency and self.busy.get(pattern, 0) >= handler.concurrency:
            return f"handler {pattern} runs {handler.concurrency} already (concurrency)"
        if handler.notify:
            if self.is_full(handler.notify):
                return f"outbox {handler.notify} is full"
        elif beside:
            width = handler.concurrency or handler.async_tasks
            if self.busy.get(pattern, 0) >= width:
                return f"handler {pattern} runs {width} already (async_tasks)"
        elif self.processes >= limit:
            few = ", fewer while the machine is busy" if limit < self.usual_limit else ""
            many = "1 process runs" if self.processes == 1 else f"{self.processes} processes run"
            return f"{many} already (concurrency{few})"
        return ""

    @property
    def limit(self) -> int:
        """How many handler processes may run at once: as admission has adapted it to the machine."""
        pace, admission = self.gate.pace, self.settings.admission
        level = self.usual_limit
        if pace is not None and admission.enabled:
            level = max(pace.level, admission.floor)
            level = min(level, self.settings.concurrency or level)
        return min(level, self.gate.room or level)

    @property
    def usual_limit(self) -> int:
        """The same where nothing is known of the machine."""
        return self.settings.concurrency or max(2, self.cpus)

    def paused(self) -> str:
        """Why nothing at all may start, in words."""
        return "stopping" if self.stopping else self.halted or self.shut

    @property
    def halted(self) -> str:
        """Whether somebody has paused or drained this node, or all: by which word."""
        return next((str(row["kind"]) for row in self.rows() if not row.get("task")), "")

    def paused_ready(self) -> list[str]:
        """What keeps by name what is ready from its start: `pause of x.*`."""
        lanes = (lane for lanes in self.lanes.values() for lane, window in lanes.items() if len(window))
        patterns = {pattern for lane in lanes for pattern in lane[1]}
        rows = (row for row in self.rows() if row.get("task") in patterns)
        return sorted(f"{row['kind']} of {row['task']}" for row in rows)

    @property
    def lift_unknown(self) -> bool:
        """Whether a deadline may have made a task that is only on disk the first."""
        soonest = self.urgent.bound
        return soonest is not None and soonest[0] <= self.latest

    def head(self) -> Entry | None:
        """The next task that may start."""
        found = next_start(self)
        return found[0] if found is not None else None

    def _first(self, *, paused: bool = False) -> Entry | None:
        """The next that is ready, whatever holds it; but what is `paused` by name, or that alone."""
        for prio in PRIORITIES:
            if not self.known[prio] or (prio != PRIORITIES[0] and self.lift_unknown):
                return None
            lanes = self.lanes[prio].items()
            firsts = {
                f: w for lane, w in lanes if bool(lane[1]) is paused and (f := w.first()) is not None
            }
            if firsts:
                first = min(firsts)
                return firsts[first].entries[first]
        return None

    def next_event(self) -> Entry | None:
        """The task that comes next, ready or not: always in memory."""
        ready = self._first()
        if ready is not None:
            return ready
        first = self.future.first()
        return self.future.entries[first] if first is not None else self._first(paused=True)

    def hungry(self) -> list[str]:
        """Which scans are wanted: `due` where a lane or the deadlines run low, `future`."""
        wanted = []
        if not all(self.known.values()) or self.blind or self.urgent.hungry or self._low():
            wanted.append("due")
        if self.future.hungry and self.future.bound != LOWEST_KEY:
            wanted.append("future")  # what comes first of it is found by the scan of what is due
        return [kind for kind in wanted if kind not in self.scanning]

    def _low(self) -> bool:
        """Whether a lane runs low, and nothing of its handler comes before what it lacks for long."""
        for lanes in self.lanes.values():
            for lane, window in lanes.items():
                if not window.hungry:
                    continue
                common = lanes.get((*lane[:3], "")) if lane[3] else None
                if common is None or self.settings.handlers[lane[0]].fair is not None:
                    return True
                if common.before(window.bound or "") * 4 < common.limit:
                    return True
        return False

    def handler_of(self, entry: Entry) -> Handler | None:
        """The handler bound to a task's name."""
        return self.settings.handler_for(entry.task)
