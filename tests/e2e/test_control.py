"""pause, resume and drain: of the spool, of a node, of some task names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.live import Live, handler

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]

TWO = handler("a.*", "cat >> $NOTES/order") + handler("b", "cat >> $NOTES/order")
STAY = handler("stay", "echo on > $NOTES/on; while [ ! -e $NOTES/open ]; do sleep 0.02; done")


@pytest.mark.parametrize("kind", ["pause", "drain"])
def test_nothing_starts_while_the_spool_is_paused_and_what_runs_goes_on(live: Make, kind: str) -> None:
    spool = live(TWO + STAY)
    running = spool.submit("stay")
    spool.note("on")
    spool.do({"action": kind, "who": "root", "why": "backup"})
    waiting = spool.submit("b", args=1, priority="high")
    spool.entry(waiting, "pending")
    (spool.notes / "open").touch()
    spool.event("done", running)
    spool.kill9()
    spool.start()  # it survives a restart
    status = spool.status(lambda s: s["state"] != "running", "status says so")
    assert status["state"] == kind
    row = status["pauses"][0]
    assert (row["who"], row["why"], row["until"]) == ("root", "backup", None)
    other = spool.submit("b", args=2)
    spool.entry(other, "pending")
    spool.do({"action": "resume"})
    spool.event("done", waiting)
    spool.event("done", other)
    spool.status(lambda s: s["state"] == "running" and s["pauses"] == [], "it goes on")


def test_a_pause_of_a_pattern_holds_only_those_names(live: Make) -> None:
    spool = live(TWO)
    spool.do({"action": "pause", "task": "a.*", "why": "broken"})
    ids = [spool.submit(f"a.{n}", args=n, priority="high") for n in range(3)]
    spool.event("done", spool.submit("b", args="b"))
    spool.kill9()
    spool.start()
    spool.event("done", spool.submit("b", args="c"))
    assert spool.lines("order") == ['"b"', '"c"']
    held_back = spool.status(lambda s: s["held_back"], "status says what is held back")["held_back"]
    assert (held_back[0]["why"], held_back[0]["ready"]) == ("paused (a.*)", 3)
    spool.do({"action": "resume", "task": "a.*"})
    for task_id in ids:
        spool.event("done", task_id)


def test_a_pause_ends_by_itself_at_its_time(live: Make) -> None:
    spool = live(TWO)
    spool.do({"action": "pause", "until": "+1s"})
    spool.do({"action": "pause", "task": "a.*", "until": "+1500ms"})
    second = spool.submit("a.x", args="a")
    spool.event("done", spool.submit("b", args="b"))
    spool.event("done", second)
    assert spool.lines("order") == ['"b"', '"a"']


def test_a_pause_of_another_node_is_none_of_this_one(live: Make) -> None:
    spool = live(TWO)
    spool.do({"action": "pause", "node": "elsewhere"})
    spool.event("done", spool.submit("b"))
    spool.do({"action": "pause", "node": spool.node})
    task_id = spool.submit("b")
    spool.entry(task_id, "pending")
    spool.status(lambda s: s["state"] == "pause", "this node is paused")
    spool.do({"action": "resume", "node": spool.node})
    spool.event("done", task_id)


def test_a_paused_spool_still_takes_in_refuses_cancels_and_hears_its_parents(live: Make) -> None:
    spool = live(TWO + handler("order", notify="shop"))
    order = spool.submit("order")
    spool.event("ready", order, "shop")
    spool.do({"action": "pause"})
    task_id = spool.submit("b")
    spool.do({"action": "cancel", "ids": [task_id]})
    spool.event("cancelled", task_id)
    spool.do({"action": "ack", "id": order, "attempt": 1})
    spool.event("done", order, "shop")
    spool.refusal(spool.drop({"task": "b", "nonsense": 1}))
