"""A network file system that cannot be reached: spoold says so, waits, and serves when it is back."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import TYPE_CHECKING

import pytest

from spoold import away
from tests.e2e.live import Live, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
DETACH = 2


@pytest.fixture
def gone() -> Iterator[Callable[[Path], None]]:
    """Put a FUSE file system whose process is gone over a directory: ENOTCONN, whatever is asked."""
    over: list[bytes] = []

    def put(place: Path) -> None:
        try:
            fd = os.open("/dev/fuse", os.O_RDWR)
        except OSError as problem:
            pytest.skip(f"no FUSE: {problem}")
        options = f"fd={fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        failed = LIBC.mount(b"none", bytes(place), b"fuse.test", 0, options.encode())
        os.close(fd)
        if failed:
            pytest.skip(f"cannot mount: {os.strerror(ctypes.get_errno())}")
        over.append(bytes(place))

    yield put
    for place in over:
        LIBC.umount2(place, DETACH)


def test_it_waits_for_a_file_system_that_is_away_and_serves_when_it_is_back(
    spool_at: Callable[[str], Live], gone: Callable[[Path], None]
) -> None:
    live = spool_at('lease = "5s"')
    gone(live.root)
    live.process = live.spoold()
    until(lambda: "does not answer" in live.says(), "it says that it waits")
    assert "Transport endpoint is not connected" in live.says()
    assert "mount it again" in live.says()
    assert LIBC.umount2(bytes(live.root), DETACH) == 0
    until(lambda: "answers again" in live.says() and "serving" in live.says(), "it serves")
    assert live.says().count("does not answer") == 1


def test_it_can_be_stopped_while_it_waits(
    spool_at: Callable[[str], Live], gone: Callable[[Path], None]
) -> None:
    live = spool_at('lease = "5s"')
    gone(live.root)
    process = live.spoold()
    until(lambda: "does not answer" in live.says(), "it says that it waits")
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM


def test_a_disk_that_is_broken_is_not_away(tmp_path: Path, gone: Callable[[Path], None]) -> None:
    problem = OSError(5, "Input/output error")
    assert not away.is_away(str(tmp_path), problem)
    (tmp_path / "far").mkdir()
    gone(tmp_path / "far")
    assert away.is_away(str(tmp_path / "far"), problem)
    assert not away.is_away(str(tmp_path / "far"), PermissionError(1, "Operation not permitted"))
