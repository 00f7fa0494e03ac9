"""Nodes on one disk: who holds the lock of its name is alive; what the others have left is brought back."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

import pytest

from spool import layout
from spool.beats import Beat, Death
from spool.disk import DiskFull, RealDisk
from spool.init import init
from spool.names import new_id, parse_entry
from spool.owncopy import decode_task, encode_task, first_entry
from spool.settings import load
from spoold import daemon, locks, service
from spoold.core.state import State
from spoold.effects.fenced import FencedDisk
from spoold.sources.housemates import ALONE, PATIENCE, TOGETHER, Housemates, is_buried
from spoold.sources.pulse import Circle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from spoold.core.values import Event


class Node(Housemates):
    """A node whose clock goes when it is told to; its lock is held until it dies."""

    now = 0

    def __init__(self, disk: RealDisk, name: str) -> None:
        self.held = locks.take(f"{disk.root}/{layout.NODES}/{name}.lock")
        super().__init__(disk, disk.root, name, lambda: self.now)
        self.look()

    def sleep(self, us: int) -> None:
        for _ in range(0, us, TOGETHER):
            self.now += TOGETHER
            self.step()

    def die(self, *left: str) -> None:
        self.disk.make_dir(f"{layout.RUNNING}/{self.node}")
        for name in left:
            self.disk.write(f"{layout.RUNNING}/{self.node}/{name}", b"")
        locks.give(self.held)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], Node]]:
    init(str(tmp_path))
    disk = RealDisk(str(tmp_path))
    yield lambda name: Node(disk, name)
    disk.close()


def test_who_holds_a_lock_is_alive_and_found_within_seconds(make: Callable[[str], Node]) -> None:
    one = make("one")
    assert (one.live, one.due()) == ({"one"}, ALONE)
    two = make("two")
    assert two.live == {"one", "two"}
    one.sleep(ALONE)
    assert (one.live, one.due()) == ({"one", "two"}, TOGETHER)
    two.die()
    one.sleep(PATIENCE + TOGETHER)
    assert (one.live, one.deaths) == ({"one"}, {})


def test_what_a_dead_node_left_is_brought_back_after_a_while_by_one(make: Callable[[str], Node]) -> None:
    one, two, three = make("one"), make("two"), make("three")
    two.die("x")
    one.sleep(PATIENCE)
    assert not one.deaths
    one.sleep(ALONE)
    assert one.deaths.keys() == {"two"}
    three.sleep(PATIENCE + ALONE)
    assert not three.deaths  # the lock is held by one
    assert three.live == {"one", "three"}
    with pytest.raises(TimeoutError):
        make("two")  # it waits until all is in order
    two.disk.remove(f"{layout.RUNNING}/two/x")
    one.buried("two")
    make("two")
    one.sleep(ALONE)
    assert one.live == {"one", "two", "three"}


def test_a_node_that_is_back_in_time_sees_to_its_own(make: Callable[[str], Node]) -> None:
    one = make("one")
    make("two").die("x")
    one.sleep(PATIENCE - TOGETHER)
    make("two")
    one.sleep(2 * PATIENCE)
    assert not one.deaths


def test_a_node_that_had_a_lease_begins_without_one_when_nobody_buries_it(
    make: Callable[[str], Node],
) -> None:
    one, two = make("one"), make("two")
    one.disk.make_dir(layout.ALIVE)
    for known in (Beat("one", "0", 0, 5), Death("one", "1", "two", "2"), Beat("two", "2", 0, 5)):
        one.disk.write(f"{layout.ALIVE}/{known.name}", b"{}")
    assert not one.join()
    two.die()
    assert one.join()
    assert one.disk.names(layout.ALIVE) == [Beat("two", "2", 0, 5).name]


def test_nodes_with_beats_see_to_each_other_while_one_is_alive(make: Callable[[str], Node]) -> None:
    one, two = make("one"), make("two")
    one.disk.make_dir(layout.ALIVE)
    for name in ("two", "three"):
        one.disk.write(f"{layout.ALIVE}/{Beat(name, '0', 0, 5).name}", b"{}")
    make("three").die("x")
    one.sleep(2 * PATIENCE)
    assert not one.deaths
    two.die("y")
    one.sleep(2 * PATIENCE)
    assert one.deaths.keys() == {"two", "three"}


def test_what_cannot_be_brought_back_now_is_somebody_s_later_on(make: Callable[[str], Node]) -> None:
    one = make("one")
    make("two").die("x")
    circle = Circle(one)

    def fails(node: str) -> list[Event]:
        raise DiskFull(errno.ENOSPC, node)

    circle._bring_back = fails
    one.sleep(PATIENCE + ALONE)
    circle._bury("two")
    circle._burying.add("two")
    circle._step()
    assert not one.deaths
    assert not circle._burying
    make("two")  # it may have come back by now
    circle.close()


def test_a_daemon_waits_while_its_tasks_are_brought_back(
    make: Callable[[str], Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "LOCK_PATIENCE", 0.1)
    one = make("one")
    make("two").die("x")
    one.sleep(PATIENCE + ALONE)
    path = one._lock("two")
    assert is_buried(path)
    timer = threading.Timer(1.5, one.buried, ("two",))
    timer.start()
    locks.give(daemon._taken(path, "two"))
    timer.join()
    assert not is_buried(path)
    held = make("two")
    with pytest.raises(TimeoutError):
        daemon._taken(path, "two")
    held.die()


def test_what_a_dead_node_left_goes_by_the_settings_of_now(disk: RealDisk) -> None:
    doc = b'{"v":1,"id":"%s","task":"t.x","args":{},"at":"%s","submitted_at":"%s"}'
    body = decode_task(doc % (new_id().encode(), *[b"2026-11-21T12:00:00.000000Z"] * 2))
    path = layout.running("dead", first_entry(body))
    for target in (path, layout.own_copy(body.id or "")):
        disk.make_dir(layout.parent_of(target))
    disk.write(path, encode_task(body))
    disk.link(path, layout.own_copy(body.id or ""))
    state = State("here", load("poison_after = 9"), 2)
    bring_back = service.bringer(FencedDisk(disk.root), "here", state)
    state.settings = load("poison_after = 1")
    assert list(bring_back("dead")) == []
    (name,) = disk.names(layout.HELD)
    assert parse_entry(name).why == "poison"
