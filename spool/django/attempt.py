"""One attempt of a Django task, in a worker or in a test."""

from __future__ import annotations

import os
import re
from typing import Any

from django.db import close_old_connections
from django.utils import timezone

from spool.django import framework as tasks
from spool.tasks import registry
from spool.tasks.context import current
from spool.tasks.define import Policy, Task
from spool.worker import ends


def register(task: Any, name: str) -> None:
    """The function of a Django task can be run under this name of the spool."""

    def attempt(args: list[Any], kwargs: dict[str, Any]) -> Any:
        return _run(task, args, kwargs)

    if name not in registry.REGISTRY:
        Task(attempt, name, 1, {}, Policy())


def _run(task: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The call, with the signals and the care of connections that Django expects around it."""
    backend = _backend(task)
    owner = os.getpid()
    close_old_connections()
    try:
        result = backend.get_result(current().id)
        tasks.task_started.send(type(backend), task_result=result)
        before = (tasks.TaskContext(task_result=result),) if task.takes_context else ()
        try:
            value = task.call(*before, *args, **kwargs)
        except BaseException as problem:
            _finished(backend, result, ends.raised(problem, None, ends.Times()), owner)
            raise
        object.__setattr__(result, "_return_value", value)
        end = ends.result_end(value, current().result_limit, ends.Times())
        _finished(backend, result, end, owner)
        return end.get("result", value)
    finally:
        close_old_connections()


def _backend(task: Any) -> Any:
    """The one that enqueued it, which its meta tells; else that of its function."""
    alias = (current().meta.get("django") or {}).get("backend", task.backend)
    if alias not in tasks.task_backends.settings:
        raise tasks.InvalidTaskBackend(f"TASKS has no {alias!r}, the backend that enqueued this task")
    return tasks.task_backends[alias]


def _finished(backend: Any, result: Any, end: ends.End, owner: int) -> None:
    """Tell who listens; not in a child that the task has forked, nor where no attempt was used."""
    done = end["outcome"] == "done"
    cut_off = current().stopping == "interrupt" and not done
    if end["outcome"] == "snoozed" or cut_off or os.getpid() != owner:
        return
    status = tasks.TaskResultStatus.SUCCESSFUL if done else tasks.TaskResultStatus.FAILED
    if not done:
        result.errors.append(error_of(end))
    object.__setattr__(result, "status", status)
    object.__setattr__(result, "finished_at", timezone.now())
    tasks.task_finished.send(type(backend), task_result=result)


def error_of(record: dict[str, Any]) -> Any:
    """The class of an exception is on the last lines of its traceback; other ends stand for one."""
    error = record["error"]
    kind, trace = str(error["type"]), str(error.get("trace") or "")
    found = re.findall(rf"^((?:\w+\.)*{re.escape(kind)})(?::|$)", trace, flags=re.MULTILINE)
    stands = {"timeout": "builtins.TimeoutError", "cancelled": "spool.Cancelled"}
    path = found[-1] if found else stands.get(record["outcome"], "builtins.ChildProcessError")
    if kind in ("Retry", "Fail", "Snooze", "Cancelled") and not found:
        path = f"spool.{kind}"
    path = path if "." in path else f"builtins.{path}"
    return tasks.TaskError(exception_class_path=path, traceback=trace or str(error["message"]))
