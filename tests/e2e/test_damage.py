"""What is damaged or strange is kept with a reason, and never blocks what stands behind it."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from spool import Spool, layout
from spool.errors import NoSuchTask, PutAside, TimedOut, Unrecorded
from spool.names import Entry, new_id
from spool.owncopy import decode_task, encode_task
from tests.e2e.live import handler, until

NOW = 1_795_000_000_000_000  # long ago: before everything honest in the queue
BODIES = {"empty": b"", "torn": b'{"v":1,"id":"01', "other": b"\x00" * 600, "json": b"[]"}


def plant(live, path, data):
    full = live.root / path
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_bytes(data)
    return full


def entry(name="ok.x"):
    return Entry(time=NOW, id=new_id(), task=name)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_damaged_task_at_the_head_of_the_queue_blocks_nobody(spool_at, body):
    live = spool_at("concurrency = 2\n" + handler("ok.*", "true"))
    bad = [entry() for _ in range(7)]
    for found in bad:
        plant(live, layout.pending(found), body)
        plant(live, layout.own_copy(found.id), body)
    honest = [live.submit("ok.y") for _ in range(3)]
    live.start()
    for task_id in honest:
        assert live.end(task_id)["event"] == "done"
    until(lambda: len(list((live.root / "corrupt").glob("*.reason.json"))) >= len(bad), "all in corrupt/")
    live.wait_count(0, "pending")


@pytest.mark.parametrize("first", ["wait", "damage"])
def test_who_waits_for_a_damaged_task_is_told_where_it_is(live, first):
    live = live(handler("ok.*", "true"))
    task_id = live.submit("ok.x", at="+1h")
    live.entry(task_id, "pending")
    with Spool(live.root) as spool, ThreadPoolExecutor(1) as thread:
        waits = thread.submit(spool.wait, task_id, 30) if first == "wait" else None
        os.truncate(live.root / layout.own_copy(task_id), 9)
        live.drop({"action": "move", "ids": [task_id], "at": "+1s"})
        until(lambda: list((live.root / "corrupt").glob(f"*{task_id}*.json")), "it is in corrupt/")
        with pytest.raises(PutAside, match=f"corrupt/.*{task_id}"):
            (waits or thread.submit(spool.wait, task_id, 30)).result(60)


@pytest.mark.parametrize("state", ["pending", "held", "running"])
def test_the_parent_of_a_task_that_is_put_aside_is_told(spool_at, state):
    live = spool_at(handler("ok.*", notify="else")).start()
    action = {"id": new_id(), "notify": "me", "at": "+1d", "key": "one"}
    task_id = live.submit("ok.x", **action)
    entry = live.entry(task_id, "pending")
    if state == "held":
        live.do({"action": "hold", "ids": [task_id]})
    live.stop()
    path = live.root / layout.own_copy(task_id)
    if state == "running":
        claimed = layout.running(live.node, replace(entry, time=NOW))
        (live.root / layout.pending(entry)).rename(live.root / claimed)
    os.truncate(path, 9)
    live.start()
    if state != "running":
        first = live.refusal(live.verb("cancel", task_id))["rule"]
        assert live.refusal(live.verb("cancel", task_id))["rule"] == first
    told = live.event("failed", task_id, "me")
    if state != "running":
        assert first == f"was damaged: see {told['entry']}, and the reason beside it"
    assert (told["outcome"], told["error"]["type"], told["will_retry"]) == ("lost", "damaged", False)
    assert (live.root / told["entry"]).stat().st_size == 9
    (line,) = live.journal("quarantine")
    assert (line["id"], line["entry"], line["key"]) == (task_id, told["entry"], "one")
    assert '"quarantine"' in live.command("history", "--json", task_id)
    with Spool(live.root) as spool, pytest.raises(PutAside):
        spool.wait(task_id, 0)
    again = live.submit("ok.x", **{**action, "at": "+0s"})  # as if it had never been, its key is free
    live.event("ready", again, "else")
    live.do({"action": "cancel", "ids": [again]})
    live.stop()
    assert live.once("--until-idle") == 0
    assert not live.events("me", "failed")


def test_who_asks_for_what_was_put_aside_is_told_where_it_is(spool_at):
    live = spool_at()
    damaged = entry()
    plant(live, layout.ended("done", NOW, damaged), b"{")
    live.command("fsck", "--repair", check=False)
    with Spool(live.root) as spool, pytest.raises(PutAside, match=f"corrupt/done_.*{damaged.id}"):
        spool.get(damaged.id)


def test_who_waits_for_a_task_whose_end_is_damaged_is_told_so(live):
    live = live(handler("ok.*", "true"))
    task_id = live.submit("ok.x")
    live.end(task_id)
    with Spool(live.root) as spool:
        (live.root / layout.record(task_id, 1)).write_bytes(b"{")
        with pytest.raises(Unrecorded, match=f"done/.*{task_id}.*fsck --repair"):
            spool.wait(task_id, 30)
        (live.root / layout.record(task_id, 1)).unlink()
        with pytest.raises(Unrecorded):
            spool.wait(task_id, 30)


def test_why_counts_no_attempts_where_nobody_knows_of_them(live):
    live = live(handler("bad", "exit 1", retries=0))
    task_id = live.submit("bad")
    live.end(task_id)
    assert "failed" in live.command("why", task_id)
    (live.root / layout.record(task_id, 1)).unlink()
    live.stop()
    live.command("fsck", "--repair")
    assert " ago: how it ended is not known" in live.command("why", task_id)


def test_why_says_that_a_damaged_task_still_waits_where_it_does(live):
    live = live(handler("ok.*", "true"))
    later = live.submit("ok.x", at="+1h")
    after = live.submit("ok.y", after=[later])
    live.entry(after, "held")
    live.entry(later, "pending")
    os.truncate(live.root / layout.own_copy(later), 0)
    assert f"waits for {later} (pending)" in live.command("why", after)


@pytest.mark.parametrize("verb", ["retry", "cancel"])
def test_what_has_ended_and_is_damaged_stays_what_it_was_though_somebody_asks_for_it(live, verb):
    live = live(handler("ok.*", "true"))
    task_id = live.submit("ok.x")
    live.end(task_id)
    os.truncate(live.root / layout.own_copy(task_id), 9)
    ((path, _),) = live.entries("done")
    rule = live.refusal(live.verb(verb, task_id))["rule"]
    assert rule == f"is damaged, see {path}; `spool fsck` tells more"
    assert live.end(live.submit("ok.y", after=[task_id]))["event"] == "done"
    assert live.refusal(live.drop({"task": "ok.x", "id": task_id}))["field"] == "id"


def test_a_name_that_is_no_entry_is_taken_out_of_the_way(spool_at):
    live = spool_at(handler("ok.*", "true"))
    for i, name in enumerate(
        ["zzz", "000000.000000,x,y.json", "a,b,c.json", "1\x1b[31m.json", "x" * 250]
    ):
        plant(live, f"pending/2026-11-0{i + 1}/high/{name}", b"{}")
    task_id = live.submit("ok.y", priority="low")
    live.start()
    assert live.end(task_id)["event"] == "done"
    until(lambda: len(list((live.root / "corrupt").glob("*.reason.json"))) == 5, "five in corrupt/")


@pytest.mark.parametrize("kind", ["symlink", "directory", "fifo"])
def test_what_is_no_regular_file_is_not_read_and_blocks_nobody(spool_at, kind):
    live = spool_at(handler("ok.*", "true"))
    path = live.root / layout.pending(entry())
    path.parent.mkdir(parents=True)
    if kind == "symlink":
        path.symlink_to("/etc/passwd")
    elif kind == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    task_id = live.submit("ok.y")
    live.start()
    assert live.end(task_id)["event"] == "done"
    until(lambda: not path.is_symlink() and not path.exists(), "it is out of the way")


def test_damage_in_running_is_put_aside_at_start(spool_at):
    live = spool_at(handler("ok.*", "true"))
    plant(live, layout.running(live.node, entry()), b"")
    plant(live, f"running/{live.node}/nonsense", b"")
    plant(live, f"running/{live.node}/.half,written", b"{")
    (live.root / "running" / live.node / ".a-directory").mkdir()
    live.start()
    assert live.end(live.submit("ok.y"))["event"] == "done"
    assert os.listdir(live.root / "running" / live.node) == []


def test_a_name_in_another_order_is_understood_and_put_in_order(spool_at):
    live = spool_at(handler("ok.*", "true"))
    task_id = live.submit("ok.x", at="+1d")
    live.start()
    until(lambda: live.count("pending") == 1, "it waits")
    live.stop()
    (path,) = live.paths("pending")
    task = decode_task((live.root / path).read_bytes())
    odd = Entry(time=NOW, id=task_id, task=task.task)
    name = layout.pending(odd).replace(".json", ",b=medium.json")  # says what is the default
    plant(live, name, encode_task(task))
    (live.root / path).unlink()
    live.start()
    assert live.end(task_id)["event"] == "done"


def test_fields_of_a_newer_version_are_kept_as_long_as_there_is_room(spool_at):
    live = spool_at(handler("bad.*", "false", retries=1, backoff="1ms"))
    live.start()
    kept, long = (live.submit("bad.x", at="+1d") for _ in range(2))
    live.wait_count(2, "pending")
    live.stop()
    for task_id, field in ((kept, ",p=f,zp=f,zz=7"), (long, f",zz={'7' * 170}")):
        (path,) = (path for path in live.paths("pending") if task_id in path)
        due = path.replace(path.split("/")[1], "2026-11-21").replace(".json", f"{field}.json")
        (live.root / due).parent.mkdir(parents=True, exist_ok=True)
        (live.root / path).rename(live.root / due)
    live.start()
    assert [live.end(i)["event"] for i in (kept, long)] == ["failed", "failed"]
    assert live.entry(kept, "failed").extra == (("zp", "f"), ("zz", "7"))
    assert live.entry(long, "failed").extra == ()


def test_a_task_whose_handler_was_replaced_by_rubbish_in_the_settings_goes_on(spool_at):
    live = spool_at(handler("ok.*", "true"))
    live.start()
    live.settings("this is [no toml")
    until(lambda: (live.status_now() or {}).get("settings_error"), "the error is in the status")
    assert live.end(live.submit("ok.y"))["event"] == "done"


def test_a_file_where_a_directory_should_be_stops_nobody(spool_at):
    live = spool_at(handler("ok.*", "true"))
    (live.root / "pending" / "2026-11-20").mkdir()
    strangers = [
        live.root / p for p in ("pending/2026-11-20/high", "pending/2026-11-19", "done/2026-11-19")
    ]
    for path in strangers:
        path.write_text("a stranger's")
    live.start()
    assert live.end(live.submit("ok.y"))["event"] == "done"
    for path in strangers:
        path.unlink()


@pytest.mark.parametrize("verb", ["cancel", "release", "move"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_damaged_task_that_a_verb_meets_is_put_aside(spool_at, body, verb):
    live = spool_at(handler("ok.*", "true"))
    task_id = live.submit("ok.x", at="+1d")
    live.start()
    live.entry(task_id, "pending")
    live.do({"action": "hold", "ids": [task_id]})
    (path,) = live.paths("held")
    (live.root / path).write_bytes(body)
    name = live.verb(verb, task_id, **({"priority": "high"} if verb == "move" else {}))
    assert live.refusal(name)["value"] == task_id
    until(lambda: not list(live.paths("held")), "it is out of the way")
    (reason,) = (live.root / "corrupt").glob(f"*{task_id}*.reason.json")
    assert path in reason.read_text()
    assert live.end(live.submit("ok.y"))["event"] == "done"


def test_a_journal_that_is_removed_while_it_serves_is_made_again(live):
    spool = live(handler("say.*", "echo said"))
    spool.end(spool.submit("say.one"))
    shutil.rmtree(spool.root / layout.JOURNAL)
    task = spool.submit("say.two")
    assert spool.end(task)["event"] == "done"
    assert task in {line["id"] for line in spool.journal("succeed")}


def test_ids_that_were_deleted_are_made_again_by_the_next_start(spool_at):
    live = spool_at(handler("ok.*", "true") + handler("bad.*", "false", backoff="1h"))
    live.start()
    first, second, keyed = (live.submit("ok.x", at="+1d", key=key) for key in ("a", "b", "one"))
    failed, alien, done = live.submit("bad.x"), live.submit("alien.x"), live.submit("ok.x")
    live.event("retrying", failed)
    live.entry(alien, "held")
    live.end(done)
    again = {"task": "ok.y", "id": new_id(), "at": "2098-01-01T00:00:00Z"}
    live.submit(again.pop("task"), **again)
    live.entry(again["id"], "pending")
    live.stop()
    shutil.rmtree(live.root / layout.IDS)
    with Spool(live.root) as spool:  # nobody serves: found by its name
        assert [spool.get(i).state for i in (first, done)] == ["pending", "done"]
        with pytest.raises(TimedOut):
            spool.wait(first, 0)
        with pytest.raises(NoSuchTask):
            spool.wait(new_id(), 0)
    later = live.submit("ok.z", after=[first])
    live.submit("ok.y", **again)  # the same once more is the same task
    rival = live.submit("ok.x", key="one")
    for verb, task_id in (("cancel", second), ("retry", failed), ("cancel", alien)):
        live.verb(verb, task_id)
    live.start()
    live.do({"action": "move", "ids": [first], "at": "+0s"})
    assert [live.end(i)["event"] for i in (first, later)] == ["done", "done"]
    assert [live.end(i)["event"] for i in (second, alien, rival)] == ["cancelled"] * 3
    assert {e.id for _, e in live.entries("pending")} == {keyed, failed, again["id"]}
    assert not list((live.root / "rejected").rglob("*.json"))


@pytest.mark.parametrize("served", ["for long", "anew"])
def test_ids_that_are_deleted_while_it_serves_are_made_again_before_anything_is_taken_in(live, served):
    live = live(handler("ok.*", "true"))
    early = {"task": "ok.x", "id": new_id(), "at": "2098-01-01T00:00:00Z"}
    live.drop(early)
    live.entry(early["id"], "pending")
    if served == "anew":  # it has made no directory there yet
        live.stop()
        live.start()
        for _ in range(2):  # and its first look around is over
            live.refusal(live.drop({"task": ""}))
    shutil.rmtree(live.root / layout.IDS)
    other = live.drop(early | {"at": "2099-01-01T00:00:00Z"})
    live.end(live.submit("ok.x"))
    assert live.refusal(other)
    assert (live.root / layout.own_copy(early["id"])).exists()
    assert [e.id for _, e in live.entries("pending")] == [early["id"]]
    live.do({"action": "cancel", "ids": [early["id"]]})
