"""One attempt: the message that starts it becomes a call, the call an end. Used by tests as well."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from spool.errors import Invalid
from spool.tasks import registry
from spool.tasks.context import Context, entered, left
from spool.tasks.outcomes import Cancelled, SoftTimeout
from spool.worker import ends

if TYPE_CHECKING:
    from collections.abc import Callable

    from spool.tasks import Task
    from spool.tasks.context import Checkpoints
    from spool.tasks.signature import Call


class Attempt:
    """A task that is about to run, or the end it came to before (`end`)."""

    def __init__(  # noqa: PLR0913 - what it works with
        self,
        message: dict[str, Any],
        *,
        result_limit: int,
        tell: Callable[[dict[str, Any]], None],
        poll: Callable[[], None],
        checkpoints: Checkpoints | None,
        clock: Callable[[], float] = time.time,
        zone: str = "",
    ) -> None:
        """`zone`: of the local times in its outcomes."""
        self.owner = os.getpid()
        self.times = ends.Times(clock, zone)
        self.key = (message["id"], message["attempt"])
        self.result_limit = result_limit
        self.end: ends.End | None = None
        self.task: Task[..., Any] | None = None
        self.args, self.version = message["args"], message["version"]
        self.context = Context(
            id=message["id"],
            attempt=message["attempt"],
            task=message["task"],
            at=message["at"],
            deadline=message["deadline"],
            meta=message["meta"],
            recurring=message.get("recurring"),
            after=message.get("after") or (),
            trace=message["trace"],
            tell=lambda told: tell({**told, "id": self.key[0], "attempt": self.key[1]}),
            poll=poll,
            checkpoints=checkpoints,
            clock=clock,
            result_limit=result_limit,
        )
        try:
            self.task = registry.find(message["task"], self.version)
        except registry.NoCode as problem:
            self.end = {"outcome": "parked", "why": problem.why, "error": None}

    @property
    def is_async(self) -> bool:
        return self.task is not None and self.task.is_async

    def run(self) -> ends.End:
        """Run a plain function to its end."""
        if self.end is not None or self.task is None:
            return self.end or {}
        token = entered(self.context)
        try:
            if call := self._call(self.task):
                self.end = self.returned(self.task.function(*call[0], **call[1]))
        except BaseException as problem:  # noqa: BLE001 - SystemExit is one attempt's end, not ours
            self.end = self.raised(problem)
        finally:
            left(token)
        return self.end or {}

    async def run_async(self) -> ends.End:
        """Run a coroutine function to its end; to stop it, set `stopping` and cancel its task."""
        from asyncio import CancelledError  # there by now

        if self.end is not None or self.task is None:
            return self.end or {}
        token = entered(self.context)
        try:
            if call := self._call(self.task):
                self.end = self.returned(await self.task.function(*call[0], **call[1]))
        except CancelledError as problem:
            self.end = self.raised(self.stopped() or problem)
        except BaseException as problem:  # noqa: BLE001 - as above
            self.end = self.raised(problem)
        finally:
            left(token)
        return self.end or {}

    def _call(self, task: Task[..., Any]) -> Call | None:
        """What the function is called with; None, and `end`, where the arguments do not fit it.

        Upgrades, and the application's own types, may raise all that a task may.
        """
        try:
            return task.signature.unpack(task.upgraded(self.args, self.version))
        except Invalid as problem:
            self.end = ends.failure(ends.error("Invalid", str(problem)), final=True)
            return None

    def returned(self, value: Any) -> ends.End:
        """The end of a function that has returned this. A child that it has forked leaves here."""
        if os.getpid() != self.owner:
            ends.leave(None)
        return ends.result_end(value, self.result_limit, self.times)

    def raised(self, problem: BaseException) -> ends.End:
        """The same where it has raised."""
        if os.getpid() != self.owner:
            ends.leave(problem)
        return ends.raised(problem, self.task, self.times)

    def stopped(self) -> BaseException | None:
        """What is raised inside the function because of what spoold has asked."""
        why = self.context.stopping
        if why == "timeout":
            return SoftTimeout("it took longer than its timeout")
        return Cancelled(why) if why in ("cancelled", "interrupt") else None
