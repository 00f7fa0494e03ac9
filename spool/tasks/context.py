"""Inside a task: which one it is, how far it is, whether it is to stop, where it left off."""

from __future__ import annotations

import logging
import time
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spool.times import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

PROGRESS_EVERY = 1.0  # seconds; each that is told is a file for the parent
_current: ContextVar[Context] = ContextVar("spool_task")


class Context:
    """The attempt that runs. Instants are aware datetimes in UTC."""

    def __init__(  # noqa: PLR0913 - what there is to tell
        self,
        *,
        id: str,  # noqa: A002 - named as the field is
        attempt: int,
        task: str,
        at: int,
        deadline: int | None,
        tell: Callable[[dict[str, Any]], None] = lambda _: None,
        poll: Callable[[], None] = lambda: None,
        checkpoints: Checkpoints | None = None,
        meta: dict[str, Any] | None = None,
        recurring: dict[str, Any] | None = None,
        after: Sequence[str] = (),
        trace: str | None = None,
        clock: Callable[[], float] = time.time,
        result_limit: int = 1 << 20,
    ) -> None:
        self.id = id
        self.attempt = attempt
        self.task = task
        self.meta = meta or {}
        self.recurring = recurring  # of a schedule: name, scheduled_at, late
        self.after = tuple(after)  # ids of the tasks it has waited for
        self.trace = trace
        self.result_limit = result_limit  # bytes
        self.stopping = ""  # why: drain, cancelled, timeout, interrupt
        self._at, self._deadline = at, deadline
        self._tell, self._poll = tell, poll
        self._checkpoints = checkpoints
        self._told, self._whole = 0.0, False
        self._clock = clock
        # One that has begun after it is meant to run all the same.
        self._stop_at = deadline if deadline is not None and clock() * 1e6 < deadline else None

    @property
    def scheduled(self) -> datetime:
        """When this attempt was to start."""
        return moment(self._at)

    @property
    def deadline(self) -> datetime | None:
        """When the task should be done."""
        return None if self._deadline is None else moment(self._deadline)

    @property
    def logger(self) -> logging.Logger:
        """A logger under the task's name; its lines go to the log of this attempt."""
        return logging.getLogger(self.task)

    def progress(self, part: float, note: str | None = None) -> None:
        """Tell the parent how far it is: `part` from 0 to 1. At most one a second is passed on."""
        try:
            fits = 0 <= part <= 1
        except TypeError:
            fits = False
        if not fits:
            raise ValueError(f"progress: must be a number from 0 to 1, not {part!r}")
        now = time.monotonic()
        if self._told and now - self._told < PROGRESS_EVERY and (part < 1 or self._whole):
            return
        self._told, self._whole = now, part == 1
        shown = None if note is None else str(note)[:1000].encode("utf-8", "backslashreplace").decode()
        self._tell({"ev": "progress", "percent": float(part) * 100, "note": shown})

    def should_stop(self) -> bool:
        """Whether to come to an end: a stop of spoold, a cancel, or the deadline has passed meanwhile."""
        self._poll()
        return bool(self.stopping) or (self._stop_at is not None and self._clock() * 1e6 >= self._stop_at)

    @property
    def last_checkpoint(self) -> Any:
        """What an earlier attempt, or this one, has kept last; None where nothing was."""
        return self._checkpoints.read(self.id) if self._checkpoints else None

    @property
    def files(self) -> Path:
        """The directory of the files that came with the task, and of those it makes; it is there.

        They are kept as long as the task. An earlier attempt may have left some.
        """
        if self._checkpoints is None:
            raise RuntimeError("this task has no place for files")
        found = Path(self._checkpoints.files(self.id))
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
        return found

    def checkpoint(self, value: Any) -> None:
        """Keep any JSON for the next attempt; it is on disk when this returns. Raises Invalid."""
        if self._checkpoints:
            self._checkpoints.write(self.id, value)


class Checkpoints:
    """Where checkpoints are kept, and files."""

    def files(self, task_id: str) -> str:
        raise NotImplementedError

    def read(self, task_id: str) -> Any:
        raise NotImplementedError

    def write(self, task_id: str, value: Any) -> None:
        raise NotImplementedError


def current() -> Context:
    """The attempt that runs in this thread or coroutine; RuntimeError outside of a task."""
    found = _current.get(None)
    if found is None:
        raise RuntimeError("no task runs here: current() works inside a function that a worker runs")
    return found


def entered(context: Context) -> Any:
    """The attempt runs from now on; give what it returns to `left`."""
    return _current.set(context)


def left(token: Any) -> None:
    """The attempt has ended."""
    _current.reset(token)
