"""after: a task starts when those it waits for are done, never before, and is told where they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from spool import layout
from spool.names import new_id
from tests.e2e.live import Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]

STEP = handler("step", 'echo "$SPOOL_ID" >> $NOTES/done')
BAD = handler("bad", "exit 1", retries=0)
ORDER = handler("order", notify="shop")


def step(task_id: str | None = None, **more: Any) -> dict[str, Any]:
    """The body of a step."""
    return {"task": "step", "id": task_id or new_id(), **more}


def explain(spool: Live, task_id: str) -> str:
    """What `spool why` says."""
    words = [sys.executable, "-m", "spool", "why", task_id]
    env = {**os.environ, "SPOOL_DIR": str(spool.root)}
    return subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout


def test_a_chain_in_one_file_runs_in_its_order_whatever_the_order_in_the_file(live: Make) -> None:
    spool = live("concurrency = 8\n" + STEP)
    bodies = [step(ref=f"s{n}", after=[f"s{n - 1}"] if n else []) for n in range(8)]
    del bodies[0]["after"]
    spool.drop({"tasks": bodies[::-1]})
    assert spool.wait_lines("done", 8) == [body["id"] for body in bodies]
    spool.wait_count(8, "done")


def test_a_task_after_many_starts_when_all_are_done_and_only_once(live: Make) -> None:
    spool = live("concurrency = 4\n" + STEP)
    first = [step() for _ in range(50)]
    last = step(after=[body["id"] for body in first])
    spool.drop({"tasks": first})
    spool.drop(last)
    assert spool.wait_lines("done", 51)[-1] == last["id"]
    spool.wait_count(51, "done")
    assert len(spool.lines("done")) == 51


@pytest.mark.parametrize(
    ("choice", "state"), [("cancel", "cancelled"), ("run", "done"), ("wait", "held")]
)
def test_where_one_fails_the_others_do_as_they_were_told(live: Make, choice: str, state: str) -> None:
    spool = live(STEP + BAD + ORDER)
    good, bad = new_id(), new_id()
    last = step(after=[bad, good], on_failure=choice)
    spool.drop({"tasks": [{"task": "order", "id": good}, {"task": "bad", "id": bad}, last]})
    spool.end(bad)
    if choice != "cancel":
        spool.entry(last["id"], "held")
    spool.event("ready", good, "shop")
    spool.do({"action": "ack", "id": good, "attempt": 1})
    spool.entry(last["id"], state)
    if choice == "cancel":
        told = spool.end(last["id"])
        assert (told["error"]["type"], bad in told["error"]["message"]) == ("predecessor", True)
    if choice == "wait":
        said = explain(spool, last["id"])
        assert said.startswith(f"waits for {bad} (failed)")
        assert f"`spool retry {bad}` tries that again, `spool release {last['id']}`" in said
        spool.do({"action": "release", "ids": [last["id"]]})
        spool.entry(last["id"], "done")


@pytest.mark.parametrize("found", ["while others wait", "before", "by fsck"])
def test_one_that_was_put_aside_has_failed_for_those_that_wait_for_it(live: Make, found: str) -> None:
    spool = live(STEP)
    bad = spool.submit("step", at="+1d")
    choices = ("cancel", "run", "only", "wait")
    last = {choice: step(after=[bad], on_failure=choice) for choice in choices}
    last["run"]["args"] = {"of": {"$result": bad}}

    def drop() -> None:
        spool.submit_all(list(last.values()))

    spool.entry(bad, "pending")
    if found != "before":
        drop()
        spool.wait_count(4, "held")
    if found == "by fsck":
        spool.stop()
    os.truncate(spool.root / layout.own_copy(bad), 9)
    if found == "by fsck":
        spool.command("fsck", "--repair", check=False)
        spool.start()
    spool.verb("move", bad, at="+0s")
    spool.event("failed", bad)
    if found == "before":
        drop()
    message = spool.end(last["cancel"]["id"])["error"]["message"]
    assert message == f"{bad}, which it waits for, was damaged"
    assert [spool.end(last[choice]["id"])["event"] for choice in ("run", "only")] == ["done", "done"]
    said = f"waits for {bad} (damaged); `spool release {last['wait']['id']}` lets it go on"
    assert explain(spool, last["wait"]["id"]).strip() == said
    spool.stop()
    spool.start()
    spool.submit("step", id=bad)  # its id is free
    spool.end(last["wait"]["id"])


@pytest.mark.parametrize("record", [None, b"", b"{"], ids=["gone", "empty", "torn"])
def test_one_that_has_ended_and_has_no_whole_record_holds_nobody_up(
    live: Make, record: bytes | None
) -> None:
    spool = live(STEP + BAD)
    good, bad = spool.submit("step"), spool.submit("bad")
    for one in (good, bad):
        spool.end(one)
        path = spool.root / layout.record(one, 1)
        path.unlink()
        if record is not None:
            path.write_bytes(record)
    last = [step(after=[one], on_failure=choice) for one in (good, bad) for choice in ("cancel", "run")]
    given = step(args={"of": {"$result": good}})
    stays, goes = step(after=[bad]), step(after=[good])
    spool.submit_all([*last, given, stays, goes])
    spool.wait_count(7, "held")
    assert f"waits for {bad} (failed); `spool retry {bad}`" in explain(spool, stays["id"])
    for one in (last[0], goes):
        assert explain(spool, one["id"]).startswith(f"{good} is done, and no whole record tells it")
    spool.stop()
    spool.start()
    assert [spool.end(one["id"])["event"] for one in last] == ["done", "done", "cancelled", "done"]
    assert spool.end(given["id"])["error"]["type"] == "result"
    assert spool.end(goes["id"])["event"] == "done"


def test_a_cancel_goes_down_a_chain(live: Make) -> None:
    spool = live(STEP + ORDER)
    ids = [new_id() for _ in range(4)]
    bodies = [{"task": "order", "id": ids[0], "at": "+1h"}]
    bodies += [step(i, after=[before], on_failure="cancel") for before, i in pairwise(ids)]
    spool.drop({"tasks": bodies})
    spool.entry(ids[3], "held")
    spool.do({"action": "cancel", "ids": [ids[0]]})
    spool.wait_count(4, "cancelled")


def test_a_killed_daemon_starts_nothing_early_and_forgets_nobody(live: Make) -> None:
    spool = live("concurrency = 4\npoison_after = 9\n" + STEP)
    bodies = []
    for chain in range(10):
        refs = [f"c{chain}.{n}" for n in range(4)]
        bodies += [step(ref=ref, **({"after": [refs[n - 1]]} if n else {})) for n, ref in enumerate(refs)]
    spool.drop({"tasks": bodies})
    for count in (3, 12, 25):
        spool.wait_lines("done", count)
        spool.kill9()
        spool.start()
    spool.wait_count(40, "done")
    first = {task_id: place for place, task_id in reversed(list(enumerate(spool.lines("done"))))}
    for before, body in pairwise(bodies):
        if "after" in body:
            assert first[before["id"]] < first[body["id"]]


def test_what_has_ended_before_counts_and_what_nobody_knows_is_refused(live: Make) -> None:
    spool = live(STEP)
    first = step()
    spool.drop(first)
    spool.end(first["id"])
    last = step(after=[first["id"]])
    spool.drop(last)
    spool.entry(last["id"], "done")
    alone = step(after=[new_id()], notify="shop")
    reason = spool.refusal(spool.drop(alone))
    assert (reason["field"], reason["rule"]) == ("after", "no task has this id")
    told = spool.event("rejected", alone["id"], parent="shop")  # it could be read: its parent hears of it
    assert (reason["id"], told["task"]) == (alone["id"], "step")


@pytest.mark.parametrize(
    ("bodies", "field", "rule"),
    [
        ([{"ref": "a", "after": ["b"]}, {"ref": "b", "after": ["a"]}], ".after", "circle"),
        ([{"ref": "a", "after": ["a"]}], ".after", "circle"),
        ([{"ref": "a"}, {"ref": "a"}], "tasks[1].ref", "twice"),
        ([{"ref": "first"}, {"after": ["frist"]}], "tasks[1].after", "no ref"),
        ([{"on_failure": "run"}], "tasks[0].on_failure", "goes with after"),
    ],
)
def test_what_cannot_be_is_refused_whole(
    live: Make, bodies: list[dict[str, Any]], field: str, rule: str
) -> None:
    spool = live(STEP)
    reason = spool.refusal(spool.drop({"tasks": [step(**body) for body in bodies]}))
    assert field in reason["field"]
    assert rule in reason["rule"]
    assert spool.count() == 0


def test_the_command_says_what_a_task_waits_for(live: Make) -> None:
    spool = live(STEP + BAD)
    base = [sys.executable, "-m", "spool"]
    env = {**os.environ, "SPOOL_DIR": str(spool.root)}

    def say(*words: str) -> str:
        return subprocess.run([*base, *words], env=env, capture_output=True, text=True, check=True).stdout

    first = say("submit", "step", "--at", "+1h").strip()
    second = say("submit", "step", "--after", first, "--on-failure", "cancel").strip()
    spool.entry(second, "held")
    assert f"waits for {first} (pending)" in say("why", second)
    assert first in say("show", second)
    failed = say("submit", "bad").strip()
    spool.entry(failed, "failed")
    cases = {
        "wait": f"waits for {failed} (failed) and 1 more; `spool retry",
        "run": f"waits for {first} (pending); ",
    }
    for how, words in cases.items():
        third = say("submit", "step", "--after", first, "--after", failed, "--on-failure", how).strip()
        spool.entry(third, "held")
        assert words in say("why", third)
        spool.do({"action": "cancel", "ids": [third]})
    spool.do({"action": "move", "ids": [first], "at": "+0s"})
    until(lambda: "done" in say("why", second), "it goes on")


def test_what_comes_then_runs_once_when_all_have_ended_whoever_dies_meanwhile(live: Make) -> None:
    spool = live("concurrency = 4\n" + STEP + BAD)
    ids = [new_id() for _ in range(20)]
    bodies = [{"task": "bad" if n == 7 else "step", "id": i} for n, i in enumerate(ids)]
    last = new_id()
    spool.drop({"tasks": bodies, "then": {"task": "step", "id": last}})
    for count in (4, 12):
        spool.wait_lines("done", count)
        spool.kill9()
        spool.start()
    spool.entry(last, "done")
    assert spool.lines("done")[-1] == last
    assert spool.count("done", "failed") == 21
    assert spool.records(last)[-1]["outcome"] == "ok"


def test_what_comes_after_the_first_failure_does_not_wait_for_the_rest_and_ends_where_there_is_none(
    live: Make,
) -> None:
    spool = live(STEP + BAD + ORDER)
    slow, bad, alarm, none = (new_id() for _ in range(4))
    rest: list[dict[str, Any]] = [{"task": "bad", "id": bad}, {"task": "order", "id": slow}]
    spool.drop({"tasks": rest, "then": {"task": "step", "id": alarm, "on_failure": "only"}})
    spool.entry(alarm, "done")
    spool.entry(slow, "running")
    spool.drop({"tasks": [step()], "then": {"task": "step", "id": none, "on_failure": "only"}})
    told = spool.end(none)
    assert (told["event"], told["error"]["message"]) == (
        "cancelled",
        "none of those it waits for has failed",
    )


@pytest.mark.parametrize(
    ("then", "field", "rule"),
    [
        ({"task": "step", "after": ["a"]}, "then.after", "must not be given"),
        ({"task": "step", "ref": "a"}, "then.ref", "twice"),
        ({"task": "step", "on_failure": "no"}, "then.on_failure", "one of"),
        ([], "then", "must be an object"),
    ],
)
def test_a_then_that_cannot_be_is_refused_whole(live: Make, then: object, field: str, rule: str) -> None:
    spool = live(STEP)
    reason = spool.refusal(spool.drop({"tasks": [step(ref="a")], "then": then}))
    assert reason["field"] == field
    assert rule in reason["rule"]
    assert spool.count() == 0


def test_those_that_wait_for_a_task_are_shown_with_it_and_cancelled_and_replayed_as_a_group(
    live: Make,
) -> None:
    spool = live(STEP)
    env = {**os.environ, "SPOOL_DIR": str(spool.root)}

    def say(*words: str) -> str:
        base = [sys.executable, "-m", "spool", *words]
        return subprocess.run(base, env=env, capture_output=True, text=True, check=True).stdout

    first, other = new_id(), new_id()
    waiting = [new_id() for _ in range(3)]
    bodies = [step(first, at="+1h", key="customer 17"), step(other, at="+1h")]
    bodies += [step(one, after=[first, other]) for one in waiting]
    spool.drop({"tasks": bodies})
    spool.wait_count(3, "held")
    shown = say("ls")
    assert shown.count(f"after {first} and 1 more") == 3
    assert "key customer 17" in shown
    assert set(say("cancel", "--after", first, "--dry-run").split()) == set(waiting)
    spool.do({"action": "cancel", "match": {"after": first}})
    spool.wait_count(3, "cancelled")
    spool.do({"action": "replay", "match": {"after": first}})
    spool.wait_count(3, "done")  # what they waited for is no matter of a replay
    spool.do({"action": "cancel", "match": {"key": "customer 17"}})
    spool.entry(first, "cancelled")
    assert spool.where(other) is not None


def test_a_group_is_replayed_in_its_order_with_its_own_results_and_once_however_interrupted(
    live: Make,
) -> None:
    made = handler("made", 'echo "$SPOOL_ID" >> $NOTES/done; date +%s%N > $SPOOL_RESULT')
    told = handler("told", 'cat >> $NOTES/told; echo "$SPOOL_ID" >> $NOTES/done')
    spool = live("concurrency = 4\n" + made + told)
    bodies = [{"task": "made", "ref": f"m{n}", "id": new_id()} for n in range(60)]
    chain = {"task": "made", "ref": "next", "id": new_id(), "after": ["m0"]}
    last = {"task": "told", "id": new_id(), "args": {"$result": "next"}, "on_failure": "run"}
    only = {"task": "told", "id": new_id(), "on_failure": "only"}
    spool.drop({"tasks": [last, chain, *bodies], "then": only})
    spool.wait_count(62, "done")
    spool.entry(only["id"], "cancelled")
    (spool.notes / "done").unlink()
    (spool.notes / "told").unlink()
    spool.drop({"action": "replay", "match": {"since": "2026-01-01"}, "id": new_id()})
    until(lambda: any("replay_of" in line for line in spool.journal("submit")), "it has begun")
    spool.kill9()
    spool.start()
    spool.wait_count(124, "done")
    spool.wait_count(2, "cancelled")
    told = [line for line in spool.journal() if line["event"] in ("submit", "park")]
    new = {line["replay_of"]: line["id"] for line in told if "replay_of" in line}
    assert len(new) == 63
    ran = spool.lines("done")
    assert ran.index(new[bodies[0]["id"]]) < ran.index(new[chain["id"]]) < ran.index(new[last["id"]])
    assert str(spool.end(new[chain["id"]])["result"]) in (spool.notes / "told").read_text()


def test_a_part_of_a_group_is_replayed_without_what_it_waited_for(live: Make) -> None:
    spool = live(STEP + handler("never", "exit 0", replayable=False))
    first, second, third = step(), {"task": "never", "id": new_id()}, new_id()
    spool.drop({"tasks": [first, second, step(third, after=[first["id"], second["id"]])]})
    spool.wait_count(3, "done")
    spool.refusal(spool.drop({"action": "replay", "ids": [third, second["id"]]}))
    spool.wait_count(4, "done")
    spool.refusal(spool.drop({"action": "replay", "match": {"task": "*"}, "id": new_id()}))
    spool.wait_count(7, "done")
