"""Several nodes on one spool: what a dead one leaves runs elsewhere, and one that must not goes on does not."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from spool import daemons, layout
from spool.beats import Beat, parse
from spool.client import Spool
from spool.command.main import main
from tests.e2e.live import Live, handler, until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator


import pytest

LEASE = 'lease = "5s"\nconcurrency = 2\n'
NOTE = 'echo "$SPOOL_NODE $SPOOL_ATTEMPT" >> $NOTES/runs; '
SLOW = NOTE + '[ "$SPOOL_NODE" = two ] && exit 0; sleep 600'


class Node:
    """One more daemon on the spool of a `Live`."""

    def __init__(self, live: Live, name: str) -> None:
        self.live, self.name = live, name
        live.node = name
        self.process: subprocess.Popen[bytes] = live.spoold()
        until(lambda: name in beats(live), f"{name} has begun")
        until(lambda: status(live, name).get("pid") == self.process.pid, f"{name} serves")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def beats(live: Live) -> dict[str, Beat]:
    found = [parse(name) for name in os.listdir(live.root / layout.ALIVE)]
    return {beat.node: beat for beat in found if isinstance(beat, Beat)}


def status(live: Live, name: str) -> dict[str, Any]:
    try:
        return json.loads((live.root / layout.status(name)).read_bytes())  # type: ignore[no-any-return]
    except FileNotFoundError:
        return {}


def runs(live: Live) -> list[str]:
    try:
        return (live.notes / "runs").read_text().splitlines()
    except FileNotFoundError:
        return []


@pytest.fixture
def node(spool_at: Callable[[str], Live]) -> Iterator[Callable[..., Node]]:
    made: list[Node] = []

    def make(live: Live, name: str) -> Node:
        (live.root / layout.ALIVE).mkdir(exist_ok=True)
        made.append(Node(live, name))
        return made[-1]

    yield make
    for one in made:
        one.end()


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        try:
            with open(f"/proc/{one}/task/{one}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
        except FileNotFoundError:
            continue
    return found


def slow(spool_at: Callable[[str], Live], node: Callable[..., Node]) -> tuple[Live, Node, str]:
    """A task that runs for long on one of two nodes."""
    live = spool_at(LEASE + handler("slow", SLOW))
    one = node(live, "one")
    task = live.submit("slow")
    until(lambda: runs(live) == ["one 1"], "it runs on one")
    node(live, "two")
    return live, one, task


def freeze(pid: int) -> list[int]:
    """Stop a daemon and all that it has started; who was stopped."""
    found = family(pid)
    for one in found:
        os.kill(one, signal.SIGSTOP)
    return found


def thaw(pids: list[int]) -> None:
    """Let them go on, those first that were stopped last."""
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)


def test_what_a_killed_node_ran_runs_on_another_one_after_its_lease(
    spool_at: Callable[[str], Live], node: Callable[..., Node]
) -> None:
    live, one, task = slow(spool_at, node)
    one.end()
    entry = live.entry(task, "done")
    assert (entry.lost, entry.fails) == (1, 0)
    assert runs(live)[:2] == ["one 1", "two 2"]
    assert "one" not in beats(live)
    until(lambda: not [n for n in os.listdir(live.root / layout.ALIVE) if "b=two" in n], "it is buried")


def test_a_frozen_node_is_dead_to_the_others_and_begins_anew_when_it_thaws(
    spool_at: Callable[[str], Live], node: Callable[..., Node]
) -> None:
    live, one, task = slow(spool_at, node)
    before = beats(live)["one"].incarnation
    frozen = freeze(one.process.pid)
    assert live.entry(task, "done").lost == 1
    thaw(frozen)
    until(lambda: "one" in beats(live) and beats(live)["one"].incarnation != before, "one begins anew")
    until(lambda: "beginning anew" in live.says(), "it says so")
    assert runs(live) == ["one 1", "two 2"]
    again = live.submit("slow")
    live.entry(again, "done", "running")
    assert live.entry(task, "done").lost == 1


@pytest.mark.parametrize("told", ["frozen", "thawed"])
def test_a_node_that_was_told_to_stop_does_not_begin_anew(
    told: str, spool_at: Callable[[str], Live], node: Callable[..., Node]
) -> None:
    live, one, task = slow(spool_at, node)
    frozen = freeze(one.process.pid)
    assert live.entry(task, "done").lost == 1
    if told == "frozen":
        one.process.terminate()
    thaw(frozen)
    if told == "thawed":
        one.process.terminate()
    assert one.process.wait(timeout=30) in (0, -signal.SIGTERM)


def test_a_parent_goes_on_with_what_it_does_when_its_node_dies(
    spool_at: Callable[[str], Live], node: Callable[..., Node]
) -> None:
    live = spool_at(LEASE + handler("order", notify="shop", timeout="1h"))
    one = node(live, "one")
    task = live.submit("order")
    live.entry(task, "running")
    two = node(live, "two")
    one.end()
    until(lambda: [p for p in live.paths("running") if p.startswith("running/two/")], "two has it")
    live.drop({"action": "ack", "id": task, "attempt": 1, "result": 7})
    assert live.entry(task, "done").lost == 0
    assert two.process.poll() is None


def test_a_verb_about_a_task_of_another_node_is_carried_out_by_that_one(
    spool_at: Callable[[str], Live], node: Callable[..., Node]
) -> None:
    wait = "while [ ! -e $NOTES/go ]; do sleep 0.05; done"
    live = spool_at(LEASE.replace("= 2", "= 9") + handler("wait", wait) + handler("order", notify="shop"))
    node(live, "one")
    node(live, "two")
    for name in ("one", "two"):
        until(lambda name=name: status(live, name).get("peers") == ["one", "two"], f"{name} sees both")
    tasks = [live.submit("wait") for _ in range(4)] + [live.submit("order") for _ in range(6)]
    until(lambda: len(list(live.paths("running"))) == len(tasks), "all run somewhere")
    live.verb("cancel", *tasks[:4])
    for task in tasks[4:]:
        live.drop({"action": "ack", "id": task, "attempt": 1, "result": 7})
    for task in tasks[:4]:
        live.entry(task, "cancelled")
    for task in tasks[4:]:
        live.entry(task, "done")
    until(lambda: not list(live.paths("incoming")), "every action is carried out")
    assert not list(live.paths("rejected"))


def test_of_what_is_held_past_its_deadline_one_node_tells(
    spool_at: Callable[[str], Live], node: Callable[..., Node]
) -> None:
    live = spool_at(LEASE + handler("order", notify="shop"))
    node(live, "one")
    deadline = time.time() + 4
    tasks = live.submit_all([{"task": "unbound", "deadline": deadline} for _ in range(30)])
    live.wait_count(30, "held")
    two = node(live, "two")
    until(lambda: status(live, "one").get("peers") == ["one", "two"], "they see each other")
    until(lambda: all(e.lifted == 2 for _, e in live.entries("held")), "all were told")
    assert live.count("held") == 30
    until(lambda: len(live.events("default", "late")) >= 30, "all events are there")
    assert two.process.poll() is None
    assert [len(live.events("default", "late", task)) for task in tasks] == [1] * 30


def test_the_same_name_a_second_time_is_refused(
    spool_at: Callable[[str], Live], node: Callable[..., Node]
) -> None:
    live = spool_at(LEASE)
    node(live, "one")
    assert live.once() == 75
    assert "already runs as node 'one'" in live.says()


def test_nodes_are_shown_to_people_and_programs(
    spool_at: Callable[[str], Live], node: Callable[..., Node], capsys: pytest.CaptureFixture[str]
) -> None:
    live = spool_at(LEASE)
    node(live, "one")
    two = node(live, "two")
    two.end()
    until(lambda: not daemons.alive(str(live.root), "two"), "the lock of two is free")
    assert main(["--spool", str(live.root), "nodes", "--json"]) == 0
    rows = {row["node"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert (rows["one"]["alive"], rows["two"]["alive"]) == (True, False)
    assert rows["one"]["lease"] == 5
    assert main(["--spool", str(live.root), "nodes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["NODE", "ALIVE"], ["one", "yes"], ["two", "no"]]
    assert "None" not in lines[2]
    with Spool(str(live.root)) as spool:
        assert daemons.any_alive(spool.disk, spool.path)


def test_a_frozen_node_is_shown_as_dead_from_when_the_others_take_it_for_that(
    spool_at: Callable[[str], Live], node: Callable[..., Node], capsys: pytest.CaptureFixture[str]
) -> None:
    live = spool_at(LEASE)
    one = node(live, "one")
    with Spool(str(live.root)) as spool:
        one.process.send_signal(signal.SIGSTOP)
        assert daemons.any_alive(spool.disk, spool.path)
        until(lambda: not daemons.any_alive(spool.disk, spool.path), "its lease is over")
        assert daemons.alive(spool.path, "one"), "it holds its lock"
        node(live, "two")
        until(lambda: "one" not in beats(live), "two has seen to what it left")
        rows = daemons.nodes(spool.disk, spool.path)
        assert {name: row["alive"] for name, row in rows.items()} == {"one": False, "two": True}
    assert main(["--spool", str(live.root), "fsck"]) != 0
    assert "spoold is alive (node one, two)" in capsys.readouterr().err
    one.process.send_signal(signal.SIGCONT)


def test_failures_on_several_nodes_are_one_group_and_what_is_said_of_it_holds_on_all(
    spool_at: Callable[[str], Live], node: Callable[..., Node]
) -> None:
    live = spool_at(LEASE + 'retries = 0\n[handlers.bad]\nexec = ["false"]\n')
    node(live, "one")
    node(live, "two")

    def fail(many: int) -> None:
        for task_id in live.submit_all([{"task": "bad"} for _ in range(many)]):
            live.entry(task_id, "failed")

    def group() -> dict[str, Any]:
        found = [p for p in (live.root / layout.ERRORS).iterdir() if p.name[0] != "."]
        return json.loads(found[0].read_bytes()) if found else {}

    def told() -> list[str]:
        paths = sorted((live.root / "outbox" / "default").glob("*,recurring-error.json"))
        return [json.loads(path.read_bytes())["group"]["why"] for path in paths]

    fail(1)
    until(lambda: group().get("count") == 1, "it is known")
    fail(8)
    until(lambda: group()["count"] == sum(group()["nodes"].values()) == 9, "all are counted")
    assert told() == ["new"]
    live.do({"action": "resolve", "errors": [group()["fingerprint"]]})
    until(lambda: group()["state"] == "resolved", "it is resolved")
    fail(1)
    until(lambda: group()["state"] == "open", "it is back")
    until(lambda: group()["count"] == 10, "and counted")
    fail(6)
    until(lambda: group()["count"] == 16, "and so is what follows")
    assert told() == ["new", "back"]  # too few to be frequent, even where one node ran them all
