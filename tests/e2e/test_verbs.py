"""hold, release, move, cancel, retry: what each does to a task in each state, and what it refuses."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from spool.names import new_id
from tests.e2e.live import Live, alive, handler

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]

NOTE = handler("note", "cat >> $NOTES/order")
STAY = "echo $$ > $NOTES/pid; trap 'echo TERM > $NOTES/heard; exit 9' TERM; sleep 600 & wait"
STATES = ("pending", "held", "running", "done", "failed", "cancelled")
VERBS = ("cancel", "hold", "release", "retry", "move")
ALLOWED = {
    "pending": {"cancel", "hold", "release", "retry", "move"},
    "held": {"cancel", "hold", "release", "retry", "move"},
    "running": {"cancel"},
    "done": set(),
    "failed": {"retry"},
    "cancelled": {"retry", "cancel"},
}


def brought_to(spool: Live, state: str) -> str:
    """A task of a parent's that stands in this state; nothing takes it away from there by itself."""
    task_id = spool.submit(
        "order", retries=0, **({"at": "+1h"} if state in ("pending", "held", "cancelled") else {})
    )
    if state in ("pending", "held", "cancelled"):
        spool.entry(task_id, "pending")
    if state in ("held", "cancelled"):
        spool.do({"action": {"held": "hold", "cancelled": "cancel"}[state], "ids": [task_id]})
    if state in ("running", "done", "failed"):
        spool.event("ready", task_id, "shop")
    if state == "done":
        spool.do({"action": "ack", "id": task_id, "attempt": 1})
    if state == "failed":
        spool.do({"action": "fail", "id": task_id, "attempt": 1, "error": "x"})
    spool.entry(task_id, state)
    return task_id


@pytest.mark.parametrize("state", STATES)
def test_every_verb_in_every_state_is_done_or_refused_with_the_reason(live: Make, state: str) -> None:
    spool = live(handler("order", notify="shop"))
    after = {
        "cancel": "cancelled",
        "hold": "held",
        "release": "pending",
        "move": state,
        "retry": "pending" if state == "pending" else None,
    }
    for verb in VERBS:
        task_id = brought_to(spool, state)
        more = {"priority": "low"} if verb == "move" else {}
        name = spool.verb(verb, task_id, why="a test", **more)
        spool.taken(name)
        refusal = spool.refusal_now(name)
        if verb in ALLOWED[state]:
            assert refusal is None, f"{verb} in {state}: {refusal}"
            if (wanted := after[verb]) is not None:
                found = spool.entry(task_id, wanted)
                assert verb != "move" or found.prio == found.base == "low"
            else:
                spool.event("ready", task_id, "shop")  # retry: it runs
        else:
            assert refusal is not None, f"{verb} in {state} is refused"
            assert (refusal["field"], refusal["value"], refusal["action"]) == ("ids", task_id, verb)
            assert f"a task that is {state} takes no {verb}" in refusal["rule"]
            assert spool.event("rejected", task_id, "shop")
            assert spool.entry(task_id, state)


def test_a_held_task_does_not_run_and_a_released_one_does(live: Make) -> None:
    spool = live(NOTE)
    task_id = spool.submit("note", args="held", at="+1s")
    spool.do({"action": "hold", "ids": [task_id]})
    entry = spool.entry(task_id, "held")
    assert entry.why == "asked"
    other = spool.submit("note", args="other", at="+1100ms")
    spool.event("done", other)
    assert spool.lines("order") == ['"other"']
    spool.do({"action": "release", "ids": [task_id]})
    spool.event("done", task_id)


def test_what_is_held_for_want_of_code_can_be_held_when_that_comes(live: Make) -> None:
    spool = live(NOTE)
    task_id = spool.submit("later")
    assert spool.entry(task_id, "held").why == "no-handler"
    spool.do({"action": "hold", "ids": [task_id]})
    assert spool.entry(task_id, "held").why == "asked"
    first = spool.submit("later")
    spool.entry(first, "held")
    (spool.root / "spool.toml").write_text(NOTE + handler("later", "true"))
    spool.end(first)
    assert spool.entry(task_id, "held").why == "asked"
    spool.do({"action": "release", "ids": [task_id]})
    spool.end(task_id)


def test_of_several_tasks_those_nobody_knows_are_refused_by_name_and_the_others_are_done(
    live: Make,
) -> None:
    spool = live(NOTE)
    there, *unknown = spool.submit("note", at="+1h"), new_id(), new_id()
    reason = spool.refusal(spool.drop({"action": "cancel", "ids": [unknown[0], there, unknown[1]]}))
    assert reason["rule"] == dict.fromkeys(unknown, "no task has this id")
    assert (reason["field"], reason["value"]) == ("ids", unknown)
    spool.entry(there, "cancelled")


def test_a_hold_survives_a_restart(live: Make) -> None:
    spool = live(NOTE)
    task_id = spool.submit("note", at="+1s")
    spool.do({"action": "hold", "ids": [task_id]})
    spool.kill9()
    spool.start()
    spool.event("done", spool.submit("note", at="+1s"))
    assert spool.entry(task_id, "held")


def test_cancel_of_a_waiting_task_is_told_and_leaves_a_record(live: Make) -> None:
    spool = live(NOTE)
    task_id = spool.submit("note", at="+1h")
    spool.verb("cancel", task_id, why="not needed")
    told = spool.event("cancelled", task_id)
    assert (told["outcome"], told["started_at"]) == ("cancelled", None)
    assert spool.entry(task_id, "cancelled")
    assert spool.journal("cancel")[0]["by"] == told["by"] == {"uid": os.getuid(), "why": "not needed"}


@pytest.mark.parametrize("grace", [30, 0])
def test_cancel_of_a_process_ends_it_first(live: Make, grace: float) -> None:
    spool = live(f"grace = {grace}\n" + handler("stay", STAY))
    task_id = spool.submit("stay")
    pid = int(spool.note("pid"))
    spool.verb("cancel", task_id, why="not needed")
    told = spool.event("cancelled", task_id)
    assert (alive(pid), told["by"]["why"]) == (False, "not needed")
    if grace:
        assert spool.note("heard") == "TERM"
        assert told["exit"] == 9
    else:
        assert told["signal"] == signal.SIGKILL
    assert spool.entry(task_id, "cancelled")
    spool.taken(spool.verb("cancel", task_id))
    assert spool.reasons() == []


def test_cancel_of_a_parents_task_is_told_and_its_late_answer_is_stale(live: Make) -> None:
    spool = live(handler("order", notify="shop"))
    task_id = spool.submit("order")
    spool.event("ready", task_id, "shop")
    spool.verb("cancel", task_id)
    spool.event("cancelled", task_id, "shop")
    reason = spool.refusal(spool.drop({"action": "ack", "id": task_id, "attempt": 1}))
    assert "stale" in reason["rule"]


def test_move_changes_class_place_and_time(live: Make) -> None:
    spool = live("concurrency = 1\n" + NOTE)
    ids = {n: spool.submit("note", args=n, at="+1h") for n in range(4)}
    spool.wait_count(4, "pending")
    spool.do({"action": "pause"})
    spool.do({"action": "move", "ids": list(ids.values()), "at": "+0s"})
    spool.do({"action": "move", "ids": [ids[3]], "priority": "high"})
    spool.do({"action": "move", "ids": [ids[2]], "position": "front"})
    spool.do({"action": "move", "ids": [ids[0]], "priority": "low"})
    spool.do({"action": "resume"})
    assert spool.wait_lines("order", 4) == ["3", "2", "1", "0"]


def test_move_to_a_nearer_time_wakes_the_daemon_and_to_a_later_one_puts_it_off(live: Make) -> None:
    spool = live(NOTE)
    sooner, later = (
        spool.submit("note", args="sooner", at="+1h"),
        spool.submit("note", args="later", at="+1s"),
    )
    spool.wait_count(2, "pending")
    spool.do({"action": "move", "ids": [later], "at": "2030-01-01"})
    spool.do({"action": "move", "ids": [sooner], "at": "+1500ms"})
    spool.event("done", sooner)
    assert spool.lines("order") == ['"sooner"']


def test_move_of_a_deadline_lifts_at_the_new_one(live: Make) -> None:
    spool = live("concurrency = 1\n" + NOTE)
    spool.do({"action": "pause"})
    task_id = spool.submit("note", priority="low", deadline="+10h")
    spool.entry(task_id, "pending")
    spool.do({"action": "move", "ids": [task_id], "deadline": "+2s"})
    assert spool.entry(task_id, "pending", where=lambda e: e.lifted > 0).prio == "high"


def test_one_verb_on_many_tasks_does_what_it_can_and_names_the_rest(live: Make) -> None:
    spool = live(NOTE)
    done = spool.submit("note")
    spool.event("done", done)
    waiting = [spool.submit("note", at="+1h", args=n) for n in range(3)]
    spool.wait_count(3, "pending")
    reason = spool.refusal(spool.verb("cancel", waiting[0], done, *waiting[1:]))
    assert reason["field"] == "ids"
    assert reason["value"] == done
    spool.wait_count(3, "cancelled")


def test_a_verb_on_an_unknown_task_is_refused(live: Make) -> None:
    spool = live(NOTE)
    unknown = "0193a5b27c4d7e8f9a0b1c2d3e4f5a6b"
    reason = spool.refusal(spool.verb("cancel", unknown))
    assert (reason["field"], reason["value"], reason["rule"]) == ("ids", unknown, "no task has this id")
