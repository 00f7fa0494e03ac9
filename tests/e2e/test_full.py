"""A disk without room: what runs meanwhile ends, who asks is told, and a stop is no bug."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from spool import layout
from spool.names import new_id
from tests.e2e.live import Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Make = Callable[..., Live]

LIBC = ctypes.CDLL(None, use_errno=True)
DETACH = 2
TOML = "min_free_bytes = 0\nmin_free_inodes = 0\n" + handler("go", "read line < $NOTES/open; echo went")


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """A spool on a file system of 300 inodes: what is freed meanwhile is too little for the end of a task."""
    place = tmp_path / "small"
    place.mkdir()
    if LIBC.mount(b"none", bytes(place), b"tmpfs", 0, b"nr_inodes=300"):
        pytest.skip(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    try:
        found = Live(place, TOML.replace("$NOTES", str(tmp_path)))
        found.errors = tmp_path / "err"
        yield found
        found.close()
    finally:
        LIBC.umount2(bytes(place), DETACH)


def test_a_stop_while_the_disk_is_full_says_what_may_run_again(live: Live, tmp_path: Path) -> None:
    small = tmp_path / "small"
    os.mkfifo(tmp_path / "open")
    live.start()
    task_id = live.submit("go")
    live.entry(task_id, "running")
    with (tmp_path / "open").open("w") as gate:
        fill(small / "fill")
        gate.write("\n")
    until(lambda: fill(small / "fill") or "waiting for room" in live.says(), "the end has no room")
    assert f"output of {task_id}.1 is not in its log: " in live.says()
    full = "full: nothing is taken in"
    until(lambda: fill(small / "fill") or full in live.command("status"), "status says so")
    assert (live.status_now() or {})["state"] == "the disk is full: waiting for room"
    live.signal(signal.SIGTERM)
    assert live.wait_exit() == os.EX_TEMPFAIL
    assert "stopped while the disk is full" in live.says()
    shutil.rmtree(small / "fill")
    (tmp_path / "open").unlink()
    (tmp_path / "open").write_text("\n")
    live.start()
    assert live.end(task_id)["event"] == "done"
    assert "disk" not in live.command("status").split()


def test_a_spool_that_is_moved_while_there_is_no_room_is_served_no_more(
    live: Live, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    os.mkfifo(tmp_path / "open")
    live.start()
    live.entry(live.submit("go"), "running")
    with (tmp_path / "open").open("w") as gate:
        fill(small / "fill")
        gate.write("\n")
    until(lambda: fill(small / "fill") or "waiting for room" in live.says(), "the end has no room")
    live.root.rename(small / "other")
    assert live.wait_exit() == os.EX_TEMPFAIL
    assert f"{live.root} was renamed, removed or mounted over" in live.says()


def test_below_the_limit_answers_and_control_are_carried_out_and_tasks_wait(spool_at: Make) -> None:
    toml = 'housekeeping = "200ms"\n' + handler("order", notify="shop", timeout="1m")
    toml += handler("stay", "sleep 1000") + handler("note", "true")
    spool = spool_at("min_free_bytes = 0\n" + toml)
    spool.start()
    order, stay, late = spool.submit("order"), spool.submit("stay"), spool.submit("note", at="+1h")
    spool.event("ready", order, "shop")
    for task_id, state in ((stay, "running"), (late, "pending")):
        spool.entry(task_id, state)
    spool.settings('min_free_bytes = "1024TiB"\n' + toml)
    spool.status(lambda s: "disk full" in s["state"], "it is shut")
    note = spool.submit("note")
    spool.drop({"action": "extend", "id": order, "attempt": 1, "by": 100})
    spool.drop({"action": "ack", "id": order, "attempt": 1, "result": "made"})
    assert spool.event("done", order, "shop")["result"] == "made"
    spool.verb("cancel", stay, late)
    for task_id in (stay, late):
        spool.event("cancelled", task_id)
    for kind in ("prune", "pause"):
        spool.do({"action": kind})
    assert os.listdir(spool.root / layout.INCOMING) == ["drop-000004.json"]
    spool.do({"action": "resume"})
    spool.settings("min_free_bytes = 0\n" + toml)
    spool.event("done", note)
    assert spool.says().count("disk full") == 1
    assert spool.reasons() == []


@pytest.mark.parametrize("place", ["incoming", "pending"])
def test_until_idle_does_not_wait_for_room(spool_at: Make, place: str) -> None:
    spool = spool_at(handler("note", "true"))
    spool.submit("note")
    if place == "pending":
        spool.drop({"action": "pause"})
        assert spool.once("--until-idle") == 0
        spool.drop({"action": "resume"})
    spool.settings('min_free_bytes = "1024TiB"\n' + handler("note", "true"))
    assert spool.once("--until-idle") == 0
    assert "nothing runs and there is no room, the rest stays: disk full: " in spool.says()
    assert [path.is_file() for path in (spool.root / place).rglob("*.json")] == [True]


def fill(folder: Path) -> None:
    """Take all the room there is."""
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        while True:
            (folder / new_id()).touch()
