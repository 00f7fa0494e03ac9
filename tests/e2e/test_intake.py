"""Whoever may create a file in incoming/ can submit work, in whatever way the file comes there."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest

from spool import layout
from spool.names import new_id
from spoold.sources.doorbell import BOXES, Doorbell
from tests.e2e.live import TICK, Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., Live]

ECHO = handler("echo", "cat > $SPOOL_RESULT")


def test_a_file_renamed_into_incoming_is_run_and_its_parent_told(live: Make) -> None:
    spool = live(ECHO)
    task_id = spool.submit("echo", args={"to": "Zoë", "n": [1, None]}, meta={"who": "me"})
    told = spool.event("done", task_id)
    assert told["result"] == told["args"] == {"to": "Zoë", "n": [1, None]}
    assert (told["outcome"], told["exit"], told["attempt"], told["meta"]) == ("ok", 0, 1, {"who": "me"})
    assert told["submitted_by"]["uid"] == os.getuid()
    assert spool.entry(task_id, "done")
    assert spool.records(task_id) == [told]
    assert os.listdir(spool.root / layout.INCOMING) == []


def test_an_event_is_the_attempt_record_itself(live: Make) -> None:
    spool = live(ECHO)
    task_id = spool.submit("echo")
    spool.event("done", task_id, take=False)
    (event,) = spool.events("default", "done", task_id)
    assert event.samefile(spool.root / layout.record(task_id, 1))


def test_a_task_without_an_id_gets_one(live: Make) -> None:
    spool = live(ECHO)
    spool.drop({"task": "echo", "args": 7})
    told = spool.event("done")
    assert told["result"] == 7
    assert spool.entry(told["id"], "done").task == "echo"


def test_a_file_written_in_place_by_a_slow_writer_is_taken_when_it_is_complete(live: Make) -> None:
    spool = live(ECHO)
    data = json.dumps({"task": "echo", "args": ["é" * 3000]}, ensure_ascii=False).encode()
    looks = 0
    with (spool.root / layout.INCOMING / "slow.json").open("wb", buffering=0) as file:
        for at in range(0, len(data), 1111):
            file.write(data[at : at + 1111])
            looks += 1
            # Every part has been looked at, and found incomplete, before the next one is written.
            spool.taken(spool.drop({"task": "echo", "args": looks}))
    until(lambda: len(spool.events("default", "done")) == looks + 1, "the slow one is done too")
    assert spool.reasons() == []


def test_a_file_opened_long_before_it_is_written_is_waited_for(live: Make) -> None:
    spool = live(ECHO)
    with (spool.root / layout.INCOMING / "empty.json").open("wb") as file:
        spool.event("done", spool.submit("echo"))
        file.write(b'{"task": "echo", "args": "late"}')
    assert spool.event("done")["result"] == "late"


def test_a_file_that_stays_incomplete_is_refused_after_the_settle_time(live: Make) -> None:
    spool = live(ECHO + '[handlers.x]\nexec = ["/bin/true"]\n')
    spool.settings("settle = 0.4\n" + ECHO)
    spool.put("half.json", b'{"task": "echo", "ar')
    reason = spool.refusal("half.json")
    assert "complete JSON" in reason["rule"]


def test_a_file_linked_into_incoming_is_taken_when_its_other_name_is_gone(live: Make) -> None:
    spool = live(ECHO)
    other = spool.root / layout.TMP / "other"
    other.write_bytes(b'{"task": "echo", "args": "linked"}')
    target = spool.root / layout.INCOMING / "linked.json"
    os.link(other, target)
    spool.event("done", spool.submit("echo"))
    assert target.exists()  # two names: somebody may still be writing
    other.unlink()
    assert spool.event("done")["result"] == "linked"


def test_files_dropped_while_spoold_was_down_are_run_in_the_order_they_came(spool_at: Make) -> None:
    spool = spool_at("concurrency = 1\n" + handler("note", "cat >> $NOTES/order"))
    for number in (3, 1, 2, 5, 4):
        spool.drop({"task": "note", "args": number})
        time.sleep(TICK)
    spool.start()
    assert spool.wait_lines("order", 5) == ["3", "1", "2", "5", "4"]


def test_a_batch_comes_in_as_a_whole(live: Make) -> None:
    spool = live(ECHO)
    ids = spool.submit_all([{"task": "echo", "args": n} for n in range(300)])
    spool.wait_count(300, "done")
    results = [spool.event("done", task_id)["result"] for task_id in ids]
    assert results == list(range(300))


def test_a_batch_with_one_bad_task_is_refused_as_a_whole(live: Make) -> None:
    spool = live(ECHO)
    name = spool.drop({"tasks": [{"task": "echo"}, {"task": "echo", "retries": -1}]})
    reason = spool.refusal(name)
    assert (reason["field"], reason["value"]) == ("tasks[1].retries", -1)
    assert spool.count() == 0


def test_the_same_id_with_the_same_content_is_the_same_task(live: Make) -> None:
    spool = live(handler("echo", "echo ran >> $NOTES/runs"))
    task_id = new_id()
    for _ in range(3):
        spool.submit("echo", id=task_id, args={"a": 1})
    spool.event("done", task_id)
    spool.taken(spool.drop({"task": "echo", "args": {"a": 1}, "id": task_id}))
    spool.event("done", spool.submit("echo"))
    assert spool.lines("runs") == ["ran"] * 2
    assert spool.reasons() == []


def test_the_same_id_with_other_content_is_refused(live: Make) -> None:
    spool = live(ECHO)
    task_id = spool.submit("echo", args=1)
    spool.event("done", task_id)
    name = spool.drop({"id": task_id, "task": "echo", "args": 2})
    reason = spool.refusal(name)
    assert (reason["field"], reason["value"]) == ("id", task_id)
    assert spool.event("rejected", task_id)["error"]["reason"]["field"] == "id"


def test_one_name_dropped_twice_in_a_moment_is_two_tasks(live: Make) -> None:
    spool = live(ECHO)
    for number in range(20):
        spool.drop({"task": "echo", "args": number}, "same.json")
        spool.taken("same.json")
    until(lambda: len(spool.events("default", "done")) == 20, "twenty tasks")


def test_unfinished_and_strange_names_are_left_alone(live: Make) -> None:
    spool = live(ECHO)
    good = b'{"task": "echo"}'
    names = [".hidden.json", "x.json.tmp", "x.part", "x~", "notes.txt", "x.swp"]
    for name in names:
        spool.put(name, good)
    (spool.root / layout.INCOMING / "dir.json").mkdir()
    spool.event("done", spool.submit("echo"))
    assert sorted(os.listdir(spool.root / layout.INCOMING)) == sorted([*names, "dir.json"])
    assert spool.count() == 1


def test_a_refusal_names_field_value_and_rule_and_tells_the_parent(live: Make) -> None:
    spool = live(ECHO)
    name = spool.drop({"task": "echo", "priorty": "high", "notify": "shop"})
    reason = spool.refusal(name)
    assert (reason["field"], reason["near"]) == ("priorty", "priority")
    told = spool.event("rejected", parent="shop")
    assert (told["outcome"], told["task"]) == ("rejected", "echo")
    assert told["error"]["reason"]["field"] == "priorty"
    kept = [p for p in (spool.root / layout.REJECTED).glob("*/*") if ".reason" not in p.name]
    assert len(kept) == 1
    assert kept[0].read_bytes().startswith(b'{"task"')


def test_a_batch_that_is_refused_is_told_to_the_parent_of_its_first_task(live: Make) -> None:
    spool = live(ECHO + handler("work", notify="shop"))
    bad = {"task": "echo", "priorty": "high"}
    named = new_id()
    spool.drop({"tasks": [{"task": "echo", "notify": "mum", "id": named}, bad]})
    told = spool.event("rejected", parent="mum")
    assert told["task"] == "echo"
    assert told["id"] != named  # it may be another that lives
    spool.drop({"tasks": [{"task": "work"}, bad]})
    assert spool.event("rejected", parent="shop")["task"] == "work"
    spool.drop({"tasks": ["no", bad]})
    assert spool.event("rejected", parent="default")["task"] == "unknown"


@pytest.mark.timeout(600)  # on a slow disk to remove them all takes minutes too
def test_a_burst_of_twenty_thousand_files_loses_none(live: Make) -> None:
    spool = live('durability = "relaxed"\n' + handler("bulk", notify="nobody"))
    spool.do({"action": "pause", "task": "bulk"})
    for number in range(20_000):
        path = spool.root / layout.INCOMING / f"b{number}.json"
        path.write_bytes(b'{"task": "bulk", "args": %d}' % number)
    spool.wait_count(20_000, "pending", within=60)
    assert spool.reasons() == []


def test_the_doorbell_tells_the_names_that_came(tmp_path: Path) -> None:
    """Of incoming/ alone, and no more of them than the kernel keeps."""
    (tmp_path / layout.INCOMING).mkdir()
    bell = Doorbell({"incoming": str(tmp_path / layout.INCOMING), "root": str(tmp_path)})
    try:
        (tmp_path / "spool.toml").touch()
        (tmp_path / "a.json").touch()
        (tmp_path / "a.json").rename(tmp_path / layout.INCOMING / "a.json")
        os.close(
            os.open(os.fsencode(tmp_path / layout.INCOMING) + b"/\xff.json", os.O_CREAT | os.O_WRONLY)
        )
        assert bell.answer() == {"incoming", "root"}
        assert list(dict.fromkeys(bell.latest)) == ["a.json", "\udcff.json"]
    finally:
        bell.close()


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_a_box_that_was_made_again_rings_and_one_that_is_gone_is_no_trouble(
    tmp_path: Path, how: str
) -> None:
    boxes = tmp_path / layout.WRITERS
    box = boxes / "1001"
    for folder in (tmp_path / layout.INCOMING, boxes, box):
        folder.mkdir()

    def more() -> dict[str, str]:
        return {BOXES: str(boxes), **{path.name: str(path) for path in boxes.iterdir()}}

    bell = Doorbell({"incoming": str(tmp_path / layout.INCOMING), "root": str(tmp_path)}, more)
    try:
        (box / "x.json").touch()
        assert "1001" in bell.answer()
        (box / "x.json").unlink()
        box.rmdir() if how == "removed" else box.rename(tmp_path / "old")
        (tmp_path / "ring").touch()
        bell.answer()
        assert bell.sound
        box.mkdir()
        assert bell.answer() >= {BOXES, "1001"}
        (box / "y.json").touch()
        assert bell.answer() == {"1001"}
        (tmp_path / layout.INCOMING).rmdir()
        bell.answer()
        assert not bell.sound
    finally:
        bell.close()
