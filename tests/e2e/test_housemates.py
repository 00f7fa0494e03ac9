"""Two daemons on one disk, without a lease: they share the work, and one goes on with what the other left."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from spool import layout
from tests.e2e.live import Live, handler, needs_log, until
from tests.e2e.test_nodes import NOTE, SLOW, runs, status

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    Start = Callable[[Live, str], subprocess.Popen[bytes]]

IMPATIENT = (
    "import sys; from spoold.sources import housemates; housemates.PATIENCE = 2_000_000; "
    "from spoold.daemon import main; sys.exit(main(sys.argv[4:]))"
)


@pytest.fixture
def start(spool_at: Callable[[str], Live]) -> Iterator[Start]:
    """Starts a daemon of a name, which has little patience."""
    del spool_at  # it ends after them
    made: list[subprocess.Popen[bytes]] = []

    def begin(live: Live, name: str) -> subprocess.Popen[bytes]:
        live.node = name
        process = live.spoold(before=(sys.executable, "-c", IMPATIENT))
        made.append(process)
        until(lambda: status(live, name).get("pid") == process.pid, f"{name} serves")
        return process

    yield begin
    for process in made:
        process.kill()
        process.wait()


def test_what_a_killed_node_ran_runs_on_the_other(spool_at: Callable[[str], Live], start: Start) -> None:
    live = spool_at("concurrency = 2\n" + handler("slow", SLOW) + handler("ask", notify="shop"))
    one = start(live, "one")
    task, asked = live.submit("slow"), live.submit("ask")
    live.entry(asked, "running")
    until(lambda: runs(live) == ["one 1"], "it runs on one")
    start(live, "two")
    until(lambda: status(live, "one").get("peers") == ["one", "two"], "one knows of the other")
    assert status(live, "two")["peers"] == ["one", "two"]
    one.kill()
    assert live.entry(task, "done").lost == 1
    assert runs(live) == ["one 1", "two 2"]

    until(lambda: any(path.startswith("running/two/") for path in live.paths("running")), "two has it")
    live.do({"action": "ack", "id": asked, "attempt": 1})
    live.entry(asked, "done")
    start(live, "one")
    until(lambda: status(live, "two").get("peers") == ["one", "two"], "it is back")


def test_where_several_serve_no_log_is_replayed_over_what_another_one_did(
    spool_at: Callable[[str], Live], start: Start
) -> None:
    live = spool_at('durability = "durable"\n' + handler("quick", "true"))
    needs_log(live.root)
    log = live.root / layout.REDO
    start(live, "one")
    live.entry(live.submit("quick"), "done")
    assert log.exists()
    two = start(live, "two")  # it has waited for that
    assert not log.exists()
    live.entry(live.submit("quick"), "done")
    assert not log.exists()
    two.kill()
    two.wait()
    start(live, "two")
    assert not log.exists()


def test_what_waits_for_a_task_goes_on_soon_wherever_that_ends(
    spool_at: Callable[[str], Live], start: Start
) -> None:
    live = spool_at('housekeeping = "60s"\n' + handler("quick", NOTE + "sleep 0.1"))
    for name in ("one", "two"):
        start(live, name)
    for name in ("one", "two"):
        until(lambda name=name: status(live, name).get("peers") == ["one", "two"], "all know all")
    for _ in range(12):
        live.submit("quick", after=[live.submit("quick")])
    live.wait_count(24, "done")
    assert {line.split()[0] for line in runs(live)} == {"one", "two"}


def test_who_serves_without_a_lease_is_not_taken_for_dead_by_who_has_one(
    spool_at: Callable[[str], Live], start: Start
) -> None:
    live = spool_at(handler("slow", SLOW))
    start(live, "one")
    task = live.submit("slow")
    until(lambda: runs(live) == ["one 1"], "it runs on one")
    live.settings('lease = "1s"\n' + handler("slow", SLOW) + handler("quick", "true"))
    (live.root / layout.ALIVE).mkdir(exist_ok=True)
    start(live, "two")
    until(lambda: status(live, "two").get("lease") == 1, "two has a lease")
    live.entry(live.submit("quick", at="+4s"), "done")  # so much later
    assert runs(live) == ["one 1"]
    assert live.entry(task, "running").lost == 0
