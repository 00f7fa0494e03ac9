"""In a real control group with little memory: a fixed pool gets its tasks killed, admission does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spoold.sources import cgroups
from tests.e2e.live import Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Spools = Callable[[str], Live]

MIB = 1 << 20
ROOM = 640 * MIB
EACH = 180  # MiB that a task takes
EAT = f"x = b'x' * ({EACH} << 20); import time; time.sleep(1)"
HOG = "x = b'x' * (460 << 20); print('ate', flush=True); import time; time.sleep(600)"
SPIN = "while True: pass"
TASKS = handler("eat", exec=[sys.executable, "-c", EAT], retries=0)
# The load is that of a machine with other users: memory alone is this test's to command.
ONLY_MEMORY = (
    "concurrency = 4\n[admission]\nfirst_memory = '200MiB'\nload = [1000, 1000]\n"
    "memory_pressure = [100, 100]\nio_pressure = [100, 100]\nswap = [1000000, 1000000]\nbattery = [0, 0]\n"
)


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of our own with ROOM for memory; skips where none can be made."""
    found = cgroups.groups("").memory
    if not found:
        pytest.skip("no control group for memory is mounted")
    path = Path(found[0]) / f"spool-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as problem:
        pytest.skip(f"no control group can be made in {found[0]}: {problem.strerror}")
    try:
        limits = [path / name for name in ("memory.max", "memory.limit_in_bytes")]
        limit = next((p for p in limits if p.exists()), None)
        if limit is None:
            pytest.skip(f"{found[0]} hands the memory controller to no group below it")
        limit.write_text(str(ROOM))
        yield path
    finally:
        end = time.monotonic() + 30
        while path.exists():
            try:
                path.rmdir()
            except OSError:  # somebody is in it still
                assert time.monotonic() < end, (path / "cgroup.procs").read_text()
                time.sleep(0.05)


def inside(group: Path) -> list[str]:
    """What makes a command run in the group."""
    return ["/bin/sh", "-c", f'echo $$ > "{group}/cgroup.procs" && exec "$@"', "sh"]


@contextmanager
def beside(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A process for as long as the test wants it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def kills(group: Path) -> int:
    """How many processes of the group the kernel has killed for want of memory."""
    text = "".join(
        (group / name).read_text()
        for name in ("memory.events", "memory.oom_control")
        if (group / name).exists()
    )
    rows = dict(line.split() for line in text.splitlines())
    return int(rows["oom_kill"])


def serve(spool: Live, group: Path) -> None:
    """Start its daemon in the group."""
    spool.process = spool.spoold(before=inside(group))
    until(spool.status_now, "spoold serves")


def test_a_fixed_pool_gets_its_tasks_killed(group: Path, spool_at: Spools) -> None:
    spool = spool_at("concurrency = 4\n" + TASKS)
    serve(spool, group)
    ends = [spool.end(task) for task in spool.submit_all([{"task": "eat"} for _ in range(4)])]
    assert [end["signal"] for end in ends].count(9) >= 1
    assert kills(group) >= 1


def test_admission_holds_on_a_busy_machine_and_nobody_is_killed(group: Path, spool_at: Spools) -> None:
    spool = spool_at(ONLY_MEMORY + TASKS)
    serve(spool, group)
    assert spool.end(spool.submit("eat"))["event"] == "done"  # now it is known what it needs
    with (
        beside(*inside(group), sys.executable, "-c", HOG) as hog,
        beside("nice", sys.executable, "-c", SPIN),
        beside("nice", sys.executable, "-c", SPIN),
    ):
        assert hog.stdout is not None
        assert hog.stdout.readline() == "ate\n"
        tasks = spool.submit_all([{"task": "eat"} for _ in range(6)])
        shut = spool.status(lambda s: not s["gate"]["open"], "the gate is shut")["gate"]
        assert "eat needs about " in shut["why"]
        assert " MiB free" in shut["why"]
        looks = spool.status(lambda s: not s["gate"]["open"], "it is shut")["counts"]["looks"]
        now = spool.status(lambda s: s["counts"]["looks"] > looks + 2, "it looks again, and again")
        assert now["running"] == []
        hog.kill()
        hog.wait()
        now = spool.status_now()
        assert now is not None
        began = spool.status(lambda s: s["running"], "it goes on")
        assert began["counts"]["looks"] - now["counts"]["looks"] <= 2
        ends = [spool.end(task) for task in tasks]
    assert [(end["event"], end["signal"]) for end in ends] == [("done", None)] * 6
    assert kills(group) == 0
    together = max(overlap(end, ends) for end in ends)
    assert 2 <= together <= 3, "as many at once as fit, decided before they start"


def overlap(one: dict[str, str], ends: list[dict[str, str]]) -> int:
    """How many ran when this one had just started."""
    return sum(end["started_at"] <= one["started_at"] < end["ended_at"] for end in ends)
