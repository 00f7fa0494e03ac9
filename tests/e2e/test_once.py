"""key: of all tasks with one key at most one has not ended, and every submitter is told what became of his."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from spool import fsck, keys, layout
from spool.disk import RealDisk
from spool.names import new_id
from spool.place import mark_of
from tests.e2e.live import Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]

QUICK = handler("quick", "true")
ORDER = handler("order", notify="shop")


def ended(spool: Live, *ids: str) -> list[str]:
    """The last word on each of these tasks, which all have a key."""
    return [spool.end(task_id)["event"] for task_id in ids]


def test_of_many_writers_at_once_one_gets_the_key_and_the_others_are_told(live: Make) -> None:
    spool = live(QUICK)
    ids = [spool.submit("quick", key="report", at="+1h") for _ in range(40)]
    spool.wait_count(39, "cancelled")
    spool.wait_count(1, "pending")
    (first,) = {entry.id for _, entry in spool.entries("pending")}
    for task_id in set(ids) - {first}:
        told = spool.end(task_id)
        assert (told["event"], told["error"]["type"], told["duplicate_of"]) == (
            "cancelled",
            "duplicate",
            first,
        )
        assert told["key"] == "report"


def test_a_key_is_free_when_its_task_has_ended(live: Make) -> None:
    spool = live(QUICK)
    first = spool.submit("quick", key="k")
    assert ended(spool, first) == ["done"]
    assert ended(spool, spool.submit("quick", key="k")) == ["done"]


def test_the_file_of_a_key_that_is_damaged_is_kept_and_said(live: Make) -> None:
    spool = live(QUICK)
    first = spool.submit("quick", key="k", at="+1h")
    spool.entry(first, "pending")
    path = spool.root / layout.key(mark_of("k", None))
    path.write_bytes(b"{")
    assert ended(spool, second := spool.submit("quick", key="k")) == ["done"]
    (kept,) = [p for p in (spool.root / layout.CORRUPT).iterdir() if not p.name.endswith(layout.REASON)]
    assert kept.read_bytes() == b"{"
    assert f"{second} takes the key" in spool.errors.read_text()


def test_key_for_keeps_the_key_after_the_end(live: Make) -> None:
    spool = live(QUICK)
    first = spool.submit("quick", key="k", key_for="1h")
    assert ended(spool, first) == ["done"]
    assert spool.end(spool.submit("quick", key="k"))["duplicate_of"] == first
    other = spool.submit("quick", key="k", on_duplicate="replace")
    assert spool.end(other)["duplicate_of"] == first


def test_replace_cancels_who_has_the_key_and_runs_the_new_one(live: Make) -> None:
    spool = live(QUICK + handler("slow", "exec sleep 600"))
    waits = spool.submit("quick", key="a", at="+1h")
    runs = spool.submit("slow", key="b")
    spool.entry(runs, "running")
    new = [spool.submit("quick", key=key, on_duplicate="replace") for key in "ab"]
    assert ended(spool, waits, runs, *new) == ["cancelled", "cancelled", "done", "done"]


def test_replace_over_a_task_with_key_for_runs_the_new_one(live: Make) -> None:
    spool = live(QUICK + ORDER + handler("slow", "exec sleep 600"))
    docs = [
        {"task": "quick", "at": "+1h"},
        {"task": "quick", "at": "+1h"},
        {"task": "order"},
        {"task": "slow"},
    ]
    docs = [{**doc, "key": key, "key_for": "1h"} for doc, key in zip(docs, "abcd", strict=True)]
    old = [spool.submit(**doc) for doc in docs]
    spool.do({"action": "hold", "ids": [old[1]]})
    for task_id in old[2:]:
        spool.entry(task_id, "running")
    new = [spool.submit("quick", key=key, key_for="1h", on_duplicate="replace") for key in "ab"]
    new += spool.submit_all(
        [{"task": "quick", "key": key, "key_for": "1h", "on_duplicate": "replace"} for key in "cd"]
    )
    assert [spool.end(i, "shop" if i == old[2] else "default")["event"] for i in old] == ["cancelled"] * 4
    assert ended(spool, *new) == ["done"] * 4


def test_of_tasks_that_replace_one_another_with_key_for_the_last_one_runs(live: Make) -> None:
    spool = live(QUICK)
    spool.stop()
    doc = {"key": "k", "key_for": "1h", "at": "+1h", "on_duplicate": "replace"}
    ids = [spool.submit("quick", **doc) for _ in range(5)]
    spool.start()
    assert ended(spool, *ids[:4]) == ["cancelled"] * 4
    assert spool.entry(ids[4], "pending").task == "quick"


def test_a_task_that_is_cancelled_keeps_no_key(live: Make) -> None:
    spool = live(QUICK)
    first = spool.submit("quick", key="k", key_for="1h", at="+1h")
    spool.do({"action": "cancel", "ids": [first]})
    assert ended(spool, spool.submit("quick", key="k")) == ["done"]


def test_extend_puts_off_who_has_the_key_and_never_brings_it_forward(live: Make) -> None:
    spool = live(QUICK)
    first = spool.submit("quick", key="k", at="+1h")
    time = spool.entry(first, "pending").time
    later = spool.submit("quick", key="k", at="+2h", on_duplicate="extend")
    assert spool.end(later)["duplicate_of"] == first
    moved = spool.entry(first, "pending").time
    assert moved > time
    sooner = spool.submit("quick", key="k", at="+1s", on_duplicate="extend")
    assert spool.end(sooner)["duplicate_of"] == first
    assert spool.entry(first, "pending").time == moved


def test_reject_refuses_the_file_and_takes_none_of_its_other_keys(live: Make) -> None:
    spool = live(ORDER)
    first = spool.submit("order", key="k")
    spool.entry(first, "running")
    batch = [{"task": "order", "key": "other"}, {"task": "order", "key": "k", "on_duplicate": "reject"}]
    reason = spool.refusal(spool.drop({"tasks": batch}))
    assert (reason["field"], reason["value"]) == ("tasks[1].key", "k")
    assert first in reason["rule"]
    assert spool.entry(spool.submit("order", key="other"), "running").task == "order"


def test_a_retry_takes_its_key_again_or_is_refused(live: Make) -> None:
    spool = live(ORDER)
    first = spool.submit("order", key="k", at="+1h")
    spool.entry(first, "pending")
    spool.do({"action": "cancel", "ids": [first]})
    second = spool.submit("order", key="k", at="+1h")
    spool.entry(second, "pending")
    assert second in spool.refusal(spool.verb("retry", first))["rule"]
    duplicate = spool.submit("order", key="k")
    spool.entry(duplicate, "cancelled")
    assert "duplicate" in spool.refusal(spool.verb("retry", duplicate))["rule"]
    spool.do({"action": "cancel", "ids": [second]})
    spool.do({"action": "retry", "ids": [first]})
    spool.entry(first, "running")
    assert spool.end(spool.submit("order", key="k"), "shop")["duplicate_of"] == first


def test_the_same_id_again_is_no_duplicate_of_itself(live: Make) -> None:
    spool = live(QUICK)
    task_id = new_id()
    for _ in range(3):
        spool.taken(spool.drop({"task": "quick", "id": task_id, "key": "k", "key_for": 60}))
    assert ended(spool, task_id) == ["done"]
    spool.taken(spool.drop({"task": "quick", "id": task_id, "key": "k", "key_for": 60}))
    assert [event.name.rpartition(",")[2] for event in spool.events()] == ["done.json"]


def test_a_killed_daemon_leaves_no_key_taken_by_nobody(live: Make) -> None:
    spool = live(QUICK + ORDER)
    spool.submit_all([{"task": "order", "key": f"k{n}", "at": "+1h"} for n in range(30)])
    for n in range(30):
        spool.submit("order", key=f"k{n}", at="+1h", on_duplicate="replace")
    spool.kill9()
    spool.start()
    until(lambda: not list((spool.root / layout.INCOMING).glob("*.json")), "all is taken in")
    spool.wait_count(30, "pending")
    spool.wait_count(30, "cancelled")
    spool.stop()
    disk = RealDisk(str(spool.root))
    assert [f for f in fsck.check(disk) if f.grave] == []
    held = {entry.id for _, entry in spool.entries("pending")}
    found = {keys.read(disk, layout.key(mark_of(f"k{n}"))) for n in range(30)}
    assert {claim.id for claim in found if claim} == held
    spool.start()


def test_the_history_of_a_key_is_that_of_its_tasks(live: Make) -> None:
    spool = live(QUICK)
    first = spool.submit("quick", key="k \u00e4", at="+1h")
    spool.submit("quick", key="other")
    second = spool.submit("quick", key="k \u00e4")
    spool.entry(second, "cancelled")
    for verb in ("hold", "move", "release"):
        spool.do({"action": verb, "ids": [first], **({"at": "+0s"} if verb == "move" else {})})
    spool.end(first)
    told = subprocess.run(
        [
            *(sys.executable, "-m", "spool", "history", "--key", "k \u00e4", "--json"),
            "--spool",
            str(spool.root),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found = [(line["id"], line["event"]) for line in map(json.loads, told.stdout.splitlines())]
    assert [event for task_id, event in found if task_id == first] == [
        *("submit", "hold", "move", "release", "claim", "succeed")
    ]
    assert {event for task_id, event in found if task_id != first} == {"submit", "duplicate"}


@pytest.mark.parametrize("way", ["why", "show"])
def test_the_command_says_whose_duplicate_a_task_is(live: Make, way: str) -> None:
    spool = live(QUICK)
    first = spool.submit("quick", key="k", at="+1h")
    second = spool.submit("quick", key="k")
    spool.entry(second, "cancelled")
    base = [sys.executable, "-m", "spool"]
    said = subprocess.run(
        [*base, way, "--spool", str(spool.root), second], capture_output=True, text=True, check=True
    )
    assert "its key k is taken by " + first in said.stdout, said
    shown = subprocess.run(
        [*base, "show", "--json", "--spool", str(spool.root), second],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(shown.stdout)["duplicate_of"] == first
