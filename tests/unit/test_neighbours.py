"""Beats, deaths and leases of the nodes of a spool, by a clock that stands still until it is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spool import layout
from spool.beats import ORPHAN, Beat, Death, parse
from spool.disk import RealDisk
from spool.times import SECOND
from spoold.sources.neighbours import FENCE, Fenced, Neighbours, Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LEASE = 10


class Node(Neighbours):
    """A node whose clock goes when it is told to; `hidden` is how long a listing takes, in us."""

    now = 1_000 * SECOND

    def __init__(self, disk: RealDisk, name: str, incarnation: str, boot: str = "") -> None:
        facts = {"boot": boot or name}
        beat = Beat(name, incarnation, 0, LEASE)
        super().__init__(disk, beat, lambda: self.now, facts, lambda known: known == facts)

    def sleep(self, seconds: float, *others: Node) -> None:
        """Live for so long, with others, step by step."""
        end = self.now + int(seconds * SECOND)
        while self.now < end:
            for node in (self, *others):
                node.now += SECOND // 20
                if node.due() == 0:
                    node.step()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    (tmp_path / layout.RUNNING).mkdir()
    disk = RealDisk(str(tmp_path))
    yield lambda name, incarnation="1", boot="": Node(disk, name, incarnation, boot)
    disk.close()


def names(node: Node) -> list[str]:
    return sorted(node.disk.names(layout.ALIVE))


def test_a_node_without_beats_is_dead_after_a_lease_and_not_before(make: Callable[..., Node]) -> None:
    one, two = make("one"), make("two")
    assert one.join()
    assert two.join()
    one.sleep(3, two)
    assert one.live == two.live == {"one", "two"}
    one.sleep(LEASE - 0.1)  # two stands still
    assert not one.deaths
    one.sleep(1.2)
    assert one.deaths.keys() == {"two"}
    assert one.live == {"one"}


def test_a_death_is_found_at_its_moment_though_looks_are_rare(make: Callable[..., Node]) -> None:
    one, two = make("one"), make("two")
    assert one.join()
    assert two.join()
    one.sleep(3.05, two)
    one.sleep(2)
    ends = one._seen["two", "1"].since + LEASE * SECOND
    while not one.deaths:
        one.sleep(0.05)
    assert one.now <= ends + SECOND // 4


def test_who_was_away_himself_declares_nobody_dead(make: Callable[..., Node]) -> None:
    one, two = make("one"), make("two")
    assert one.join()
    assert two.join()
    one.sleep(1, two)
    one.now += int(0.6 * LEASE * SECOND)  # both were kept, as by a file server that is rebooted
    one.sleep(0.7 * LEASE)
    assert not one.deaths
    one.sleep(0.5 * LEASE)
    assert one.deaths


def test_a_node_whose_beats_are_not_confirmed_writes_nothing_more(make: Callable[..., Node]) -> None:
    one = make("one")
    assert one.join()
    one.now += int(FENCE * LEASE * SECOND) - 1
    one.check()
    one.now += 1
    with pytest.raises(Fenced, match=r"no heartbeat could be confirmed for 7\.5 s"):
        one.check()


def test_a_node_that_was_declared_dead_hears_of_it_at_its_next_beat(make: Callable[..., Node]) -> None:
    one = make("one")
    assert one.join()
    death = Death("one", "1", "two", "1")
    one.disk.move(f"{layout.ALIVE}/{one.beat.name}", f"{layout.ALIVE}/{death.name}")
    one.now = one._next_beat
    with pytest.raises(Fenced, match="another node has declared this one dead"):
        one.step()


def test_a_name_in_use_by_a_live_node_is_refused(make: Callable[..., Node]) -> None:
    one, again = make("one"), make("one", "2", "elsewhere")
    assert one.join()
    assert not again.join()  # as long as it may be dead
    one.sleep(2)
    with pytest.raises(Taken):
        again.join()


def test_a_name_of_a_dead_host_is_free_after_its_lease(make: Callable[..., Node]) -> None:
    one, again = make("one"), make("one", "2", "elsewhere")
    assert one.join()
    assert not again.join()
    for _ in range(LEASE * 10 - 1):
        again.now += SECOND // 10
        assert not again.join()
    again.now += SECOND // 10
    assert again.join()
    assert names(again) == [again.beat.name]


def test_a_node_begins_though_who_saw_to_its_death_has_died_of_it_too(make: Callable[..., Node]) -> None:
    one, two, again = make("one"), make("two"), make("one", "2", "elsewhere")
    assert one.join()
    assert two.join()
    two.sleep(3, one)
    two.sleep(LEASE + 2)
    assert two.deaths.keys() == {"one"}  # and here the power of all fails: nobody else ever comes
    begun = again.now
    while not again.join():
        again.now += SECOND // 5
        assert again.now <= begun + (LEASE + 1) * SECOND
    assert again.now >= begun + LEASE * SECOND
    again.sleep(3)
    assert again.live == {"one"}


def test_after_a_crash_on_the_same_boot_the_name_is_free_at_once(make: Callable[..., Node]) -> None:
    assert make("one").join()
    assert make("one", "2").join()


def test_tasks_of_a_node_nobody_knows_are_brought_back_after_a_while(make: Callable[..., Node]) -> None:
    one = make("one")
    assert one.join()
    one.disk.make_dir(f"{layout.RUNNING}/gone")
    one.disk.write(f"{layout.RUNNING}/gone/x", b"")
    one.disk.make_dir(f"{layout.RUNNING}/empty")
    one.sleep(2 * LEASE + 1)
    assert one.deaths.keys() == {"gone"}


def test_who_lives_is_nobodys_orphan(make: Callable[..., Node]) -> None:
    one = make("one")
    assert one.join()
    one.disk.write(f"{layout.ALIVE}/{Beat('one', ORPHAN, 0, LEASE).name}", b"{}")
    one.sleep(2 * LEASE)
    assert not one.deaths
    assert [parse(name) for name in names(one)] == [one.beat]


def test_an_idle_node_asks_little(make: Callable[..., Node]) -> None:
    one = make("one")
    asked: list[str] = []
    listing = one.disk.names
    one.disk.names = lambda path: (asked.append(path), listing(path))[1]  # type: ignore[method-assign]
    assert one.join()
    asked.clear()
    one.sleep(3 * LEASE)
    assert len(asked) <= 3 * 10 + 3 * 4 + 3, asked


def test_who_serves_without_beats_is_no_orphan(make: Callable[..., Node]) -> None:
    one = make("one")
    one.serves = lambda node: node == "two"
    one.disk.make_dir(f"{layout.RUNNING}/two")
    one.disk.write(f"{layout.RUNNING}/two/x", b"")
    assert one.join()
    one.sleep(3 * LEASE)
    assert names(one) == [one.beat.name]
    one.disk.write(f"{layout.ALIVE}/{Beat('two', ORPHAN, 0, LEASE).name}", b"{}")  # of before it was back
    one.sleep(3 * LEASE)
    assert (names(one), one.deaths) == ([one.beat.name], {})
    one.serves = lambda _: False
    one.sleep(3 * LEASE)
    assert one.deaths.keys() == {"two"}
