"""A disk without room: what runs meanwhile ends, who asks is told, and a stop is no bug."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from spool.names import new_id
from tests.e2e.live import Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


def fill(folder: Path) -> None:
    """Take all the room there is."""
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        while True:
            (folder / new_id()).touch()
