"""Nodes that do not know of each other yet, on one action: it is taken in twice, and happens once."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from spool import layout
from tests.simulation import invariants
from tests.simulation.faults import Crash, Hooked
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.host import Host

TASKS = 3


def before_call(number: int, *, dies: bool) -> int:
    """A node has a turn or more before a write of the other, which goes on or dies; how many clashed."""
    made = World(nodes=2, lease=10)
    one, two = made.boot("n1"), made.boot("n2")
    for host in (one, two):
        host.intake.among = lambda _: None  # type: ignore[method-assign]
    clashes: list[str] = []
    for host in (one, two):
        _listen(host, clashes)
    made.writers.submit(*({"task": "run.a"} for _ in range(TASKS)))

    def meanwhile() -> None:
        for _ in range(4):
            two.turn()
        if dies:
            raise Crash

    one.disk.swap(Hooked(one.disk.disk, number, meanwhile))
    with suppress(Crash):
        for _ in range(4):
            one.turn()
    if dies:
        made.crash("n1")
    else:
        one.disk.swap(made.disk)
    made.drain()
    assert len({task_id for task_id, _, _ in made.watch.starts}) == TASKS
    assert len(made.watch.starts) == TASKS or dies
    assert not made.disk.names(layout.REJECTED)
    invariants.at_end(made)
    return len(clashes)


def _listen(host: Host, clashes: list[str]) -> None:
    perform = host.core.store.perform

    def heard(*args: object) -> object:
        undone = perform(*args)  # type: ignore[arg-type]
        clashes.extend(event.why for event in undone if event.why == "clash")
        return undone

    host.core.store.perform = heard  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("dies", [False, True], ids=["goes on", "dies"])
def test_a_batch_that_two_nodes_take_in_at_once_is_there_once(*, dies: bool) -> None:
    clashes = [before_call(number, dies=dies) for number in range(20)]
    assert any(clashes) or dies
