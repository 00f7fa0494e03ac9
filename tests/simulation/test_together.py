"""Nodes that do not know of each other yet, on one action: it is taken in twice, and happens once."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from msgspec.structs import replace

from spool import layout, look
from spool.times import SECOND
from spoold.core import share
from spoold.core.values import Brought
from tests.crash.scenarios import ident
from tests.simulation import invariants
from tests.simulation.faults import Crash, Hooked
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.host import Host

TASKS = 3
TURNS = 12  # in which a node has done whatever it could


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


def _turns(made: World, one: Host, two: Host, dies: int | None) -> None:
    """The other node has its turns; then one dies, if it is to, so many writes later."""
    for _ in range(TURNS):
        two.turn()
    if dies is not None:
        one.disk.swap(Hooked(made.disk, dies, _die))


def _interrupted(made: World, one: Host, number: int, meanwhile: Callable[[], None]) -> None:
    """One node has its turns; before so many of its writes something happens."""
    one.disk.swap(Hooked(one.disk.disk, number, meanwhile))
    with suppress(Crash):
        for _ in range(TURNS):
            one.turn()
    one.disk.swap(made.disk)


@pytest.mark.parametrize("dies", [None, 0, 1, 2], ids=["goes on", "dies", "dies later", "dies at last"])
@pytest.mark.parametrize("other", ["starts it", "holds it"])
def test_what_one_node_ends_is_not_had_by_another(other: str, dies: int | None) -> None:
    """A cancel on one node; before each of its writes the other one wants the task."""
    had = 0
    nodes = frozenset(("n1", "n2"))
    ours = next(name for n in range(99) if share.first(name := f"c{n}.json", nodes) == "n1")
    theirs = next(task_id for n in range(16) if share.first(task_id := ident(n), nodes) == "n2")
    for number in range(14):
        made = World(nodes=2, lease=10)
        one, two = made.boot("n1"), made.boot("n2")
        made.writers.submit({"task": "run.a", "id": theirs, "at": "+3s"})
        made.run(SECOND)
        two.intake.look = lambda *_: []  # type: ignore[method-assign, assignment]
        made.writers.drop({"action": "cancel", "ids": [theirs]}, name=ours)
        made.pass_time(3 * SECOND)

        held: list[str] = []

        def meanwhile(
            made: World = made, one: Host = one, two: Host = two, held: list[str] = held
        ) -> None:
            for path in [*made.disk.walk(layout.PENDING)] if other == "holds it" else ():
                held.append(layout.held(replace(look.entry_at(path), why="hold")))
                two.disk.move(path, held[0])
            _turns(made, one, two, dies)

        one.intake.ring()
        _interrupted(made, one, number, meanwhile)
        if dies is not None:
            made.crash("n1")
        elif any(",cancelled." in path for path in made.disk.walk(layout.OUTBOX)):
            assert [*made.disk.walk("cancelled")]
        had += bool(made.watch.starts or held)
        del two.intake.look
        made.drain()
        invariants.at_end(made)
        ends = [orjson.loads(made.disk.read(path, 1 << 20)) for path in made.disk.walk(layout.ATTEMPTS)]
        begun = any(end["started_at"] for end in ends)
        assert begun == bool(made.watch.starts), (number, ends)
    assert had


@pytest.mark.parametrize("dies", [None, 0, 1, 2, 3], ids=["goes on", "0", "1", "2", "3"])
@pytest.mark.parametrize("miss", ["run", "drop", "fail"])
@pytest.mark.parametrize("held", [False, True], ids=["pending", "held"])
def test_what_is_late_is_told_by_the_node_that_has_it(miss: str, dies: int | None, *, held: bool) -> None:
    """Two nodes see a deadline pass; before each write of one the other has its turn."""
    for number in range(14):
        made = World(nodes=2, lease=10)
        one = made.boot("n1")
        made.writers.drop({"action": "pause"})
        made.run(SECOND)
        task = {"task": "run.a", "id": ident(1), "deadline": "+4s", "lead": 0, "on_miss": miss}
        made.writers.submit(task)
        if held:
            made.writers.drop({"action": "hold", "ids": [ident(1)]})
        made.run(SECOND)
        two = made.boot("n2")
        made.run(SECOND)
        made.pass_time(3 * SECOND)

        _interrupted(made, one, number, partial(_turns, made, one, two, dies))
        if dies is not None:
            made.crash("n1")
        made.run(20 * SECOND)
        late = [path for path in made.disk.walk(layout.OUTBOX) if path.endswith(",late.json")]
        assert late
        if dies is None:
            assert len(late) == 1, (number, late)
            failed = int(miss == "fail")
            groups = [g for host in (one, two) for g in host.state.groups.table.values()]
            counts = [host.state.counts["failed"] for host in (one, two)]
            assert sum(g.count for g in groups) == sum(counts) == failed, number
            told = [path for path in made.disk.walk(layout.OUTBOX) if "recurring" in path]
            assert len(told) == failed, number
        made.writers.drop({"action": "resume"})
        if held and miss == "run":
            made.writers.drop({"action": "release", "ids": [ident(1)]})
        made.drain()
        invariants.at_end(made)


def test_what_waits_for_others_and_is_brought_back_later_goes_on_when_those_have_ended() -> None:
    made = World(nodes=2, lease=10)
    one = made.boot("n1")
    made.writers.submit({"task": "run.a", "id": ident(1), "at": "+20s"})
    made.writers.submit({"task": "run.a", "id": ident(2), "after": [ident(1)]})
    made.run(SECOND)
    (held,) = made.disk.walk(layout.HELD)
    elsewhere = f"{layout.TMP}/{held.rpartition('/')[2]}"
    made.disk.move(held, elsewhere)
    made.run(30 * SECOND)
    made.disk.move(elsewhere, held)
    one.first.append(Brought())
    made.run(SECOND)
    assert [task_id for task_id, _, _ in made.watch.starts] == [ident(1), ident(2)]
