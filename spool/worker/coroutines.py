"""Coroutines, side by side in the event loop of a worker. Imported where there are any."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from spool.tasks import registry
from spool.worker.output import Log, own_log
from spool.worker.usage import Usage

if TYPE_CHECKING:
    from spool.worker.attempt import Attempt
    from spool.worker.serve import Worker


class Coroutines:
    """The loop, which runs as long as a coroutine does."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._wake: asyncio.Event | None = None
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)

    def run(self, first: Attempt) -> None:
        """Run a coroutine, and those that come while one runs."""
        self._loop.run_until_complete(self._serve(first))

    async def _serve(self, first: Attempt) -> None:
        worker = self.worker
        loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        closed: list[Exception] = []

        def heard() -> None:
            try:
                while worker.take(wait=False):
                    pass
            except Exception as problem:  # noqa: BLE001 - Closed above all
                closed.append(problem)
            if self._wake is not None:
                self._wake.set()

        loop.add_reader(worker.line.turns, heard)
        try:
            self._begin(first)
            self._begin_waiting()  # it may have come with others
            while worker.running and not closed:
                await self._wake.wait()
                self._wake.clear()
                self._begin_waiting()
        finally:
            loop.remove_reader(worker.line.turns)
            self._wake = None
        if closed:
            raise closed[0]

    def _begin_waiting(self) -> None:
        """Coroutines start; a plain function waits until none runs."""
        waiting = self.worker.waiting
        while waiting and registry.REGISTRY.get(waiting[0]["task"]) is not None:
            if not registry.REGISTRY[waiting[0]["task"]].is_async:
                return
            self._begin(self.worker.attempt(waiting.popleft()))

    def _begin(self, attempt: Attempt) -> None:
        running = asyncio.get_running_loop().create_task(self._coroutine(attempt))
        self.worker.running[attempt.key] = running

    async def _coroutine(self, attempt: Attempt) -> None:
        worker = self.worker
        began = Usage()
        log = Log(worker.log(attempt), worker.hello["log_limit"])
        token = own_log.set(log)
        try:
            end = await attempt.run_async()
        except BaseException as problem:  # noqa: BLE001 - cancelled before its first step
            end = attempt.raised(attempt.stopped() or problem)
        finally:
            own_log.reset(token)
            log.close()
        logged = max(log.size, worker.settled(attempt))
        worker.running.pop(attempt.key, None)
        worker.tell(attempt, end, began, logged)
        if self._wake is not None:
            self._wake.set()
