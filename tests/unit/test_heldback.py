"""What the daemons say of what waits is told of the right tasks, and of many in few words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from spool import layout
from spool.disk import RealDisk
from spool.heldback import HeldBack, brief, of_all, outboxes
from spool.init import init
from spool.names import MARK, Entry, new_id
from spool.owncopy import Task, encode_task
from spool.times import format_utc
from spool.views import listed

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_795_305_600_000_000
TOML = '[handlers."k.*"]\nexec = ["true"]\n[handlers."o.*"]\nexec = ["true"]\n'


def row(why: str, key: str | None = None, **more: Any) -> dict[str, Any]:
    return {"why": why, "handler": "k.*", "key": key, "ready": 2, "classes": ["medium"], **more}


def told(root: Path, rows: list[dict[str, Any]], task: str = "k.a", key: str = "", **more: Any) -> str:
    init(str(root / "spool"))
    (root / "spool" / "spool.toml").write_text(TOML)
    extra = ((MARK, key),) if key else ()
    entry = Entry(**{"time": NOW - 1, "id": new_id(), "task": task, "extra": extra, **more})
    held = HeldBack(RealDisk(str(root / "spool")), [{"held_back": rows}], lambda us: f"<{us - NOW}>")
    (found,) = held.told([listed(layout.pending(entry), entry)], NOW)
    return found.why


MANY = [row("k.* is full (concurrency_total)"), row("ann has one (per_key)", "aaaa"), row("others", "*")]


@pytest.mark.parametrize(
    ("rows", "task", "why"),
    [
        (MANY, {}, "k.* is full (concurrency_total)"),
        (MANY[1:], {"key": "aaaa"}, "ann has one (per_key)"),
        (MANY[1:], {"key": "bbbb"}, "others"),
        (MANY[1:], {}, ""),
        (MANY, {"task": "o.a"}, ""),
        (MANY, {"prio": "low", "base": "low"}, ""),
        (MANY, {"time": NOW + 1}, ""),
        ([row("paused (k.b)")], {}, ""),
        ([row(f"the next at {format_utc(NOW + 7)}")], {}, "the next at <7>"),
    ],
)
def test_a_line_says_what_holds_back_tasks_like_it(
    tmp_path: Path, rows: list[dict[str, Any]], task: dict[str, Any], why: str
) -> None:
    assert told(tmp_path, rows, **task) == why


@pytest.mark.parametrize("serves", [True, False])
def test_a_line_says_what_is_paused_whether_a_daemon_is_there_or_not(
    tmp_path: Path, *, serves: bool
) -> None:
    init(str(tmp_path))
    (tmp_path / "spool.toml").write_text(TOML)
    rows = [{"kind": "pause", "task": "k.b"}, {"kind": "pause", "task": "k.a*"},
            {"kind": "drain", "node": "n", "task": "o.*"}, {"kind": "pause", "node": "other"}]  # fmt: skip
    (tmp_path / layout.PAUSES).write_bytes(orjson.dumps(rows))
    alive = [{"node": "n", "held_back": [row("paused (k.a*, k.b)")]}] if serves else []
    entries = [Entry(time=NOW - 1, id=new_id(), task=task) for task in ("k.a", "o.b", "k.c")]
    held = HeldBack(RealDisk(str(tmp_path)), alive, str)
    found = [one.why for one in held.told([listed(layout.pending(e), e) for e in entries], NOW)]
    assert found == ["paused (k.a*)", "drained (o.*) on node n", "" if serves else "paused on node other"]


def test_a_pause_of_every_node_that_serves_is_told_and_one_that_is_over_is_not(tmp_path: Path) -> None:
    init(str(tmp_path))
    rows: list[dict[str, Any]] = [{"kind": "pause", "node": node} for node in ("gone", "a", "b")]
    entry = Entry(time=NOW - 1, id=new_id(), task="k.a")

    def why(*nodes: str) -> str:
        (tmp_path / layout.PAUSES).write_bytes(orjson.dumps(rows))
        held = HeldBack(RealDisk(str(tmp_path)), [{"node": node} for node in nodes], str)
        return held.told([listed(layout.pending(entry), entry)], NOW)[0].why

    assert why("a", "b") == "paused on node a, paused on node b"
    assert why("a", "b", "c") == ""
    rows[2]["until"] = format_utc(1)
    assert why("a", "b") == ""


def test_many_keys_at_one_limit_are_one_line_and_few_are_not() -> None:
    keys = [row(f"key {n} (concurrency_per_key)", f"{n:04}") for n in range(5)]
    rest = row("more (concurrency_per_key)", "*", keys=90, ready=300)
    assert brief({"held_back": [MANY[0], *keys, rest]}, str) == [
        (2, "medium", "k.* is full (concurrency_total)"),
        (310, "medium", "key 0 (concurrency_per_key), and 94 other keys"),
    ]
    assert len(brief({"held_back": keys[:3]}, str)) == 3


def test_what_two_handlers_wait_for_is_told_once() -> None:
    full = {"why": "outbox p is full", "key": None}
    rows = [{**full, "handler": "a", "ready": 5, "classes": ["medium", "low"]}]
    rows += [{**full, "handler": "b", "ready": 1, "classes": ["high", "medium"]}]
    assert brief({"held_back": rows}, str) == [(6, "medium/low/high", "outbox p is full")]


def test_what_every_node_says_of_the_same_queue_is_counted_once() -> None:
    full = {"held_back": [row("k.* is full"), {**row("k.* is full"), "handler": "o.*", "ready": 8}]}
    behind = {"held_back": [row("k.* is full")]}
    shut = {"held_back": [row("load 3.1")], "gate": {"open": False, "why": "load 3.1"}}
    assert of_all([behind, full, full, shut], str) == {"k.* is full": 10}


def test_a_full_outbox_is_told_of_its_tasks_in_every_list(tmp_path: Path) -> None:
    init(str(tmp_path))
    (tmp_path / "spool.toml").write_text(TOML)
    alive = [{"node": "n", "full_outboxes": ["slow"], "filling_outboxes": []}]
    rows = []
    for notify in ("slow", "quick", None):
        entry = Entry(time=NOW - 1, id=new_id(), task="k.a")
        path = tmp_path / layout.pending(entry)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            encode_task(Task(id=entry.id, task="k.a", at=NOW - 1, submitted_at=NOW - 1, notify=notify))
        )
        rows.append(listed(layout.pending(entry), entry))
    found = [one.why for one in HeldBack(RealDisk(str(tmp_path)), alive, str).told(rows, NOW)]
    assert found == ["outbox slow is full", "", ""]
    assert outboxes([*alive, *alive], str) == ["tasks of parent slow: outbox slow is full"]
    assert outboxes([{**alive[0], "held_back": [row("outbox slow is full")]}], str) == []
