"""What had begun when a daemon died is known as long as the machine lives, and is not kept for ever."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from spool import layout
from spool.init import init
from spool.worker.serve import Worker
from spoold.effects import begun
from spoold.effects.begun import MANY, Begun, read
from spoold.keeper.loop import Keeper
from tests.unit.test_disk import no_file_above

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> str:
    init(str(tmp_path / "q"))
    return str(tmp_path / "q")


def add(one: Begun, key: str) -> None:
    assert one.fd is not None
    os.write(one.fd, f"{key}\n".encode())


def test_what_an_earlier_daemon_has_begun_is_known_to_the_next(root: str) -> None:
    first = Begun(root, "n")
    first.renew([])
    add(first, "a.1")
    following = Begun(root, "n")
    add(following, "b.1")
    known = following.known()
    assert known is not None
    assert {"a.1", "b.1"} <= known
    assert "c.1" not in known
    assert read(root, "other") is None


def test_another_life_of_the_machine_knows_nothing(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Begun(root, "n")
    first.renew(["a.1"])
    assert first.known() == {"a.1", ""}
    monkeypatch.setattr("spool.machine.life", lambda _: "another")
    following = Begun(root, "n")
    assert following.known() is None  # and not before what was found has been seen to
    following.renew(["b.1"])
    assert following.known() == {"b.1", ""}


def test_it_is_cut_short_but_for_what_runs(root: str) -> None:
    one = Begun(root, "n")
    one.renew([])
    for n in range(MANY * 3):
        one.count(lambda n=n: [f"{n}.1"])  # type: ignore[misc]
        add(one, f"{'x' * 32}{n}.1")
    assert os.path.getsize(one.path) < MANY * 50 < begun.LIMIT
    known = one.known()
    assert known is not None
    assert f"{MANY * 3 - 1}.1" in known


def test_on_a_network_file_system_nothing_is_written(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spool.mounts.is_network", lambda _: True)
    assert Begun(root, "n").fd is None
    assert not os.path.exists(Begun(root, "n").path)


def test_without_room_for_it_a_daemon_begins_and_nothing_is_known(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no inode")

    with monkeypatch.context() as patch:
        patch.setattr("os.open", full)
        one = Begun(root, "n")
    one.renew(["a.1"])
    assert one.fd is None
    assert one.known() is None


def test_who_cannot_append_takes_away_what_is_known(root: str) -> None:
    one = Begun(root, "n")
    one.renew(["a.1"])
    keeper = object.__new__(Keeper)
    keeper.begun = os.open(one.path, os.O_RDWR | os.O_APPEND)
    keeper.note("b.1")
    assert one.known() == {"a.1", "b.1", ""}
    with no_file_above(os.path.getsize(one.path) + 2):
        keeper.note("c.1")
    assert one.known() is None
    keeper.note("d.1")
    assert one.known() is None
    with no_file_above(2):
        one.renew(["e.1"])
    assert one.known() is None
    one.renew(["e.1"])
    worker = object.__new__(Worker)
    worker.hello = {"begun": one.path}
    worker._note({"id": "f", "attempt": 1})
    assert one.known() == {"e.1", "f.1", ""}
    with no_file_above(os.path.getsize(one.path)):
        worker._note({"id": "g", "attempt": 1})
    assert one.known() is None
    os.close(keeper.begun)


def test_what_is_no_file_in_its_place_is_waited_for_by_nobody(root: str) -> None:
    os.mkfifo(os.path.join(root, layout.begun("n")))
    assert read(root, "n") is None
    Begun(root, "n").renew(["a.1"])
