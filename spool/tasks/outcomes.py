"""How an attempt may end other than by a result: values to return or exceptions to raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from spool.body import Span


class Retry(Exception):
    """A failed attempt that is to be tried again: `after` that long, else as the backoff says.

    It uses an attempt; when none is left, the task has failed.
    """

    def __init__(self, reason: str = "", *, after: Span | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Fail(Exception):
    """The task has failed for good: to try again cannot help."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Snooze(Exception):
    """Not now: run again at `until`, or `after` that long. It uses no attempt."""

    def __init__(
        self, reason: str = "", *, until: datetime | str | None = None, after: Span | None = None
    ) -> None:
        if (until is None) == (after is None):
            raise TypeError("Snooze takes exactly one of until and after")
        super().__init__(reason)
        self.reason = reason
        self.until = until
        self.after = after


class Cancelled(BaseException):
    """The task ends as cancelled. It is also raised inside a task that somebody has cancelled.

    No Exception, as asyncio's is none: `except Exception` in a loop must not swallow it. Where a
    stop of spoold cuts an attempt off, it goes back to the queue instead, and uses no attempt.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class SoftTimeout(BaseException):
    """Raised inside a task whose `timeout` is over; `grace` later its worker is killed."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


Outcome = Retry | Fail | Snooze | Cancelled
