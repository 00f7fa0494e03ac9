"""Short Python tasks are handed to a warm worker ahead of time; nobody can tell by what becomes of them."""

from __future__ import annotations

from tests.e2e.live import until
from tests.e2e.test_python import app  # noqa: F401 - the fixture

APP = """
@task("t.quick")
def quick() -> int:
    return current().attempt

@task("t.dies")
def dies() -> int:
    if current().attempt < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return current().attempt

@task("t.slow")
def slow(gate: str) -> None:
    while not os.path.exists(gate):
        time.sleep(0.01)
"""


def test_a_worker_that_dies_takes_one_attempt_with_it_whatever_it_was_handed(app) -> None:  # noqa: F811
    spool = app(APP, more="poison_after = 9\n", concurrency=1, backoff=0)
    bodies = [{"task": "t.quick"} for _ in range(200)]
    bodies[50], bodies[120] = {"task": "t.dies"}, {"task": "t.dies"}
    ids = spool.submit_all(bodies)
    spool.wait_count(200, "done")
    lost = {n: spool.records(task_id) for n, task_id in enumerate(ids)}
    assert [n for n, records in lost.items() if len(records) > 1] == [50, 120]
    assert [r["outcome"] for r in lost[50]] == ["crashed", "crashed", "ok"]


def test_what_was_handed_behind_a_slow_task_waits_for_its_turn_in_pending(app, tmp_path) -> None:  # noqa: F811
    gate = tmp_path / "gate"
    spool = app(APP, concurrency=1)
    spool.submit_all([{"task": "t.quick"} for _ in range(50)])
    spool.wait_count(50, "done")
    (slow,) = spool.submit_all([{"task": "t.slow", "args": {"gate": str(gate)}}])
    spool.entry(slow, "running")
    wait_behind(spool, "t.quick", gate)


def wait_behind(spool, quick, gate):
    """What comes behind a slow task waits in pending/ until the gate is there; 51 have begun before."""
    ids = spool.submit_all([{"task": quick, "priority": "low"} for _ in range(50)])
    until(lambda: spool.count("pending") == 50, "all wait in pending")
    until(lambda: spool.count("running") == 1, "and nothing else runs")
    gate.touch()
    spool.wait_count(101, "done")
    assert all(len(spool.records(task_id)) == 1 for task_id in ids)
    assert claimed_once(spool, ids)


def claimed_once(spool, ids):
    """Whether each was claimed once, but for claims that came back."""
    claims = [line["id"] for line in spool.journal("claim")]
    back = [line["id"] for line in spool.journal("return")]
    return all(claims.count(task_id) == 1 + back.count(task_id) for task_id in ids)
