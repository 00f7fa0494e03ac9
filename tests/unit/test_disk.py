"""The disk's verbs on a real file system: each is one step or none, also where the kernel takes half."""

from __future__ import annotations

import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from spool.disk import RealDisk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The kernel takes what fits, then says no, as it does on a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_append_that_finds_no_room_leaves_no_half_line(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path))
    disk.append("journal", b"one\n")
    with no_file_above(6), pytest.raises(OSError, match="File too large"):
        disk.append("journal", b"two\n")
    assert (tmp_path / "journal").read_bytes() == b"one\n"
    disk.append("journal", b"two\n")
    assert (tmp_path / "journal").read_bytes() == b"one\ntwo\n"
    disk.close()


def test_a_write_that_finds_no_room_leaves_no_file(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path))
    with no_file_above(2), pytest.raises(OSError, match="File too large"):
        disk.write("new", b"two\n")
    assert not (tmp_path / "new").exists()
    disk.close()
