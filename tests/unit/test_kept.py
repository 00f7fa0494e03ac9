"""What a task keeps from one attempt to the next."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from spool.worker.kept import Kept

if TYPE_CHECKING:
    import pytest

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
