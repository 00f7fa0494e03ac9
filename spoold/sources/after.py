"""Who waits for whom: held tasks with `after`, and whether those have ended, told by the disk alone.

Of all that one waits for one is watched, the last that has not ended: when it ends, those before it are
looked at. What has ended and has no whole record is found by its name, at start and once an hour.
What is to hear of a failure at once (on_failure cancel, only) is told of each, as far as memory is given
to it. Where other nodes have ended something, all that is waited for is looked at, the more seldom the
more it is. A turn looks at the disk a bounded number of times, however many the edges.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from msgspec import Struct

from spool import layout, look, waiting
from spool.disk import Missing, Unreadable
from spool.heldfor import AFTER
from spool.names import BadName, id_and_task, parse_entry
from spool.quarantine import Corrupt
from spoold.core.table import DONE, HELD, TERMINAL
from spoold.core.values import Settled
from spoold.spared import listed, spare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk
    from spool.owncopy import Task
    from spoold.core.state import State
    from spoold.core.values import Move, Now

SLICE = 1000  # names
LOOKS = 300  # at the disk in one turn
MANY = 200  # ids of an own copy that cost as much to read as one look
KEPT = 50_000  # tasks known to be done; and edges along which a failure is told
EVERY = 60_000_000  # us between looks at all where other nodes end tasks as well
OFTEN, EACH = 1_000_000, 20_000  # us between looks at what others may have ended, at least; for each task
RARELY = 600_000_000  # us, where they do not
HOUR = 3_600_000_000  # us between looks at the names of all that has ended, which may be many
MARK = f"w={AFTER}"
EAGER = ("cancel", "only")
GOES, WAITS, MORE = "", "waits", "more"  # and what else is said of a task is why it ends
NONE_FAILED = "none of those it waits for has failed"


class Waiter(Struct):
    """A task that waits, and how far its list was looked at, from the last to the first.

    `at`: what is looked at next, None where nothing was yet. `watch` has not ended. `first`: not all
    were looked at yet. `whole`: the pass under way began with the last. `bad` has just failed.
    """

    id: str
    path: str
    at: int | None = None
    watch: int = -1
    first: bool = True
    whole: bool = True
    bad: str = ""


class After:
    """Releases what waits for tasks; for the loop, a source of events."""

    def __init__(self, disk: Disk, state: State) -> None:
        self.disk = disk
        self.state = state
        self._watched: dict[str, set[str]] = {}  # id: who waits for it
        self._eager: dict[str, set[str]] = {}  # id: who is to hear at once if it fails
        self._edges = 0  # of these
        self._waits: dict[str, Waiter] = {}
        self._todo: deque[Waiter] = deque()  # to be looked at
        self._done: dict[str, None] = {}  # tasks that are done, as far as known
        self._looks = 0  # left in this turn
        self._turn = 0  # when that is
        self._corrupt = Corrupt(disk)
        self._bare: dict[str, str] = {}  # what has ended and has no record, and where it stands
        self._search = 0  # when it is looked for again
        self._scan: Iterator[None] | None = self._names()
        self._next = 0
        self._left = False  # there were more than memory holds
        self._asked = False  # others have ended something
        self._doubted: list[str] = []  # what it may have been, and is waited for
        self._again = 0  # when the next such look may begin

    def see(self, move: Move) -> None:
        """A transition was decided; it is on disk when it is looked at."""
        if move.after in TERMINAL:
            self._stir(move.entry.id, failed=move.after != DONE)
        elif move.after == HELD and move.entry.why == AFTER:
            self._todo.append(Waiter(move.entry.id, move.target))

    def ask(self) -> None:
        """Other nodes have ended tasks."""
        self._asked = True

    def again(self) -> None:
        """There are other nodes than before: what waits is looked for anew."""
        self._scan = self._names()

    def due(self, now: Now) -> int | None:
        """In how many us there is something to do; None where nothing waits."""
        if self._todo or self._doubted or self._scan is not None:
            return 0
        if self._waits or self._left or self._others:
            soon = self._asked and self._waits
            return max(0, (min(self._again, self._next) if soon else self._next) - now.mono)
        return None

    @property
    def _others(self) -> bool:
        return len(self.state.peers) > 1

    def look(self, now: Now) -> list[Settled]:
        """What has become of some that wait."""
        if self.due(now) != 0:
            return []
        self._turn = now.mono
        if self._asked and now.mono >= self._again:
            self._asked, self._doubted = False, [*{*self._watched, *self._eager}]
            self._again = now.mono + min(EVERY, max(OFTEN, EACH * len(self._doubted)))
        if self._scan is None and now.mono >= self._next and not self._todo:
            self._scan = self._names()
        if self._scan is not None and len(self._todo) < SLICE and next(self._scan, self) is self:
            self._scan, self._next = None, now.mono + (EVERY if self._others else RARELY)
        free: dict[str, str] = {}
        stranded: dict[str, tuple[str, str]] = {}
        self._looks = LOOKS
        while self._doubted and self._looks > 0:
            one = self._doubted.pop()
            if end := self._end(one):
                self._stir(one, failed=end != DONE)
        while self._todo and self._looks > 0:
            self._check(self._todo.popleft(), free, stranded)
        return [Settled(free, stranded)] if free or stranded else []

    def _names(self) -> Iterator[None]:
        """Look at all that waits, and seldom for what has ended of that; a slice of names at a time."""
        self._left = False
        for names in listed(self.disk, layout.HELD, SLICE):
            for name in names:
                self._found(name)
            yield
        while self._todo:
            yield
        if not self._waits or self._turn < self._search:
            return
        self._search = self._turn + HOUR
        for folder in look.folders(self.disk, layout.ENDED):
            for names in listed(self.disk, folder, LOOKS):
                for name in names:
                    self._find(folder, name)
                yield

    def _find(self, folder: str, name: str) -> None:
        task_id = id_and_task(name)[0]
        if (task_id in self._watched or task_id in self._eager) and not self._end(task_id):
            self._bare[task_id] = f"{folder}/{name}"
            self._stir(task_id, failed=not folder.startswith(layout.DONE))

    def _found(self, name: str) -> None:
        if MARK not in name or name[:1] == ".":
            return
        try:
            entry = parse_entry(name)
        except BadName:
            return
        if entry.why == AFTER:
            self._todo.append(Waiter(entry.id, f"{layout.HELD}/{name}"))

    def _stir(self, task_id: str, *, failed: bool) -> None:
        hear = self._eager.pop(task_id, set())
        self._edges -= len(hear)
        for other in self._watched.pop(task_id, set()) | (hear if failed else set()):
            if (waiter := self._waits.pop(other, None)) is not None:
                waiter.bad, waiter.watch = task_id if failed and other in hear else "", -1
                self._todo.append(waiter)

    def _check(self, waiter: Waiter, free: dict[str, str], stranded: dict[str, tuple[str, str]]) -> None:
        """Whether it still waits, and for whom."""
        self._looks -= 1
        try:
            task = look.read_task(self.disk, waiter.path)
        except (Missing, Unreadable, *look.DAMAGED) as problem:
            if isinstance(problem, Unreadable):
                spare(problem)
            known = self._waits.get(waiter.id)
            if known is not None and known.path == waiter.path:  # else it has another name by now
                del self._waits[waiter.id]  # released, cancelled, or damaged: not ours to say
            return
        self._looks -= len(task.after) // MANY
        bad, waiter.bad = waiter.bad, ""
        fresh = waiter.at is None
        said = self._verdict(task, bad, self._end(bad)) if bad else None
        said = self._pass(waiter, task) if said is None else said
        if said == MORE:
            self._todo.appendleft(waiter)
        elif said == GOES:
            free[waiter.id] = waiter.path
        elif said != WAITS:
            stranded[waiter.id] = waiter.path, said
        elif len(self._waits) < self.state.settings.window:
            self._waits[waiter.id] = waiter
            self._watched.setdefault(task.after[waiter.watch], set()).add(waiter.id)
            if task.on_failure in EAGER:
                self._hear(waiter.id, task.after if fresh else (bad,))
        else:
            self._left = True

    def _pass(self, waiter: Waiter, task: Task) -> str:
        """GOES, WAITS, MORE (the next turn goes on), or why it ends with those it waits for."""
        last = len(task.after) - 1
        waiter.at = last if waiter.at is None else waiter.at
        while True:
            while waiter.at >= 0 and (waiter.watch < 0 or (waiter.first and task.on_failure in EAGER)):
                if self._looks <= 0:
                    return MORE
                one = task.after[waiter.at]
                end = self._end(one)
                if (said := self._verdict(task, one, end)) is not None:
                    return said
                if waiter.watch < 0 and (not end or (end != DONE and task.on_failure == "wait")):
                    waiter.watch = waiter.at
                waiter.at -= 1
            waiter.first = False
            if waiter.watch >= 0:
                waiter.at, waiter.whole = waiter.watch, waiter.watch == last
                return WAITS
            if waiter.whole:
                return GOES if task.on_failure != "only" else NONE_FAILED
            waiter.at, waiter.whole = last, True  # one that had failed may have been retried since

    def _verdict(self, task: Task, one: str, end: str) -> str | None:
        """What the end of one of those it waits for settles by itself."""
        if end in ("", DONE) or task.on_failure not in EAGER:
            return None
        if task.on_failure == "only":
            return GOES
        return f"{one}, which it waits for, {'has' if end == 'failed' else 'was'} {end}"

    def _end(self, task_id: str) -> str:
        """How a task has ended; what is done stays so, and is not asked for again."""
        if task_id in self._done:
            return DONE
        self._looks -= 1
        end = waiting.how_ended(self.disk, task_id, lambda: self._corrupt.tasks(self._turn))
        if not end and (path := self._bare.get(task_id)) is not None:
            if self.disk.info(path) is None:
                del self._bare[task_id]  # it was retried
            else:
                end = path.partition("/")[0]
        if end == DONE:
            if len(self._done) >= KEPT:
                self._done.pop(next(iter(self._done)))
            self._done[task_id] = None
        return end

    def _hear(self, waiter: str, ids: tuple[str, ...]) -> None:
        """It is told at once where one of these fails, as far as memory is given to that."""
        for task_id in ids if self._edges + len(ids) <= KEPT else ():
            if task_id and task_id not in self._done:
                hear = self._eager.setdefault(task_id, set())
                self._edges += waiter not in hear
                hear.add(waiter)
