"""Whatever ends the daemon: no task is lost, none runs twice at once, no handler outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from spool import layout
from spool.names import id_from
from spoold import locks
from tests.e2e.live import Live, alive, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]

STAY = (
    "echo $$ >> $NOTES/pids; (setsid sleep 600 & echo $! >> $NOTES/pids); trap '' TERM; "
    "while [ ! -e $NOTES/open ]; do sleep 0.02; done"
)
# Two lines an attempt; with a lock beside them that nobody may hold when it starts.
WORK = (
    'exec 9>"$NOTES/lock.$SPOOL_ID"; flock -n 9 || echo "overlap $SPOOL_ID" >> $NOTES/runs; '
    'echo "start $SPOOL_ID $SPOOL_ATTEMPT" >> $NOTES/runs; sleep 0.03; '
    'echo "end $SPOOL_ID $SPOOL_ATTEMPT" >> $NOTES/runs'
)


def test_settings_that_change_while_it_waits_to_start_count(spool_at: Make) -> None:
    spool = spool_at(handler("which", "echo old > $NOTES/which"))
    lock = locks.take(f"{spool.root}/{layout.NODES}/{spool.node}.lock")
    spool.process = spool.spoold()
    until(lambda: "waiting for the lock" in spool.says(), "it waits for the daemon before it")
    spool.settings(handler("which", "echo new > $NOTES/which"))
    locks.give(lock)
    until(lambda: "serving" in spool.says(), "it serves")
    until(lambda: "read spool.toml again" in spool.says(), "it reads them", within=5)
    spool.submit("which")
    assert spool.note("which") == "new"


def test_handlers_die_within_a_second_of_the_daemon(live: Make) -> None:
    spool = live("concurrency = 3\n" + handler("stay", STAY))
    spool.submit_all([{"task": "stay", "args": n} for n in range(3)])
    pids = [int(line) for line in spool.wait_lines("pids", 6)]
    assert all(alive(pid) for pid in pids)
    spool.kill9()
    until(lambda: not any(alive(pid) for pid in pids), "the handlers are dead", within=1)


def test_a_keeper_that_stands_still_when_the_daemon_dies_is_killed_by_the_next(live: Make) -> None:
    still = "[ ! -e $NOTES/pid ] || exit 0; kill -STOP $PPID; echo $$ > $NOTES/pid; exec sleep 1000"
    spool = live(handler("still", still))
    task = spool.submit("still")
    pid = int(spool.note("pid"))
    spool.kill9()
    spool.start()
    assert not alive(pid)
    assert spool.event("done", task)["attempt"] == 2
    assert "killed a keeper" in spool.says()


@pytest.mark.parametrize("durability", ["durable", "relaxed"])
def test_whenever_it_is_killed_every_task_is_in_one_place_and_ends_once(
    live: Make, durability: str
) -> None:
    spool = live(
        f'durability = "{durability}"\nconcurrency = 4\npoison_after = 100\n'
        + handler("work", WORK)
        + handler("fails", WORK + "; exit 1", retries=1, backoff=0)
    )
    ids = []
    for number in range(6):
        bodies = [{"task": "fails" if n % 5 == 0 else "work", "args": [number, n]} for n in range(20)]
        ids += spool.submit_all(bodies[:10])
        ids += [spool.submit(body["task"], args=body["args"]) for body in bodies[10:]]
        lines = len(spool.lines("runs"))
        spool.wait_lines("runs", lines + 7 * number)  # somewhere in the middle of things
        spool.kill9()
        spool.check_places()
        spool.start()
    until(lambda: spool.count("done", "failed") == len(ids), "all have ended", within=60)
    lines = spool.lines("runs")
    assert [line for line in lines if line.startswith("overlap")] == []
    for task_id in ids:
        ends = [p for e in ("done", "failed") for p in spool.events("default", e, task_id)]
        assert len(ends) == 1, f"{task_id} is told {len(ends)} times"
        attempts = [r["attempt"] for r in spool.records(task_id)]
        assert attempts == list(range(1, len(attempts) + 1))
        starts = [line for line in lines if line.startswith(f"start {task_id}")]
        assert 1 <= len(starts) == len(set(starts)), "no attempt number was used twice"
    assert list(spool.paths("running", "pending", "held")) == []


def test_a_lost_attempt_is_no_failure_and_says_so(live: Make) -> None:
    spool = live(handler("stay", STAY))
    task_id = spool.submit("stay", priority="high", retries=0)
    spool.wait_lines("pids", 2)
    spool.kill9()
    spool.start()
    told = spool.event("retrying", task_id)
    assert (told["outcome"], told["attempt"], told["error"]["type"]) == ("lost", 1, "lost")
    entry = spool.entry(task_id, "running")
    assert (entry.lost, entry.fails, entry.prio) == (1, 0, "high")
    (spool.notes / "open").touch()
    assert spool.event("done", task_id)["attempt"] == 2


def test_a_task_that_takes_the_daemon_down_three_times_is_held_as_poison(live: Make) -> None:
    spool = live(handler("stay", STAY))
    task_id = spool.submit("stay")
    for number in range(3):
        spool.wait_lines("pids", 2 * (number + 1))
        spool.kill9()
        spool.start()
    assert spool.event("recurring-error", task_id)["error"]["type"] == "poison"
    assert spool.entry(task_id, "held").why == "poison"


def test_a_parents_task_goes_on_running_over_a_restart(live: Make) -> None:
    spool = live(handler("order", notify="shop", timeout="1h"))
    task_id = spool.submit("order")
    told = spool.event("ready", task_id, "shop")
    spool.kill9()
    spool.drop({"action": "ack", "id": task_id, "attempt": told["attempt"], "result": 5})
    spool.start()
    assert spool.event("done", task_id, "shop")["result"] == 5
    assert spool.events("shop") == []


def test_a_parents_time_out_goes_on_over_a_restart(live: Make) -> None:
    spool = live(handler("order", notify="shop", timeout=2))
    task_id = spool.submit("order")
    spool.event("ready", task_id, "shop")
    spool.kill9()
    spool.start()
    assert spool.event("retrying", task_id, "shop")["outcome"] == "lost"


def test_what_came_due_while_it_was_down_runs_at_the_start(spool_at: Make) -> None:
    spool = spool_at(handler("note", "cat >> $NOTES/order"))
    spool.start()
    task_id = spool.submit("note", args=1, at="+800ms")
    due = spool.entry(task_id, "pending").time / 1e6
    spool.kill9()
    until(lambda: time.time() > due, "its time has come")
    spool.start()
    spool.event("done", task_id)


def test_term_waits_for_what_runs_and_starts_nothing_more(live: Make) -> None:
    spool = live("concurrency = 1\ndrain_grace = 60\n" + handler("stay", STAY))
    running = spool.submit("stay")
    spool.wait_lines("pids", 2)
    waiting = spool.submit("stay", args=2)
    spool.entry(waiting, "pending")
    spool.signal(signal.SIGTERM)
    spool.status(lambda s: s["state"] == "stopping", "it says that it stops")
    (spool.notes / "open").touch()
    assert spool.wait_exit() == 0
    assert spool.event("done", running)["attempt"] == 1
    assert spool.entry(waiting, "pending").attempt == 1
    assert spool.status_now()["state"] == "stopped"  # type: ignore[index]
    assert os.listdir(spool.root / "running" / spool.node) == []


def test_term_cuts_off_what_takes_too_long_and_counts_no_attempt(live: Make) -> None:
    spool = live("drain_grace = 0.3\ngrace = 0.2\n" + handler("stay", STAY))
    task_id = spool.submit("stay", retries=0, priority="high")
    pids = [int(line) for line in spool.wait_lines("pids", 2)]
    assert spool.stop() == 0
    assert not any(alive(pid) for pid in pids)
    entry = spool.entry(task_id, "pending")
    assert (entry.interrupted, entry.fails, entry.lost, entry.prio) == (1, 0, 0, "high")
    told = spool.event("retrying", task_id)
    assert told["error"]["type"] == "interrupted"
    (spool.notes / "open").touch()
    spool.start()
    assert spool.event("done", task_id)["attempt"] == 2


def test_a_second_term_ends_it_at_once(live: Make) -> None:
    spool = live("drain_grace = 600\ngrace = 0.1\n" + handler("stay", STAY))
    task_id = spool.submit("stay")
    spool.wait_lines("pids", 2)
    spool.signal(signal.SIGTERM)
    spool.status(lambda s: s["state"] == "stopping", "it says that it stops")
    spool.signal(signal.SIGTERM)
    assert spool.wait_exit() == 0
    assert spool.entry(task_id, "pending").interrupted == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_daemon_ends_at_once_and_in_good_order(live: Make, number: int) -> None:
    spool = live(handler("note", "true"))
    spool.event("done", spool.submit("note"))
    spool.signal(number)
    assert spool.wait_exit(5) == 0


def test_a_stopped_daemon_goes_on_where_it_was(live: Make) -> None:
    spool = live("concurrency = 2\n" + handler("note", "cat >> $NOTES/order"))
    spool.signal(signal.SIGSTOP)
    ids = [spool.submit("note", args=n, at="+100ms") for n in range(50)]
    at = time.time() + 0.3
    until(lambda: time.time() > at, "some of their times have passed")
    spool.signal(signal.SIGCONT)
    for task_id in ids:
        spool.event("done", task_id)
    assert sorted(map(int, spool.lines("order"))) == list(range(50))


def test_an_overflow_of_the_kernels_queue_loses_nothing(live: Make) -> None:
    spool = live('durability = "relaxed"\n' + handler("bulk", notify="nobody"))
    with open("/proc/sys/fs/inotify/max_queued_events") as file:
        number = int(file.read()) // 2 + 500  # two events for each: created, then renamed or closed
    if number > 40_000:
        pytest.skip(f"this kernel queues {2 * number} events, too many to fill in a test")
    spool.do({"action": "pause", "task": "bulk"})
    spool.signal(signal.SIGSTOP)
    for index in range(number):
        (spool.root / "incoming" / f"b{index}.json").write_bytes(b'{"task": "bulk"}')
    spool.signal(signal.SIGCONT)
    spool.wait_count(number, "pending", within=60)
    assert spool.reasons() == []


def test_a_writer_killed_at_any_moment_leaves_nothing_that_stops_the_queue(live: Make) -> None:
    spool = live(handler("note", "cat >> $NOTES/order"))
    for number in range(10):
        with contextlib.suppress(FileExistsError):
            (spool.root / "incoming" / f".half{number}.json").write_bytes(b'{"task": "no')
        spool.put(f"x{number}.json.tmp", b'{"ta')
    stamp = time.time_ns() // 1000
    task_id = spool.submit("note", id=id_from(stamp, b"\x01" * 10))
    spool.event("done", task_id)


def test_a_cancel_that_was_accepted_holds_though_the_daemon_dies_within_the_grace(live: Make) -> None:
    spool = live('grace = "10m"\n' + handler("stay", STAY))
    task_id = spool.submit("stay")
    spool.wait_lines("pids", 2)
    spool.do({"action": "cancel", "ids": [task_id]})
    spool.kill9()
    spool.start()
    assert spool.end(task_id)["event"] == "cancelled"
    assert [r["outcome"] for r in spool.records(task_id)] == ["cancelled"]
