"""All the workers: one pool for each application, one descriptor that tells of all of them."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Any

from spool.apps import app_of
from spoold.effects.pool import Pool
from spoold.effects.worker import CODE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.apps import App
    from spool.settings import Handler, Settings
    from spoold.core.values import Event, Kill, Recall, Start
    from spoold.effects.runner import Runner
    from spoold.effects.worker import Fault, Worker


class Workers:
    """What the handlers with `python` are to the rest: tasks in, events out. Nothing here waits."""

    def __init__(self, runner: Runner, root: str, node: str, base: dict[str, str]) -> None:
        self._made = (runner, root, node, base)
        self._pools: dict[App, Pool] = {}
        self._epoll = select.epoll()
        self._watched: dict[int, Worker] = {}
        self._events: list[Event] = []

    @property
    def fd(self) -> int:
        """Readable when a worker has something to say."""
        return self._epoll.fileno()

    def configure(self, settings: Settings) -> None:
        """Pools for the `python` handlers there are; each gets a worker, which tells what it takes."""
        wanted: dict[App, list[Handler]] = {}
        for handler in settings.handlers.values():
            if handler.python is not None:
                wanted.setdefault(app_of(handler), []).append(handler)
        for app, pool in list(self._pools.items()):
            if app not in wanted:
                self._events += pool.retire(_now())
                if not pool.workers:
                    del self._pools[app]
        for app, handlers in wanted.items():
            found = self._pools.get(app)
            if found is None:
                found = self._pools[app] = Pool(app, handlers, *self._made, settings, self._watch)
            found.handlers, found.settings, found.retired = handlers, settings, False
            self._events += found.warm(_now())
            self._events += found.registered()

    def start(self, start: Start) -> None:
        """Run a claimed task."""
        self._pools[app_of(start.handler)].start(start)

    def flush(self) -> None:
        """Hand over what was started, all of it at once."""
        for pool in self._pools.values():
            if pool.turns.waiting:
                self._events += pool.feed(_now())

    def recall(self, recall: Recall) -> None:
        """What was handed ahead of time for a handler comes back where it has not begun."""
        for pool in self._pools.values():
            self._events += pool.recall(recall.pattern, _now())

    def kill(self, kill: Kill) -> None:
        """End an attempt, if it is one of ours."""
        for pool in self._pools.values():
            self._events += pool.kill(kill, _now())

    def running(self) -> dict[str, str]:
        """The worker, by name, that runs each task."""
        found: dict[str, str] = {}
        for worker in self._all():
            begun = list(worker.runs)[: 1 if worker.is_plain else None]
            found |= dict.fromkeys((key[0] for key in begun), worker.name)
        return found

    def handed(self) -> Iterator[str]:
        """The attempts that may have begun, ID.N: a worker goes on with the next before we hear of it."""
        return (f"{key[0]}.{key[1]}" for worker in self._all() for key in worker.runs)

    def _all(self) -> Iterator[Worker]:
        return (worker for pool in self._pools.values() for worker in pool.workers.values())

    def reload(self) -> None:
        """There may be new code."""
        for pool in self._pools.values():
            self._events += pool.reload(_now())

    def drain(self) -> None:
        """A stop is near."""
        for pool in self._pools.values():
            pool.drain()

    def died(self, name: str, how: str, tail: str, fault: Fault = CODE) -> list[Event]:
        """The process of this name is gone, or has never been."""
        pool = next((p for p in self._pools.values() if name in p.workers), None)
        if pool is None:
            return []
        events = pool.died(name, how, tail, _now(), fault)
        if pool.retired and not pool.workers and not pool.turns.waiting:
            del self._pools[pool.app]
        return events

    def events(self) -> list[Event]:
        """What has happened since the last call, and what time has brought."""
        events, self._events = self._events, []
        if not self._pools:
            return events
        now = _now()
        for fd, mask in self._epoll.poll(0):
            worker = self._watched.get(fd)
            if worker is None:
                continue
            if mask & select.EPOLLOUT:
                worker.flush()
                self._watch(worker)
            if mask & ~select.EPOLLOUT:
                events += self._pool_of(worker).heard(worker, now)
        for pool in self._pools.values():
            if pool.due(now) == 0:
                events += pool.tend(now)
        return events

    def due(self) -> int | None:
        """In how many us `events` has something to do though no worker speaks; None where never."""
        if self._events:
            return 0
        now = _now()
        return min((d for p in self._pools.values() if (d := p.due(now)) is not None), default=None)

    def content(self) -> list[dict[str, Any]]:
        """The pools as the status file shows them."""
        return [pool.content() for pool in self._pools.values()]

    def close(self) -> None:
        """Forget them; their processes are the keeper's to end."""
        for pool in self._pools.values():
            pool.forget()
        self._epoll.close()

    def _pool_of(self, worker: Worker) -> Pool:
        return next(p for p in self._pools.values() if worker.name in p.workers)

    def _watch(self, worker: Worker) -> None:
        """Hear of a worker from now on, or no more; and of its taking more, where that is wanted."""
        fd = worker.sock.fileno()
        mask = select.EPOLLIN | (select.EPOLLOUT if worker.wants_write else 0)
        if worker.closed:
            if self._watched.pop(fd, None) is not None:
                self._epoll.unregister(fd)
        elif fd in self._watched:
            self._epoll.modify(fd, mask)
        else:
            self._watched[fd] = worker
            self._epoll.register(fd, mask)


def _now() -> int:
    return time.monotonic_ns() // 1000
