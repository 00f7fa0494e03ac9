"""A deadline that comes near lifts its task, once; one that has passed is told, once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import orjson
import pytest

from spool import layout
from spool.times import parse_utc
from tests.e2e.live import Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]

GATE = "cat >> $NOTES/order; while [ ! -e $NOTES/open ]; do sleep 0.02; done"
ONE = "concurrency = 1\n" + handler("note", GATE)
MISSED = {"run": "late", "drop": "drop", "fail": "expire"}
NEVER = "its deadline passed before it could start"


def busy(spool: Live) -> None:
    """The one slot is taken until somebody opens the gate."""
    spool.submit("note", args="busy", priority="high")
    spool.wait_lines("order", 1)


def opened(spool: Live, number: int) -> list[str]:
    (spool.notes / "open").touch()
    return [line.strip('"') for line in spool.wait_lines("order", number)][1:]


def test_near_its_deadline_a_low_task_goes_before_all_that_is_lower(live: Make) -> None:
    spool = live(ONE)
    busy(spool)
    spool.submit_all([{"task": "note", "args": f"medium{n}"} for n in range(3)])
    deadline = time.time() + 2
    task_id = spool.submit("note", args="lifted", priority="low", deadline=deadline, lead=1)
    assert spool.entry(task_id, "pending").prio == "low"
    entry = spool.entry(task_id, "pending", where=lambda e: e.prio == "high")
    assert deadline - 1 <= time.time()  # not before its time
    assert (entry.base, entry.lifted) == ("low", 1)
    assert opened(spool, 5)[0] == "lifted"


def test_without_a_lead_it_is_lifted_five_seconds_before(live: Make) -> None:
    spool = live(ONE)
    busy(spool)
    soon = spool.submit("note", args="soon", priority="low", deadline=time.time() + 4.9)
    late = spool.submit("note", args="late", priority="low", deadline=time.time() + 3600)
    spool.entry(soon, "pending", where=lambda e: e.prio == "high")
    assert spool.entry(late, "pending").prio == "low"


def test_a_lift_never_goes_past_the_limit_of_a_handler(live: Make) -> None:
    spool = live("concurrency = 5\n" + handler("note", GATE, concurrency=1))
    busy(spool)
    task_id = spool.submit("note", args="lifted", deadline="+1s", lead="2s")
    spool.entry(task_id, "pending", where=lambda e: e.lifted > 0)
    spool.event("late", task_id)
    assert spool.lines("order") == ['"busy"']
    assert opened(spool, 2) == ["lifted"]


def test_a_task_that_fails_after_its_lift_is_demoted_like_any_other(live: Make) -> None:
    spool = live(handler("fail", "exit 1", backoff="1h", retries=5))
    task_id = spool.submit("fail", priority="low", deadline="+1h", lead="2h")
    told = spool.event("retrying", task_id)
    assert told["class"] == "high"
    entry = spool.entry(task_id, "pending")
    assert (entry.prio, entry.base, entry.fails) == ("medium", "low", 1)


@pytest.mark.parametrize(
    ("miss", "state"), [("run", "pending"), ("drop", "cancelled"), ("fail", "failed")]
)
def test_a_deadline_that_passes_while_it_waits_is_told_once(live: Make, miss: str, state: str) -> None:
    spool = live(ONE)
    busy(spool)
    task_id = spool.submit("note", args="waits", deadline="+1s", on_miss=miss)
    told = spool.event("late", task_id)
    assert told["deadline"] < told["submitted_at"] or told["outcome"] is None
    entry = spool.entry(task_id, state)
    assert entry.lifted == 2
    if miss == "run":
        assert entry.prio == "high"
        assert opened(spool, 2) == ["waits"]
        assert spool.event("done", task_id)
    else:
        event = spool.event(state, task_id)
        assert event["error"]["type"] == "deadline"
        assert opened(spool, 1) == []
    assert spool.events("default", "late") == []


@pytest.mark.parametrize("again", [False, True], ids=["goes on", "restarted"])
@pytest.mark.parametrize("miss", ["run", "drop", "fail"])
def test_a_deadline_that_passes_while_it_waits_for_another_task_is_told_once(
    live: Make, miss: str, *, again: bool
) -> None:
    spool = live(handler("note", GATE))
    first = spool.submit("note", args="first")
    spool.wait_lines("order", 1)
    task_id = spool.submit("note", args="waits", after=[first], deadline="+2s", on_miss=miss)
    spool.entry(task_id, "held")
    if again:
        spool.kill9()
        spool.start()
    assert spool.event("late", task_id)["outcome"] is None
    if miss == "run":
        entry = spool.entry(task_id, "held", where=lambda e: e.lifted == 2)
        assert (entry.why, entry.prio, entry.base) == ("after", "high", "medium")
        said = spool.command("why", task_id)
        assert "waits for" in said
        assert "; its deadline passed, " in said
    else:
        ended = spool.event({"drop": "cancelled", "fail": "failed"}[miss], task_id)
        assert ended["error"]["type"] == "deadline"
    (spool.notes / "open").touch()
    assert spool.event("done", first)
    if miss == "run":
        assert spool.event("done", task_id)
    assert spool.events("default", "late") == []
    assert [line["from"] for line in spool.journal(MISSED[miss])] == ["held"]


def test_a_task_that_waits_for_a_handler_is_told_late_before_there_is_one(live: Make) -> None:
    spool = live(handler("note", GATE))
    task_id = spool.submit("other", deadline="+1s")
    spool.event("late", task_id)
    (spool.notes / "open").touch()
    spool.settings(handler("other", "cat >> $NOTES/order"))
    assert spool.event("done", task_id)
    assert spool.events("default", "late") == []


def test_a_deadline_is_told_as_it_was_submitted_until_it_is_moved(live: Make) -> None:
    script = 'echo "$SPOOL_DEADLINE" >> $NOTES/order; exit 1'
    spool = live(handler("note", script, backoff={"base": "30d", "max": "30d"}))
    wanted = "2099-01-01T00:00:00.250000Z"
    task_id = spool.submit("note", deadline="2099-01-01T01:00:00.25+01:00")
    assert spool.event("retrying", task_id)["deadline"] == wanted
    assert [record["deadline"] for record in spool.records(task_id)] == [wanted]
    assert spool.lines("order") == [wanted]
    shown = orjson.loads(spool.command("show", task_id, "--json"))
    assert shown["deadline"] == wanted
    moved = "2098-01-01T00:00:00.000000Z"
    spool.do({"action": "move", "ids": [task_id], "at": "+0s", "deadline": moved})
    assert spool.event("retrying", task_id)["deadline"] == moved


@pytest.mark.parametrize("miss", ["drop", "fail"])
def test_who_retries_a_task_whose_deadline_has_passed_since_has_it_run(live: Make, miss: str) -> None:
    spool = live(handler("bad", "exit 1", retries=0))
    task_id = spool.submit("bad", deadline="+2s", on_miss=miss)
    deadline = parse_utc(spool.end(task_id)["deadline"])
    until(lambda: time.time_ns() // 1000 > deadline + 1_000_000, "it has passed, by the second")
    spool.do({"action": "retry", "ids": [task_id]})
    until(lambda: len(spool.records(task_id)) == 2, "it has run again")
    assert spool.records(task_id)[1]["error"]["type"] == "exit 1"


def test_a_deadline_already_passed_at_the_drop_is_told_and_obeyed(live: Make) -> None:
    spool = live(handler("note", "cat >> $NOTES/order"))
    runs = spool.submit("note", args="runs", deadline="2026-01-02")
    fails = spool.submit("note", args="fails", deadline="2026-01-02", on_miss="fail")
    assert spool.event("late", runs)
    assert spool.event("done", runs)
    assert spool.event("late", fails)
    assert spool.event("failed", fails)["error"]["type"] == "deadline"
    assert spool.lines("order") == ['"runs"']


def test_a_deadline_that_passes_while_it_runs_is_told_and_stops_nothing(live: Make) -> None:
    spool = live(handler("note", GATE))
    task_id = spool.submit("note", args="runs", deadline="+1s", on_miss="fail")
    spool.entry(task_id, "running")
    spool.event("late", task_id)
    assert spool.entry(task_id, "running").lifted == 2
    (spool.notes / "open").touch()
    assert spool.event("done", task_id)


def test_a_deadline_that_passes_while_it_waits_for_its_next_attempt_is_told_in_time(live: Make) -> None:
    spool = live(handler("fail", "exit 1", backoff={"base": "30d", "max": "30d"}, retries=5))
    task_id = spool.submit("fail", deadline="+2s", on_miss="fail", lead=0)
    assert spool.event("retrying", task_id)
    spool.event("late", task_id)
    problem = spool.event("failed", task_id)["error"]
    assert problem["type"] == "deadline"
    assert problem["message"].startswith("its deadline passed after attempt 1: exit 1")
    assert f" after 1 attempt: {problem['message']}" in spool.command("why", task_id)


def test_an_attempt_that_never_was_is_not_named_where_a_second_deadline_passes(live: Make) -> None:
    spool = live(handler("note", "true"))
    spool.command("pause")
    task_id = spool.submit("note", deadline="+1s", on_miss="fail")
    assert spool.event("failed", task_id)["error"]["message"] == NEVER
    spool.command("retry", task_id, "--wait")
    spool.command("move", task_id, "--deadline", "+1s", "--wait")
    assert spool.event("failed", task_id)["error"]["message"] == NEVER
    assert f" after 0 attempts: {NEVER}" in spool.command("why", task_id)


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_an_attempt_that_was_is_told_where_a_later_end_was_no_attempt(live: Make, end: str) -> None:
    spool = live(handler("fail", "exit 1", backoff="30d", retries=5))
    task_id = spool.submit("fail", on_miss="fail")
    assert spool.event("retrying", task_id)
    spool.command("pause")
    if end == "failed":
        spool.command("move", task_id, "--deadline", "+1s", "--wait")
        assert spool.event("failed", task_id)
    else:
        spool.command("cancel", task_id, "--wait")
    spool.command("retry", task_id, "--wait")
    spool.command("move", task_id, "--deadline", "+1s", "--wait")
    problem = spool.event("failed", task_id)["error"]
    assert problem["message"].startswith("its deadline passed after attempt 1: exit 1")


def test_an_attempt_whose_record_is_gone_is_told_by_its_number(live: Make) -> None:
    spool = live(handler("fail", "exit 1", backoff="30d"))
    task_id = spool.submit("fail", on_miss="fail")
    assert spool.event("retrying", task_id)
    (spool.root / layout.record(task_id, 1)).unlink()
    spool.command("move", task_id, "--deadline", "+1s", "--wait")
    assert spool.event("failed", task_id)["error"]["message"] == "its deadline passed after attempt 1"


def test_a_deadline_outside_the_window_is_on_time_too(live: Make) -> None:
    spool = live("window = 100\n" + ONE)
    busy(spool)
    spool.submit_all([{"task": "note", "args": n, "priority": "low"} for n in range(500)])
    task_id = spool.submit("note", args="lifted", priority="low", deadline="+3s", lead="1s")
    spool.entry(task_id, "pending", where=lambda e: e.prio == "high", within=10)
    assert opened(spool, 502)[0] == "lifted"


def test_a_lift_survives_a_restart_and_happens_once(live: Make) -> None:
    spool = live(ONE)
    busy(spool)
    task_id = spool.submit("note", args="lifted", priority="low", deadline="+1h", lead="2h")
    spool.entry(task_id, "pending", where=lambda e: e.lifted == 1)
    spool.kill9()
    spool.start()
    assert spool.entry(task_id, "pending").prio == "high"
    spool.do({"action": "move", "ids": [task_id], "priority": "low"})
    spool.kill9()
    spool.start()
    (spool.notes / "open").touch()
    spool.event("done", task_id)
    assert len(spool.journal("lift")) == 1
