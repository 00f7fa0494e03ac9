"""The redo log: what is found again, and when a half may be written once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from spool import layout, look
from spool.command.main import main
from spool.disk import RealDisk
from spool.errors import EX_TEMPFAIL
from spool.init import init
from spool.keys import encode_lock
from spool.names import EVENTS, Entry, event_name, new_id
from spool.records import encode
from spool.redolog import HALF, PAGE
from spool.settings import load
from spoold.core.values import Now
from spoold.effects.redo import FLUSH_AFTER, POLL, Redo
from spoold.effects.store import Store
from spoold.recovery import start_up
from tests.simulation.faults import Counting
from tests.simulation.model import ModelDisk

if TYPE_CHECKING:
    from pathlib import Path

TINY = 8 * PAGE


@pytest.fixture
def disk() -> ModelDisk:
    made = ModelDisk(lambda: 0)
    for path in layout.TREE:
        made.make_dir(path)
    made.settle()
    return made


def opened(disk: ModelDisk, boot: str = "one") -> Redo:
    redo = Redo(disk, boot, half=TINY)
    assert redo.open()
    return redo


def filled(redo: Redo, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        assert redo.add({"n": number})
        redo.done()


def numbers(redo: Redo) -> list[Any]:
    return [record["n"] for record in redo.found if "n" in record]


def test_what_was_added_is_found_after_another_boot(disk: ModelDisk) -> None:
    filled(opened(disk), 5)
    assert numbers(opened(disk, "two")) == [0, 1, 2, 3, 4]


def test_nothing_is_found_where_only_the_daemon_died(disk: ModelDisk) -> None:
    filled(opened(disk), 5)
    assert numbers(opened(disk)) == []


def test_a_mark_that_is_older_than_the_log_tells_of_a_power_cut(disk: ModelDisk) -> None:
    filled(opened(disk), 5)
    disk.mark(layout.REDO_SEEN, (4).to_bytes(8, "little"))
    assert numbers(opened(disk)) == [0, 1, 2, 3, 4]


def test_what_is_settled_is_not_found(disk: ModelDisk) -> None:
    redo = opened(disk)
    filled(redo, 3)
    redo.settle()
    filled(redo, 2, start=3)
    assert numbers(opened(disk, "two")) == [3, 4]


def test_it_goes_on_behind_what_it_found(disk: ModelDisk) -> None:
    filled(opened(disk), 3)
    second = opened(disk, "two")
    filled(second, 2, start=3)
    assert numbers(opened(disk, "three")) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", range(30))
def test_whatever_the_number_of_records_the_newest_are_found_without_a_gap(
    disk: ModelDisk, count: int
) -> None:
    filled(opened(disk), count)
    found = numbers(opened(disk, "two"))
    assert found == list(range(count - len(found), count))
    assert len(found) == count or count > 2 * TINY // PAGE - 2


def test_a_half_is_not_written_again_before_all_of_it_is_on_disk(disk: ModelDisk) -> None:
    """What is not found has been flushed: nothing but the last record was left to do."""
    redo = opened(disk)
    for number in range(40):
        disk.write(f"tmp/{number}", b"x")
        assert redo.add({"n": number})
        redo.done()
        found = set(numbers(opened(disk, "two")))
        names = set(disk.durable.get(disk._dir("tmp")[0], {}).values())
        lost = {n for n in range(number) if disk._file(f"tmp/{n}").key not in names}
        assert lost <= found


@pytest.mark.parametrize("at", range(0, PAGE, 97))
def test_a_torn_record_is_none(disk: ModelDisk, at: int) -> None:
    redo = opened(disk)
    filled(redo, 2)
    redo.add({"n": 2, "text": "x" * (PAGE - 100)})
    data = disk._file(layout.REDO).data
    data[2 * PAGE + at] ^= 0xFF
    whole = at >= 24 + len(b'{"safe":0,"boot":"one","n":2,"text":""}') + PAGE - 100
    assert numbers(opened(disk, "two")) == ([0, 1, 2] if whole else [0, 1])


def test_what_is_too_large_is_refused(disk: ModelDisk) -> None:
    redo = opened(disk)
    assert not redo.add({"text": "x" * TINY})
    filled(redo, 1)
    assert numbers(opened(disk, "two")) == [0]


def test_what_is_not_done_is_never_safe(disk: ModelDisk) -> None:
    redo = opened(disk)
    filled(redo, 1)
    assert redo.add({"n": 1})
    for mono in range(0, 5 * FLUSH_AFTER, POLL):
        redo.due(Now(0, mono))
        redo.step(Now(0, mono))
    assert 1 in numbers(opened(disk, "two"))


def test_it_comes_to_rest(disk: ModelDisk) -> None:
    redo = opened(disk)
    assert redo.due(Now(0, 0)) is None
    filled(redo, 3)
    mono = 0
    for _ in range(20):
        wait = redo.due(Now(0, mono))
        if wait is None:
            break
        mono += wait
        redo.step(Now(0, mono))
    assert redo.due(Now(0, mono)) is None
    assert mono <= FLUSH_AFTER + 2 * POLL
    assert numbers(opened(disk, "two")) == []


def test_damage_of_any_kind_is_a_new_log(disk: ModelDisk) -> None:
    for data in (b"", b"redo", bytes(100), b"x" * (2 * TINY)):
        if disk.info(layout.REDO) is not None:
            disk.remove(layout.REDO)
        disk.write(layout.REDO, data)
        redo = opened(disk)
        assert redo.found == []
        filled(redo, 2)
        assert numbers(opened(disk, "two")) == [0, 1]


def test_its_size_never_changes(disk: ModelDisk) -> None:
    redo = opened(disk)
    filled(redo, 50)
    assert len(disk._file(layout.REDO).data) == 2 * TINY
    assert HALF % PAGE == 0


def test_fsck_mends_nothing_before_the_log_is_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init(tmp_path / "spool")
    disk = RealDisk(str(tmp_path / "spool"))
    redo = Redo(disk, "another life")
    assert redo.open()
    redo.add({"n": 1})
    fsck = ["--spool", str(tmp_path / "spool"), "fsck"]
    assert main([*fsck, "--repair"]) == EX_TEMPFAIL
    assert "redo log" in capsys.readouterr().err
    assert main([*fsck, "--force"]) == 0
    redo.settle()
    assert main([*fsck, "--repair"]) == 0
    disk.close()


@pytest.mark.parametrize(
    ("before", "flushes"),
    [
        ("nothing", 0),
        ("a rest", 0),
        ("a death", 1),
        ("a file left in running/", 1),
        ("days without it", 1),
    ],
)
def test_a_start_flushes_the_disk_only_where_something_may_not_be_there(
    disk: ModelDisk, before: str, flushes: int
) -> None:
    redo = Redo(disk, "one", half=TINY)
    if before != "days without it":
        assert redo.open()
        filled(redo, 3)
        if before != "a death":
            redo.settle()
        redo = Redo(disk, "one", half=TINY)
    store = Store(disk, "n", durable=True)
    disk.make_dir(store.stage_dir)
    if before == "a file left in running/":
        disk.write(f"{store.stage_dir}/.x.task", b"")
    if before == "days without it":
        disk.make_dir(f"{layout.IDS}/2026-11-21")
    assert redo.open()
    count = Counting(disk)
    redo.disk = count
    start_up(disk, store, redo, load(""))
    assert count.counts["flush"] == flushes


def test_the_log_ends_where_it_is_not_kept(disk: ModelDisk) -> None:
    for durable, alone in ((False, True), (True, False)):
        redo = opened(disk)
        filled(redo, 3)
        store = Store(disk, "n", durable=durable)
        disk.make_dir(store.stage_dir)
        start_up(disk, store, redo, load(""), alone=alone)
        assert store.redo is None
        assert disk.info(layout.REDO) is None


def test_a_replay_into_ids_that_were_deleted_leaves_the_others_to_be_looked_for(disk: ModelDisk) -> None:
    known, new = (Entry(time=0, id=new_id(0), task="t.x") for _ in range(2))
    disk.write(layout.held(known), b"{}")
    disk.remove_dir(layout.IDS)
    redo = opened(disk)
    logged: dict[str, Any] = {"stage": "running/n", "ends": [], "events": [], "lines": [], "drops": []}
    moves = [[new.id, None, layout.held(new)]]
    assert redo.add(logged | {"tasks": [[new.id, "{}"]], "moves": moves})
    redo.done()
    store = Store(disk, "n", durable=True)
    disk.make_dir(store.stage_dir)
    start_up(disk, store, opened(disk, "two"), load(""))
    assert disk.info(layout.own_copy(new.id)) is not None
    assert look.ids_are_lost(disk)


@pytest.mark.parametrize("event", EVENTS)
def test_a_start_knows_of_every_event_when_it_has_happened(disk: ModelDisk, event: str) -> None:
    """None is told here: of the task there is nothing but this."""
    store, task_id = Store(disk, "n", durable=False), new_id(1_795_240_000_000_000)
    disk.make_dir(store.stage_dir)
    staged = f"{store.stage_dir}/.shop,{event_name(0, task_id, 't.x', event)}"
    disk.write(staged, encode({"id": task_id, "event": event, "attempt": 1, "entry": "done/x"}))
    start_up(disk, store, None, load(""))
    assert disk.info(staged) is None
    assert disk.names(layout.OUTBOX) == []


def test_a_start_frees_the_locks_of_keys_that_an_earlier_life_of_this_node_held(disk: ModelDisk) -> None:
    disk.make_dir(layout.KEY_LOCKS)
    for mark, node in (("a" * 32, "n"), ("b" * 32, "other")):
        disk.write(layout.key_lock(mark), encode_lock(node))
    store = Store(disk, "n", durable=False)
    disk.make_dir(store.stage_dir)
    start_up(disk, store, None, load(""))
    assert disk.names(layout.KEY_LOCKS) == ["b" * 32]
