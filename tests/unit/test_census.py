"""A census counts what has changed, and nothing else; what it keeps may be deleted or torn."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from spool import layout
from spool.disk import RealDisk
from spool.init import init
from spool.names import DAY_US, Entry, date_of, id_from
from spool.settings import load
from spoold.core.state import State
from spoold.core.values import Now
from spoold.effects import census as of
from spoold.effects.census import Census

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 4_000_000_000_000_000  # far from the clock of this machine: no directory is too new to be kept
DAYS = (-10, -9, 0, 1, 2)
SETTLED = len(DAYS) - 1  # on the day that is today ages change


class Counting(RealDisk):
    """Counts the directories that are read."""

    listed = 0

    def slices(self, path: str, size: int) -> Iterator[list[str]]:
        self.listed += 1
        yield from super().slices(path, size)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    monkeypatch.setattr(of, "WORTH", 1)
    init(str(tmp_path / "spool"))
    found = Counting(str(tmp_path / "spool"))
    for day in DAYS:
        for number in range(4):
            put(found, NOW + day * DAY_US, number)
    yield found
    found.close()


def put(disk: RealDisk, at: int, number: int) -> str:
    entry = Entry(time=at, id=id_from(NOW, bytes([number] * 10)), task="t")
    path = layout.pending(entry)
    disk.make_dir(layout.parent_of(path))
    disk.write(path, b"")
    return path


def counted(disk: Counting, census: Census | None = None, now: int = NOW) -> Census:
    """One whole census."""
    found = census or Census(disk, State("n", load(""), 2))
    found.state.meter.transitions["t", "x"] = found.state.meter.transitions.get(("t", "x"), 0) + 1
    found.last = None
    disk.listed = 0
    mono = found._next
    while found.last is None:
        mono += found.due(Now(now, mono)) or 0
        found.step(Now(now, mono))
    return found


def waiting(census: Census) -> list[int]:
    assert census.last is not None
    return census.last.tasks["t"]["medium"]


def test_what_has_not_changed_is_not_read_again_but_today(disk: Counting) -> None:
    census = counted(disk)
    everything, first = disk.listed, census.last
    assert sum(waiting(census)) == 20
    counted(disk, census)
    assert disk.listed == everything - SETTLED
    assert census.last == first


@contextmanager
def changed(folder: str) -> Iterator[None]:
    """A change so soon after another may leave the same time, and NOW is no new one."""
    before = os.stat(folder).st_ctime_ns
    yield
    while os.stat(folder).st_ctime_ns == before:
        os.utime(folder)


def test_a_new_task_is_seen_where_others_were_counted(disk: Counting) -> None:
    census = counted(disk)
    folder = f"{disk.root}/{layout.PENDING}/{date_of(NOW + 2 * DAY_US)}/medium"
    with changed(folder):
        path = put(disk, NOW + 2 * DAY_US, 77)
    assert sum(waiting(counted(disk, census))) == 21
    with changed(folder):
        disk.remove(path)
    assert sum(waiting(counted(disk, census))) == 20


def test_a_day_that_comes_is_counted_anew(disk: RealDisk) -> None:
    census = counted(disk)
    assert waiting(census)[0] == 8
    assert waiting(counted(disk, census, NOW + DAY_US))[0] == 4
    assert waiting(counted(disk, census, NOW - 30 * DAY_US))[0] == 20


def test_another_daemon_goes_on_from_what_was_kept(disk: Counting) -> None:
    census, everything = counted(disk), disk.listed
    again = counted(disk)
    assert disk.listed == everything - SETTLED
    assert again.last == census.last


@pytest.mark.parametrize("torn", [b"", b"{", b"[]", b'{"v":1}', b'{"bounds":[1],"folders":{}}', None])
def test_a_file_that_is_torn_or_gone_costs_a_count(disk: Counting, torn: bytes | None) -> None:
    counted(disk)
    everything = disk.listed
    path = layout.census("n")
    whole = disk.read(path, 1 << 20)
    disk.remove(path)
    if torn is not None:
        disk.write(path, torn)
    again = counted(disk)
    assert disk.listed == everything
    assert sum(waiting(again)) == 20
    os.truncate(os.path.join(disk.root, path), len(whole) // 2)
    assert sum(waiting(counted(disk))) == 20


def test_a_count_that_had_to_wait_for_work_does_not_put_off_the_next_one(disk: RealDisk) -> None:
    census = Census(disk, State("n", load(""), 2))
    mono = 0
    while census.last is None:
        mono += 60_000_000  # tasks start meanwhile, each turn of it a minute after the one before
        census.step(Now(NOW, mono))
    census.last = None  # there is something to count
    most = of.SOON + of.SHARE * 1_000_000  # a second of counting is more than it took
    assert (census.due(Now(NOW, mono)) or 0) <= most
