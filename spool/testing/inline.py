"""What handlers are to the core, in the test's own process: functions run one after the other."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from spool.worker.attempt import Attempt
from spoold.core.values import Answered, Progressed
from spoold.effects.turns import start_message

if TYPE_CHECKING:
    from spool.settings import Settings
    from spool.tasks.context import Checkpoints
    from spool.testing.clock import Clock
    from spool.worker.ends import End
    from spoold.core.values import Event, Kill, Recall, Start


class Inline:
    """Runs what it is given when `events` is asked for, in order."""

    fd = -1

    def __init__(self, settings: Settings, clock: Clock, checkpoints: Checkpoints) -> None:
        self.settings = settings
        self._clock = clock
        self._checkpoints = checkpoints
        self._starts: deque[Start] = deque()

    def start(self, start: Start) -> None:
        self._starts.append(start)

    def flush(self) -> None:
        """They run one by one in any case."""

    def recall(self, recall: Recall) -> None:
        """Nothing is handed ahead."""

    def kill(self, kill: Kill) -> None:
        """Nothing runs between two rounds."""

    def events(self) -> list[Event]:
        """The next attempt, run to its end; whatever it is told goes through JSON.

        One that is interrupted is the next again.
        """
        if not self._starts:
            return []
        message = orjson.loads(orjson.dumps(start_message(self._starts[0])))
        told: list[dict[str, Any]] = []
        attempt = _Attempt(
            message,
            result_limit=self.settings.result_limit,
            tell=told.append,
            poll=lambda: None,
            checkpoints=self._checkpoints,
            clock=lambda: self._clock.going() / 1e6,
            zone=self.settings.timezone,
        )
        began = self._clock.now().mono
        end = orjson.loads(orjson.dumps(_run(attempt)))
        self._starts.popleft()
        end["facts"] = {"seconds": (self._clock.now().mono - began) / 1e6}
        progress = [Progressed(t["id"], t["attempt"], t["percent"], t["note"]) for t in told]
        return [*progress, Answered(id=message["id"], attempt=message["attempt"], **end)]


class _Attempt(Attempt):
    def raised(self, problem: BaseException) -> End:
        if isinstance(problem, KeyboardInterrupt):
            raise problem  # it is the test that is to end
        return super().raised(problem)


def _run(attempt: Attempt) -> End:
    if not attempt.is_async:
        return attempt.run()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _alone(attempt)
    thread = threading.Thread(target=_alone, args=(attempt,), daemon=True)
    thread.start()  # the test itself is a coroutine
    thread.join()
    if attempt.end is None:
        raise KeyboardInterrupt
    return attempt.end


def _alone(attempt: Attempt) -> End:
    with suppress(asyncio.CancelledError):  # it has cancelled itself: its end is known
        asyncio.run(_whole(attempt))
    return attempt.end or {}


async def _whole(attempt: Attempt) -> None:
    await attempt.run_async()
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError  # where that was Ctrl-C, asyncio makes a KeyboardInterrupt of it
