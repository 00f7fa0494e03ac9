"""Whether the code on disk can run what waits: every task against it, and none of them run."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct, field

from spool import dropped, layout, look
from spool.apps import App, app_of
from spool.disk import Missing
from spool.errors import Invalid
from spool.fields import nearest
from spool.names import id_and_task
from spool.runargs import RUN
from spool.scene import recurring
from spool.tasks.code import imported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from spool.disk import Disk
    from spool.settings import Handler, Settings
    from spool.tasks.code import Code

    Body = Callable[[], dict[str, Any] | None]

SHOWN = 5  # ids of each reason
AT_ONCE = 256  # tasks in one question to a module
UNBOUND = ""  # in place of a pattern: what no handler takes
WAITING = (layout.PENDING, layout.HELD, layout.RUNNING)


class Problem(Struct):
    """Tasks of one name and version that the code cannot run, for one reason."""

    task: str
    version: int | str | None
    reason: str
    count: int = 0
    ids: list[str] = field(default_factory=list)


class Report(Struct):
    """What was looked at, and what the code cannot run."""

    checked: int
    problems: list[Problem]


def check(
    disk: Disk,
    modules: Iterable[str] = (),
    handlers: Iterable[str] = (),
    interpreter: str | None = None,
) -> Report:
    """Every task that is dropped, waits, is held or runs, against the code as it can be imported now.

    Each is held against its handler and that one's module, and so are those that schedules make.
    `modules`: those whose tasks are looked at; none: all tasks. `handlers`: patterns, only the tasks
    of these. `interpreter`: the Python that imports, in place of those of the handlers. Raises Invalid
    where a module cannot be imported, or could have nothing to run.
    """
    found = recurring.settings_of(disk)
    handlers = tuple(handlers)
    chosen = _chosen(found, handlers)
    apps = {pattern: _app(one, interpreter) for pattern, one in chosen.items() if one.python}
    bound = {app.module for app in apps.values()}
    wanted = {app for app in apps.values() if not modules or app.module in modules}
    wanted |= {App(module, interpreter, None, ()) for module in modules if module not in bound}
    with ExitStack() as stack:
        code = {app: stack.enter_context(imported(app)) for app in sorted(wanted, key=str)}
        for app, one in code.items():
            if app.module not in bound and not one.names:
                raise Invalid("module", app.module, "must mark a task, or be named by a handler")
        served = {pattern: code[app] for pattern, app in apps.items() if app in code}
        others = {pattern for pattern, one in chosen.items() if not one.python}
        if not handlers:
            others.add(UNBOUND)
        return _Comparison(found, served, list(code.values()), set() if modules else others).report(disk)


def _app(handler: Handler, interpreter: str | None) -> App:
    """The application of a handler, as it is imported here."""
    app = app_of(handler)
    return app._replace(cwd=None, interpreter=interpreter or app.interpreter, care=())


def _chosen(found: Settings, patterns: tuple[str, ...]) -> dict[str, Handler]:
    for pattern in patterns:
        if pattern not in found.handlers:
            near = nearest(pattern, found.handlers)
            raise Invalid("handler", pattern, "is no handler of spool.toml", near)
    return {pattern: found.handlers[pattern] for pattern in patterns or found.handlers}


class _Comparison:
    """All that waits, and makes tasks, against the code of each handler, by its pattern.

    `others`: the handlers without code whose tasks are looked at too, and UNBOUND, of no handler.
    """

    def __init__(
        self, found: Settings, code: dict[str, Code], all_code: list[Code], others: set[str]
    ) -> None:
        self.found, self.code, self.others = found, code, others
        self.checked = 0
        self._known: dict[tuple[Any, ...], Problem] = {}
        self._asked: dict[Code, list[tuple[str, str, Any, Any]]] = {one: [] for one in all_code}

    def report(self, disk: Disk) -> Report:
        for name, task_id, body in _tasks(disk):
            self._one(name, task_id, body)
        for code in self._asked:
            self._ask(code)
        problems = [*self._known.values(), *self._schedules()]
        return Report(self.checked, sorted(problems, key=lambda p: (p.task, str(p.version), p.reason)))

    def _one(self, name: str, task_id: str, body: Body) -> None:
        code, handler = self._ours(name), self.found.handler_for(name)
        if not self._meant(name, code, handler):
            return
        self.checked += 1
        if code is None and handler is not None and not handler.versions:
            return  # its name says it all
        doc = body()
        if doc is None:
            return
        version = doc.get("version")
        if reason := _unfit(handler, version, doc.get("notify")):
            self._add(task_id, name, version, reason)
        elif code is not None and handler is not None:
            self._asked[code].append((task_id, name, version, doc.get("args", {})))
            if len(self._asked[code]) >= AT_ONCE:
                self._ask(code)

    def _ask(self, code: Code) -> None:
        tasks, self._asked[code] = self._asked[code], []
        reasons = code.reasons([task[1:] for task in tasks])
        for (task_id, name, version, _), reason in zip(tasks, reasons, strict=True):
            if reason:
                self._add(task_id, name, version, reason)

    def _add(self, task_id: str, name: str, version: Any, reason: str) -> None:
        problem = self._known.setdefault((name, version, reason), Problem(name, version, reason))
        problem.count += 1
        problem.ids += [task_id] if len(problem.ids) < SHOWN else []

    def _schedules(self) -> Iterator[Problem]:
        for made in self.found.recurring:
            code, handler = self._ours(made.task), self.found.handler_for(made.task)
            if not self._meant(made.task, code, handler):
                continue
            reason = _unfit(handler, made.version, made.notify)
            if not reason and code is not None and handler is not None:
                reason = code.reasons([(made.task, made.version, made.args)])[0]
            if reason:
                yield Problem(made.task, made.version, f"schedule {made.name}: {reason}")

    def _ours(self, name: str) -> Code | None:
        """What is to run a task: the module of its handler; where it has none, whichever knows it."""
        handler = self.found.handler_for(name)
        if handler is None:
            return next((one for one in self._asked if name in one.names), None)
        return self.code.get(handler.pattern)

    def _meant(self, name: str, code: Code | None, handler: Handler | None) -> bool:
        """Whether a task is looked at; one of spool's own needs no handler."""
        if name == RUN and self.found.allow_run:
            return False
        return code is not None or (handler.pattern if handler else UNBOUND) in self.others


def _unfit(handler: Handler | None, version: Any, parent: Any) -> str:
    """Why neither handler nor parent takes a task; empty where one does."""
    if handler is None:
        return "" if isinstance(parent, str) else "no handler in spool.toml is bound to its name"
    if handler.leaves_out(version):
        return f"its handler takes versions {', '.join(map(str, handler.versions))}"
    return ""


def _tasks(disk: Disk) -> Iterator[tuple[str, str, Body]]:
    """(name, id, what reads its body) of all that has not ended; of what moves meanwhile, some twice."""
    yield from _dropped(disk)
    for folder in look.folders(disk, WAITING):
        for batch in disk.slices(folder, look.SLICE):
            for name in batch:
                task_id, task = id_and_task(name)
                if task:
                    yield task, task_id, partial(_read, disk, f"{folder}/{name}")


def _dropped(disk: Disk) -> Iterator[tuple[str, str, Body]]:
    paths = [f"{folder}/{name}" for folder in dropped.folders(disk) for name in look.names(disk, folder)]
    for path in paths:
        doc = _read(disk, path) if path.endswith(".json") else None
        if doc and isinstance(doc.get("signed"), str):
            doc = _object(doc["signed"])
        if doc is None or doc.get("action", "submit") != "submit":
            continue
        for body in [*doc["tasks"], doc.get("then")] if isinstance(doc.get("tasks"), list) else [doc]:
            if isinstance(body, dict) and isinstance(body.get("task"), str):
                yield body["task"], str(body.get("id") or path.rpartition("/")[2]), partial(dict, body)


def _read(disk: Disk, path: str) -> dict[str, Any] | None:
    try:
        return _object(disk.read(path, dropped.LIMIT))
    except (Missing, OSError):
        return None  # it has moved on, or may not be seen


def _object(data: bytes | str) -> dict[str, Any] | None:
    try:
        doc = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None  # damaged: fsck says so
    return doc if isinstance(doc, dict) else None
