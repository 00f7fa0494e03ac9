"""A control group of an attempt's own: made where it may be, removed after, and said so where it may not."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from spoold.effects.owngroups import OwnGroups

if TYPE_CHECKING:
    from pathlib import Path

KEY = "0193a5b27c4d7e8f9a0b1c2d3e4f5a6b.1"
V1 = {"memory.limit_in_bytes": "9223372036854771712"}
V2 = {
    "cgroup.controllers": "cpu memory pids",
    "cgroup.subtree_control": "",
    "cgroup.procs": f"{os.getpid()}\n",
    "cgroup.type": "domain",
}


def recorded(place: Path, files: dict[str, str]) -> Path:
    """A directory of a kernel's, as files."""
    place.mkdir(exist_ok=True)
    for name, text in files.items():
        (place / name).write_text(text)
    return place


class Played(OwnGroups):
    """The kernel removes a group with its files; here rmtree does. A group that is `busy` stays."""

    busy: frozenset[str] = frozenset()

    def _remove(self, path: str) -> None:
        if path.partition(".")[2] in self.busy:
            raise OSError(16, "Device or resource busy", path)
        shutil.rmtree(path)


def groups(base: Path | None, *, unified: bool) -> Played:
    memory = [str(base)] if base else []
    return Played("n", memory, memory if unified else [])


def inside(base: Path) -> list[str]:
    return sorted(path.name.partition(".")[2] for path in base.glob("spool-*"))


def test_version_1_gets_a_group_with_a_limit_that_goes_with_its_attempt(tmp_path: Path) -> None:
    base = recorded(tmp_path / "m", V1)
    own = groups(base, unified=False)
    own.prepare(wanted=True)
    assert own.problem is None
    path = own.make(KEY, 64 << 20)
    assert path is not None
    assert (base / os.path.basename(path) / "memory.limit_in_bytes").read_text() == str(64 << 20)
    assert inside(base) == [KEY]
    assert own.end(KEY) is False
    assert inside(base) == []


def test_version_2_is_handed_down_once_nobody_but_us_is_in_the_group(tmp_path: Path) -> None:
    base = recorded(tmp_path / "unit", V2)
    own = groups(base, unified=True)
    own.prepare(wanted=True)
    assert own.problem is None
    assert (base / "cgroup.subtree_control").read_text() == "+memory"
    (leaf,) = base.glob("spool-*.daemon")
    assert (leaf / "cgroup.procs").read_text() == str(os.getpid())
    path = own.make(KEY, 1 << 20)
    assert path is not None
    assert (base / os.path.basename(path) / "memory.max").read_text() == str(1 << 20)
    own.end(KEY)
    assert inside(base) == ["daemon"]


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({**V2, "cgroup.procs": f"{os.getpid()}\n1\n"}, "Delegate=yes"),
        ({**V2, "cgroup.controllers": "cpu pids"}, "no controller for memory"),
    ],
)
def test_a_group_that_was_not_handed_over_is_left_alone(
    tmp_path: Path, files: dict[str, str], why: str
) -> None:
    base = recorded(tmp_path / "slice", files)
    own = groups(base, unified=True)
    own.prepare(wanted=True)
    assert own.problem is not None
    assert why in own.problem
    assert str(base) in own.problem
    assert own.make(KEY, 1 << 20) is None
    assert own.end(KEY) is False
    assert {path.name: path.read_text() for path in base.iterdir()} == files


def test_no_group_and_no_right_to_one_are_said_in_words(tmp_path: Path) -> None:
    own = groups(None, unified=False)
    own.prepare(wanted=True)
    assert own.problem == "no control group for memory is mounted"
    own = groups(tmp_path / "nowhere", unified=False)
    own.prepare(wanted=True)
    assert own.problem is not None
    assert "No such file" in own.problem
    assert own.make(KEY, 1 << 20) is None
    own.prepare(wanted=False)
    assert own.problem is None, "nobody wants one any more"


def test_who_wants_none_changes_nothing(tmp_path: Path) -> None:
    base = recorded(tmp_path / "unit", V2)
    own = groups(base, unified=True)
    own.prepare(wanted=False)
    assert {path.name: path.read_text() for path in base.iterdir()} == V2
    assert own.make(KEY, 1) is None


def test_what_an_earlier_daemon_left_goes_and_what_is_in_use_stays(tmp_path: Path) -> None:
    base = recorded(tmp_path / "m", V1)
    first = groups(base, unified=False)
    first.prepare(wanted=True)
    first.make(KEY, 1 << 20)
    first.make("other.1", 1 << 20)
    (base / "spool-else.x").mkdir()
    again = groups(base, unified=False)
    again.busy = frozenset({KEY})
    again.prepare(wanted=True)
    assert again.problem is None
    assert inside(base) == [KEY, "x"]
    again.busy = frozenset()
    again.make("third.1", 1 << 20)
    again.end("third.1")
    assert inside(base) == ["x"], "what was busy goes with the next"


@pytest.mark.parametrize(
    ("name", "text", "killed"),
    [
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n", True),
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 0\noom_kill 0\n", False),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", True),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", False),
    ],
)
def test_whether_the_kernel_has_killed_is_read(
    tmp_path: Path, name: str, text: str, *, killed: bool
) -> None:
    base = recorded(tmp_path / "m", V1)
    own = groups(base, unified=False)
    own.prepare(wanted=True)
    path = own.make(KEY, 1 << 20)
    assert path is not None
    (base / os.path.basename(path) / name).write_text(text)
    assert own.end(KEY) is killed
