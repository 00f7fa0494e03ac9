"""Which worker gets which task: in order, some ahead of time, and back where something comes before."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from typing import TYPE_CHECKING, Any

from spool.owncopy import deadline_of
from spoold.core.values import Begun, Waits

if TYPE_CHECKING:
    from spool.settings import Handler
    from spoold.core.values import Start
    from spoold.effects.worker import Key, Worker


class Turns:
    """The tasks of one application that no worker has begun."""

    def __init__(self, workers: dict[str, Worker]) -> None:
        self.workers = workers
        self.waiting: list[Start] = []
        self.asyncs: frozenset[str] = frozenset()  # names of those that are coroutines
        self._told: set[Key] = set()  # those with a slot that are known to wait

    def add(self, start: Start) -> None:
        """A task, to its place among those that wait."""
        insort(self.waiting, start, key=_rank)

    def remove(self, key: Key) -> Start | None:
        """Take one out that waits."""
        found = next((start for start in self.waiting if key_of(start) == key), None)
        if found is not None:
            self.waiting.remove(found)
        return found

    def take_back(self, worker: Worker) -> None:
        """What a worker has not begun waits again."""
        for start in worker.take_back():
            self.add(start)

    def recalled(self, pattern: str) -> list[Start]:
        """All of a handler that were handed ahead and have not begun; they are out of here."""
        for worker in self.workers.values():
            if len(worker.runs) > 1:
                self.take_back(worker)
        found: list[Start] = []
        every, self.waiting = self.waiting, []
        for start in every:
            wanted = start.ahead and start.handler.pattern == pattern
            (found if wanted else self.waiting).append(start)
        return found

    def wanted(self, width: int) -> int:
        """How many workers those that wait want to be started or to be on their way."""
        own = [s for s in self.waiting if not s.ahead]
        beside = Counter(s.entry.among for s in own if s.entry.task in self.asyncs)
        shared = Counter({a: -(-many // _width(a, width)) for a, many in beside.items()})
        apart = min(shared.total() - shared[0], self._room(width))
        others = [s.ahead for s in self.waiting if s.ahead]
        missing = max(others) - sum(not w.leaving for w in self.workers.values()) if others else 0
        return len(own) - beside.total() + shared[0] + apart + max(0, min(missing, len(others)))

    def feed(self, now: int, rule: Handler, *, worn: bool = False) -> list[Begun | Waits]:
        """Hand over what can be, in order; those that have to wait are told, and when they begin.

        `worn`: also to workers that have had their share of tasks.
        """
        found: list[Begun | Waits] = []
        later: list[Start] = []
        if not self.waiting:
            self._level()
        while self.waiting:
            start = self.waiting[0]
            worker = self._worker_for(start, rule, worn=worn)
            if worker is None and self._must_wait(start, rule.async_tasks):
                later.append(self.waiting.pop(0))  # and holds up nothing
                continue
            if self._behind(start, [worker] if worker is not None else [*self.workers.values()]):
                continue  # what was handed ahead and comes after this one waits again
            if worker is None:
                break
            self.waiting.pop(0)
            at_once = not worker.runs or start.entry.task in self.asyncs
            if at_once and (start.ahead or key_of(start) in self._told):
                found.append(Begun(*key_of(start)))
            if at_once:
                worker.since = now
            worker.give(start, start_message(start))
        for start in later:
            self.add(start)
        for worker in self.workers.values():
            worker.flush()
        waiting = {key_of(start) for start in self.waiting if not start.ahead}
        found += [Waits(*key) for key in waiting - self._told]
        self._told = waiting
        return found

    def _worker_for(self, start: Start, rule: Handler, *, worn: bool) -> Worker | None:
        able = [w for w in self.workers.values() if w.able and (worn or w.tasks < rule.recycle_tasks)]
        if start.entry.task in self.asyncs:
            width = _width(among := start.entry.among, rule.async_tasks)
            free = not among or not self._must_wait(start, rule.async_tasks)
            beside = [
                w
                for w in able
                if (not w.is_plain and w.among == among and len(w.runs) < width if w.runs else free)
            ]
            return max(beside, key=lambda w: len(w.runs), default=None)
        same = self._same(start)
        if not start.ahead or len(same) < start.ahead:
            idle = next((w for w in able if not w.runs), None)
            if idle is not None:
                return idle
        if not start.ahead:
            return None
        return min((w for w in same if w in able), key=lambda w: len(w.runs), default=None)

    def _must_wait(self, start: Start, width: int) -> bool:
        """Whether it is one of those that have died together, and there are workers enough for them."""
        entry = start.entry
        return entry.among > 0 and entry.task in self.asyncs and not self._room(width)

    def _room(self, width: int) -> int:
        """How many more workers may run coroutines that have died together.

        Halving what one worker had comes down to the one that does it in so many, though all others
        go on; of more than one the rest waits.
        """
        return max(0, width.bit_length() + 1 - sum(w.among > 0 for w in self.workers.values()))

    def _same(self, start: Start) -> list[Worker]:
        """The workers that run plain functions of its handler."""
        pattern = start.handler.pattern
        return [
            w
            for w in self.workers.values()
            if w.runs and next(iter(w.runs.values())).handler.pattern == pattern and w.is_plain
        ]

    def _behind(self, start: Start, workers: list[Worker]) -> bool:
        """Take back what comes after a task and was handed before it; whether there was any."""
        before = len(self.waiting)
        for worker in workers:
            if len(worker.runs) > 1 and worker.is_plain:
                *_, last = worker.runs.values()
                if last.rank > start.rank:
                    self.take_back(worker)
        return len(self.waiting) > before

    def _level(self) -> None:
        """A worker without work gets some of what others have not begun."""
        if any(w.able and not w.runs for w in self.workers.values()):
            most = max(self.workers.values(), key=lambda w: len(w.runs))
            if len(most.runs) > 1 and most.is_plain:
                *_, last = most.runs.values()
                if len(self._same(last)) < last.ahead:
                    self.take_back(most)


def _width(among: int, width: int) -> int:
    """How many coroutines share the worker of one that may be `among` so many."""
    return min(among or width, width)


def _rank(start: Start) -> tuple[int, str]:
    return start.rank


def key_of(start: Start) -> Key:
    """What names an attempt."""
    return start.entry.id, start.entry.attempt


def start_message(start: Start) -> dict[str, Any]:
    """What a worker is told of a task."""
    entry, task = start.entry, start.task
    return {
        "op": "start",
        "id": entry.id,
        "attempt": entry.attempt,
        "task": entry.task,
        "version": task.version,
        "args": task.args,
        "at": entry.time,
        "deadline": deadline_of(task, entry),
        "meta": task.meta,
        "recurring": task.recurring,
        "after": task.after,
        "trace": task.trace,
    }
