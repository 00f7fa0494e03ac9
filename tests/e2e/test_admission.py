"""A real daemon holds what the machine has no room for, says why, and learns what tasks need."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.live import Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Spools = Callable[[str], Live]

NEVER = (
    "load = [1000, 1000]\nmemory = [100, 100]\nmemory_pressure = [100, 100]\nio_pressure = [100, 100]\n"
)
OPEN = f"[admission]\nfloor = 0\n{NEVER}swap = [1000000, 1000000]\nbattery = [0, 0]\n"
SHUT = OPEN.replace("memory = [100, 100]", "memory = [0, 0]", 1)
WORK = handler("work.*", "echo $SPOOL_TASK >> $NOTES/ran")


def gate(live: Live, *, is_open: bool) -> dict[str, Any]:
    """The gate in the status, once it is as said."""
    found = live.status(lambda s: s["gate"]["open"] is is_open, f"the gate is open: {is_open}")
    return dict(found["gate"])


def test_it_holds_says_why_and_goes_on(live: Spools) -> None:
    spool = live(SHUT + WORK)
    idle = spool.status_now()
    assert idle is not None
    assert idle["counts"]["looks"] == 0, "who has nothing to start looks at nothing"
    task = spool.submit("work.one")
    shut = gate(spool, is_open=False)
    assert shut["why"].startswith("memory ")
    assert "% used, opens below 0 %" in shut["why"]
    assert spool.status_now()["held_back"][0]["ready"] == 1  # type: ignore[index]
    for shown in (spool.command("why", task), spool.command("status")):
        assert "1 ready, held since " in shown
        assert "next look in " in shown or "looks now" in shown
    spool.settings(OPEN + WORK)
    assert spool.end(task)["event"] == "done"
    gate(spool, is_open=True)
    assert [line["open"] for line in spool.journal("gate")] == [False, True]
    assert spool.lines("ran") == ["work.one"]


# A parent that waits in vfork is in the way of nobody, and the load average counts it.
WAITERS = """
#include <unistd.h>
int main(void) {
    for (int n = 0; n < 300; n++)
        if (!fork()) { if (!vfork()) for (;;) pause(); _exit(0); }
    for (;;) pause();
}
"""


def load() -> float:
    """The load average of the last minute for each CPU."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


@contextmanager
def crowded(place: Path) -> Iterator[None]:
    """A machine with a high load average, for as long as the test wants it; skips where it shows none."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is there")
    (place / "waiters.c").write_text(WAITERS)
    program = str(place / "waiters")
    subprocess.run([compiler, "-o", program, f"{program}.c"], check=True)
    before, process = load(), subprocess.Popen([program], start_new_session=True)
    try:
        end = time.monotonic() + 20
        while load() < before + 5:
            if time.monotonic() > end:
                pytest.skip(f"300 processes that wait for a disk raise the load only to {load():.1f}")
            time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_gate_that_the_load_of_the_machine_has_shut_opens_by_itself(
    spool_at: Spools, tmp_path: Path
) -> None:
    with crowded(tmp_path):
        closes, opens = load() * 0.9, load() * 0.85
        spool = spool_at(OPEN.replace("load = [1000, 1000]", f"load = [{closes}, {opens}]") + WORK)
        spool.start()
        spool.submit("work.one")
        shut = gate(spool, is_open=False)
        assert shut["why"].startswith("load ")
        assert f"opens below {opens:g}" in shut["why"]
        looks = spool.status(lambda s: not s["gate"]["open"], "it is shut")["counts"]["looks"]
        spool.status(lambda s: s["counts"]["looks"] > looks + 1, "it looks again, and holds")
        assert not spool.lines("ran")
    calm: int | None = None  # looks until the load was low

    def ran() -> bool:
        nonlocal calm
        found = spool.status_now()
        if load() > opens:
            calm = None  # others are busy
        elif calm is None and found is not None:
            calm = found["counts"]["looks"]
        return bool(spool.lines("ran"))

    until(ran, "the load falls, and it goes on", within=90)
    found = spool.status(lambda s: s["counts"]["done"], "it is done")
    assert calm is None or found["counts"]["looks"] - calm <= 2
    assert [line["open"] for line in spool.journal("gate")] == [False, True]


def test_what_was_learned_outlives_the_daemon_and_may_be_deleted(live: Spools) -> None:
    spool = live(OPEN + WORK)
    spool.end(spool.submit("work.one"))
    spool.stop()
    kept = spool.root / "nodes" / "here.usage"
    tasks = json.loads(kept.read_bytes())["tasks"]
    assert len(tasks["work.one"]["took"]) == len(tasks["work.one"]["memory"]) == 1
    spool.start()
    spool.end(spool.submit("work.one"))
    spool.stop()
    assert len(json.loads(kept.read_bytes())["tasks"]["work.one"]["took"]) == 2
    kept.write_bytes(b'{"torn')
    spool.start()
    spool.end(spool.submit("work.one"))
    spool.stop()
    assert "is of no use" in spool.says()
    assert len(json.loads(kept.read_bytes())["tasks"]["work.one"]["took"]) == 1
    kept.unlink()
    spool.start()
    spool.end(spool.submit("work.one"))


def test_until_idle_does_not_wait_for_a_gate_that_stays_shut(spool_at: Spools) -> None:
    spool = spool_at(SHUT + WORK)
    task = spool.submit("work.one")
    assert spool.once("--until-idle") == 0
    assert spool.entry(task, "pending").task == "work.one"
    assert "the gate is shut, the rest stays: memory " in spool.says()
    spool.settings(SHUT.replace("floor = 0", "floor = 1") + WORK)
    spool.submit("work.two")
    assert spool.once("--until-idle") == 0
    until(lambda: len(spool.lines("ran")) == 2, "the floor lets them run, one after the other")


def test_a_need_that_is_too_large_is_held_as_such(live: Spools) -> None:
    spool = live(OPEN + WORK)
    spool.stop()
    row = {"memory": [1 << 50], "cpu": [1], "took": [1]}
    (spool.root / "nodes" / "here.usage").write_text(json.dumps({"v": 1, "tasks": {"work.big": row}}))
    spool.start()
    big, small = spool.submit("work.big"), spool.submit("work.small")
    spool.end(small)
    assert spool.entry(big, "held").why == "no-room"
    said = "work.big needs about 1048576.0 GiB, there are "
    spool.status(lambda s: said in s["gate"]["too_large"].get("work.big", ""), "it is told of")
    assert f"more memory than this machine has, as shown or declared: {said}" in spool.command("why", big)
    assert "no-room" in spool.journal("park")[0]["why"]


def test_a_handler_is_as_nice_as_it_was_told(live: Spools) -> None:
    show = "nice > $NOTES/nice; ulimit -d > $NOTES/data; cat /proc/self/oom_score_adj > $NOTES/oom"
    spool = live(handler("work", show, nice=11, memory="64MiB", oom_score_adj=400, ionice="low"))
    spool.end(spool.submit("work"))
    assert [spool.note(name) for name in ("nice", "data", "oom")] == ["11", "65536", "400"]


def test_a_handler_gets_the_limits_it_was_given_no_core_and_no_new_rights(live: Spools) -> None:
    show = "for n in n f u c; do ulimit -$n; done > $NOTES/limits; cat /proc/self/status > $NOTES/rights"
    spool = live(handler("work", f"bash -c '{show}'", files=64, file_size="1MiB", processes=5000))
    spool.end(spool.submit("work"))
    assert spool.note("limits").split() == ["64", "1024", "5000", "0"]
    assert "NoNewPrivs:\t1" in spool.note("rights")


def test_a_handler_may_gain_rights_where_the_settings_say_so(live: Spools) -> None:
    spool = live("no_new_privs = false\n" + handler("work", "cat /proc/self/status > $NOTES/rights"))
    spool.end(spool.submit("work"))
    assert "NoNewPrivs:\t0" in spool.note("rights")


def test_a_big_python_task_does_not_make_the_next_one_in_its_worker_look_big(
    spool_at: Spools, tmp_path: Path
) -> None:
    (tmp_path / "sizes.py").write_text(
        "from spool import task\n"
        "@task('work.big')\ndef big():\n    len(b'x' * (200 << 20))\n"
        "@task('work.small')\ndef small():\n    pass\n"
    )
    spool = spool_at(OPEN + handler("work.*", python="sizes", cwd=str(tmp_path), concurrency=1))
    spool.start()
    big, small = (spool.end(spool.submit(name))["peak_rss"] for name in ("work.big", "work.small"))
    assert big > 200 << 20 > 2 * small
