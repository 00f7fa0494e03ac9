"""Handlers that are processes: their environment, their result file, and what became of them."""

from __future__ import annotations

import errno
import logging
import os
import pwd
import select
import signal
from typing import TYPE_CHECKING, Any

import orjson

from spool import layout
from spool.disk import Missing, NotRegular, TooLarge
from spool.errors import EX_SOFTWARE, Invalid
from spool.owncopy import deadline_of
from spool.quarantine import aside
from spool.runargs import RUN
from spool.strict import decode_value
from spool.times import maybe_utc
from spoold.core.values import Begun, Crashed, Exited, NotStarted, Returned
from spoold.effects import reports
from spoold.effects.reports import FULL
from spoold.effects.runner import Place
from spoold.effects.worker import CODE, DEATH, KEEPER, MACHINE
from spoold.effects.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk
    from spool.names import Entry
    from spool.owncopy import Task
    from spool.settings import Handler, Settings
    from spoold.core.values import Event, Kill, Recall, Start
    from spoold.effects.owngroups import OwnGroups
    from spoold.effects.runner import Runner

log = logging.getLogger("spoold")
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
OUT_OF_MEMORY = "the kernel killed in its control group: its processes took more than memory allows"


class Handlers:
    """Between the core's words (ids, attempts) and the runner's (keys, processes)."""

    def __init__(  # noqa: PLR0913 - what handlers depend on
        self,
        disk: Disk,
        root: str,
        node: str,
        settings: Settings,
        runner: Runner,
        own: OwnGroups,
    ) -> None:
        self.disk = disk
        self.root = root
        self.node = node
        self.settings = settings
        self._base = _base()
        self._runner = runner
        self.own = own
        own.prepare(wanted=_wants_group(settings))
        self.workers = Workers(self._runner, root, node, self._base)
        self._epoll = select.epoll()
        self._epoll.register(self._runner.fileno(), select.EPOLLIN)
        self._epoll.register(self.workers.fd, select.EPOLLIN)
        self.workers.configure(settings)

    @property
    def fd(self) -> int:
        """Readable when `events` has something to say."""
        return self._epoll.fileno()

    def configure(self, settings: Settings) -> None:
        """Settings that were read again."""
        self.settings = settings
        self.own.prepare(wanted=_wants_group(settings))
        self.workers.configure(settings)

    def start(self, start: Start) -> None:
        """Run the handler of a claimed task."""
        if self._runner.begun is not None:
            self._runner.begun.count(self._running)
        if start.handler.python is not None:
            self.workers.start(start)
            return
        entry, task = start.entry, start.task
        args: dict[str, Any] = task.args if start.handler.pattern == RUN else {}
        env = (
            self._env(entry, task)
            | start.handler.env
            | {k: str(v) for k, v in args.get("env", {}).items()}
        )
        self._runner.start(
            _key(entry.id, entry.attempt),
            args.get("argv") or start.handler.exec or (),
            env,
            args.get("cwd") or start.handler.cwd or self._base["HOME"],
            orjson.dumps(task.args, option=orjson.OPT_APPEND_NEWLINE).decode(),
            os.path.join(self.root, layout.log(entry.id, entry.attempt)),
            self.settings.log_limit,
            niceness=_niceness(start.handler) | self._group(start),
            place=Place(start.handler.pattern, start.ahead, start.rank),
        )

    def _group(self, start: Start) -> dict[str, str]:
        """The control group of an attempt that wants one."""
        memory, key = start.handler.memory, _key(start.entry.id, start.entry.attempt)
        path = self.own.make(key, memory) if start.handler.cgroup and memory is not None else None
        return {} if path is None else {"cgroup": path}

    def flush(self) -> None:
        """All that was started in this group of transitions goes to its workers and the keeper."""
        self.workers.flush()
        self._runner.flush()

    def recall(self, recall: Recall) -> None:
        """What was handed ahead of time and has not begun comes back as an event."""
        self.workers.recall(recall)
        self._runner.recall(recall.pattern)

    def kill(self, kill: Kill) -> None:
        """End one: TERM, grace, KILL; its exit is heard of as any other."""
        self.workers.kill(kill)
        self._runner.kill(_key(kill.id, kill.attempt), kill.grace / 1e6)

    def events(self) -> list[Event]:
        """What has become of handlers since the last call."""
        ready = {fd for fd, _ in self._epoll.poll(0)}
        found = self.workers.events()  # before any death: what was said before it counts
        wanted = self._runner.fileno() in ready or self._runner.due() == 0
        for event in self._runner.events() if wanted else ():
            match event:
                case reports.Exited() if _is_worker(event.key):
                    fault = CODE if event.signal is None else DEATH
                    found += self.workers.died(event.key, _how(event), event.tail, fault)
                case reports.Exited():
                    found.append(self._exited(event))
                case reports.NotStarted() if _is_worker(event.key):
                    late = event.errno == errno.ETIME  # the lease of the node was over
                    fault = MACHINE if event.errno in FULL else DEATH if late else CODE
                    found += self.workers.died(event.key, event.error, "", fault)
                case reports.NotStarted():
                    self.own.end(event.key)
                    found.append(_not_started(event))
                case reports.KeeperLost():
                    found += self._keeper_lost(event)
                case reports.Returned():
                    self.own.end(event.key)
                    found.append(Returned(*_id_of(event.key)))
                case reports.Started() if event.ahead:
                    found.append(Begun(*_id_of(event.key), began=int(event.since * 1e6)))
                case reports.Started():
                    pass
        return found

    def _keeper_lost(self, event: reports.KeeperLost) -> list[Event]:
        why = "the keeper of the handlers died"
        begun = self._runner.begun.known() if self._runner.begun is not None else None
        found: list[Event] = []
        for key in event.keys:
            self.own.end(key)
            if _is_worker(key):
                found += self.workers.died(key, why, "", KEEPER)
            elif begun is None or key in begun:
                found.append(Crashed(*_id_of(key), why))
            else:
                found.append(Returned(*_id_of(key)))
        return found

    def due(self) -> int | None:
        """In how many us `events` has something to do whether `fd` is readable or not."""
        dues = (self.workers.due(), self._runner.due())
        return min((due for due in dues if due is not None), default=None)

    def pids(self) -> dict[str, int]:
        """The process of every task that runs, by the task's id."""
        pids = self._runner.pids()
        found = {_id_of(key)[0]: pid for key, pid in pids.items() if not _is_worker(key)}
        return found | {task: pids.get(name, 0) for task, name in self.workers.running().items()}

    def _running(self) -> Iterator[str]:
        """All attempts that may have begun."""
        yield from self._runner.pids()
        yield from self.workers.handed()

    def close(self) -> None:
        """End the keeper and whatever still runs."""
        self.workers.close()
        self._runner.close()

    def _env(self, entry: Entry, task: Task) -> dict[str, str]:
        env = {
            **self._base,
            "SPOOL_ID": entry.id,
            "SPOOL_TASK": entry.task,
            "SPOOL_ATTEMPT": str(entry.attempt),
            "SPOOL_DEADLINE": maybe_utc(deadline_of(task, entry)) or "",
            "SPOOL_DIR": self.root,
            "SPOOL_FILES": os.path.join(self.root, layout.files(entry.id)),
            "SPOOL_NODE": self.node,
            "SPOOL_RESULT": os.path.join(self.root, self._result(entry.id, entry.attempt)),
        }
        if task.version is not None:
            env["SPOOL_VERSION"] = str(task.version)
        if task.replay_of is not None:
            env["SPOOL_REPLAY_OF"] = task.replay_of
        if task.recurring is not None:
            env["SPOOL_RECURRING"] = str(task.recurring.get("name"))
            env["SPOOL_SCHEDULED"] = str(task.recurring.get("scheduled_at"))
            env["SPOOL_LATE"] = "1" if task.recurring.get("late") else ""
        if task.trace is not None:
            env["TRACEPARENT"] = task.trace
        return env

    def _exited(self, event: reports.Exited) -> Exited:
        task_id, attempt = _id_of(event.key)
        result, problem = self._take_result(task_id, attempt)
        tail = event.tail
        if event.log_error is not None:
            log.warning("output of %s is not in its log: %s", event.key, event.log_error)
        if self.own.end(event.key) and event.exit != 0:
            tail = f"{tail.rstrip()}\n{OUT_OF_MEMORY}".lstrip()
        return Exited(
            id=task_id,
            attempt=attempt,
            exit=event.exit,
            signal=event.signal,
            seconds=event.seconds,
            rss=event.rss,
            cpu=event.cpu,
            logged=event.logged,
            tail=tail,
            result=result,
            result_error=problem,
            began=int(event.since * 1e6),
        )

    def _result(self, task_id: str, attempt: int) -> str:
        return f"{layout.RUNNING}/{self.node}/.{task_id}.{attempt}.result"

    def _take_result(self, task_id: str, attempt: int) -> tuple[Any, str | None]:
        """What the handler wrote to SPOOL_RESULT, and what is wrong with it."""
        path = self._result(task_id, attempt)
        try:
            data = self.disk.read(path, self.settings.result_limit)
        except Missing:
            return None, None
        except TooLarge:
            return (
                None,
                f"the result is larger than {self.settings.result_limit} bytes (result_limit)",
            )
        except (NotRegular, OSError) as problem:
            return None, f"the result cannot be read: {problem}"
        finally:
            self._forget_result(path)
        try:
            return (decode_value(data, "result") if data.strip() else None), None
        except Invalid as problem:
            return None, f"the result is refused: {problem}"

    def _forget_result(self, path: str) -> None:
        try:
            self.disk.remove(path)
        except Missing:
            pass  # it wrote none
        except OSError as problem:  # a directory
            aside(self.disk, path, f"a handler put it where its result belongs: {problem}")


def _niceness(handler: Handler) -> dict[str, int | str]:
    """What its handler says of how a program treats its neighbours."""
    wanted = {
        "nice": handler.nice,
        "ionice": handler.ionice,
        "oom_score_adj": handler.oom_score_adj,
        "cpu": None if handler.cpu is None else -(-handler.cpu // 1_000_000),
        "memory": handler.memory,
        "files": handler.files,
        "file_size": handler.file_size,
        "processes": handler.processes,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _wants_group(settings: Settings) -> bool:
    return any(handler.cgroup for handler in settings.handlers.values())


def _key(task_id: str, attempt: int) -> str:
    return f"{task_id}.{attempt}"


def _is_worker(key: str) -> bool:
    return "." not in key


def _how(event: reports.Exited) -> str:
    """How a worker has ended, in words."""
    if event.signal is None:
        closed = ", its line to spoold closed, as by a task that closes descriptors not its own"
        return f"exit {event.exit}{closed if event.exit == EX_SOFTWARE else ''}"
    try:
        name = signal.Signals(event.signal).name
    except ValueError:
        name = "a real-time signal"
    return f"signal {event.signal} ({name})"


def _not_started(event: reports.NotStarted) -> Event:
    key = _id_of(event.key)
    if event.errno == errno.ETIME:  # the lease of the node was over: no fault of the task
        return Crashed(*key, event.error)
    return NotStarted(*key, event.error, event.errno in FULL)


def _id_of(key: str) -> tuple[str, int]:
    task_id, _, attempt = key.partition(".")
    return task_id, int(attempt)


def _base() -> dict[str, str]:
    """What every handler gets of the outside world: who, where, and in what language."""
    env = {"PATH": PATH, "LANG": os.environ.get("LANG", "C.UTF-8"), "SHELL": "/bin/sh"}
    try:
        user = pwd.getpwuid(os.getuid())
        env |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
    except KeyError:
        env["HOME"] = "/"
    if not os.path.isdir(env["HOME"]):
        env["HOME"] = "/"
    if "TZ" in os.environ:
        env["TZ"] = os.environ["TZ"]
    return env
