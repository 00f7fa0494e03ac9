"""Which functions there are by task name, and which versions of a task each of them takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool.errors import Invalid
from spool.heldfor import NO_HANDLER, VERSION

if TYPE_CHECKING:
    from spool.tasks.define import Task

REGISTRY: dict[str, Task[..., Any]] = {}  # every name and alias of every task


class NoCode(Exception):
    """No function here can run this task. `why` is the reason as a held entry tells it."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why


def register(task: Task[..., Any]) -> None:
    """A task and its aliases; Invalid where another function has the name."""
    for name in (task.name, *task.aliases):
        known = REGISTRY.get(name)
        if known is not None and known.where != task.where:
            raise Invalid("task", name, f"is the name of two functions: {known.where} and {task.where}")
    for name in (task.name, *task.aliases):
        REGISTRY[name] = task


def find(name: str, version: int | str | None) -> Task[..., Any]:
    """The function for a task of this name and version, or NoCode."""
    task = REGISTRY.get(name)
    if task is None:
        raise NoCode(NO_HANDLER, f"no function is marked @task({name!r})")
    if version is not None and version not in task.takes():
        raise NoCode(VERSION, f"{name} takes version {_words(task)}, not {version}")
    return task


def takes() -> dict[str, list[int | str]]:
    """Every task name here, and the versions of it that can be run."""
    return {name: sorted(task.takes(), key=str) for name, task in REGISTRY.items()}


def _words(task: Task[..., Any]) -> str:
    return " and ".join(sorted(map(str, task.takes())))
