"""One attempt of a Django task, in a worker or in a test."""

from __future__ import annotations

from typing import Any

from django.db import close_old_connections
from django.utils import timezone

from spool.django import framework as tasks
from spool.tasks import registry
from spool.tasks.context import current
from spool.tasks.define import Policy, Task
from spool.tasks.outcomes import Retry, Snooze


def register(task: Any, name: str) -> None:
    """The function of a Django task can be run under this name of the spool."""

    def attempt(args: list[Any], kwargs: dict[str, Any]) -> Any:
        return _run(task, args, kwargs)

    if name not in registry.REGISTRY:
        Task(attempt, name, 1, {}, Policy())


def _run(task: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The call, with the signals and the care of connections that Django expects around it."""
    backend = _backend(task)
    close_old_connections()
    try:
        result = backend.get_result(current().id)
        tasks.task_started.send(type(backend), task_result=result)
        before = (tasks.TaskContext(task_result=result),) if task.takes_context else ()
        try:
            value = task.call(*before, *args, **kwargs)
        except (Retry, Snooze):
            raise  # it goes on
        except Exception:
            _finished(backend, result, tasks.TaskResultStatus.FAILED)
            raise
        object.__setattr__(result, "_return_value", value)
        _finished(backend, result, tasks.TaskResultStatus.SUCCESSFUL)
        return value
    finally:
        close_old_connections()


def _backend(task: Any) -> Any:
    """The one that enqueued it, which its meta tells; else that of its function."""
    alias = (current().meta.get("django") or {}).get("backend", task.backend)
    if alias not in tasks.task_backends.settings:
        raise tasks.InvalidTaskBackend(f"TASKS has no {alias!r}, the backend that enqueued this task")
    return tasks.task_backends[alias]


def _finished(backend: Any, result: Any, status: Any) -> None:
    object.__setattr__(result, "status", status)
    object.__setattr__(result, "finished_at", timezone.now())
    tasks.task_finished.send(type(backend), task_result=result)
