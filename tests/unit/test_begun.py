"""What had begun when a daemon died is known as long as the machine lives, and is not kept for ever."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from spool.init import init
from spoold.effects import begun
from spoold.effects.begun import MANY, Begun, read

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
    add(Begun(root, "n"), "a.1")
    following = Begun(root, "n")
    add(following, "b.1")
    known = following.known()
    assert known is not None
    assert {"a.1", "b.1"} <= known
    assert "c.1" not in known
    assert read(root, "other") is None


def test_another_life_of_the_machine_knows_nothing(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    add(Begun(root, "n"), "a.1")
    monkeypatch.setattr("spool.machine.life", lambda _: "another")
    assert read(root, "n") is None
    following = Begun(root, "n")
    add(following, "b.1")
    known = following.known()
    assert known is not None
    assert "a.1" not in known


def test_it_is_cut_short_but_for_what_runs(root: str) -> None:
    one = Begun(root, "n")
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
