"""A disk without room: what runs meanwhile ends, who asks is told, and a stop is no bug."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
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
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 inodes: what is freed meanwhile is too little for the end of a task."""
    place = tmp_path / "small"
    place.mkdir()
    if LIBC.mount(b"none", bytes(place), b"tmpfs", 0, b"nr_inodes=300"):
        pytest.skip(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    yield place
    LIBC.umount2(bytes(place), DETACH)


def test_a_stop_while_the_disk_is_full_says_what_may_run_again(small: Path, tmp_path: Path) -> None:
    live = Live(small, TOML.replace("$NOTES", str(tmp_path)))
    live.errors = tmp_path / "err"
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
    until(lambda: fill(small / "fill") or full in said(live, "status"), "status says so")
    live.signal(signal.SIGTERM)
    assert live.wait_exit() == os.EX_TEMPFAIL
    assert "stopped while the disk is full" in live.says()
    shutil.rmtree(small / "fill")
    (tmp_path / "open").unlink()
    (tmp_path / "open").write_text("\n")
    live.start()
    assert live.end(task_id)["event"] == "done"
    assert "disk" not in said(live, "status").split()
    live.stop()
    live.close()


def fill(folder: Path) -> None:
    """Take all the room there is."""
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        while True:
            (folder / new_id()).touch()


def said(live: Live, *words: str) -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "spool", "--spool", str(live.root), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
