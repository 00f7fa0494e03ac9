"""Python tasks where code is broken, or is not the same on all nodes."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from spool import layout
from tests.e2e.live import handler, until
from tests.e2e.test_python import app, python, write  # noqa: F401 - the fixture

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.live import Live

BROKEN_THERE = """
if os.environ["SPOOL_NODE"] == "there":
    import no_such_thing
@task("t.where")
def where() -> str:
    return os.environ["SPOOL_NODE"]
"""


@contextlib.contextmanager
def second(spool: Live) -> Iterator[subprocess.Popen[bytes]]:
    """Another daemon that serves the same spool, once both know of each other."""
    process = spool.spoold("--node", "there")
    try:
        until(
            lambda: spool.status(lambda _: True, "it is there").get("peers") == ["here", "there"],
            "both know",
        )
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_broken_module_keeps_no_slot_from_others(spool_at, tmp_path: Path) -> None:
    write(tmp_path, "import no_such_thing")
    spool = spool_at("concurrency = 2\n" + handler("note", "true") + python(tmp_path))
    spool.submit_all([{"task": "t.ok", "priority": "high", "retries": 9} for _ in range(20)])
    spool.start()
    until(lambda: len(spool.events(event="retrying")) >= 2, "it was tried twice")
    for _ in range(5):
        assert spool.end(spool.submit("note", priority="low"), within=2)["event"] == "done"
    assert spool.count("running") <= 1
    assert len(spool.events(event="retrying")) <= 6  # one at a time, and ever more seldom


def test_a_node_whose_code_is_broken_leaves_tasks_to_the_others(app) -> None:  # noqa: F811
    spool = app(BROKEN_THERE, more="concurrency = 2\n")
    with second(spool):
        until(lambda: "no_such_thing" in spool.says(), "the other one has tried")
        for _ in range(3):
            ids = spool.submit_all([{"task": "t.where", "retries": 0} for _ in range(10)])
            assert {spool.end(i)["result"] for i in ids} == {"here"}
            time.sleep(1)


def test_an_import_that_dies_by_a_signal_is_held_as_poison_on_several_nodes_too(
    spool_at, tmp_path: Path
) -> None:
    write(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    spool = spool_at(f"poison_after = 2\n{python(tmp_path)}").start()
    with second(spool):
        task_id = spool.submit("t.ok")
        assert spool.entry(task_id, "held").why == "poison"
    assert [record["outcome"] for record in spool.records(task_id)] == ["crashed"] * 2


def test_what_only_the_new_code_takes_is_left_to_the_node_that_has_it(app) -> None:  # noqa: F811
    spool = app(
        """
if os.environ["SPOOL_NODE"] == "here":
    @task("t.new")
    def new() -> str:
        return os.environ["SPOOL_NODE"]
@task("t.both", version=1 if os.environ["SPOOL_NODE"] == "there" else 2)
def both() -> str:
    return os.environ["SPOOL_NODE"]
""",
        more="concurrency = 1\n",
    )
    with second(spool) as process:
        until(lambda: {"t.both"} == set(takes(spool, "there")), "its code is known")
        rows = [{"task": "t.new"}, {"task": "t.both", "version": 2}, {"task": "t.both", "version": 1}]
        ids = spool.submit_all([dict(row) for row in rows * 20])
        assert [spool.end(i)["result"] for i in ids] == ["here", "here", "there"] * 20
        assert (spool.count("held"), process.poll()) == (0, None)


def test_what_a_node_has_parked_goes_on_where_its_code_is_when_that_node_has_gone(app) -> None:  # noqa: F811
    spool = app(BROKEN_THERE, more="concurrency = 1\n")
    with second(spool) as process:
        task_id = spool.submit("t.where", at="+1h")
        entry = spool.entry(task_id, "pending")
        parked = spool.root / layout.held(replace(entry, why="no-handler"))

        def stays() -> bool:
            if not parked.exists():  # a node has learned what the other takes, and has looked
                (spool.root / layout.pending(entry)).rename(parked)
            return "node here takes it: `spool release" in spool.command("why", task_id)

        until(stays, "why tells of it")
        process.terminate()
        assert spool.entry(task_id, "pending").why == ""


def takes(spool: Live, node: str) -> dict[str, list[int | str]]:
    path = spool.root / layout.status(node)
    rows = json.loads(path.read_bytes())["python"] if path.exists() else []
    return rows[0]["takes"] or {} if rows else {}
