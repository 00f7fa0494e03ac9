"""What a task keeps from one attempt to the next."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from io import TextIOWrapper
from typing import TYPE_CHECKING

import pytest

from spool.errors import Invalid
from spool.worker.kept import Kept
from spool.worker.output import Log, Stream, own_log

if TYPE_CHECKING:
    from pathlib import Path

    from spool.disk import RealDisk

ID = "0193a5b27c4d7e8f9a0b1c2d3e4f5a6b"


def test_a_checkpoint_is_whole_though_the_system_writes_less_at_once(
    disk: RealDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, write = Kept(disk.root), os.write
    kept.write(ID, "old")
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    kept.write(ID, "something new")
    assert kept.read(ID) == "something new"


def test_a_full_disk_ends_the_log_of_a_task_and_not_the_task(tmp_path: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        print("said", file=TextIOWrapper(Stream(full.fileno()), write_through=True))
        log = Log(str(tmp_path / "log"), 1 << 20)
        log.fd = os.dup(full.fileno())
        token = own_log.set(log)
        try:
            print("said", file=TextIOWrapper(Stream(full.fileno()), write_through=True))
        finally:
            own_log.reset(token)
            log.close()


def test_threads_of_a_task_keep_whole_checkpoints(disk: RealDisk) -> None:
    kept = Kept(disk.root)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: kept.write(ID, [n] * 1000), range(60)))
    (only,) = set(kept.read(ID))
    assert only in range(60)
    folder, name = os.path.split(kept._path(ID))
    assert os.listdir(folder) == [name]


def test_what_json_cannot_hold_is_not_kept(disk: RealDisk) -> None:
    kept = Kept(disk.root)
    with pytest.raises(Invalid, match="NaN"):
        kept.write(ID, {"best": math.inf})
    assert kept.read(ID) is None
