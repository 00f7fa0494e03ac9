"""What holds for a task: what it says itself, then its handler, then the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool.heldfor import NO_HANDLER, VERSION
from spool.layout import DEFAULT_PARENT

if TYPE_CHECKING:
    from spool.actions import Backoff, Task
    from spool.settings import Handler, Settings


def retries(task: Task, handler: Handler | None, settings: Settings) -> int:
    """How many failed attempts are followed by another one."""
    if task.retries is not None:
        return task.retries
    return handler.retries if handler and handler.retries is not None else settings.retries


def backoff(task: Task, handler: Handler | None, settings: Settings) -> Backoff:
    """How the wait between attempts grows."""
    return task.backoff or (handler and handler.backoff) or settings.backoff


def timeout(task: Task, handler: Handler | None, settings: Settings) -> int:
    """How long an attempt may take, us."""
    if task.timeout is not None:
        return task.timeout
    return handler.timeout if handler and handler.timeout is not None else settings.timeout


def parent(task: Task, handler: Handler | None) -> str:
    """Whose outbox hears of a task."""
    return task.notify or (handler.notify if handler and handler.notify else DEFAULT_PARENT)


def does_work(task: Task, handler: Handler | None) -> str | None:
    """The parent that does a task's work, None where a process does it or nobody can."""
    if handler is not None:
        return handler.notify
    return task.notify


def runnable(task: Task, handler: Handler | None) -> bool:
    """Whether anything here can do this task."""
    if handler is not None:
        return True
    return task.notify is not None


def unfit(task: Task, handler: Handler | None, takes: dict[str, frozenset[int | str]] | None) -> str:
    """Why a handler cannot run a task, as a held entry tells it; empty where it can.

    `takes`: the versions its Python code takes by task name; None where that is not known (yet).
    """
    if handler is None:
        return ""
    version = task.version
    if handler.leaves_out(version):
        return VERSION
    if handler.python is None or takes is None:
        return ""
    if task.task not in takes:
        return NO_HANDLER
    return VERSION if version is not None and version not in takes[task.task] else ""
