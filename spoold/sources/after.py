"""Who waits for whom: held tasks with `after`, and whether those have ended, told by the disk alone.

Of all that one waits for only one is watched, the last that has not ended: when it ends, the rest is
looked at. So what is kept in memory does not grow with the number of edges, and a task in the middle
of many is looked at once for each that waits for it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from spool import layout, look, waiting
from spool.disk import Missing, NotRegular, TooLarge
from spool.errors import Invalid
from spool.names import BadName, parse_entry
from spool.place import AFTER
from spoold.core.table import HELD, TERMINAL
from spoold.core.values import Settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk
    from spoold.core.state import State
    from spoold.core.values import Move, Now

SLICE = 1000  # names
AT_ONCE = 100  # waiting tasks looked at in one turn
EVERY = 60_000_000  # us between looks at all where other nodes end tasks as well
RARELY = 600_000_000  # us, where they do not
MARK = f"w={AFTER}"
GONE = (Missing, Invalid, BadName, NotRegular, TooLarge)


class After:
    """Releases what waits for tasks; for the loop, a source of events."""

    def __init__(self, disk: Disk, state: State) -> None:
        self.disk = disk
        self.state = state
        self._watched: dict[str, set[str]] = {}  # id: who waits for it
        self._waits: dict[str, str] = {}  # id: path
        self._todo: deque[tuple[str, str]] = deque()  # (id, path) to be looked at
        self._scan: Iterator[list[str]] | None = self._names()
        self._next = 0
        self._left = False  # there were more than memory holds

    def see(self, move: Move) -> None:
        """A transition was decided; it is on disk when it is looked at."""
        if move.after in TERMINAL:
            self._stir(move.entry.id)
        elif move.after == HELD and move.entry.why == AFTER:
            self._todo.append((move.entry.id, move.target))

    def due(self, now: Now) -> int | None:
        """In how many us there is something to do; None where nothing waits."""
        if self._todo or self._scan is not None:
            return 0
        if self._waits or self._left or self._others:
            return max(0, self._next - now.mono)
        return None

    @property
    def _others(self) -> bool:
        return len(self.state.peers) > 1

    def look(self, now: Now) -> list[Settled]:
        """What has become of some that wait."""
        if self.due(now) != 0:
            return []
        if self._scan is None and not self._todo:
            self._scan = self._names()
        if self._scan is not None and len(self._todo) < SLICE:
            names = next(self._scan, None)
            if names is None or len(names) < SLICE:
                self._scan, self._next = None, now.mono + (EVERY if self._others else RARELY)
            for name in names or ():
                self._found(name)
        free: dict[str, str] = {}
        stranded: dict[str, tuple[str, str]] = {}
        for _ in range(min(AT_ONCE, len(self._todo))):
            task_id, path = self._todo.popleft()
            self._check(task_id, path, free, stranded)
        return [Settled(free, stranded)] if free or stranded else []

    def _names(self) -> Iterator[list[str]]:
        self._left = False
        yield from self.disk.slices(layout.HELD, SLICE)

    def _found(self, name: str) -> None:
        if MARK not in name or name[:1] == ".":
            return
        try:
            entry = parse_entry(name)
        except BadName:
            return
        if entry.why == AFTER:
            self._todo.append((entry.id, f"{layout.HELD}/{name}"))

    def _stir(self, task_id: str) -> None:
        for other in self._watched.pop(task_id, ()):
            if (path := self._waits.pop(other, None)) is not None:
                self._todo.append((other, path))

    def _check(
        self, task_id: str, path: str, free: dict[str, str], stranded: dict[str, tuple[str, str]]
    ) -> None:
        """Whether it still waits, and for whom."""
        try:
            task = look.read_task(self.disk, path)
        except GONE:
            self._waits.pop(task_id, None)  # released, cancelled, or damaged: not ours to say
            return
        if (watched := self._first(task.after, task.on_failure)) is None:
            free[task_id] = path
        elif watched[1]:
            stranded[task_id] = (path, f"{watched[0]}, which it waits for, {watched[1]}")
        elif len(self._waits) < self.state.settings.window:
            self._waits[task_id] = path
            self._watched.setdefault(watched[0], set()).add(task_id)
        else:
            self._left = True

    def _first(self, ids: tuple[str, ...], on_failure: str) -> tuple[str, str] | None:
        """The last one that stands in the way, and (cancel) how it has ended; None where nothing does."""
        waits: tuple[str, str] | None = None
        for task_id in reversed(ids):
            end = ended(self.disk, task_id)
            if end == "done" or (end and on_failure == "run"):
                continue
            if end and on_failure == "cancel":
                return task_id, f"has {end}" if end == "failed" else f"was {end}"
            if on_failure != "cancel":
                return task_id, ""
            waits = waits or (task_id, "")
        return waits


def ended(disk: Disk, task_id: str) -> str:
    """How a task has ended: done, failed or cancelled; empty where it has not, or is not known."""
    last = waiting.end_of(disk, task_id)
    return str(last["event"]) if last is not None else ""
