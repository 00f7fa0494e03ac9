"""Several nodes on one spool: when each looks, what it reads anew, and whose share a task is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from spool import layout
from spool.disk import RealDisk
from spool.names import DAY_US, PRIORITIES, Entry, date_of, new_id
from spool.settings import load
from spoold.core import share
from spoold.core.state import State
from spoold.core.values import Now, Repaused, Stirred, Takes
from spoold.sources.lookout import FAST, REST, SLOW, Lookout, Rung
from spoold.sources.stir import OFTEN, SELDOM, SHARE, SOON, Stir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from spoold.core.values import Event, Takers

NOW = 1_790_000_000_000_000
TODAY = f"{layout.PENDING}/{date_of(NOW)}/high"
BOX = "incoming/joe"


class Counting(RealDisk):
    """Counts what it is asked."""

    calls = 0
    closed = ""  # a directory that its owner has closed

    def stamp(self, path: str) -> int | None:
        self.calls += 1
        if path == self.closed:
            raise PermissionError(path)
        return super().stamp(path)

    def names(self, path: str) -> list[str]:
        self.calls += 1
        return super().names(path)


class Often(Lookout):
    """Looks until it has looked at everything."""

    def all(self) -> list[Event]:
        """What has changed."""
        return [event for _ in range(REST) for event in self.look()]


class Spool:
    """What a lookout sees, and a hand that changes it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: list[dict[str, Any]] = []
        self.takes: Takers = {}
        self.wall = NOW
        self._clock = 0
        for path in (BOX, TODAY, layout.NODES, layout.CORRUPT):
            (root / path).mkdir(parents=True)
        self.disk = Counting(str(root))
        self.out = Often(
            self.disk, lambda: [BOX], lambda: list(self.rows), lambda: self.takes, lambda: self.wall
        )

    def drop(self, folder: str, name: str = "x") -> None:
        """Another name in a directory, which is changed by that however coarse its clock is."""
        self._clock += 1
        (self.root / folder / f"{name}{self._clock}").touch()
        os.utime(self.root / folder, (self._clock, self._clock))

    def cost(self) -> int:
        """What a look asks the disk."""
        before = self.disk.calls
        self.out.look()
        return self.disk.calls - before


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path)
    made.out.all()
    yield made
    made.disk.close()


def test_a_look_tells_what_has_changed_once(seen: Spool) -> None:
    assert seen.out.all() == []
    seen.drop(BOX)
    assert seen.out.all() == [Rung("incoming")]
    seen.drop(TODAY)
    assert seen.out.all() == [Rung("pending")]
    seen.drop(BOX)
    seen.drop(TODAY)
    assert seen.out.all() == [Rung("incoming"), Rung("pending")]
    assert seen.out.all() == []


def test_what_is_put_aside_has_ended(seen: Spool) -> None:
    seen.drop(layout.CORRUPT)
    assert seen.out.all() == [Rung("ended")]


def test_what_ends_is_told_around_midnight_too(seen: Spool) -> None:
    for wall in (NOW, NOW + DAY_US - NOW % DAY_US + 1000):
        seen.wall = wall
        for day in {date_of(wall), date_of(wall - 1_000_000)}:
            folder = f"{layout.DONE}/{day}"
            (seen.root / folder).mkdir(parents=True, exist_ok=True)
            seen.out.all()
            seen.drop(folder)
            assert seen.out.all() == [Rung("ended")]


def test_pauses_are_told_when_they_are_others_than_before(seen: Spool) -> None:
    seen.drop(layout.NODES)
    assert seen.out.all() == []  # a heartbeat
    seen.rows = [{"node": "a"}]
    seen.drop(layout.NODES)
    assert seen.out.all() == [Repaused(({"node": "a"},))]


def test_what_the_code_of_the_nodes_takes_is_told_when_it_has_changed(seen: Spool) -> None:
    seen.takes = {"a": {"t.*": {"t.one": frozenset({1})}}}
    seen.drop(layout.NODES)
    assert seen.out.all() == [Takes(seen.takes)]
    seen.drop(layout.NODES)
    assert seen.out.all() == []


def test_a_shard_that_is_new_is_seen_and_one_for_later_is_not_watched(seen: Spool) -> None:
    (seen.root / layout.PENDING / date_of(NOW + 3 * DAY_US) / "low").mkdir(parents=True)
    assert seen.out.all() == []
    (seen.root / layout.PENDING / date_of(NOW + DAY_US) / "low").mkdir(parents=True)
    assert seen.out.all() == [Rung("pending")]
    seen.wall += 2 * DAY_US
    assert seen.out.all() == [Rung("pending")]  # its day has come


def test_a_box_that_its_owner_closes_hides_nothing_else(seen: Spool) -> None:
    seen.disk.closed = BOX
    assert seen.out.all() == [Rung("incoming")]
    seen.drop(TODAY)
    assert seen.out.all() == [Rung("pending")]


def test_pending_may_be_gone(seen: Spool) -> None:
    for folder in (TODAY, os.path.dirname(TODAY), layout.PENDING):
        (seen.root / folder).rmdir()
    assert seen.out.all() == [Rung("pending")]
    assert seen.out.all() == []


def test_looks_are_rare_where_nothing_changes_and_close_where_something_does(seen: Spool) -> None:
    waits = []
    while not waits or seen.out.wait != waits[-1]:
        waits.append(seen.out.wait)
        seen.out.look()
    assert waits == sorted(waits)
    assert waits[-1] == SLOW
    seen.drop(BOX)
    seen.out.look()
    assert seen.out.wait == FAST


def test_most_looks_are_at_incoming_alone(seen: Spool) -> None:
    costs = [seen.cost() for _ in range(3 * REST)]
    assert costs.count(1) == 3 * (REST - 1)


def test_a_look_costs_the_same_however_much_stands_there(seen: Spool) -> None:
    few = sum(seen.cost() for _ in range(REST))
    for n in range(200):
        seen.drop(TODAY, f"{n},")
        seen.drop(BOX, f"{n},")
    for day in range(2, 60):
        (seen.root / layout.PENDING / date_of(NOW + day * DAY_US)).mkdir()
    assert sum(seen.cost() for _ in range(REST)) == few


# When pending/ is read anew.


def state(peers: int = 2, waiting: int = 0) -> State:
    made = State("a", load(""), 2)
    made.peers = frozenset("abcdef"[:peers])
    made.known = dict.fromkeys(PRIORITIES, True)
    for n in range(waiting):
        made.insert(Entry(time=NOW, id=new_id(NOW + n), task="t"), NOW)
    return made


def at(mono: int) -> Now:
    return Now(NOW + mono, mono)


def test_a_node_alone_reads_nothing_anew() -> None:
    stir = Stir()
    stir.ask()
    assert stir.due(state(peers=1), at(9 * OFTEN)) is None


def test_nothing_is_read_unless_others_have_changed_something() -> None:
    assert Stir().due(state(), at(9 * OFTEN)) is None


def test_what_others_changed_is_read_at_once_and_then_now_and_then() -> None:
    stir, busy = Stir(), state(waiting=1)
    stir.ask()
    assert stir.step(busy, at(9 * OFTEN)) == [Stirred()]
    assert stir.step(busy, at(9 * OFTEN)) == []  # asked once
    stir.ask()
    assert stir.step(busy, at(9 * OFTEN + 1)) == []
    assert stir.due(busy, at(9 * OFTEN + 1)) == OFTEN - 1
    assert stir.step(busy, at(10 * OFTEN)) == [Stirred()]


def test_a_node_that_has_started_all_it_had_reads_soon() -> None:
    stir, dry = Stir(), state()
    stir.ask()
    assert stir.step(dry, at(9 * OFTEN)) == [Stirred()]
    dry.counts["started"] += 1
    stir.ask()
    assert stir.due(dry, at(9 * OFTEN)) == SOON


def test_one_that_gets_nothing_by_reading_does_not_read_soon_again() -> None:
    stir, dry = Stir(), state()
    stir.ask()
    stir.step(dry, at(9 * OFTEN))
    stir.ask()
    assert stir.due(dry, at(9 * OFTEN)) == OFTEN


def test_reading_takes_a_small_part_of_the_time() -> None:
    stir, slow = Stir(), state(waiting=1)
    stir.ask()
    stir.step(slow, at(9 * OFTEN))
    slow.known["high"] = False
    stir.ask()
    assert stir.due(slow, at(10 * OFTEN)) is None  # it is being read
    slow.known["high"] = True
    assert stir.step(slow, at(11 * OFTEN)) == []
    assert stir.due(slow, at(11 * OFTEN)) == (9 * OFTEN + SHARE * 2 * OFTEN) - 11 * OFTEN


def test_a_loop_that_sleeps_after_a_reading_does_not_count_as_reading() -> None:
    stir, idle = Stir(), state()
    stir.ask()
    stir.step(idle, at(9 * OFTEN))
    stir.settle(idle, at(9 * OFTEN + 5))
    stir.ask()
    assert stir.step(idle, at(60 * OFTEN)) == [Stirred()]


def test_a_reading_is_not_put_off_for_longer_than_a_minute() -> None:
    stir, slow = Stir(), state()
    stir.ask()
    stir.step(slow, at(9 * OFTEN))
    stir.settle(slow, at(9 * OFTEN + SELDOM // 2))
    stir.ask()
    assert stir.due(slow, at(9 * OFTEN + SELDOM // 2)) == SELDOM // 2


# Whose share something is.


def test_a_share_is_the_same_for_all_who_see_the_same_nodes() -> None:
    keys = [new_id(NOW + n) for n in range(600)]
    nodes = ["a", "b", "c"]
    owners = [share.first(key, nodes) for key in keys]
    assert owners == [share.first(key, nodes[::-1]) for key in keys]
    assert min(owners.count(node) for node in nodes) > len(keys) / len(nodes) / 2


def test_when_a_node_goes_only_its_own_share_moves() -> None:
    for n in range(300):
        key = new_id(NOW + n)
        if (before := share.first(key, ["a", "b", "c"])) != "c":
            assert share.first(key, ["a", "b"]) == before


def test_a_node_of_any_name_has_a_share() -> None:
    assert share.first("k", ["\udcff"]) == "\udcff"
