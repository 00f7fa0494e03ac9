"""What is moved to corrupt/, and what must not be."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from spool import layout
from spool.disk import DiskFull, Failing, NotRegular, RealDisk
from spool.init import init
from spool.names import new_id
from spool.occurrences import drawn
from spool.quarantine import place_for, quarantine
from spool.requests import Verb
from spool.settings import load
from spoold.core.state import State
from spoold.core.values import Now, Source
from spoold.effects.errorfiles import ErrorFiles
from spoold.effects.handlers import Handlers
from spoold.effects.status import Status
from spoold.effects.store import Store
from spoold.sources.named import Named, NotYet
from spoold.sources.pauses import read_pauses
from spoold.sources.recurring import Recurring

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY = "done/2026-11-22"


def test_what_is_kept_has_its_own_reason_and_takes_no_other_ones_place(disk: RealDisk) -> None:
    disk.write("corrupt/held_x.reason.json", b"of an earlier one, which somebody has removed")
    for number in range(3):
        disk.write("held/x", b"%d" % number)
        kept = quarantine(disk, "held/x", f"because {number}")
        assert disk.read(f"{kept}", 9) == b"%d" % number
        assert b"because %d" % number in disk.read(f"{kept}.reason.json", 99)
        disk.remove(f"{kept}.reason.json")
    assert len(disk.names("corrupt")) == 3


def test_a_reason_says_nothing_that_a_terminal_acts_on(disk: RealDisk) -> None:
    disk.write("held/\x9b31m\u202e", b"")
    kept = quarantine(disk, "held/\x9b31m\u202e", "because")
    assert disk.read(f"{kept}.reason.json", 99).isascii()


def test_what_is_told_to_go_to_a_place_goes_there_or_stays(disk: RealDisk) -> None:
    disk.write("held/x", b"damaged")
    told = place_for(disk, "held/x")
    disk.write(told, b"of another node")
    assert quarantine(disk, "held/x", "why", goes=told) is None
    assert disk.read("held/x", 9) == b"damaged"
    assert disk.names("corrupt") == [told.partition("/")[2]]
    disk.remove(told)
    assert quarantine(disk, "held/x", "why", goes=told) == told


@pytest.mark.parametrize("before", ["write", "move"])
def test_a_directory_that_another_node_has_made_of_a_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    root = tmp_path / "s"
    init(str(root))
    (root / DAY).write_text("x")
    disk = RealDisk(str(root))
    real: Callable[..., None] = getattr(disk, before)

    def late(*args: object) -> None:
        monkeypatch.setattr(disk, before, real)
        Store(RealDisk(str(root)), "other", durable=False)._ensure(None, f"{DAY}/x")
        (root / DAY / "task").touch()
        real(*args)

    monkeypatch.setattr(disk, before, late)
    Store(disk, "n", durable=False)._ensure(None, f"{DAY}/x")
    assert (root / DAY / "task").exists()
    kept = {path.name: path.read_text() for path in (root / "corrupt").iterdir()}
    assert [text for name, text in kept.items() if "reason" not in name] == ["x"]
    assert len(kept) == 2


class Full(RealDisk):
    """A disk on which nothing can be made."""

    def write(self, path: str, data: bytes, *, private: bool = False) -> None:
        raise DiskFull(errno.EDQUOT, os.strerror(errno.EDQUOT), path)


def result(disk: RealDisk) -> None:
    handlers = Handlers.__new__(Handlers)
    handlers.disk, handlers.node, handlers.settings = disk, "n", load("")
    handlers._take_result("x", 1)


READERS: dict[str, Callable[[RealDisk], object]] = {
    layout.PAUSES: read_pauses,
    layout.SCHEDULES: lambda disk: Recurring(disk, State("n", load(""), 2)).look(Now(1, 1)),
    "errors/x.json": lambda disk: ErrorFiles(disk, State("n", load(""), 2), disk.root).load(1),
    "running/n/.x.1.result": result,
}


@pytest.mark.parametrize("path", READERS)
def test_what_is_damaged_stays_where_it_is_while_there_is_no_room_for_the_reason(
    disk: RealDisk, path: str
) -> None:
    if path.endswith(".result"):
        disk.make_dir(f"{path}/what")
    else:
        disk.make_dir(layout.parent_of(path))
        disk.write(path, b"{")
    READERS[path](Full(disk.root))
    assert disk.info(path) is not None
    READERS[path](disk)
    assert disk.info(path) is None
    assert len(disk.names(layout.CORRUPT)) == 2


def test_what_is_drawn_by_chance_is_drawn_once_and_nobody_else_may_read_it(disk: RealDisk) -> None:
    with pytest.raises(DiskFull):
        drawn(Full(disk.root), layout.SECRET, "0" * 32, "n")
    disk.write("nodes/.n.drawn", b"")  # of one who died there
    disk.file_mode, disk.others = 0o644, True  # as in a shared spool
    assert drawn(disk, layout.SECRET, "1" * 32, "n") == "1" * 32
    assert drawn(disk, layout.SECRET, "2" * 32, "m") == "1" * 32
    found = disk.info(layout.SECRET)
    assert found is not None
    assert found.mode & 0o777 == 0o600
    assert not [name for name in disk.names(layout.NODES) if name.startswith(".")]


@pytest.mark.parametrize("kind", ["empty", "fifo", "directory"])
def test_what_is_no_text_is_not_taken_for_what_was_drawn_and_stays(disk: RealDisk, kind: str) -> None:
    make = {"empty": lambda path: disk.write(path, b""), "directory": disk.make_dir}
    make.get(kind, lambda path: os.mkfifo(f"{disk.root}/{path}"))(layout.SECRET)
    with pytest.raises(NotRegular):
        drawn(disk, layout.SECRET, "1" * 32, "n")
    assert disk.info(layout.SECRET) is not None


def test_a_text_that_was_restored_or_edited_is_what_was_drawn(disk: RealDisk) -> None:
    disk.write(layout.SECRET, b"mine\n")
    assert drawn(disk, layout.SECRET, "1" * 32, "n") == "mine\n"


class Broken(RealDisk):
    """Nothing below nodes/ can be written."""

    broken = True

    def write(self, path: str, data: bytes, *, private: bool = False) -> None:
        if self.broken and path.startswith(layout.NODES):
            raise Failing(errno.EIO, os.strerror(errno.EIO), path)
        super().write(path, data, private=private)


def test_a_status_that_cannot_be_written_is_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    init(str(tmp_path / "s"))
    disk = Broken(str(tmp_path / "s"))
    status = Status(disk, State("n", load(""), 2), Now(1, 0))
    for second in range(3):
        status.write(Now(1, second * 1_000_000))
        assert status.due(Now(1, second * 1_000_000 + 100_000)) == 0
    assert len(caplog.records) == 1
    disk.broken = False
    status.write(Now(1, 9_000_000))
    assert disk.info(layout.status("n")) is not None
    assert status.due(Now(1, 9_000_000)) is None
    disk.close()


def test_a_new_listing_sees_what_was_put_aside_since_the_last_one(disk: RealDisk) -> None:
    named, task_id = Named(disk, shared=False), new_id()
    request = Verb(kind="cancel", ids=(task_id,), match=None, why=None)
    source = Source("incoming/x.json", 1, 1, 0)

    def rule() -> str:
        with pytest.raises(NotYet) as told:
            named.check_ids(request, source, 0)
        return told.value.problem.rule

    assert rule() == "no task has this id"
    disk.write(f"held/1,{task_id},a.json", b"damaged")
    quarantine(disk, f"held/1,{task_id},a.json", "why")
    assert rule() == "no task has this id"
    named.listed(alone=True)
    assert rule().startswith("was damaged")
