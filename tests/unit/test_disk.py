"""The disk's verbs on a real file system: each is one step or none, also where the kernel takes half."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from spool.disk import Failing, Missing, RealDisk, Unreadable
from spoold.spared import listed

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


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_write_whose_close_says_no_leaves_no_file(tmp_path: Path) -> None:
    """As on NFS, where a quota is told of then."""
    code = "import sys; from spool.disk import *; RealDisk(sys.argv[1]).write('new', b'x')"
    strace = ["strace", "-o", "/dev/null", "-P", str(tmp_path / "new"), "-e", "inject=close:error=EDQUOT"]
    done = subprocess.run(
        [*strace, sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert "DiskFull" in done.stderr
    assert not (tmp_path / "new").exists()


def test_no_directory_is_made_in_a_spool_that_has_been_removed(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    disk = RealDisk(str(tmp_path / "s"))
    (tmp_path / "s").rmdir()
    for path in ("", "corrupt", "a/b"):
        with pytest.raises(Missing):
            disk.make_dir(path)
    disk.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_syncs_with_threads_of_its_own(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path))
    for name in "ab":
        disk.write(name, b"")
    disk.sync(["a", "b"])
    child = os.fork()  # noqa: TID251 - what a program that submits may do
    if not child:
        signal.alarm(10)
        try:
            disk.sync(["a", "b"])
            disk.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    disk.sync(["a", "b"])
    disk.close()


@pytest.mark.parametrize("code", [errno.ESTALE, errno.ENOENT])
@pytest.mark.parametrize(("times", "found"), [(1, b"new"), (9, None)])
def test_a_file_that_another_host_replaces_is_read_once_more(
    tmp_path: Path, times: int, found: bytes | None, code: int
) -> None:
    class Stale(RealDisk):
        """The handle of what was opened is no good `times` times, as on NFS, and GlusterFS at close."""

        left = times

        def _read(self, path: str, limit: int, start: int) -> bytes:
            self.left -= 1
            if self.left >= 0:
                raise OSError(code, os.strerror(code))
            return super()._read(path, limit, start)

    (tmp_path / "x").write_bytes(b"new")
    disk = Stale(str(tmp_path))
    if found is None:
        with pytest.raises(Missing):
            disk.read("x", 9)
    else:
        assert disk.read("x", 9) == found
        disk.left = times
        assert disk.read("x", 9, 1) == found[1:]
    disk.close()


def test_a_file_that_the_disk_cannot_read_is_told_apart_and_named() -> None:
    disk = RealDisk("/proc/self")
    with pytest.raises(Unreadable, match="cannot be read: Input/output error") as caught:
        disk.read("mem", 9)  # nothing is mapped at its beginning: EIO
    assert caught.value.filename == "mem"
    disk.close()


def test_an_error_of_a_call_that_was_given_a_descriptor_names_the_path(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path))
    with no_file_above(2), pytest.raises(Failing) as caught:
        disk.write("new", b"two\n")
    assert caught.value.filename == "new"
    disk.close()


def test_a_directory_that_cannot_be_read_is_left_alone_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Rotten(RealDisk):
        def slices(self, path: str, size: int) -> Iterator[list[str]]:
            yield ["first"]
            raise Unreadable(errno.EUCLEAN, "cannot be read", path)

    disk = Rotten(str(tmp_path))
    for _ in range(2):
        assert list(listed(disk, str(tmp_path), 9)) == [["first"]]
    assert len(caplog.records) == 1
    disk.close()


def test_an_error_that_passes_is_none(tmp_path: Path) -> None:
    class Once(RealDisk):
        failed = False

        def _read(self, path: str, limit: int, start: int) -> bytes:
            if not self.failed:
                self.failed = True
                raise OSError(errno.EIO, "Input/output error")
            return super()._read(path, limit, start)

    disk = Once(str(tmp_path))
    disk.write("x", b"here")
    assert disk.read("x", 9) == b"here"
    disk.close()
