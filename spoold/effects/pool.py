"""The workers of one application: started for tasks that wait, replaced, sent home."""

from __future__ import annotations

import logging
import os
from itertools import count
from typing import TYPE_CHECKING, Any

from spool import layout
from spool.apps import command
from spool.disk import NotRegular, open_regular
from spool.records import error
from spool.times import format_span
from spoold.core.values import (
    NO_CODE,
    Answered,
    Begun,
    Broken,
    NotStarted,
    Progressed,
    Registered,
    Returned,
    Tick,
)
from spoold.effects.reports import FULL
from spoold.effects.turns import Turns, key_of
from spoold.effects.worker import CODE, DEATH, KEEPER, MACHINE, Key, Worker, pair

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from spool.apps import App
    from spool.settings import Handler, Settings
    from spoold.core.values import Event, Kill, Start
    from spoold.effects.runner import Runner
    from spoold.effects.worker import Fault

log = logging.getLogger("spoold")
PATIENCE = 60_000_000  # us for a worker to import its application
SHORTEST, LONGEST = 1_000_000, 60_000_000  # us between tries to import what cannot be
LEAVING = 10_000_000  # us for a worker without a task to end when told to
LOOK = 1_000_000  # us between looks at the output of what runs
SLOW = 20_000  # us that a task may hold up what was handed ahead of time behind it
GARBLED = "it said what is no message, as by a task that writes to descriptors not its own"
BESIDE = "its worker was killed, as a task beside it did not end when it was told to"
_NUMBERS = count(1)  # of the workers of all applications


class Pool:
    """The workers of one application, and the tasks that they have or that wait for one."""

    def __init__(  # noqa: PLR0913 - what a worker is started with
        self,
        app: App,
        handlers: Sequence[Handler],
        runner: Runner,
        root: str,
        node: str,
        base: dict[str, str],
        settings: Settings,
        watch: Callable[[Worker], None],
    ) -> None:
        self.app = app
        self.handlers = handlers
        self.settings = settings
        self.workers: dict[str, Worker] = {}
        self.turns = Turns(self.workers)
        self.takes: dict[str, frozenset[int | str]] | None = None  # task name -> versions
        self.retired = False
        self.problem: dict[str, Any] | None = None  # why the last worker could not import the module
        self._runner, self._root, self._node, self._base = runner, root, node, base
        self._watch = watch
        self._failures = 0  # of imports, in a row
        self._again = 0  # when it is tried again
        self._lost = 0  # when the keeper died first in an import, since the last that worked
        self._next: Worker | None = None  # a worker with newer code, until it is ready

    # What the core asks.

    def start(self, start: Start) -> None:
        """Run a task when a worker is free; `feed` finds one."""
        self.turns.add(start)

    def kill(self, kill: Kill, now: int) -> list[Event]:
        """End an attempt: told to stop, then its worker is killed. One that has not begun comes back."""
        key = (kill.id, kill.attempt)
        worker = self._worker_of(key)
        events: list[Event] = []
        if worker is not None:
            self.turns.take_back(worker)
            # It may have ended: then it has begun the next.
            events = self._listen(worker, now, to_the_end=True)
        if self.turns.remove(key) is not None:
            events.append(Returned(*key))
            if worker is not None and not worker.runs and kill.why == "timeout":
                self._end(worker, "it begins nothing (is it stopped?)")
        elif worker is not None and key in worker.runs:
            self._stop(worker, kill, now)
        return events + self.feed(now)

    def _stop(self, worker: Worker, kill: Kill, now: int) -> None:
        worker.send({"op": "stop", "id": kill.id, "attempt": kill.attempt, "why": kill.why})
        self._watch(worker)
        if worker.is_plain:
            worker.leaving = True
            self._runner.kill(worker.name, kill.grace / 1e6)
        else:
            worker.deadlines[kill.id, kill.attempt] = now + kill.grace

    def recall(self, pattern: str, now: int) -> list[Event]:
        """What was handed ahead for a handler and has not begun comes back."""
        back = [Returned(*key_of(start)) for start in self.turns.recalled(pattern)]
        return [*back, *self.feed(now)]

    def drain(self) -> None:
        """A stop is near: who asks `should_stop` is told."""
        for worker in self.workers.values():
            worker.send({"op": "drain"})

    def reload(self, now: int) -> list[Event]:
        """New code: a new worker imports it; when it is ready the others finish and leave."""
        self._failures = self._again = self._lost = 0
        return self._spawn(now, asked=True)

    def retire(self, now: int) -> list[Event]:
        """No handler is bound to this application any more: what has begun ends, the rest comes back."""
        self.retired = True
        for worker in self.workers.values():
            self._dismiss(worker, now)
        return self._back()

    # What workers say.

    def heard(self, worker: Worker, now: int) -> list[Event]:
        """Everything a worker has to say now."""
        return self._listen(worker, now) + self.feed(now)

    def _listen(self, worker: Worker, now: int, *, to_the_end: bool = False) -> list[Event]:
        first = next(iter(worker.runs), None)
        messages, closed = worker.receive(to_the_end=to_the_end)
        events: list[Event] = []
        for message in messages:
            match message["ev"]:
                case "end":
                    events += self._ended(worker, message, now)
                case "progress":
                    events.append(
                        Progressed(message["id"], message["attempt"], message["percent"], message["note"])
                    )
                case "ready" | "broken" if worker.leaving:
                    pass  # what its code takes is of no interest any more
                case "ready" if to_the_end:
                    pass  # and dead by now
                case "ready":
                    events += self._ready(worker, message, now)
                case _:  # broken
                    worker.leaving = worker.broken = True
                    events += self._broken(message["error"], now)
        if closed and not worker.closed:
            worker.closed = True
            worker.gone_by = now + LEAVING
            self._watch(worker)
            if worker.garbled:  # by what a task has written where it does not belong
                self._end(worker, GARBLED)
        after = next(iter(worker.runs), None)
        if after is not None and after != first and worker.is_plain:
            events.append(Begun(*after))
        return events

    def died(self, name: str, how: str, tail: str, now: int, fault: Fault = CODE) -> list[Event]:
        """A worker is gone: so are the attempts it had. `fault` is of use where it was not ready."""
        worker = self.workers[name]
        events = self._listen(worker, now, to_the_end=True)  # what it said before it died counts
        self.turns.take_back(worker)
        del self.workers[name]
        self._collect_output(worker)
        others = len(worker.runs) - 1
        said, so = f"its worker died: {how}", "did"
        if worker.killed:
            said, so = f"its worker was killed: {worker.killed}", "was" if others == 1 else "were"
        said += f"; so {so} {others} coroutine{'s' * (others > 1)} beside it" if others > 0 else ""
        half = -(-len(worker.runs) // 2) if others > 0 else 0
        for key, start in worker.runs.items():
            problem = error("crashed", said, self._tail(start) or tail or None)
            log = layout.log(*key)
            facts = {"log": log if os.path.exists(os.path.join(self._root, log)) else None}
            innocent = worker.blamed and key not in worker.blamed
            events.append(
                Answered(
                    id=key[0],
                    attempt=key[1],
                    outcome="interrupted" if innocent else "crashed",
                    error=problem,
                    why=BESIDE if innocent else "",
                    among=0 if worker.blamed else half,  # any may have done it
                    facts=facts,
                )
            )
        _unlink(worker.scratch)
        worker.closed = True
        self._watch(worker)
        worker.close()
        asked = worker is self._next
        if asked:
            self._next = None
        if not worker.ready and not worker.broken:
            if fault == KEEPER:
                self._lost = self._lost or now
                if worker.born < self._lost:
                    return [*events, *self._spawn(now, asked=asked)]
                fault = DEATH  # with the one in its place too: the import may be what kills it
            last = tail.strip().rpartition("\n")[2]
            how = ": ".join(filter(None, [worker.killed or how, last]))
            events += self._not_started(how, tail, now, CODE if worker.killed else fault)
        return events + self.feed(now)

    def _ready(self, worker: Worker, message: dict[str, Any], now: int) -> list[Event]:
        """It has imported the code that was on disk a moment ago: workers with another one leave."""
        worker.ready = True
        worker.since = now
        worker.asyncs = frozenset(message["asyncs"])
        worker.takes = {name: frozenset(versions) for name, versions in message["takes"].items()}
        if message["said"]:
            log.info("%s, imported: %s", self.app.module, message["said"])
        self.problem, self._failures, self._again, self._lost = None, 0, 0, 0
        asked = worker is self._next
        if asked:
            self._next = None
        known = (self.takes, self.turns.asyncs)
        changed = self.takes is not None and (worker.takes, worker.asyncs) != known
        all_ = list(self.workers.values())
        older, younger = all_[: all_.index(worker)], all_[all_.index(worker) + 1 :]
        late = changed and any(one.able for one in younger)
        for old in older:
            if asked or old.worn or (changed and not late):
                self._dismiss(old, now)
        if late:
            self._dismiss(worker, now)  # what it has is older than theirs
            return []
        self.takes, self.turns.asyncs = worker.takes, worker.asyncs
        return self.registered(asked=asked)

    def registered(self, *, asked: bool = False) -> list[Event]:
        """What the code of these handlers takes, if that is known. `asked`: at a reload."""
        patterns = tuple(handler.pattern for handler in self.handlers)
        return [] if self.takes is None else [Registered(patterns, self.takes, self.turns.asyncs, asked)]

    def _not_started(self, how: str, tail: str, now: int, fault: Fault) -> list[Event]:
        text = f"the worker for {self.app.module} did not start: {how}"
        kind = "crashed" if fault == DEATH else "worker"
        return self._broken(error(kind, text, tail or None), now, fault)

    def _broken(self, problem: dict[str, Any], now: int, fault: Fault = CODE) -> list[Event]:
        """The module cannot be imported: whatever waits for it has a failed attempt.

        One that was lost where the worker was killed, none where the machine can start no more.
        """
        self._again = now + min(LONGEST, SHORTEST << self._failures)
        self._failures = min(self._failures + 1, 16)
        self.problem = problem
        log.error("%s: %s: %s", self.app.module, problem["type"], problem["message"])
        full = fault == MACHINE
        if any(one.able or (full and one.coming) for one in self.workers.values()):
            return [Tick()]  # new code that does not work: the old goes on; or fewer do all of it
        patterns = tuple(handler.pattern for handler in self.handlers)
        said = f"{problem['type']}: {problem['message']}".partition("\n")[0]
        why = f"module {self.app.module} cannot be imported: {said}"
        closed = [] if full else [Broken(patterns, self._again, why)]
        return [*self._back(problem, fault), *closed]

    def _back(self, problem: dict[str, Any] | None = None, fault: Fault = CODE) -> list[Event]:
        """All that waits is given back; what has a slot has failed, where there is a problem."""
        outcome = "crashed" if fault == DEATH else "failed"
        waiting, self.turns.waiting = self.turns.waiting, []
        back: list[Event] = []
        for start in waiting:
            task, attempt = key_of(start)
            if start.ahead or problem is None:
                back.append(Returned(task, attempt))
            elif fault == MACHINE:
                back.append(NotStarted(task, attempt, problem["message"], full=True))
            else:
                back.append(Answered(task, attempt, outcome, error=problem, why=NO_CODE))
        return back

    def _ended(self, worker: Worker, message: dict[str, Any], now: int) -> list[Event]:
        key = (message["id"], message["attempt"])
        if worker.ended(key) is None:
            return []
        worker.deadlines.pop(key, None)
        worker.since = now
        facts = message["facts"]
        if worker.gone_by is not None:
            worker.gone_by = now + LEAVING  # it was told to leave when this has ended
        worker.worn |= self._worn(worker, facts["peak_rss"], now)
        # While new code does not work the old goes on, but not at any size.
        lasts = self.problem is not None and facts["peak_rss"] < 2 * self.handlers[0].recycle_rss
        if message["recycle"] or (worker.worn and not lasts):
            self._dismiss(worker, now)
        if message["outcome"] == "parked" and worker.takes != self.takes:
            return [Returned(*key)]  # there is newer code, which it knows nothing of
        return [
            Answered(
                id=key[0],
                attempt=key[1],
                outcome=message["outcome"],
                result=message.get("result"),
                error=message.get("error"),
                final=message.get("final", False),
                delay=message.get("delay"),
                until=message.get("until"),
                why=message.get("why", ""),
                facts=facts,
                began=message["began"],
            )
        ]

    # Growing and shrinking.

    def warm(self, now: int) -> list[Event]:
        """At least one worker: it says what its code takes."""
        return [] if self.workers else self._spawn(now)

    def due(self, now: int) -> int | None:
        """In how many us `tend` has something to do; None where it has not."""
        moments = [at for worker in self.workers.values() for at in worker.deadlines.values()]
        moments += [w.born + PATIENCE for w in self.workers.values() if w.coming]
        moments += [worker.since + LOOK for worker in self.workers.values() if worker.runs]
        moments += [w.gone_by for w in self.workers.values() if w.gone_by is not None and not w.runs]
        moments += [w.since + SLOW for w in self.workers.values() if len(w.runs) > 1 and w.is_plain]
        if self._missing():
            moments.append(self._again)
        moments += [worker.since + self.handlers[0].idle for worker in self._spare()]
        return max(0, min(moments) - now) if moments else None

    def tend(self, now: int) -> list[Event]:
        """Spare workers leave, coroutines that do not stop are killed, logs are made visible.

        What was handed ahead to a worker that is slow comes back.
        """
        events = self.feed(now)
        for worker in self._spare():
            if now - worker.since >= self.handlers[0].idle:
                self._dismiss(worker, now)
        for worker in self.workers.values():
            if worker.coming and now - worker.born >= PATIENCE:
                self._end(worker, f"it has not imported the module within {format_span(PATIENCE)}")
            if worker.gone_by is not None and not worker.runs and worker.gone_by <= now:
                worker.gone_by = None  # threads of the application may keep it from ending
                self._end(worker, "it does not leave")
            if any(at <= now for at in worker.deadlines.values()):
                worker.blamed = frozenset(worker.deadlines)
                worker.deadlines.clear()
                self._end(worker, "a coroutine does not end")
            if len(worker.runs) > 1 and worker.is_plain and now - worker.since >= SLOW:
                events += [Returned(*key_of(start)) for start in worker.take_back()]
            if worker.runs and now - worker.since >= LOOK:
                worker.since = now
                self._collect_output(worker)
        return events

    def _spare(self) -> list[Worker]:
        """Who has nothing to do, but for one that stays warm."""
        found = [w for w in self.workers.values() if w.ready and not w.runs and not w.leaving]
        return found if self.retired else found[1:]

    def feed(self, now: int) -> list[Event]:
        """Hand over what can be; more workers where some are wanted."""
        worn = self.problem is not None
        events: list[Event] = [*self.turns.feed(now, self.handlers[0], worn=worn)]
        for worker in self.workers.values():
            if worker.wants_write:
                self._watch(worker)
        for _ in range(self._missing()):
            if now >= self._again:  # what waits until then does so without using an attempt
                events += self._spawn(now)
        return events

    def _missing(self) -> int:
        """One worker for each task that waits and has none on its way, and one before others leave."""
        if not self.turns.waiting and self.problem is None:
            return 0
        coming = sum(1 for w in self.workers.values() if w.coming)
        worn = any(w.worn and w.able for w in self.workers.values())
        return max(0, max(self.turns.wanted(self.handlers[0].async_tasks), worn) - coming)

    def _worn(self, worker: Worker, rss: int, now: int) -> bool:
        rule = self.handlers[0]
        return (
            worker.tasks - len(worker.runs) >= rule.recycle_tasks
            or rss >= rule.recycle_rss
            or now - worker.born >= rule.recycle_age
        )

    def _end(self, worker: Worker, why: str) -> None:
        """Kill a worker, and know why when it is gone."""
        log.warning("%s: a worker is killed: %s", self.app.module, why)
        worker.leaving, worker.killed = True, why
        self._runner.kill(worker.name, 0)

    def _dismiss(self, worker: Worker, now: int) -> None:
        worker.leaving = True
        if not worker.ready:
            worker.broken = True
            self._runner.kill(worker.name, 0)
            return
        worker.gone_by = now + LEAVING
        self.turns.take_back(worker)
        worker.send({"op": "quit"})
        if worker.wants_write:
            self._watch(worker)

    def _spawn(self, now: int, *, asked: bool = False) -> list[Event]:
        """One more worker; `asked`: at a reload."""
        name = f"worker-{os.getpid()}-{next(_NUMBERS)}"
        scratch = os.path.join(self._root, layout.RUNNING, self._node, f".{name}.out")
        made: tuple[socket.socket, ...] = ()
        try:
            ours, theirs = made = pair()
            worker = Worker(name, ours, now, scratch)
        except OSError as problem:
            for one in made:
                one.close()
            if problem.errno not in FULL:
                raise
            return self._not_started(str(problem.strerror), "", now, MACHINE)
        env = {
            **self._base,
            "SPOOL_ID": name,
            "SPOOL_ATTEMPT": "0",
            "SPOOL_DIR": self._root,
            "SPOOL_NODE": self._node,
            **dict(self.app.env),
        }
        self.workers[name] = worker
        self._next = worker if asked else self._next
        self._watch(worker)
        argv = command(self.app.interpreter, "spool.worker.__main__")
        cwd = self.app.cwd or self._base["HOME"]
        self._runner.start(name, argv, env, cwd, "", f"{scratch}.early", 1 << 16, theirs)
        self._runner.flush()
        begun = self._runner.begun
        worker.greet(
            {
                "op": "hello",
                "module": self.app.module,
                "spool": self._root,
                "node": self._node,
                "scratch": scratch,
                "log_limit": self.settings.log_limit,
                "result_limit": self.settings.result_limit,
                "timezone": self.settings.timezone,
                "begun": None if begun is None or begun.fd is None else begun.path,
            },
            self._runner.lease,
        )
        return []

    # Output.

    def _collect_output(self, worker: Worker) -> None:
        """What a plain function has printed becomes visible as its log, and keeps to its limit."""
        try:
            size = os.stat(worker.scratch).st_size
        except FileNotFoundError:
            return
        if not size or not worker.runs:
            return
        path = self._log(next(iter(worker.runs.values())))
        try:
            if size > self.settings.log_limit:  # it appends: what follows is counted anew
                os.truncate(worker.scratch, self.settings.log_limit)
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            os.link(worker.scratch, path)
        except OSError:
            pass  # it is there; or the worker does so now; or the disk is full: at the end of the task

    def _tail(self, start: Start) -> str:
        try:
            with open(open_regular(self._log(start)), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
                return file.read(4096).decode("utf-8", "backslashreplace")
        except (FileNotFoundError, NotRegular):
            return ""

    def _log(self, start: Start) -> str:
        return os.path.join(self._root, layout.log(start.entry.id, start.entry.attempt))

    # Looking, and the end.

    def content(self) -> dict[str, Any]:
        """This pool as the status file shows it."""
        workers = list(self.workers.values())
        return {
            "module": self.app.module,
            "handlers": sorted(handler.pattern for handler in self.handlers),
            "workers": len(workers),
            "starting": sum(1 for w in workers if w.coming),
            "busy": sum(1 for w in workers if w.runs),
            "leaving": sum(1 for w in workers if w.leaving),
            "tasks": None if self.takes is None else len(self.takes),
            "takes": self.takes and {name: sorted(found, key=str) for name, found in self.takes.items()},
            "problem": self.problem,
        }

    def forget(self) -> None:
        """Close the lines and remove what is left of workers."""
        for worker in self.workers.values():
            worker.close()
            _unlink(worker.scratch)

    def _worker_of(self, key: Key) -> Worker | None:
        return next((w for w in self.workers.values() if key in w.runs), None)


def _unlink(path: str) -> None:
    for one in (path, f"{path}.early"):
        try:
            os.unlink(one)
        except FileNotFoundError:
            pass
