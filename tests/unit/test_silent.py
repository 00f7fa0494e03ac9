"""What people are told of a daemon that is alive: that it hangs, starts, and how long it serves."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from spool import Spool, daemons, layout
from spool.command.main import main
from spool.doctor import examine
from spool.init import init
from spool.names import new_id
from spool.probes import BAD
from spool.times import MINUTE, SECOND, format_utc
from spool.why import Why
from spoold import locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A spool whose daemon is alive."""
    init(str(tmp_path / "q"))
    lock = locks.take(str(tmp_path / "q" / layout.lock("n")))
    yield tmp_path / "q"
    locks.give(lock)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], int]:
    """Has the clock of who looks show so many us more than when the test began."""
    began = time.time_ns()

    def move(us: int) -> int:
        now = began + us * 1000
        monkeypatch.setattr(time, "time_ns", lambda: now)
        return now // 1000

    return move


def told(root: Path, **more: object) -> None:
    """The daemon writes its status."""
    now = time.time_ns() // 1000
    status = {"node": "n", "pid": 7, "state": "running", "written_at": format_utc(now), "up": 60}
    (root / layout.status("n")).write_text(json.dumps(status | more))


def why(root: Path, task_id: str, now: int) -> str:
    with Spool(root) as spool:
        return Why(spool.disk, spool.path, now, str).line(spool.get(task_id))


@pytest.mark.parametrize("serves", [True, False])
def test_what_was_dropped_and_will_be_refused_says_so_whether_a_daemon_is_there_or_not(
    root: Path, *, serves: bool
) -> None:
    if serves:
        told(root)
    else:
        (root / layout.lock("n")).unlink()
    task_id = new_id()
    (root / "incoming" / f"{task_id}.json").write_text(json.dumps({"id": task_id, "at": "never"}))
    said = why(root, task_id, time.time_ns() // 1000)
    assert said.startswith("will be refused: " if serves else "no spoold serves")
    assert "will be refused: " in said


def test_a_daemon_that_hangs_is_told_of_wherever_it_is_shown(
    root: Path, later: Callable[[int], int], capsys: pytest.CaptureFixture[str]
) -> None:
    told(root)
    task_id = new_id()
    (root / "incoming" / f"{task_id}.json").write_text(json.dumps({"id": task_id, "task": "a"}))
    assert why(root, task_id, later(SECOND)) == "dropped a moment ago; it is being taken in"
    said = why(root, task_id, later(2 * MINUTE + SECOND // 2))
    assert said == "dropped 2 min ago and not taken in yet: n is running"
    now = later(3 * MINUTE + SECOND // 2)
    silent = "silent for 3 min"
    assert why(root, task_id, now) == f"dropped 3 min ago and not taken in yet: node n is {silent}"
    assert main(["--spool", str(root), "status"]) == 0
    assert f"node n: alive, {silent}, pid 7, up" in capsys.readouterr().out
    assert any(silent in check.what for check in examine(str(root)) if check.level == BAD)


def test_a_daemon_that_has_taken_its_lock_and_not_told_anything_is_starting(root: Path) -> None:
    (root / layout.status("n")).write_text('{"state": "stopped", "written_at": "2026-01-01T00:00:00Z"}')
    with Spool(root) as spool:
        assert daemons.nodes(spool.disk, spool.path)["n"]["state"] == "starting"
        told(root)
        assert daemons.nodes(spool.disk, spool.path)["n"]["state"] == "running"
        (root / layout.status("n")).write_text("{}")
        assert daemons.nodes(spool.disk, spool.path)["n"]["state"] == "starting"


def test_a_clock_that_is_set_back_after_the_lock_was_taken_makes_no_daemon_start(
    root: Path, later: Callable[[int], int]
) -> None:
    later(-120 * MINUTE)
    told(root)
    with Spool(root) as spool:
        assert daemons.nodes(spool.disk, spool.path)["n"]["state"] == "running"


def test_how_long_it_serves_is_by_no_clock_that_is_set() -> None:
    now = 1_000_000 * SECOND
    status = {"up": 5.5, "started_at": format_utc(0), "written_at": format_utc(now - 2 * SECOND)}
    assert daemons.up(status, now) == 7_500_000
    assert daemons.up(status, now + 400 * MINUTE) == 65_500_000  # it tells so once a minute
    assert daemons.up(status, 0) == 5_500_000
    assert daemons.up({"started_at": format_utc(0)}, now) is None


def test_the_command_that_serves_it_names_the_place_and_no_link(root: Path) -> None:
    link = root.with_name("link")
    link.symlink_to(root)
    assert daemons.start_hint(str(link), ()) == f"spoold --spool {root}"
