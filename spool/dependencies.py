"""Tasks of one action that wait for each other: what they are called, and that all can start."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from msgspec.structs import replace

from spool.errors import Invalid
from spool.fields import nearest
from spool.names import is_id
from spool.results import renamed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spool.owncopy import Task

MAX_EDGES = 100_000  # pairs of tasks, one of which waits for the other, in one action


def check_after(tasks: Sequence[Task], where: Sequence[str]) -> None:
    """Invalid where a name occurs twice, stands for nothing, or tasks wait for each other in a circle.

    `where` each task stands is said in front of the field.
    """
    refs: dict[str, int] = {}
    for index, task in enumerate(tasks):
        if task.ref is not None and refs.setdefault(task.ref, index) != index:
            raise Invalid(f"{where[index]}ref", task.ref, "must not occur twice in a batch")
    if not any(task.after for task in tasks):
        return
    known = {task.id: index for index, task in enumerate(tasks) if task.id is not None} | refs
    if (edges := sum(len(task.after) for task in tasks)) > MAX_EDGES:
        rule = f"must name at most {MAX_EDGES} tasks in all of a batch, not {edges}"
        raise Invalid(f"{where[0]}after", None, rule)
    graph: dict[int, set[int]] = {}
    for index, task in enumerate(tasks):
        for name in task.after:
            if name not in known and not is_id(name):
                field = "args" if name in task.results else "after"
                rule = "is no id, and no ref of a task of this batch"
                raise Invalid(where[index] + field, name, rule, nearest(name, refs))
        graph[index] = {known[name] for name in task.after if name in known}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as problem:
        index = problem.args[1][0]
        task = tasks[index]
        raise Invalid(
            f"{where[index]}after", task.ref or task.id, "waits for itself, at the end of a circle"
        ) from None


def resolved(tasks: Sequence[Task]) -> list[Task]:
    """The same with ids in place of refs; every task has its id."""
    ids = {task.ref: task.id or "" for task in tasks if task.ref is not None}

    def by_id(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(ids.get(name, name) for name in names))

    def one(task: Task) -> Task:
        if not task.after:
            return task
        args = renamed(task.args, ids) if task.results and ids else task.args
        return replace(task, after=by_id(task.after), results=by_id(task.results), args=args)

    return [one(task) for task in tasks]
