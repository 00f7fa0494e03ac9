"""Short programs are ordered ahead of time; nobody can tell by when they run and what becomes of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.live import Live, handler, until
from tests.e2e.test_python import python, write
from tests.e2e.test_python_ahead import claimed_once, wait_behind

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]

SAY = "echo + $SPOOL_ID >> $NOTES/said; echo - $SPOOL_ID >> $NOTES/said"
QUICK = handler("quick", SAY)


def _said(spool: Live) -> list[str]:
    path = spool.notes / "said"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def test_one_runs_at_a_time_in_order_and_what_is_urgent_comes_first(live: Make) -> None:
    spool = live("concurrency = 1\n" + QUICK)
    ids = spool.submit_all([{"task": "quick"} for _ in range(300)])
    until(lambda: len(_said(spool)) > 200, "a third has run")
    high = spool.submit("quick", priority="high")
    spool.wait_count(301, "done")
    said = _said(spool)
    begun = [line[2:] for line in said if line[0] == "+"]
    assert said == [f"{sign} {task_id}" for task_id in begun for sign in "+-"]
    ids.sort()
    assert [task_id for task_id in begun if task_id != high] == ids
    order = [line["id"] for line in spool.journal("succeed")]
    assert order.index(high) < 300
    assert claimed_once(spool, [*ids, high])


def test_what_waits_behind_a_slow_program_waits_for_its_turn_in_pending(
    live: Make, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    spool = live(
        "concurrency = 1\n"
        + handler("*", f"[ $SPOOL_TASK = quick ] || until [ -e {gate} ]; do sleep 0.01; done")
    )
    spool.submit_all([{"task": "quick"} for _ in range(50)])
    spool.wait_count(50, "done")
    slow = spool.submit("slow")
    spool.entry(slow, "running")
    wait_behind(spool, "quick", gate)


def test_a_stop_gives_back_what_has_not_begun(live: Make) -> None:
    spool = live("concurrency = 2\n" + QUICK)
    ids = spool.submit_all([{"task": "quick"} for _ in range(400)])
    until(lambda: spool.count("done") > 100, "a quarter is done")
    spool.stop()
    assert spool.count("running") == 0
    assert spool.count("done") + spool.count("pending") == 400
    assert spool.count("pending")
    spool.start()
    spool.wait_count(400, "done")
    assert all([r["outcome"] for r in spool.records(task_id)] == ["ok"] for task_id in ids)
    assert sorted(line[2:] for line in _said(spool) if line[0] == "+") == sorted(ids)


def test_a_cancel_reaches_what_has_not_begun(live: Make) -> None:
    spool = live("concurrency = 1\n" + QUICK)
    ids = spool.submit_all([{"task": "quick"} for _ in range(300)])
    until(lambda: spool.count("done") > 50, "some are done")
    spool.drop({"action": "cancel", "ids": ids})
    until(lambda: spool.count("done") + spool.count("cancelled") == 300, "all have ended")
    begun = {line[2:] for line in _said(spool) if line[0] == "+"}
    done = {line["id"] for line in spool.journal("succeed")}
    assert done <= begun
    assert spool.count("done") == len(done) < 300
    for task_id in begun - done:  # it was at it, or was about to begin
        assert spool.where(task_id)[0] == "cancelled"


def test_none_is_lost_with_the_daemon(live: Make) -> None:
    spool = live("concurrency = 1\npoison_after = 9\n" + QUICK)
    ids = spool.submit_all([{"task": "quick"} for _ in range(300)])
    for share in (50, 120):
        until(lambda share=share: spool.count("done") > share, "some are done")
        spool.kill9()
        spool.start()
    spool.wait_count(300, "done")
    assert all(spool.records(task_id)[-1]["outcome"] == "ok" for task_id in ids)


@pytest.mark.parametrize("ready", [handler("a", "true"), "python"])
def test_a_daemon_that_is_killed_has_not_lost_what_had_not_begun(
    spool_at: Make, tmp_path: Path, ready: str
) -> None:
    if ready == "python":
        write(tmp_path, '@task("a")\ndef a() -> None:\n    pass\n')
        ready = python(tmp_path, "a")
    spool = spool_at("concurrency = 1\n" + ready)
    ids: list[str] = []
    for life in range(4):
        spool.start()
        spool.event("done", spool.submit("a", priority="high"))
        for task_id in ids:
            spool.entry(task_id, "done")
        assert spool.process is not None
        those = _below(spool.process.pid)
        for pid in those:  # what it is ordered does not begin
            os.kill(pid, signal.SIGSTOP)
        ids.append(spool.submit("a"))
        spool.wait_count(1, "running")
        spool.signal(signal.SIGKILL)
        for pid in those:
            os.kill(pid, signal.SIGKILL)
        spool.wait_exit()
        assert spool.count("running") == 1, life
    spool.start()
    for task_id in ids:
        spool.entry(task_id, "done")
        assert [one["attempt"] for one in spool.records(task_id)] == [1]


def test_a_daemon_that_is_killed_has_lost_what_had_begun(live: Make) -> None:
    spool = live(handler("a", "echo >> $NOTES/here; [ $SPOOL_ATTEMPT = 2 ] || sleep 60"))
    task_id = spool.submit("a")
    spool.wait_lines("here", 1)
    spool.kill9()
    spool.start()
    assert spool.entry(task_id, "done").lost == 1


@pytest.mark.parametrize("of", [None, "another life", ""])
def test_where_it_is_not_known_what_had_begun_all_had(live: Make, of: str | None) -> None:
    spool = live(handler("a", "echo >> $NOTES/here; [ $SPOOL_ATTEMPT = 2 ] || sleep 60"))
    task_id = spool.submit("a")
    spool.wait_lines("here", 1)
    spool.kill9()
    begun = spool.root / "nodes/here.begun"
    begun.unlink()
    if of is not None:
        begun.write_text(of)
    spool.start()
    assert spool.entry(task_id, "done").lost == 1


def _below(pid: int) -> list[int]:
    """The children of a process, and theirs."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [one for child in map(int, children) for one in (child, *_below(child))]
