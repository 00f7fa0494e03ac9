"""What starts before what, and when: classes, front and back, times of every kind."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from spool.names import id_from
from spool.times import moment
from tests.e2e.live import TICK, Live, handler

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]

NOTE = handler("note", "cat >> $NOTES/order")
ONE = "concurrency = 1\n" + NOTE
PAUSE, RESUME = {"action": "pause"}, {"action": "resume"}


def started(spool: Live, bodies: list[dict[str, Any]]) -> list[str]:
    """Drop tasks one after the other while the spool is paused; the order they start in."""
    spool.do(PAUSE)
    for body in bodies:
        spool.do({"task": "note", **body})
    spool.do(RESUME)
    return spool.wait_lines("order", len(bodies))


def test_high_before_medium_before_low_whatever_the_order_of_the_drops(live: Make) -> None:
    found = started(
        live(ONE),
        [{"priority": p, "args": f"{p}{n}"} for n in range(3) for p in ("low", "medium", "high")],
    )
    assert [line.strip('"') for line in found] == [
        f"{p}{n}" for p in ("high", "medium", "low") for n in range(3)
    ]


def test_front_before_back_and_the_latest_front_first(live: Make) -> None:
    fronts = {1, 3, 4}
    found = started(
        live(ONE), [{"args": n, "position": "front" if n in fronts else "back"} for n in range(6)]
    )
    assert [int(line) for line in found] == [4, 3, 1, 0, 2, 5]


def test_a_front_task_does_not_leave_its_class(live: Make) -> None:
    found = started(
        live(ONE),
        [
            {"args": 1},
            {"args": 2, "priority": "low", "position": "front"},
            {"args": 0, "priority": "high"},
        ],
    )
    assert [int(line) for line in found] == [0, 1, 2]


def test_in_a_class_the_earlier_time_goes_first_then_the_id(live: Make) -> None:
    now = time.time_ns() // 1000
    at = datetime.now(UTC) - timedelta(minutes=10)
    bodies: list[dict[str, Any]] = [
        {"args": 5},  # without a time: the moment of the drop
        {"args": 4, "at": at.isoformat(), "id": id_from(now, b"\x22" * 10)},
        {"args": 3, "at": at.isoformat(), "id": id_from(now, b"\x11" * 10)},
        {"args": 1, "at": (at - timedelta(hours=1)).isoformat()},
        {"args": 2, "at": (at - timedelta(minutes=1)).timestamp()},
        {"args": 6},
    ]
    assert [int(line) for line in started(live(ONE), bodies)] == [1, 2, 3, 4, 5, 6]


def test_the_tasks_of_a_batch_run_in_the_order_of_its_list(live: Make) -> None:
    spool = live(ONE)
    spool.do({"tasks": [{"task": "note", "args": n} for n in range(20)]})
    assert [int(line) for line in spool.wait_lines("order", 20)] == list(range(20))


def test_of_a_batch_at_the_front_the_last_goes_first(live: Make) -> None:
    spool = live(ONE)
    spool.do(PAUSE)
    spool.do({"tasks": [{"task": "note", "args": n, "position": "front"} for n in range(5)]})
    spool.do(RESUME)
    assert [int(line) for line in spool.wait_lines("order", 5)] == [4, 3, 2, 1, 0]


def test_a_newcomer_of_a_higher_class_is_next_but_stops_nothing(live: Make) -> None:
    script = "cat >> $NOTES/order; while [ ! -e $NOTES/open ]; do sleep 0.02; done"
    spool = live("concurrency = 1\n" + handler("note", script))
    spool.submit("note", args="first", priority="low")
    spool.wait_lines("order", 1)
    for number in range(3):
        spool.do({"task": "note", "args": f"low{number}", "priority": "low"})
        time.sleep(TICK)
    high = spool.submit("note", args="high", priority="high")
    spool.status(
        lambda s: s["next"] and s["next"]["id"] == high, "status names the newcomer as the next one"
    )
    (spool.notes / "open").touch()
    assert spool.wait_lines("order", 5) == ['"first"', '"high"', '"low0"', '"low1"', '"low2"']


def test_of_what_comes_at_one_time_the_highest_class_is_next(live: Make) -> None:
    spool = live(ONE)
    at = "2099-01-01T00:00:00Z"
    ids = []
    for more in ({"priority": "low"}, {}, {"position": "front"}, {"priority": "high"}):
        ids.insert(0, spool.submit("note", at=at, **more))
        spool.status(lambda s: s["next"] and s["next"]["id"] == ids[0], "status names the newcomer")
    assert spool.command("ls", "--ids").split() == ids


def test_order_holds_far_outside_the_window(live: Make) -> None:
    spool = live("concurrency = 1\nwindow = 100\n" + NOTE)
    spool.do(PAUSE)
    spool.submit_all([{"task": "note", "args": n, "priority": "low"} for n in range(300)])
    spool.submit_all([{"task": "note", "args": n} for n in range(1000, 1150)])
    spool.submit_all([{"task": "note", "args": 2000 + n, "position": "front"} for n in range(3)])
    spool.submit_all([{"task": "note", "args": 3000, "priority": "high"}])
    spool.wait_count(454, "pending")
    spool.do(RESUME)
    found = [int(line) for line in spool.wait_lines("order", 454, 120)]
    assert found[0] == 3000
    assert set(found[1:4]) == {2000, 2001, 2002}
    assert set(found[4:154]) == set(range(1000, 1150))
    assert set(found[154:]) == set(range(300))


@pytest.mark.parametrize("durability", ["durable", "relaxed"])
def test_a_task_with_a_time_runs_on_time_and_not_before(live: Make, durability: str) -> None:
    spool = live(f'durability = "{durability}"\n' + handler("note", "date +%s.%N >> $NOTES/order"))
    at = time.time() + 1.0
    ids = [spool.submit("note", at=at + wait) for wait in (0, 0.25, 0.5)]
    assert spool.entry(ids[0], "pending")
    for wait, line in zip((0, 0.25, 0.5), spool.wait_lines("order", 3), strict=True):
        assert at + wait <= float(line) < at + wait + 2  # how late it is, is for the benchmark
    spool.wait_count(3, "done")


def test_a_relative_time_counts_from_the_drop(live: Make) -> None:
    spool = live(NOTE)
    before = time.time()
    task_id = spool.submit("note", at="+2h30m")
    entry = spool.entry(task_id, "pending")
    assert before - 0.1 <= entry.time / 1e6 - 9000 <= time.time()
    shown = spool.status(lambda s: s["next"], "status knows what comes next")
    assert shown["next"]["id"] == task_id


@pytest.mark.parametrize(
    ("at", "zone", "utc"),
    [
        ("2097-01-15 09:30", "Europe/Rome", "2097-01-15T08:30:00+00:00"),
        ("2097-07-15T09:30:00.25", "Europe/Rome", "2097-07-15T07:30:00.250000+00:00"),
        ("2097-07-15", "America/New_York", "2097-07-15T04:00:00+00:00"),
        ("2097-03-31 02:30", "Europe/Rome", "2097-03-31T01:00:00+00:00"),  # skipped: the end of the gap
        ("2097-10-27 02:30", "Europe/Rome", "2097-10-27T00:30:00+00:00"),  # twice: the first
        ("2097-07-15T09:30:00+05:30", "Europe/Rome", "2097-07-15T04:00:00+00:00"),
        (4009075200.5, "Europe/Rome", "2097-01-15T08:00:00.500000+00:00"),
    ],
)
def test_times_are_read_as_they_are_meant(live: Make, at: object, zone: str, utc: str) -> None:
    other = "Asia/Tokyo"
    spool = live(f'timezone = "{zone}"\n' + NOTE)
    by_setting = spool.submit("note", at=at)
    task_id = spool.submit("note", at=at, tz=zone)
    far = spool.submit("note", at=at, tz=other)
    wanted = int(datetime.fromisoformat(utc).timestamp() * 1e6)
    assert spool.entry(task_id, "pending").time == wanted
    assert spool.entry(by_setting, "pending").time == wanted
    local = isinstance(at, str) and "+" not in at
    assert (spool.entry(far, "pending").time == wanted) is not local
    rome = moment(spool.entry(far, "pending").time, ZoneInfo(other))
    assert not local or rome.strftime("%Y-%m-%d") == str(at)[:10]


def test_pending_stands_under_its_utc_date_and_class(live: Make) -> None:
    spool = live(NOTE)
    task_id = spool.submit("note", at="2097-01-01T00:30:00+02:00", priority="low")
    spool.entry(task_id, "pending")
    (path,) = [p for p in spool.paths("pending") if task_id in p]
    assert path == f"pending/2096-12-31/low/223000.000000,{task_id},note.json"
