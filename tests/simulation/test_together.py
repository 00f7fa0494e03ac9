"""Nodes that do not know of each other yet, on one action: it is taken in twice, and happens once."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from spool import layout
from spool.times import SECOND
from tests.simulation import invariants
from tests.simulation.faults import Crash, Hooked
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.host import Host

TASKS = 3


def before_call(number: int, docs: list[dict[str, Any]], dies: int | None) -> tuple[World, int]:
    """A node has a turn or more before a write of the other, which goes on; how many clashed.

    Or it dies, so many writes later.
    """
    made = World(nodes=2, lease=10)
    one, two = made.boot("n1"), made.boot("n2")
    for host in (one, two):
        host.intake.among = lambda _: None  # type: ignore[method-assign]
    clashes: list[str] = []
    for host in (one, two):
        _listen(host, clashes)
    made.writers.submit(*docs)

    def meanwhile() -> None:
        for _ in range(4):
            two.turn()
        if dies is not None:
            one.disk.swap(Hooked(made.disk, dies, _die))

    one.disk.swap(Hooked(one.disk.disk, number, meanwhile))
    with suppress(Crash):
        for _ in range(4):
            one.turn()
    one.disk.swap(made.disk)
    if dies is not None:
        made.crash("n1")
    return made, len(clashes)


def _die() -> None:
    raise Crash


def _listen(host: Host, clashes: list[str]) -> None:
    perform = host.core.store.perform

    def heard(*args: object) -> object:
        undone = perform(*args)  # type: ignore[arg-type]
        clashes.extend(event.why for event in undone if event.why == "clash")
        return undone

    host.core.store.perform = heard  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("dies", [None, 0], ids=["goes on", "dies"])
def test_a_batch_that_two_nodes_take_in_at_once_is_there_once(dies: int | None) -> None:
    clashes = 0
    for number in range(20):
        made, clashed = before_call(number, [{"task": "run.a"} for _ in range(TASKS)], dies)
        made.drain()
        assert len({task_id for task_id, _, _ in made.watch.starts}) == TASKS
        assert len(made.watch.starts) == TASKS or dies is not None
        assert not made.disk.names(layout.REJECTED)
        invariants.at_end(made)
        clashes += clashed
    assert clashes or dies is not None


@pytest.mark.parametrize("dies", [None, *range(6)])
def test_tasks_that_two_nodes_take_in_at_once_have_their_keys(dies: int | None) -> None:
    for number in range(30):
        docs = [{"task": "run.a", "at": "+1h", "key": f"k{i}"} for i in range(TASKS)]
        made, _ = before_call(number, docs, dies)
        if dies is not None:
            made.boot("n1")
        made.run(10 * SECOND)
        assert len(invariants.at_rest(made).places) == TASKS
        made.drain()
        invariants.at_end(made)
