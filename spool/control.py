"""The verbs of a client: each makes one action and drops it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from spool.body import fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spool.body import Span, When


class Control:
    """Every action but submit, in words of Python; each returns the name of its file, without `.json`.

    Raises Invalid before anything is written, NotAllowed, Full. Whether spoold could carry it out
    tells `Spool.carried_out`.
    """

    def act(self, action: Mapping[str, Any]) -> str:
        """Drop any action."""
        raise NotImplementedError

    def cancel(self, *ids: str, why: str | None = None) -> str:
        """End tasks as cancelled; those that run are killed."""
        return self._verb("cancel", ids, why=why)

    def retry(self, *ids: str, why: str | None = None) -> str:
        """Run failed, cancelled or held tasks again, with all attempts before them."""
        return self._verb("retry", ids, why=why)

    def hold(self, *ids: str, why: str | None = None) -> str:
        """Keep tasks from running until they are released."""
        return self._verb("hold", ids, why=why)

    def release(self, *ids: str, why: str | None = None) -> str:
        """Let held tasks go on."""
        return self._verb("release", ids, why=why)

    def move(  # noqa: PLR0913 - the fields of a move, all optional
        self,
        *ids: str,
        priority: Literal["high", "medium", "low"] | None = None,
        position: Literal["front", "back"] | None = None,
        at: When | None = None,
        deadline: When | None = None,
        tz: str | None = None,
        why: str | None = None,
    ) -> str:
        """Give waiting tasks another class, place, time or deadline."""
        return self._verb(
            "move", ids, priority=priority, position=position, at=at, deadline=deadline, tz=tz, why=why
        )

    def pause(
        self,
        *,
        task: str | None = None,
        node: str | None = None,
        why: str | None = None,
        until: When | None = None,
    ) -> str:
        """Start nothing: in the spool, of the task names a pattern matches, or on a node."""
        return self.control("pause", task=task, node=node, why=why, until=until)

    def resume(self, *, task: str | None = None, node: str | None = None, why: str | None = None) -> str:
        """Take back the pause or drain of the same task pattern and node."""
        return self.control("resume", task=task, node=node, why=why)

    def drain(
        self,
        *,
        task: str | None = None,
        node: str | None = None,
        why: str | None = None,
        until: When | None = None,
    ) -> str:
        """Start nothing, finish what runs."""
        return self.control("drain", task=task, node=node, why=why, until=until)

    def ack(self, task_id: str, attempt: int, result: object = None) -> str:
        """The attempt is done. `attempt` is that of the ready event: a stale one changes nothing."""
        return self._attempt("ack", task_id, attempt, result=result)

    def fail(
        self,
        task_id: str,
        attempt: int,
        error: str | BaseException | Mapping[str, str],
        *,
        retry: bool = True,
        delay: Span | None = None,
    ) -> str:
        """The attempt failed; without `retry` for good. `delay` replaces the backoff."""
        if isinstance(error, BaseException):
            error = {"type": type(error).__name__[:200], "message": str(error)[:10_000]}
        return self._attempt("fail", task_id, attempt, error=error, retry=retry, delay=delay)

    def extend(self, task_id: str, attempt: int, by: Span) -> str:
        """The attempt may take this much longer, counted from now."""
        return self._attempt("extend", task_id, attempt, by=by)

    def progress(
        self, task_id: str, attempt: int, percent: float | None = None, note: str | None = None
    ) -> str:
        """How far the attempt is: 0 to 100, and in words."""
        return self._attempt("progress", task_id, attempt, percent=percent, note=note)

    def _verb(self, action: str, ids: tuple[str, ...], **options: Any) -> str:
        return self.act({"action": action, "ids": list(ids), **fields(**options)})

    def _attempt(self, action: str, task_id: str, attempt: int, **options: Any) -> str:
        return self.act({"action": action, "id": task_id, "attempt": attempt, **fields(**options)})

    def control(self, action: str, **options: Any) -> str:
        """pause, resume or drain with any of their fields; `who` is the user's name."""
        return self.act({"action": action, "who": _user(), **fields(**options)})


def _user() -> str:
    """The name of who asks, for whoever reads it later."""
    import os
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
