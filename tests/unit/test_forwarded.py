"""An action that one node has handed on to another: refused there, its writer finds it all the same."""

from __future__ import annotations

import itertools

import orjson
import pytest
from msgspec.structs import replace

from spool import layout
from spool.dropped import SEARCHED, action_refusal, nameless_refusal
from spool.names import date_of, new_id
from spoold.core.values import Forward, Message, Refuse, Source
from spoold.effects.group import groups
from spoold.effects.lines import name_of
from spoold.effects.store import Store
from tests.simulation.model import ModelDisk

NOW = 1_800_000_000_000_000


@pytest.mark.parametrize("to", [("far",), ("near", "far")])
def test_it_stands_among_the_rejected_under_the_name_it_was_dropped_with(to: tuple[str, ...]) -> None:
    disk, stem = ModelDisk(lambda: NOW), "mine.1"
    for path in layout.TREE:
        disk.make_dir(path)
    store, path = Store(disk, "far", durable=False), f"{layout.INCOMING}/{stem}.json"
    disk.write(path, b"{}")
    for node in to:
        info = disk.info(path)
        assert info is not None
        store.forward(Forward(Source(path, info.ino, info.ctime_us, 0), node))
        path = f"{layout.INCOMING}/{layout.FOR}{node},{stem}.json"
    info = disk.info(path)
    assert info is not None
    message = Message("rejected", "shop", NOW, new_id(NOW), "unknown", {})
    refusal = Refuse(Source(path, info.ino, info.ctime_us, 0), {"text": "no such task"}, message)
    for group in groups([refusal]):
        store.perform(group, NOW)
    assert f"{stem}.json" in disk.names(f"{layout.REJECTED}/{date_of(NOW)}")
    assert str(action_refusal(disk, stem, NOW, NOW)) == f"{stem} was refused: no such task"
    assert disk.names(layout.INCOMING) == []


def test_of_many_that_were_refused_a_few_reasons_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, read = ModelDisk(lambda: NOW), []
    folder, mine = f"{layout.REJECTED}/{date_of(NOW)}", new_id(NOW)
    disk.make_dir(folder)
    for number in range(SEARCHED + 99):
        disk.write(f"{folder}/{number:06}.json", b"{}")
        disk.write(f"{folder}/{number:06}.json{layout.REASON}", b"{}")
    monkeypatch.setattr(disk, "read", lambda path, _: read.append(path) or b"{}")
    assert nameless_refusal(disk, mine) is None
    assert len(read) == SEARCHED


@pytest.mark.parametrize("field", ["attempt", "policy", "id"])
def test_the_refusal_of_a_word_about_an_attempt_names_its_task(field: str) -> None:
    """And it is no refusal of the task itself."""
    disk, mine = ModelDisk(lambda: NOW), new_id(NOW)
    disk.make_dir(folder := f"{layout.REJECTED}/{date_of(NOW)}")
    value = {"attempt": 1, "policy": None, "id": mine}[field]
    text = "no task has this id"
    doc = {"id": mine, "action": "ack", "field": field, "value": value, "rule": text, "text": text}
    disk.write(f"{folder}/word.json{layout.REASON}", orjson.dumps(doc))
    disk.write(f"{folder}/word.json", b"{}")
    refusal = action_refusal(disk, "word", NOW, NOW)
    assert refusal is not None
    assert refusal.each == {mine: text}
    assert nameless_refusal(disk, mine) is None


def test_it_does_not_take_the_place_of_an_earlier_one_of_its_name() -> None:
    disk = ModelDisk(lambda: NOW)
    disk.make_dir(layout.INCOMING)
    store, path = Store(disk, "near", durable=False), f"{layout.INCOMING}/mine.json"
    to_far = f"{layout.INCOMING}/{layout.FOR}far,mine.json"
    for data, moved in ((b"1", True), (b"2", False)):
        disk.write(path, data)
        assert store.forward(Forward(Source(path, 0, NOW, 0), "far")) is moved
    assert (disk.read(to_far, 9), disk.read(path, 9)) == (b"1", b"2")
    disk.remove(to_far)
    assert store.forward(Forward(Source(path, 0, NOW, 0), "far"))
    assert disk.names(layout.INCOMING) == [f"{layout.FOR}far,mine.json"]


def test_what_a_crash_leaves_in_its_place_makes_way() -> None:
    clock = itertools.count(NOW)
    disk = ModelDisk(lambda: next(clock))
    disk.make_dir(layout.INCOMING)
    store, path = Store(disk, "near", durable=False), f"{layout.INCOMING}/mine.json"
    to_far = f"{layout.INCOMING}/{layout.FOR}far,mine.json"
    disk.write(path, b"1")
    disk.write(to_far, b"")
    assert not store.forward(Forward(Source(path, 0, NOW, 0), "far"))
    disk.remove(to_far)
    disk.write(to_far, b"")  # another's, who is about to move his there
    assert not store.forward(Forward(Source(path, 0, NOW, 0), "far"))
    assert store.forward(Forward(Source(path, 0, NOW, 0), "far"))
    assert disk.read(to_far, 9) == b"1"


def test_a_refusal_is_told_though_a_parent_has_made_all_the_names_it_could_have_next() -> None:
    disk, stem = ModelDisk(lambda: NOW), new_id(NOW)
    message = Message("rejected", "shop", NOW, stem, "note", {"id": stem})
    box = f"{layout.OUTBOX}/shop"
    for path in (*layout.TREE, box):
        disk.make_dir(path)
    disk.write(f"{box}/.s", b"x")
    for number in range(3000):
        disk.link(f"{box}/.s", f"{box}/{name_of(replace(message, at=NOW + number))}")
    disk.write(path := f"{layout.INCOMING}/a.json", b"{}")
    looks: list[str] = []
    find = disk.info
    disk.info = lambda asked: looks.append(asked) or find(asked)  # type: ignore[assignment,func-returns-value]
    refusal = Refuse(Source(path, 0, NOW, 0), {"text": "no"}, message)
    for group in groups([refusal]):
        Store(disk, "n", durable=False).perform(group, NOW)
    assert len(disk.names(box)) == 3002
    assert len([asked for asked in looks if asked.startswith(box)]) < 300
