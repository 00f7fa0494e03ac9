"""Failures of one kind are one group: counted, told once, resolved, muted, retried together."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from spool import failures
from spool.init import init
from spool.names import new_id
from spoold.core.failures import Groups
from tests.e2e.live import ROOT, Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]

# Fails for as long as the file is there, in words that differ from attempt to attempt.
BREAKS = (
    "if test -e $NOTES/broken; then "
    'echo "$(date +%s%N) cannot reach relay $SPOOL_ID: $(cat $NOTES/broken)" >&2; exit 1; fi'
)
TOML = 'backoff = "1ms"\nretries = 0\n' + handler("mail.*", BREAKS) + handler("order", notify="shop")


def groups(spool: Live) -> list[dict[str, Any]]:
    return [json.loads(p.read_bytes()) for p in sorted((spool.root / "errors").glob("[!.]*.json"))]


def group(spool: Live, wanted: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
    return until(lambda: next(filter(wanted, groups(spool)), None), what)


def break_it(spool: Live, why: str = "refused") -> None:
    (spool.notes / "broken").write_text(why)


def mend(spool: Live) -> None:
    (spool.notes / "broken").unlink()


def told(spool: Live, parent: str = "default") -> list[str]:
    """Why each recurring error was told, in order."""
    paths = sorted((spool.root / "outbox" / parent).glob("*,recurring-error.json"))
    return [json.loads(path.read_bytes())["group"]["why"] for path in paths]


def fail(spool: Live, many: int, task: str = "mail.send") -> list[str]:
    ids = spool.submit_all([{"task": task} for _ in range(many)])
    for task_id in ids:
        spool.entry(task_id, "failed")
    return ids


def test_failures_that_differ_by_chance_are_one_group_and_told_once(live: Make) -> None:
    spool = live(TOML)
    break_it(spool)
    ids = fail(spool, 5)
    found = group(spool, lambda g: g["count"] == 5, "all five are counted")
    assert (found["task"], found["type"], found["failed"]) == ("mail.send", "exit 1", 5)
    assert found["nodes"] == {spool.node: 5}
    assert {example["id"] for example in found["examples"]} == set(ids)
    assert sum(found["hours"].values()) == sum(found["minutes"].values()) == 5
    assert told(spool) == ["new"]
    record = spool.records(ids[0])[0]
    assert record["error"]["fingerprint"] == found["fingerprint"]
    break_it(spool, "and now it answers")
    other = fail(spool, 1)[0]
    assert spool.records(other)[0]["error"]["fingerprint"] != found["fingerprint"]
    until(lambda: told(spool) == ["new", "new"], "both groups are told")
    assert len(groups(spool)) == 2 or group(spool, lambda g: g["count"] == 1, "the other one")


def test_a_group_is_told_when_it_becomes_frequent_and_not_at_each_failure(live: Make) -> None:
    spool = live("recurring_count = 4\n" + TOML)
    break_it(spool)
    fail(spool, 12)
    assert told(spool) == ["new", "frequent"]


@pytest.mark.parametrize("killed", [False, True])
def test_a_group_is_told_as_frequent_once_over_restarts(live: Make, *, killed: bool) -> None:
    spool = live("recurring_count = 4\n" + TOML)
    break_it(spool)
    fail(spool, 6)
    if killed:
        spool.kill9()
    else:
        spool.stop()
    spool.start()
    fail(spool, 6)
    group(spool, lambda g: g["count"] == 12, "all are counted")
    assert told(spool) == ["new", "frequent"]


def test_a_group_that_was_not_frequent_for_a_whole_window_is_told_again() -> None:
    groups, limits = Groups(), (3, 10)
    content = {"id": "", "attempt": 1, "task": "t", "event": "failed", "version": None, "node": "n"}
    error = {"fingerprint": "f", "type": "E", "message": "m", "trace": None}
    record = {**content, "error": error}
    heard = [(at, groups.count(record, at, limits)) for at in (0, 1, 2, 3, 20, 21, 22, 23)]
    assert [one for one in heard if one[1]] == [(0, "new"), (2, "frequent"), (22, "frequent")]


def test_failures_that_a_clock_set_back_puts_side_by_side_are_not_frequent() -> None:
    groups, content = Groups(), {"id": "", "attempt": 1, "task": "t", "event": "failed", "version": None}
    error = {"fingerprint": "f", "type": "E", "message": "m", "trace": None}
    record = {**content, "node": "n", "error": error}
    heard = [groups.count(record, at, (3, 10)) for at in (0, 100, 200, 101, 201, 301)]
    assert heard == ["new", "", "", "", "", ""]


@pytest.mark.parametrize("theirs", [None, 3600, -3600])
def test_a_clock_that_is_set_or_another_nodes_makes_no_failure_frequent_again(theirs: int | None) -> None:
    groups, limits, file, heard = Groups(), (3, 600 * 1_000_000), b"", []
    content = {"id": "", "attempt": 1, "task": "t", "event": "failed", "version": None, "node": "n"}
    error = {"fingerprint": "f", "type": "E", "message": "m", "trace": None}
    record = {**content, "error": error}
    begun = 1_800_000_000
    ahead = [begun + 3600 + one for one in range(5)] if theirs is None else []
    for at in (*ahead, *range(begun, begun + 1000, 10)):
        heard.append(groups.count(record, at * 1_000_000, limits))
        found = groups.joined(failures.decode(file), "n") if file else groups.table["f"]
        groups.table["f"] = found
        groups.dirty.clear()
        if at not in (*ahead[:2], begun, begun + 10):  # as many by this clock
            assert found.frequent == at * 1_000_000
        file = failures.encode(found)
        if theirs is not None and found.frequent:  # another node writes, and is heard
            other = replace(found, frequent=(at + theirs) * 1_000_000)
            file = failures.encode(other)
            groups.put(groups.joined(failures.decode(file), "n"))
            assert groups.table["f"].frequent == other.frequent
    assert [why for why in heard if why] == ["new", *["frequent"] * (2 if ahead else 1)]


def test_a_parents_failure_is_grouped_as_any_other(live: Make) -> None:
    spool = live(TOML)
    for number in (1, 2):
        task_id = spool.submit("order")
        spool.event("ready", task_id, "shop")
        error = {"type": "NoStock", "message": f"none left of article {number}"}
        spool.do({"action": "fail", "id": task_id, "attempt": 1, "error": error, "retry": False})
    found = group(spool, lambda g: g["count"] == 2, "both are counted")
    assert (found["task"], found["type"], found["message"]) == (
        "order",
        "NoStock",
        "none left of article 1",
    )
    assert told(spool, "shop") == ["new"]


def test_what_was_resolved_and_comes_back_is_told_what_is_muted_is_not(live: Make) -> None:
    spool = live("recurring_count = 2\n" + TOML)
    break_it(spool)
    fail(spool, 1)
    found = group(spool, lambda g: g["count"] == 1, "it is counted")
    name = found["fingerprint"]
    spool.do({"action": "resolve", "errors": [name], "why": "the relay is back"})
    kept = group(spool, lambda g: g["state"] == "resolved", "it is resolved")
    assert kept["by"]["why"] == "the relay is back"
    fail(spool, 1)
    assert group(spool, lambda g: g["count"] == 2, "it came back")["state"] == "open"
    assert told(spool) == ["new", "back"]
    spool.do({"action": "mute", "errors": [name], "until": "+1h"})
    fail(spool, 4)
    assert group(spool, lambda g: g["count"] == 6, "all are counted")["state"] == "muted"
    assert told(spool) == ["new", "back"]
    spool.do({"action": "reopen", "errors": [name]})
    assert group(spool, lambda g: g["state"] == "open", "it is open again")["until"] is None
    assert [line["event"] for line in spool.journal() if "errors" in line] == [
        "resolve",
        "mute",
        "reopen",
    ]


def test_what_is_said_of_an_unknown_group_is_refused(live: Make) -> None:
    spool = live(TOML)
    name = spool.drop({"action": "resolve", "errors": ["0123456789abcdef"]})
    spool.taken(name)
    refusal = spool.refusal_now(name)
    assert refusal is not None
    assert (refusal["field"], refusal["value"]) == ("errors", "0123456789abcdef")


def test_counts_and_words_survive_a_kill_at_any_moment(live: Make) -> None:
    spool = live(TOML)
    break_it(spool)
    fail(spool, 3)
    name = spool.records(next(iter(spool.entries("failed")))[1].id)[0]["error"]["fingerprint"]
    spool.do({"action": "mute", "errors": [name], "why": "known"})
    spool.kill9()  # perhaps before any of it was written to errors/
    spool.start()
    found = group(spool, lambda g: g["count"] == 3 and g["state"] == "muted", "all of it is there again")
    assert found["by"]["why"] == "known"
    fail(spool, 1)
    group(spool, lambda g: g["count"] == 4, "and it goes on")


def test_all_that_failed_the_same_way_are_retried_with_one_action(live: Make) -> None:
    spool = live(TOML)
    break_it(spool)
    same = fail(spool, 30)
    break_it(spool, "another reason altogether")
    other = fail(spool, 2)
    name = spool.records(same[0])[0]["error"]["fingerprint"]
    mend(spool)
    spool.do({"action": "retry", "match": {"error": name}, "why": "the relay is back"})
    for task_id in same:
        spool.entry(task_id, "done")
    for task_id in other:
        spool.entry(task_id, "failed")
    (line,) = spool.journal("match")
    assert (line["action"], line["found"], line["changed"]) == ("retry", 30, 30)
    assert line["by"]["why"] == "the relay is back"
    assert all(one["by"]["why"] == "the relay is back" for one in spool.journal("retry"))


def test_a_bulk_verb_takes_its_filters_by_their_word(live: Make) -> None:
    spool = live(TOML)
    ids = spool.submit_all([{"task": f"mail.{n % 2}", "at": "+1h"} for n in range(20)])
    late = spool.submit("mail.0", at="+2d")
    spool.entry(late, "pending")
    spool.do({"action": "hold", "match": {"task": "mail.0", "until": "+1d"}})
    for task_id in ids:
        entry = spool.entry(task_id, "held" if ids.index(task_id) % 2 == 0 else "pending")
        assert entry.task == f"mail.{ids.index(task_id) % 2}"
    assert spool.entry(late, "pending")
    spool.do({"action": "release", "match": {"state": "held"}})
    spool.do({"action": "move", "match": {"task": "mail.*"}, "priority": "high", "position": "front"})
    assert {e.prio for _, e in spool.entries("pending")} == {"high"}
    spool.do({"action": "cancel", "match": {"since": "+1d"}})
    assert [e.id for _, e in spool.entries("cancelled")] == [late]


def test_what_was_put_aside_before_its_time_is_retried_by_what_it_is(live: Make) -> None:
    spool = live(TOML)
    for verb, state in (("cancel", "cancelled"), ("hold", "held")):
        ids = [spool.submit("mail.send", at="+1d") for _ in range(3)]
        spool.signal(signal.SIGSTOP)  # both are carried out in one go
        spool.drop({"action": verb, "match": {"task": "mail.*"}})
        spool.drop({"action": "retry", "match": {"state": state}})
        spool.signal(signal.SIGCONT)
        for task_id in ids:
            spool.entry(task_id, "done")


def test_what_is_cancelled_and_replayed_in_one_go_is_replayed(live: Make) -> None:
    spool = live(REPLAYED)
    old = spool.submit("mail.send", at="+1d")
    spool.entry(old, "pending")
    spool.signal(signal.SIGSTOP)
    spool.drop({"action": "cancel", "match": {"task": "mail.*"}})
    spool.drop({"action": "replay", "match": {"state": "cancelled"}})
    spool.signal(signal.SIGCONT)
    (line,) = until(lambda: replays(spool) or None, "it is submitted")
    assert line["replay_of"] == old


def test_what_is_submitted_after_a_verb_on_all_is_not_meant(live: Make) -> None:
    spool = live(TOML)
    old = spool.submit("mail.send", at="+1d")
    spool.entry(old, "pending")
    spool.signal(signal.SIGSTOP)
    name = spool.drop({"action": "cancel", "match": {"task": "mail.*"}})
    dropped = (spool.root / "incoming" / name).stat().st_ctime_ns // 1000
    ticks = spool.notes / "tick"

    def later() -> bool:
        ticks.write_text("")
        return ticks.stat().st_ctime_ns // 1000 > dropped

    until(later, "the clock of the disk goes on")
    new = spool.submit("mail.send", at="+1d")
    spool.signal(signal.SIGCONT)
    spool.entry(old, "cancelled")
    (line,) = until(lambda: spool.journal("match") or None, "that was all")
    assert line["changed"] == 1
    spool.entry(new, "pending")


def test_a_verb_on_all_changes_what_waits_for_its_time_too(live: Make) -> None:
    spool = live(TOML)
    ids = [spool.submit("mail.send", at="+1d") for _ in range(3)]
    spool.do({"action": "move", "match": {"task": "mail.*"}, "priority": "low", "position": "back"})
    for task_id in ids:
        assert spool.entry(task_id, "pending").prio == "low"
    spool.do({"action": "move", "match": {"task": "mail.*"}, "priority": "low", "position": "back"})
    assert [line["changed"] for line in spool.journal("match")] == [3, 0]


def test_a_retry_of_all_meets_none_twice_also_where_a_kill_cut_it_off(live: Make) -> None:
    spool = live(TOML)
    break_it(spool)
    ids = fail(spool, 150)
    name = spool.drop({"action": "retry", "match": {"task": "mail.*"}})
    until(lambda: len(spool.journal("give_up")) > len(ids), "some have failed again")
    spool.kill9()
    spool.start()
    spool.taken(name)
    for task_id in ids:
        spool.entry(task_id, "failed", where=lambda e: e.attempt > 1)
    retried = [line["id"] for line in spool.journal("retry")]
    assert sorted(retried) == sorted(ids)


def test_a_verb_no_state_takes_is_refused_as_a_whole(live: Make) -> None:
    spool = live(TOML)
    name = spool.drop({"action": "retry", "match": {"state": "done"}})
    spool.taken(name)
    refusal = spool.refusal_now(name)
    assert refusal is not None
    assert refusal["field"] == "match.state"
    assert "a task that is done takes no retry" in refusal["rule"]


def test_a_bulk_verb_lets_what_is_ready_pass_on_the_way(live: Make) -> None:
    spool = live("window = 100\n" + TOML)
    for _ in range(4):
        spool.submit_all([{"task": "mail.x", "at": "+1h"} for _ in range(500)])
    until(lambda: spool.count("pending") == 2000, "all are there")
    spool.signal(signal.SIGSTOP)
    spool.drop({"action": "hold", "match": {"task": "mail.x"}})
    ready = spool.submit("mail.now")
    spool.signal(signal.SIGCONT)
    spool.entry(ready, "done")
    until(lambda: spool.journal("match") or None, "all are held")
    (claim,) = spool.journal("claim")
    held = [line["at"] for line in spool.journal("hold")]
    assert (claim["id"], len(held)) == (ready, 2000)
    assert claim["at"] < max(held)


def test_a_bulk_verb_that_a_kill_cut_off_is_finished_after_the_start(live: Make) -> None:
    spool = live("window = 100\n" + TOML)
    ids = [
        i
        for _ in range(4)
        for i in spool.submit_all([{"task": "mail.x", "at": "+1h"} for _ in range(500)])
    ]
    until(lambda: len(list(spool.paths("pending"))) == len(ids), "all are there")
    name = spool.drop({"action": "hold", "match": {"task": "mail.x"}})
    until(lambda: len(list(spool.paths("held"))) > 10, "some are held")
    spool.kill9()
    spool.start()
    spool.taken(name)
    assert len(list(spool.paths("held"))) == len(ids)


REPLAYED = (
    handler("mail.*", 'echo "$SPOOL_REPLAY_OF" >> $NOTES/ran')
    + handler("pay", "echo paid >> $NOTES/paid", replayable=False)
    + handler("order", notify="shop")
)


def replays(spool: Live) -> list[dict[str, Any]]:
    return [line for line in spool.journal("submit") if "replay_of" in line]


def test_a_replay_is_a_new_task_as_the_old_one_was(live: Make) -> None:
    spool = live(REPLAYED)
    old = spool.submit("mail.send", args={"to": "zoe"}, meta={"k": 1}, priority="high")
    spool.entry(old, "done")
    spool.do({"action": "replay", "ids": [old], "why": "once more"})
    (line,) = until(lambda: replays(spool), "it is submitted")
    spool.entry(line["id"], "done")
    one, two = spool.records(old)[0], spool.records(line["id"])[0]
    assert (one["replay_of"], two["replay_of"]) == (None, old)
    assert all(one[name] == two[name] for name in ("task", "args", "meta", "class", "parent"))
    assert (spool.notes / "ran").read_text().split("\n") == ["", old, ""]
    assert spool.event("done", line["id"])["replay_of"] == old


def test_what_is_not_replayable_is_refused_by_its_handlers_name_unless_forced(live: Make) -> None:
    spool = live(REPLAYED)
    ids = [spool.submit(task) for task in ("pay", "mail.send", "pay")]
    for task_id in ids:
        spool.entry(task_id, "done")
    waits = spool.submit("mail.send", at="+1h")
    spool.entry(waits, "pending")
    name = spool.drop({"action": "replay", "ids": [*ids, waits]})
    spool.taken(name)
    refusal = spool.refusal_now(name)
    assert refusal is not None
    assert "handler pay is not replayable" in refusal["rule"]
    assert f"{waits} is pending" in refusal["rule"]
    assert [line["replay_of"] for line in replays(spool)] == [ids[1]]
    command = [sys.executable, "-m", "spool", "--spool", str(spool.root), "replay", *ids, "--dry-run"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (asked.returncode, asked.stdout) == (65, f"{ids[1]}\n")
    assert asked.stderr.count("handler pay is not replayable") == 1
    init(other := f"{spool.root}.other")
    command[-1:] = ["--into", other, "--yes", "--json"]
    (refused,) = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)["refused"]
    assert (refused["id"], refused["tasks"]) == (None, 2)
    assert "handler pay is not replayable" in refused["why"]
    command[-4:] = ["--dry-run"]
    assert subprocess.run([*command, "--force"], capture_output=True, check=False).stdout.split() == [
        one.encode() for one in ids
    ]
    spool.do({"action": "replay", "match": {"task": "pay"}, "force": True})
    assert {line["replay_of"] for line in replays(spool)} == set(ids)
    assert spool.journal("match")[-1]["force"] is True


def test_a_replay_of_what_matches_never_replays_its_own_tasks(live: Make) -> None:
    spool = live(REPLAYED)
    for task_id in spool.submit_all([{"task": "mail.send"} for _ in range(120)]):
        spool.entry(task_id, "done")
    spool.do({"action": "replay", "match": {"task": "mail.*"}})
    until(lambda: len(list(spool.paths("done"))) == 240, "all ran once more")
    assert len({line["replay_of"] for line in replays(spool)}) == len(replays(spool)) == 120


def test_a_replay_is_gone_on_with_by_its_id_and_takes_what_ended_before_its_time(live: Make) -> None:
    spool = live(REPLAYED)
    done, cancelled = spool.submit("mail.send"), spool.submit("mail.send", at="+1d")
    spool.do({"action": "cancel", "ids": [cancelled]})
    spool.entry(done, "done")
    action = {"action": "replay", "match": {"task": "mail.*"}, "id": new_id()}
    for _ in range(2):
        spool.do(action)
        until(lambda: len(list(spool.paths("done"))) == 3, "both ran once more")
    assert {line["replay_of"] for line in replays(spool)} == {done, cancelled}
    assert not list(spool.paths("pending", "running"))


def test_an_interrupted_replay_runs_nothing_twice(live: Make) -> None:
    spool = live("window = 100\n" + REPLAYED)
    ids = spool.submit_all([{"task": "order"} for _ in range(300)])
    until(lambda: len(list(spool.paths("running"))) == 300, "they are with the parent")
    for task_id in ids:
        spool.drop({"action": "ack", "id": task_id, "attempt": 1})
    until(lambda: len(list(spool.paths("done"))) == 300, "all are done")
    action = {"action": "replay", "match": {"task": "order"}, "id": new_id()}
    name = spool.drop(action)
    until(lambda: len(replays(spool)) > 0, "the first ones are submitted")
    spool.kill9()
    spool.start()
    spool.taken(name)
    spool.do(action)  # and sent once more
    made = {e.id for _, e in spool.entries()} - set(ids)
    assert len(made) == 300
    assert {(line["found"], line["changed"]) for line in spool.journal("match")} == {(300, 300)}


def test_fsck_makes_groups_anew_from_records_and_the_journal(live: Make) -> None:
    spool = live(TOML)
    break_it(spool)
    fail(spool, 1)
    fail(spool, 2)
    relay = group(spool, lambda g: g["count"] == 3, "three are counted")["fingerprint"]
    spool.do({"action": "mute", "errors": [relay], "until": "+1h", "why": "known"})
    fail(spool, 2)
    break_it(spool, "and now it answers")
    fail(spool, 1)
    other = group(spool, lambda g: g["count"] == 1, "another one")["fingerprint"]
    spool.do({"action": "resolve", "errors": [other], "why": "mended"})
    group(spool, lambda g: g["count"] == 5, "all of them")
    spool.stop()
    before = ordered(spool)
    path = spool.root / "errors" / f"{relay}.json"

    def checked(*words: str) -> list[dict[str, Any]]:
        command = [sys.executable, "-m", "spool", "--spool", str(spool.root), "fsck", "--json", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode in (0, 1), done.stderr
        return [json.loads(row) for row in done.stdout.splitlines()]

    assert checked() == []
    for what in ("gone", "torn", "behind"):
        if what == "gone":
            for one in (spool.root / "errors").iterdir():
                one.unlink()
        elif what == "torn":
            path.write_bytes(path.read_bytes()[:-20])
        else:
            path.write_text(json.dumps({**json.loads(path.read_text()), "count": 2, "hours": {}}))
        assert checked()
        assert not any(row["mended"] for row in checked())
        assert all(row["mended"] for row in checked("--repair"))
        assert ordered(spool) == before, what
        assert checked("--repair") == checked() == []
    spool.start()  # and the daemon goes on from there
    fail(spool, 1)
    group(spool, lambda g: g["fingerprint"] == other and g["count"] == 2, "it is back")


def ordered(spool: Live) -> list[dict[str, Any]]:
    """All groups; failures of one instant have no order."""
    found = groups(spool)
    for one in found:
        one["examples"].sort(key=lambda example: (example["at"], example["id"]))
    return found
