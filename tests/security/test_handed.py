"""Between the look at a file and its reading it may become anything: what is read is what was looked at."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from spool import handed
from spool.disk import Missing, NotRegular, RealDisk, TooLarge
from spool.init import init

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from spool.disk import Info

PATH = "incoming/a.json"
GOOD = b'{"task": "note"}'
SECRET = b'{"task": "none of his"}'


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[RealDisk]:
    init(str(tmp_path / "spool"))
    (tmp_path / "outside").write_bytes(SECRET)
    made = RealDisk(str(tmp_path / "spool"))
    made.write(PATH, GOOD)
    yield made
    made.close()


def seen(disk: RealDisk) -> Info:
    info = disk.info(PATH)
    assert info is not None
    return info


def read(disk: RealDisk, known: Info, limit: int = 100) -> bytes:
    """What is read; no descriptor is left open, whatever comes of it."""
    before = os.listdir("/proc/self/fd")
    try:
        return handed.read(disk.fd, PATH, known, limit)
    finally:
        assert os.listdir("/proc/self/fd") == before


def bind(path: str) -> None:
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{folder}/a.json")
    os.close(folder)


SWAPS: dict[str, tuple[Callable[[str], object], type[OSError]]] = {
    "nothing": (lambda path: None, Missing),
    "a link out of the spool": (lambda path: os.symlink("../../outside", path), NotRegular),
    "a link to itself": (lambda path: os.symlink("a.json", path), NotRegular),
    "a hard link out of the spool": (
        lambda path: os.link(path.replace(f"spool/{PATH}", "outside"), path),
        handed.Changed,
    ),
    "a FIFO": (os.mkfifo, NotRegular),
    "a directory": (os.mkdir, NotRegular),
    "a socket": (bind, NotRegular),
    "another file": (lambda path: os.rename(f"{path}.new", path), handed.Changed),
}


@pytest.mark.parametrize("what", SWAPS)
def test_another_thing_under_its_name_is_not_read(disk: RealDisk, what: str) -> None:
    known = seen(disk)
    disk.write(f"{PATH}.new", GOOD)
    disk.remove(PATH)
    swap, problem = SWAPS[what]
    swap(os.path.join(disk.root, PATH))
    with pytest.raises(problem):
        read(disk, known)


@pytest.mark.parametrize("data", [b"", GOOD[:3], GOOD * 2, b"x" * 200])
def test_what_grows_or_shrinks_is_not_read(disk: RealDisk, data: bytes) -> None:
    known = seen(disk)
    with open(os.path.join(disk.root, PATH), "wb") as file:
        file.write(data)
    with pytest.raises(handed.Changed):
        read(disk, known)


def test_a_second_name_or_another_mode_is_a_change(disk: RealDisk) -> None:
    known = seen(disk)
    disk.link(PATH, "tmp/second")
    with pytest.raises(handed.Changed):
        read(disk, known)
    disk.remove("tmp/second")
    known = seen(disk)
    os.chmod(os.path.join(disk.root, PATH), 0o640)
    with pytest.raises(handed.Changed):
        read(disk, known)


def test_no_more_than_the_limit_is_read(disk: RealDisk) -> None:
    assert read(disk, seen(disk), len(GOOD)) == GOOD
    with pytest.raises(TooLarge):
        read(disk, seen(disk), len(GOOD) - 1)


def test_swapped_without_end_it_is_read_whole_or_not_at_all(disk: RealDisk) -> None:
    """What is read is one of the files that stood there, never the one that a link leads to."""
    path, stop = os.path.join(disk.root, PATH), threading.Event()

    def swap() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            disk.write("tmp/file", GOOD + b" " * (number % 50))
            os.rename(f"{disk.root}/tmp/file", path)
            os.symlink("../../outside", f"{disk.root}/tmp/link")
            os.rename(f"{disk.root}/tmp/link", path)

    thread = threading.Thread(target=swap)
    thread.start()
    whole, other = 0, 0
    try:
        while whole < 50 or other < 50:
            info = disk.info(PATH)
            if info is None:
                continue
            try:
                data = handed.read(disk.fd, PATH, info, 100)
                assert data.rstrip() == GOOD
                assert len(data) == info.size
                whole += 1
            except (handed.Changed, NotRegular):
                other += 1
    finally:
        stop.set()
        thread.join()
