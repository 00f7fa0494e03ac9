"""Failed attempts: how often, how much later, how far back."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from tests.e2e.live import Live, handler

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]


def test_each_failure_lowers_the_class_by_one_and_the_last_ends_it(live: Make) -> None:
    spool = live(handler("fail", "exit 1", retries=3, backoff=0))
    task_id = spool.submit("fail", priority="high")
    assert spool.event("failed", task_id)["attempt"] == 4
    assert [r["class"] for r in spool.records(task_id)] == ["high", "medium", "low", "low"]
    assert [r["event"] for r in spool.records(task_id)] == ["retrying"] * 3 + ["failed"]
    entry = spool.entry(task_id, "failed")
    assert (entry.fails, entry.base, entry.prio) == (4, "high", "low")


def test_failures_and_demotion_can_be_read_in_the_name(live: Make) -> None:
    spool = live(handler("fail", "exit 1", retries=9, backoff={"base": "1h", "factor": 1}))
    task_id = spool.submit("fail", priority="high", position="front")
    spool.event("retrying", task_id)
    (path,) = [p for p in spool.paths("pending") if task_id in p]
    assert path.split("/")[2] == "medium"
    assert path.endswith(f",{task_id},fail,b=high,n=1.json")


def test_the_wait_grows_with_every_failure_and_is_jittered(live: Make) -> None:
    backoff = {"base": 0.2, "factor": 2, "max": 1}
    spool = live(handler("fail", "exit 1", retries=3, backoff=backoff))
    ids = spool.submit_all([{"task": "fail", "args": n} for n in range(4)])
    waits = set()
    for task_id in ids:
        spool.event("failed", task_id)
        records = spool.records(task_id)
        for number, record in enumerate(records[:-1]):
            wait = datetime.fromisoformat(record["next_at"]) - datetime.fromisoformat(record["ended_at"])
            assert 0 <= wait.total_seconds() <= min(0.2 * 2**number, 1)
            assert records[number + 1]["started_at"] >= record["next_at"]
            waits.add(wait)
    assert len(waits) > 6


@pytest.mark.parametrize(
    ("toml", "fields", "attempts"),
    [
        ("retries = 1\nbackoff = 0\n" + handler("fail", "exit 1"), {}, 2),
        ("retries = 1\nbackoff = 0\n" + handler("fail", "exit 1", retries=2), {}, 3),
        ("retries = 1\n" + handler("fail", "exit 1", retries=2, backoff="1d"), {"retries": 0}, 1),
        (
            "retries = 1\n" + handler("fail", "exit 1", retries=2, backoff="1d"),
            {"retries": 3, "backoff": 0},
            4,
        ),
    ],
)
def test_the_task_decides_then_its_handler_then_the_spool(
    live: Make, toml: str, fields: dict[str, object], attempts: int
) -> None:
    spool = live(toml)
    assert spool.event("failed", spool.submit("fail", **fields))["attempt"] == attempts


def test_a_task_that_fails_twice_and_then_works_is_done(live: Make) -> None:
    script = 'echo x >> $NOTES/tries; [ "$SPOOL_ATTEMPT" = 3 ] || { echo broken; exit 75; }'
    spool = live(handler("flaky", script, backoff=0))
    task_id = spool.submit("flaky")
    told = spool.event("done", task_id)
    assert told["attempt"] == 3
    assert len(spool.lines("tries")) == 3
    assert [r["outcome"] for r in spool.records(task_id)] == ["error", "error", "ok"]
    assert [spool.log(task_id, n) for n in (1, 2)] == [b"broken\n"] * 2
    assert spool.entry(task_id, "done").fails == 2


def test_retry_gives_a_failed_task_all_its_attempts_again_with_fresh_numbers(live: Make) -> None:
    spool = live(handler("fail", "[ -e $NOTES/open ] || exit 65", retries=0))
    task_id = spool.submit("fail", priority="high")
    spool.event("failed", task_id)
    spool.do({"action": "retry", "ids": [task_id], "why": "again"})
    assert spool.event("failed", task_id)["attempt"] == 2
    (spool.notes / "open").touch()
    spool.do({"action": "retry", "ids": [task_id]})
    told = spool.event("done", task_id)
    assert (told["attempt"], told["class"]) == (3, "high")
    assert [r["attempt"] for r in spool.records(task_id)] == [1, 2, 3]
    reason = spool.refusal(spool.verb("retry", task_id))
    assert "done" in reason["rule"]


def test_retry_of_a_cancelled_task_runs_it(live: Make) -> None:
    spool = live(handler("note", "cat > $SPOOL_RESULT"))
    task_id = spool.submit("note", args=5, at="+1h")
    spool.do({"action": "cancel", "ids": [task_id]})
    spool.event("cancelled", task_id)
    spool.do({"action": "retry", "ids": [task_id]})
    assert spool.event("done", task_id)["result"] == 5


def test_one_terminal_event_a_task_however_it_went(live: Make) -> None:
    spool = live(handler("mix", "read n; exit $((n % 3 * 33))", retries=1, backoff=0))
    ids = spool.submit_all([{"task": "mix", "args": n} for n in range(30)])
    for number, task_id in enumerate(ids):
        assert spool.end(task_id)["event"] == ("failed" if number % 3 else "done")
    for task_id in ids:
        ends = [p for e in ("done", "failed", "cancelled") for p in spool.events("default", e, task_id)]
        assert len(ends) == 1
