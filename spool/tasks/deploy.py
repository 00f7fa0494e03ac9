"""Whether the code on disk can run what waits: every task against it, and none of them run."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct, field

from spool import layout, look, settings
from spool.disk import Missing
from spool.errors import Invalid
from spool.names import id_and_task
from spool.results import named
from spool.tasks import registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spool.disk import Disk
    from spool.settings import Settings

LIMIT = 64 << 20
SHOWN = 5  # ids of each reason
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


def check(disk: Disk, modules: Iterable[str] = ()) -> Report:
    """Every task that is dropped, waits, is held or runs, against the code as it can be imported now.

    `modules`: those whose tasks are looked at; none: all that handlers name. Raises Invalid where
    one cannot be imported.
    """
    found = settings.load(disk.read(layout.SETTINGS, 1 << 20).decode())
    wanted = tuple(modules) or tuple(sorted({h.python for h in found.handlers.values() if h.python}))
    _import(wanted)
    known: dict[tuple[Any, ...], Problem] = {}
    checked = 0
    for name, task_id, doc in _tasks(disk):
        if not _ours(found, name, wanted):
            continue
        checked += 1
        version = doc.get("version")
        reason = _reason(found, name, version, doc.get("args", {}))
        if reason:
            problem = known.setdefault((name, version, reason), Problem(name, version, reason))
            problem.count += 1
            problem.ids += [task_id] if len(problem.ids) < SHOWN else []
    return Report(checked, sorted(known.values(), key=lambda p: (p.task, str(p.version), p.reason)))


def _import(modules: tuple[str, ...]) -> None:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    for module in modules:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what it prints is no answer of ours
                importlib.import_module(module)
            for task in registry.REGISTRY.values():
                task.signature.compiled()
        except Invalid:
            raise
        except (Exception, SystemExit) as problem:  # noqa: BLE001 - a module may raise anything
            rule = f"cannot be imported: {type(problem).__name__}: {problem}"
            raise Invalid("module", module, rule) from None


def _ours(found: Settings, name: str, modules: tuple[str, ...]) -> bool:
    """Whether a task is for this code: its handler says so, or it has none and waits for one."""
    handler = found.handler_for(name)
    return handler.python in modules if handler else name in registry.REGISTRY


def _reason(found: Settings, name: str, version: Any, args: Any) -> str:
    """Why the code cannot run a task; empty where it can."""
    handler = found.handler_for(name)
    if handler is None:
        return "no handler in spool.toml is bound to its name"
    if version is not None and handler.versions and version not in handler.versions:
        return f"its handler takes versions {', '.join(map(str, handler.versions))}"
    try:
        task = registry.find(name, version)
        if not named(args):  # what a result will be is not known yet
            task.signature.unpack(task.upgraded(args, version))
    except registry.NoCode as problem:
        return str(problem)
    except Invalid as problem:
        return f"{problem.field}: {problem.rule}"
    except Exception as problem:  # noqa: BLE001 - an upgrade may raise anything
        return f"its upgrade raises {type(problem).__name__}: {problem}"
    return ""


def _tasks(disk: Disk) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(name, id, body) of all tasks that have not ended; of what moves meanwhile, some twice."""
    yield from _dropped(disk)
    for folder in look.folders(disk, WAITING):
        for batch in disk.slices(folder, look.SLICE):
            for name in batch:
                task_id, task = id_and_task(name)
                doc = _read(disk, f"{folder}/{name}") if task else None
                if doc:
                    yield task, task_id, doc


def _dropped(disk: Disk) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name in look.names(disk, layout.INCOMING):
        doc = _read(disk, f"{layout.INCOMING}/{name}") if name.endswith(".json") else None
        bodies = (
            [*doc["tasks"], doc.get("then")]
            if doc and isinstance(doc.get("tasks"), list)
            else [doc]
            if doc and doc.get("action", "submit") == "submit"
            else []
        )
        for body in bodies if isinstance(bodies, list) else []:
            if isinstance(body, dict) and isinstance(body.get("task"), str):
                yield body["task"], str(body.get("id") or name), body


def _read(disk: Disk, path: str) -> dict[str, Any] | None:
    try:
        doc = orjson.loads(disk.read(path, LIMIT))
    except (Missing, OSError, orjson.JSONDecodeError):
        return None  # it has moved on, or is damaged: fsck says so
    return doc if isinstance(doc, dict) else None
