"""A task its parent does: told by a ready event, ended by a word that names the attempt."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.e2e.live import PATIENCE, ROOT, Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]

SHOP = handler("order.*", notify="shop")


def instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def ready(spool: Live, task_id: str, parent: str = "shop") -> dict[str, Any]:
    return spool.event("ready", task_id, parent)


def answer(spool: Live, kind: str, task_id: str, attempt: int = 1, **more: object) -> str:
    return spool.drop({"action": kind, "id": task_id, "attempt": attempt, **more})


def refused(spool: Live, name: str) -> str:
    return str(spool.refusal(name)["rule"])


def test_a_ready_event_says_all_that_is_needed_to_do_the_work(live: Make) -> None:
    spool = live(SHOP)
    task_id = spool.submit("order.new", args={"n": 7}, meta={"m": 1}, version=3, deadline="+1h")
    told = ready(spool, task_id)
    assert (told["args"], told["meta"], told["version"], told["attempt"]) == ({"n": 7}, {"m": 1}, 3, 1)
    assert (told["outcome"], told["ended_at"], told["parent"]) == (None, None, "shop")
    assert instant(told["deadline"]) - instant(told["submitted_at"]) > 3590
    assert spool.where(task_id) is not None
    assert spool.entry(task_id, "running").timeout is not None


def test_an_ack_ends_it_with_its_result(live: Make) -> None:
    spool = live(SHOP)
    task_id = spool.submit("order.new")
    ready(spool, task_id)
    answer(spool, "ack", task_id, result={"paid": True})
    told = spool.event("done", task_id, "shop")
    assert (told["result"], told["outcome"], told["exit"]) == ({"paid": True}, "ok", None)
    assert spool.entry(task_id, "done")
    assert spool.records(task_id) == [told]


def test_a_parent_named_by_the_task_does_what_no_handler_is_bound_to(live: Make) -> None:
    spool = live()
    task_id = spool.submit("anything", notify="me")
    ready(spool, task_id, "me")
    answer(spool, "ack", task_id)
    spool.event("done", task_id, "me")


def test_a_parent_named_by_the_task_hears_of_what_a_process_does(live: Make) -> None:
    spool = live(handler("work", "true"))
    task_id = spool.submit("work", notify="me")
    assert spool.event("done", task_id, "me")["parent"] == "me"
    assert spool.events("me", "ready") == []


def test_a_fail_is_tried_again_in_a_lower_class(live: Make) -> None:
    spool = live(handler("order.*", notify="shop", backoff=0))
    task_id = spool.submit("order.new", priority="high", retries=1)
    assert ready(spool, task_id)["class"] == "high"
    answer(spool, "fail", task_id, error={"type": "Busy", "message": "try later"})
    told = spool.event("retrying", task_id, "shop")
    assert (told["error"]["type"], told["error"]["message"], told["will_retry"]) == (
        "Busy",
        "try later",
        True,
    )
    again = ready(spool, task_id)
    assert (again["attempt"], again["class"]) == (2, "medium")
    answer(spool, "fail", task_id, 2, error="no more")
    assert spool.event("failed", task_id, "shop")["error"]["message"] == "no more"
    assert [r["attempt"] for r in spool.records(task_id)] == [1, 2]


def test_a_fail_that_says_no_retry_is_final(live: Make) -> None:
    spool = live(SHOP)
    task_id = spool.submit("order.new", retries=10)
    ready(spool, task_id)
    answer(spool, "fail", task_id, error="never", retry=False)
    assert spool.event("failed", task_id, "shop")["will_retry"] is False
    assert spool.entry(task_id, "failed").fails == 1


def test_a_delay_replaces_the_backoff(live: Make) -> None:
    spool = live(SHOP)
    task_id = spool.submit("order.new")
    ready(spool, task_id)
    answer(spool, "fail", task_id, error="later", delay="3h")
    told = spool.event("retrying", task_id, "shop")
    assert abs(instant(told["next_at"]) - instant(told["ended_at"]) - 3 * 3600) < 0.001
    assert spool.entry(task_id, "pending").fails == 1


def test_no_word_in_time_is_a_lost_attempt_and_no_failure(live: Make) -> None:
    spool = live("poison_after = 2\n" + handler("order.*", notify="shop", timeout=1, retries=0))
    task_id = spool.submit("order.new", priority="high")
    ready(spool, task_id)
    told = spool.event("retrying", task_id, "shop")
    assert (told["outcome"], told["error"]["type"]) == ("lost", "lost")
    assert 1 <= told["seconds"] < 5
    again = ready(spool, task_id)
    assert (again["attempt"], again["class"]) == (2, "high")
    assert spool.event("recurring-error", task_id, "shop")["error"]["type"] == "poison"
    held = spool.entry(task_id, "held")
    assert (held.why, held.lost, held.fails) == ("poison", 2, 0)
    spool.verb("release", task_id)
    third = ready(spool, task_id)
    assert third["attempt"] == 3  # the fencing token never goes back
    answer(spool, "ack", task_id, 3)
    spool.event("done", task_id, "shop")


def test_extend_gives_more_time_and_progress_is_told(live: Make) -> None:
    spool = live(handler("order.*", notify="shop", timeout=0.7))
    task_id = spool.submit("order.new")
    ready(spool, task_id)
    before = spool.entry(task_id, "running").timeout
    answer(spool, "extend", task_id, by="1h")
    after = spool.entry(task_id, "running", where=lambda e: e.timeout != before).timeout
    assert before is not None
    assert after is not None
    assert after - before > 3_500_000_000
    answer(spool, "progress", task_id, percent=42, note="half way")
    told = spool.event("progress", task_id, "shop")
    assert (told["percent"], told["note"], told["attempt"]) == (42, "half way", 1)
    shown = spool.status(
        lambda s: s["running"] and s["running"][0]["progress"], "status shows the progress"
    )
    progress = shown["running"][0]["progress"]
    assert progress["percent"] == 42
    assert progress["at"].endswith("Z")
    other = spool.submit("order.other", timeout=0.8)
    ready(spool, other)
    spool.event("retrying", other, "shop")  # that time-out has passed, the extended attempt lives
    answer(spool, "ack", task_id)
    spool.event("done", task_id, "shop")


def test_the_word_of_a_stale_attempt_is_refused_and_changes_nothing(live: Make) -> None:
    spool = live(handler("order.*", notify="shop", timeout=0.3, backoff=0))
    task_id = spool.submit("order.new", retries=5)
    ready(spool, task_id)
    spool.event("retrying", task_id, "shop")
    second = ready(spool, task_id)
    assert second["attempt"] == 2
    answer(spool, "extend", task_id, 2, by="1h")
    spool.entry(task_id, "running", where=lambda e: (e.timeout or 0) > e.time + 3_000_000_000)
    for kind, more in (
        ("ack", {"result": 1}),
        ("fail", {"error": "x"}),
        ("extend", {"by": 1}),
        ("progress", {"percent": 1}),
    ):
        reason = spool.refusal(answer(spool, kind, task_id, 1, **more))
        assert (reason["field"], reason["value"]) == ("attempt", 1)
        assert reason["text"] == "attempt `1`: is stale: attempt 2 runs"
        told = spool.event("rejected", task_id, "shop")
        assert told["error"]["reason"]["action"] == kind
        assert told["error"]["message"] == reason["text"]
    assert "stale" in refused(spool, answer(spool, "ack", task_id, 3))
    assert spool.entry(task_id, "running").attempt == 2
    assert [r["attempt"] for r in spool.records(task_id)] == [1]
    answer(spool, "ack", task_id, 2, result="right")
    assert spool.event("done", task_id, "shop")["result"] == "right"


def test_the_same_word_twice_is_no_error_and_another_one_is(live: Make) -> None:
    spool = live(SHOP)
    task_id = spool.submit("order.new")
    ready(spool, task_id)
    answer(spool, "ack", task_id, result=1)
    spool.event("done", task_id, "shop")
    spool.do({"action": "ack", "id": task_id, "attempt": 1, "result": 1})
    assert "stale" in refused(spool, answer(spool, "ack", task_id, result=2))
    assert "stale" in refused(spool, answer(spool, "fail", task_id, error="after all"))
    assert spool.entry(task_id, "done")
    assert len(spool.records(task_id)) == 1
    other = spool.submit("order.new")
    ready(spool, other)
    answer(spool, "fail", other, error="one", delay="1h")
    spool.event("retrying", other, "shop")
    spool.do({"action": "fail", "id": other, "attempt": 1, "error": "one", "delay": "1h"})
    assert "stale" in refused(spool, answer(spool, "fail", other, error="two"))
    assert "stale" in refused(spool, answer(spool, "fail", other, error="one", retry=False))


def test_the_parent_is_told_of_an_answer_that_breaks_a_rule(live: Make) -> None:
    spool = live(SHOP)
    task_id = spool.submit("order.new")
    ready(spool, task_id)
    assert "is required" in refused(spool, answer(spool, "fail", task_id))
    assert spool.event("rejected", task_id, "shop")["task"] == "order.new"
    answer(spool, "ack", task_id)
    spool.event("done", task_id, "shop")


def test_words_about_a_task_nobody_knows_or_a_process_does_are_refused(live: Make) -> None:
    spool = live(handler("proc", "while [ ! -e $NOTES/open ]; do sleep 0.02; done"))
    unknown = "0193a5b27c4d7e8f9a0b1c2d3e4f5a6b"
    assert "no task has this id" in refused(spool, answer(spool, "ack", unknown))
    task_id = spool.submit("proc")
    spool.entry(task_id, "running")
    assert "process" in refused(spool, answer(spool, "ack", task_id))
    answer(spool, "progress", task_id, percent=10)
    assert spool.event("progress", task_id)["percent"] == 10
    (spool.notes / "open").touch()
    spool.event("done", task_id)


def test_an_answer_dropped_with_its_submission_in_one_moment_is_not_lost(spool_at: Make) -> None:
    spool = spool_at(SHOP)
    task_id = spool.submit("order.new")
    spool.verb("hold", task_id)
    spool.start()
    assert spool.entry(task_id, "held").why == "asked"
    assert spool.reasons() == []


def test_a_limit_of_attempts_at_once_holds_for_a_parent_too(live: Make) -> None:
    spool = live(handler("order.*", notify="shop", concurrency=2))
    ids = spool.submit_all([{"task": "order.new"} for _ in range(5)])
    done = 0
    while done < 5:
        told = spool.event("ready", parent="shop")
        assert len(spool.events("shop", "ready")) <= 1  # and the one just read
        answer(spool, "ack", told["id"])
        done += 1
    for task_id in ids:
        spool.event("done", task_id, "shop")


def test_an_outbox_that_is_not_read_holds_its_tasks_back_and_nobody_elses(live: Make) -> None:
    spool = live("outbox_limit = 5\n" + SHOP + handler("other", notify="calm") + handler("calm", "true"))
    spool.submit_all([{"task": "order.new", "args": n} for n in range(12)])
    spool.status(lambda s: s["full_outboxes"] == ["shop"], "the outbox is known to be full")
    assert 5 <= len(spool.events("shop")) <= 6
    assert spool.count("pending") >= 6
    said = spool.command("status")
    assert said.count("medium: outbox shop is full") == said.count("outbox shop is full") == 1
    waits = spool.submit("calm", notify="shop")  # of a handler that has another parent
    until(lambda: "outbox shop is full: it waits" in spool.command("why", waits), "why says so")
    spool.drop({"action": "cancel", "ids": [waits]})
    other = spool.submit("other")
    ready(spool, other, "calm")
    seen = set()
    for _ in range(12):  # reading makes room, and the rest comes
        told = spool.event("ready", parent="shop")
        seen.add(told["id"])
        answer(spool, "ack", told["id"])
        spool.event("done", told["id"], "shop")
    assert len(seen) == 12


def test_what_is_under_way_has_its_place_in_a_small_outbox(live: Make) -> None:
    gate = "while [ ! -e $NOTES/open ]; do sleep 0.02; done"
    spool = live("concurrency = 12\noutbox_limit = 3\n" + handler("note", gate))
    spool.submit_all([{"task": "note", "notify": "shop"} for _ in range(12)])
    spool.status(
        lambda s: s["running_total"] == 3 and s["filling_outboxes"] == ["shop"], "it will be full"
    )
    waits = spool.submit("note", notify="shop")
    said = "outbox shop will be full by what runs"
    until(lambda: f"{said}: it waits" in spool.command("why", waits), "why says so")
    assert f"tasks of parent shop: {said}" in spool.command("status")
    (spool.notes / "open").touch()
    read = 0
    while read < 13:
        found = until(lambda: spool.events("shop") or None, f"{read} were told")
        assert len(found) <= 3
        for path in found:
            path.unlink()
        read += len(found)


def test_what_time_takes_from_a_parent_that_does_not_read_waits_as_well(live: Make) -> None:
    spool = live("outbox_limit = 6\n" + handler("order.*", notify="shop", concurrency=1))
    late = {"deadline": "+1s", "lead": 0, "on_miss": "drop"}
    spool.submit_all([{"task": "order.new", "args": n, **late} for n in range(20)])
    spool.status(lambda s: s["full_outboxes"] == ["shop"], "the outbox is known to be full")
    assert 6 <= len(spool.events("shop")) <= 12  # `late` and `cancelled` of each that was decided
    ended: list[str] = []
    while len(ended) < 20:
        path = until(lambda: spool.events("shop") or None, f"{len(ended)} have ended")[0]
        told = json.loads(path.read_bytes())
        path.unlink()
        if told["event"] == "ready":
            answer(spool, "ack", told["id"])
        elif told["event"] != "late":
            ended.append(told["id"])
    assert len(set(ended)) == 20
    assert spool.count("pending") == 0


def test_who_waits_at_a_terminal_sees_how_far_the_task_is(live: Make) -> None:
    spool = live(SHOP)
    task_id = spool.submit("order.new")
    ready(spool, task_id)
    answer(spool, "progress", task_id, percent=42, note="half way")
    main_end, end = pty.openpty()
    words = [sys.executable, "-m", "spool", "--spool", str(spool.root), "wait", task_id]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "160"}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=end, env=env)
    os.close(end)
    shown = b""
    try:
        while b"%  order.new running on node" not in shown or b"42 %, half way" not in shown:
            shown += os.read(main_end, 1 << 16)
        answer(spool, "ack", task_id, result={"paid": True})
        assert process.communicate(timeout=PATIENCE)[0] == b'{"paid":true}\n'
        assert b"wait  [##########..............]  42%  order.new running" in shown
    finally:
        process.kill()
        process.wait()
        os.close(main_end)
