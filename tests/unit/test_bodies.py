"""Which of the tasks that come in need not be read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool.actions import Submit, interpret
from spool.machine import zone_of
from spool.names import new_id
from spoold.core import bodies
from spoold.core.bodies import Bodies

if TYPE_CHECKING:
    from spool.owncopy import Task

NOW = 1_800_000_000_000_000


def made(args: object = None) -> Task:
    doc = {"task": "t", "id": new_id(), "args": args or {}}
    request = interpret(doc, now=NOW, dropped=NOW, zone=zone_of("UTC"), uid=0)
    assert isinstance(request, Submit)
    return request.tasks[0]


def kept(some: Bodies, tasks: list[Task]) -> list[Task]:
    return [task for task in tasks if task.id and some.take(task.id) is task]


def test_the_first_ones_stay_and_what_starts_leaves_room() -> None:
    some, tasks = Bodies(), [made() for _ in range(bodies.MANY + 2)]
    for task in tasks[:-1]:
        some.keep(task)
    assert kept(some, tasks[:1]) == tasks[:1]
    some.keep(tasks[-1])
    assert kept(some, tasks) == [*tasks[1:-2], tasks[-1]]


def test_large_ones_are_read_back() -> None:
    some, tasks = Bodies(), [made("x" * (bodies.LARGE // 4)) for _ in range(5)]
    for task in tasks:
        some.keep(task)
        some.keep(task)  # a task that comes again counts once
    assert kept(some, tasks) == tasks[:3]
    for task in tasks:
        some.keep(task)
    assert kept(some, tasks) == tasks[:3]


def test_those_that_never_start_do_not_stay_for_ever() -> None:
    some = Bodies()
    for _ in range(2 * bodies.MANY + 1):
        some.keep(made())
    last = made()
    some.keep(last)
    assert kept(some, [last]) == [last]


def test_while_they_start_however_many_come_in_the_first_ones_stay() -> None:
    some, tasks = Bodies(), [made() for _ in range(4 * bodies.MANY)]
    for n, task in enumerate(tasks):
        some.keep(task)
        if n % 4 == 3:
            assert kept(some, [tasks[n // 4]]), n
