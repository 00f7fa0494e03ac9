"""The backend: a Django task becomes a task of the spool, and what became of that a result of Django."""

from __future__ import annotations

import hashlib
import os
import re
import time
from dataclasses import replace
from datetime import datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from django.core import checks
from django.db import transaction
from django.utils import timezone
from django.utils.module_loading import autodiscover_modules

from spool import layout, settingsfile
from spool.body import encoded, fields
from spool.client import Spool
from spool.django import framework as tasks
from spool.django.attempt import error_of, register
from spool.errors import Invalid, NoSuchTask, SpoolError
from spool.fields import nearest
from spool.names import is_task, new_id
from spool.peek import MAX_ACTION_BYTES
from spool.tasks.define import chosen
from spool.times import moment, parse_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spool.settings import Settings
    from spool.views import TaskView

PASSED_ON = ("retries", "backoff", "timeout", "notify")  # fields of every submission
WORKER = "spool.django.worker"
OPTIONS = ("spool", "on_commit", *PASSED_ON)
KNOWN: dict[str, Any] = {}  # path of the function -> the Django task
READY = tasks.TaskResultStatus.READY
STATUS = {
    layout.RUNNING: tasks.TaskResultStatus.RUNNING,
    layout.DONE: tasks.TaskResultStatus.SUCCESSFUL,
    layout.FAILED: tasks.TaskResultStatus.FAILED,
    layout.CANCELLED: tasks.TaskResultStatus.FAILED,
}


@lru_cache
def _open(path: str) -> Spool:
    """Threads share it; Django makes a backend for each."""
    return Spool(path or None)


def name_of(queue: str, path: str) -> str:
    """The name in the spool: QUEUE.MODULE.FUNCTION, with a hash in place of what is too long for one."""
    name = f"{queue}.{path}"
    if is_task(name):
        return name
    mark = hashlib.sha256(path.encode()).hexdigest()[:8]
    short = re.sub("[^A-Za-z0-9_]", "_", path.rpartition(".")[2])
    return f"{queue}.{short[: 64 - len(queue) - 10]}-{mark}"


class SpoolBackend(tasks.BaseTaskBackend):
    """See spool-python(7). OPTIONS: `spool`, `on_commit`, and fields of every submission (PASSED_ON)."""

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.options = self._checked(params.get("OPTIONS") or {})
        self.passed_on = fields(**{name: self.options.get(name) for name in PASSED_ON})
        try:  # as the first submission would find out
            encoded({"task": "any", **self.passed_on}, MAX_ACTION_BYTES, time.time_ns() // 1000)
        except Invalid as problem:
            raise tasks.InvalidTaskBackend(f"TASKS[{alias!r}]: {problem}") from None
        if not self.queues:
            raise tasks.InvalidTaskBackend(f"TASKS[{alias!r}]: QUEUES must name the queues there are")
        for queue in self.queues:
            if not is_task(queue) or len(queue) > 40:
                rule = "must be 1 to 40 letters, digits, dots, dashes or underscores"
                raise tasks.InvalidTaskBackend(f"TASKS[{alias!r}]: queue {queue!r}: {rule}")

    def _checked(self, options: Any) -> dict[str, Any]:
        where = f"TASKS[{self.alias!r}]"
        if not isinstance(options, dict):
            raise tasks.InvalidTaskBackend(f"{where}: OPTIONS must be a dict")
        for name in options:
            if name not in OPTIONS:
                near = nearest(str(name), OPTIONS)
                hint = f"; did you mean {near}?" if near else ""
                raise tasks.InvalidTaskBackend(f"{where}: no option {name!r}{hint}")
        if not isinstance(options.get("spool", ""), str | os.PathLike | None):
            raise tasks.InvalidTaskBackend(f"{where}: spool must be a path, not {options['spool']!r}")
        if not isinstance(options.get("on_commit", False), bool):
            raise tasks.InvalidTaskBackend(f"{where}: on_commit must be True or False")
        return dict(options)

    @property
    def spool(self) -> Spool:
        """Where tasks go: what `use` has set, as a test does, before all else. NotASpool, NotAllowed."""
        named = self.options.get("spool") or os.environ.get("SPOOL_DIR") or ""
        return chosen() or _open(os.fspath(named))

    def validate_task(self, task: Any) -> None:
        """As every backend does; a task that is sound is known from now on."""
        super().validate_task(task)
        KNOWN.setdefault(task.module_path, task)

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Submit it, or (`on_commit`) have that done when the transaction is committed.

        Raises InvalidTask, TypeError for what is no JSON, spool.Invalid; Full, NotAllowed, NotASpool.
        """
        self.validate_task(task)
        if task.func.__module__ == "__main__":
            rule = "is of the program itself, which no worker imports: define it in a module"
            raise tasks.InvalidTask(f"{task.module_path} {rule} tasks of an application")
        result = tasks.TaskResult(
            task=task, id=new_id(), status=READY, enqueued_at=None, started_at=None, finished_at=None,
            last_attempted_at=None, args=list(args), kwargs=kwargs, backend=self.alias, errors=[],
            worker_ids=[],
        )  # fmt: skip
        at = task.run_after
        if at is not None and timezone.is_naive(at):
            at = timezone.make_aware(at)
        name = name_of(task.queue_name, task.module_path)
        register(task, name)  # a test runs it in this very process
        doc = fields(
            task=name,
            id=result.id,
            args={"args": result.args, "kwargs": result.kwargs},
            priority="high" if task.priority > 0 else "low" if task.priority < 0 else "medium",
            at=at,
            meta={"django": {"backend": self.alias, **_told(task)}},
            **self.passed_on,
        )
        self.spool.preview(doc)  # what is wrong is told now, and not at the commit
        if self.options.get("on_commit"):
            transaction.on_commit(partial(self._submit, result, doc))
        else:
            self._submit(result, doc)
        return result

    def _submit(self, result: Any, doc: dict[str, Any]) -> None:
        self.spool.submit_one(doc)
        object.__setattr__(result, "enqueued_at", timezone.now())  # frozen, for its users
        tasks.task_enqueued.send(type(self), task_result=result)

    def get_result(self, result_id: str) -> Any:
        """What there is to know of a task; TaskResultDoesNotExist, also where its function is unknown."""
        try:
            view = self.spool.get(result_id)
        except NoSuchTask:
            raise tasks.TaskResultDoesNotExist(result_id) from None
        said = view.meta.get("django")
        said = said if isinstance(said, dict) else {}
        path = str(said.get("task"))
        if path not in KNOWN:
            autodiscover_modules("tasks")  # nothing else is imported because a file says so
        task = KNOWN.get(path)
        if task is None:
            unknown = "which no module tasks of INSTALLED_APPS has, nor what was imported here"
            raise tasks.TaskResultDoesNotExist(f"{result_id} is {view.task}, {unknown}")
        try:
            at = said["run_after"] and datetime.fromisoformat(said["run_after"])
            task = replace(
                task,
                backend=self.alias,
                queue_name=said["queue"],
                priority=said["priority"],
                run_after=at,
            )
            return self._result(task, view)
        except (KeyError, TypeError, ValueError, tasks.InvalidTask) as problem:
            raise tasks.TaskResultDoesNotExist(f"{result_id} is none of ours: {problem}") from problem

    def _result(self, task: Any, view: TaskView) -> Any:
        status = STATUS.get(view.state, READY)
        records = view.attempts
        started = [time for record in records if (time := _time(record["started_at"]))]
        workers = [str(record["node"]) for record in records if record["started_at"]]
        if view.state == layout.RUNNING:
            workers.append(str(view.node))
            if (claimed := self.spool.disk.info(view.path)) is not None:
                started.append(_aware(claimed.ctime_us))
        ended = status in (tasks.TaskResultStatus.SUCCESSFUL, tasks.TaskResultStatus.FAILED)
        result = tasks.TaskResult(
            task=task,
            id=view.id,
            status=status,
            enqueued_at=_aware(view.submitted_at),
            started_at=started[0] if started else None,
            last_attempted_at=started[-1] if started else None,
            finished_at=_time(records[-1]["ended_at"]) if ended and records else None,
            args=view.args["args"],
            kwargs=view.args["kwargs"],
            backend=self.alias,
            errors=[error_of(one) for one in records if one["error"] and one["outcome"] != "snoozed"],
            worker_ids=workers,
        )
        object.__setattr__(result, "_return_value", view.result if ended else None)
        return result

    def check(self, **kwargs: Any) -> Iterable[Any]:
        """For `manage.py check`: whether there is a spool, and something that runs each queue."""
        yield from super().check(**kwargs)
        try:
            found = settingsfile.read(self.spool.disk)
        except (SpoolError, OSError) as problem:
            yield checks.Error(f"TASKS[{self.alias!r}]: {problem}", id="spool.E001")
            return
        yield from self._unbound(found)

    def _unbound(self, found: Settings) -> Iterator[Any]:
        place = f"{self.spool.path}/{layout.SETTINGS}"
        for queue in sorted(self.queues):
            handler = found.handler_for(f"{queue}.any")
            if handler is None or handler.python != WORKER:
                yield checks.Warning(
                    f"TASKS[{self.alias!r}]: no worker of Django in {place} runs the queue {queue}",
                    hint=f'[handlers."{queue}.*"]\npython = "{WORKER}"',
                    id="spool.W001",
                )


def _told(task: Any) -> dict[str, Any]:
    """What makes the Django task again, beside its function."""
    at = None if task.run_after is None else task.run_after.isoformat()
    return {
        "task": task.module_path,
        "queue": task.queue_name,
        "priority": task.priority,
        "run_after": at,
    }


def _aware(at: int | None) -> Any:
    return None if at is None else moment(at)


def _time(text: str | None) -> Any:
    return None if text is None else _aware(parse_utc(text))
