"""Hosts that see the disk of a file server late, and are told what is not true: no promise is broken."""

from __future__ import annotations

import random

import pytest

from spool import keys, layout
from spool.disk import Exists, Missing
from spool.names import id_from
from spool.place import UNFINISHED
from tests.simulation.chance import Move
from tests.simulation.far import Doubting, Far
from tests.simulation.model import ModelDisk
from tests.simulation.run import Plan, play
from tests.simulation.test_simulation import check
from tests.simulation.world import START

LATE = 1000


class Two:
    """A server with the directory d, and two hosts; `now` is us."""

    def __init__(self) -> None:
        self.now = 1
        disk = ModelDisk(lambda: self.now)
        disk.make_dir("d")
        chance = random.Random(1)
        chance.random = lambda: 0.0  # type: ignore[method-assign] - what may be old is
        self.one, self.other = (Far(disk, lambda: self.now, LATE, chance) for _ in range(2))


def test_a_listing_is_old_until_it_is_late_or_this_host_changes_something() -> None:
    two = Two()
    assert two.one.names("d") == []
    stamp = two.one.stamp("d")
    two.other.write("d/x", b"")
    assert two.one.names("d") == []
    assert two.one.stamp("d") == stamp
    two.now += LATE
    assert two.one.names("d") == ["x"]
    two.other.write("d/y", b"")
    two.one.write("d/z", b"")
    assert sorted(two.one.names("d")) == ["x", "y", "z"]


def test_a_name_that_was_not_found_is_not_found_and_not_renamed_for_a_while() -> None:
    two = Two()
    assert two.one.info("d/x") is None
    two.other.write("d/x", b"")
    assert two.one.info("d/x") is None
    with pytest.raises(Missing):
        two.one.move("d/x", "d/y")
    assert two.one.names("d") == ["x"]  # and that has made it look
    two.one.move("d/x", "d/y")


@pytest.mark.parametrize(
    ("verb", "names", "answer"),
    [("move", ("d/x", "d/y"), Missing), ("link", ("d/x", "d/y"), Exists), ("remove", ("d/x",), Missing)],
)
def test_what_is_said_not_to_be_done_is_done(verb: str, names: tuple[str], answer: type[OSError]) -> None:
    two = Two()
    two.one.write("d/x", b"")
    before = two.other.disk.names("d")
    two.one.lie = 0
    with pytest.raises(answer):
        getattr(two.one, verb)(*names)
    assert two.other.disk.names("d") != before


def test_a_node_looks_at_what_became_of_a_rename_and_of_a_link() -> None:
    two = Two()
    two.one.write("d/x", b"")
    two.one.lie = 0
    Doubting(two.one).move("d/x", "d/y")
    assert two.other.names("d") == ["y"]
    two.one.lie = 0
    Doubting(two.one).link("d/y", "d/z")
    two.one.lie = 0
    Doubting(two.one).remove("d/y")
    two.other.write("d/y", b"")
    with pytest.raises(Exists):
        Doubting(two.one).link("d/y", "d/z")


def test_files_that_come_with_a_task_are_there_whatever_the_answer_was() -> None:
    plan = Plan(seed=11590, cuts=0, daemons=2, lease=10, keyed=0.4, linked=0.5, far=3)
    assert play(plan, [Move("batch", 1750846122), Move("lie", 1036216415)]).problem is None


def test_a_refusal_is_told_by_who_brings_back_a_node_that_froze_before_it_could() -> None:
    plan = Plan(seed=182225285, cuts=1, daemons=3, lease=10, keyed=0.4, far=25)
    story = [Move("batch", 1225238523), Move("move", 4104851150), Move("freeze", 2704717840)]
    assert play(plan, story).problem is None


@pytest.mark.parametrize("seed", [900, 901, 904, 11617])
def test_nodes_that_see_little_of_each_other_lose_nothing_and_end_nothing_twice(seed: int) -> None:
    late = (0.3, 3, 25)[seed % 3]
    check(seed, cuts=seed % 2, daemons=2 + seed % 2, lease=10, keyed=0.4 * (seed // 2 % 2), far=late)


def test_who_holds_a_key_is_known_to_a_host_that_looked_for_him_too_early() -> None:
    two = Two()
    for folder in ("ids", "ids/2026-11-21", "keys"):
        two.other.make_dir(folder)
    task_id = id_from(START, bytes(10))
    own = layout.own_copy(task_id)
    assert two.one.info(own) is None
    two.other.write(own, b"")
    two.other.link(own, "d/x")
    claim = keys.Claim("hash", task_id, "n1", 0, 1, shared=False)
    assert two.one.info(own) is None
    found = keys.rival(two.one, claim, START)  # type: ignore[arg-type]
    assert found is not None and found.stand == UNFINISHED
