"""A real daemon keeps limits of a handler and of its keys, and says what waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.live import handler, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.live import Live

    Spools = Callable[[str], Live]

# Each run stays until somebody makes the file that is named like its task.
WAITS = "touch $NOTES/$SPOOL_ID; until [ -e $NOTES/go.$SPOOL_ID ]; do sleep 0.01; done"


def test_one_of_a_key_at_once_and_why_says_so(live: Spools) -> None:
    more = {"concurrency_key": "args.who", "concurrency_per_key": 1}
    spool = live("concurrency = 4\n[admission]\nenabled = false\n" + handler("w.*", WAITS, **more))
    one = spool.submit("w.a", args={"who": "ann"})
    until((spool.notes / one).exists, "the first of a key runs")
    two, other = (spool.submit("w.a", args={"who": who}) for who in ("ann", "bob"))
    until((spool.notes / other).exists, "the other key runs")
    spool.status(lambda s: s["held_back"], "the second of a key is held back")
    assert not (spool.notes / two).exists()
    for verb in (("why", two), ("show", two), ("ls", "pending"), ("ls", "--json"), ("status",)):
        assert "(concurrency_per_key)" in spool.command(*verb), verb
    until(
        lambda: 'runs 1 with args.who "ann" already (concurrency_per_key)' in spool.command("why", two),
        "why says so",
    )
    (spool.notes / f"go.{one}").touch()
    until((spool.notes / two).exists, "the next of the key runs")
    for task in (two, other):
        (spool.notes / f"go.{task}").touch()
    for task in (one, two, other):
        assert spool.end(task)["event"] == "done"


def test_a_limit_of_a_handler_holds_its_own_tasks_alone(live: Spools) -> None:
    waits = handler("w.*", WAITS, concurrency_total=1, priority="high")
    spool = live("concurrency = 4\n[admission]\nenabled = false\n" + waits + handler("x.*", "exit 0"))
    one = spool.submit("w.a")
    until((spool.notes / one).exists, "the first runs")
    two = spool.submit("w.a")
    assert spool.end(spool.submit("x.a", priority="low"))["event"] == "done"
    # The status that it reads is written a moment after the end of a task.
    until(lambda: "runs 1 already (concurrency_total)" in spool.command("why", two), "why says so")
    for task in (one, two):
        (spool.notes / f"go.{task}").touch()
        assert spool.end(task)["event"] == "done"


def test_a_rate_is_kept_over_a_restart_and_why_says_when_the_next_starts(live: Spools) -> None:
    once = handler("r.*", "touch $NOTES/$SPOOL_ID", rate="1/1d") + handler("x.*", "exit 0")
    spool = live("[admission]\nenabled = false\n" + once)
    assert spool.end(spool.submit("r.a"))["event"] == "done"
    two = spool.submit("r.a")
    for restarted in (False, True):
        if restarted:
            spool.kill9()
            spool.start()
        spool.status(lambda s: s["held_back"], "the second is held back")
        assert spool.end(spool.submit("x.a", priority="low"))["event"] == "done"
        assert "handler r.* starts 1/1d (rate), the next at 20" in spool.command("why", two)
        assert not (spool.notes / two).exists()


def test_tasks_of_another_customer_need_not_wait_for_all_of_the_first(live: Spools) -> None:
    turns = handler("f.*", "echo $SPOOL_ID >> $NOTES/ran", fair="args.who")
    spool = live(f"concurrency = 1\n[admission]\nenabled = false\n{turns}")
    spool.do({"action": "pause"})
    many = spool.submit_all([{"task": "f.a", "args": {"who": "ann"}} for _ in range(30)])
    one = spool.submit("f.a", args={"who": "bob"})
    spool.entry(one, "pending")
    assert "tasks take turns by args.who (fair)" in spool.command("why", one)
    spool.do({"action": "resume"})
    for task in (*many, one):
        assert spool.end(task)["event"] == "done"
    ran = (spool.notes / "ran").read_text().split()
    assert ran.index(one) < 3
    assert sorted(ran) == sorted([*many, one])


def test_until_idle_waits_for_a_token_that_comes_soon_and_leaves_what_waits_long(
    spool_at: Spools,
) -> None:
    often = handler("often", "exit 0", rate="20/1s", burst=1)
    spool = spool_at(
        "[admission]\nenabled = false\n" + often + handler("rare", "exit 0", rate="1/6h", burst=2)
    )
    soon = [spool.submit("often") for _ in range(5)]
    rare = [spool.submit("rare") for _ in range(3)]
    assert spool.once("--until-idle") == 0
    assert spool.count("done") == 7
    assert spool.count("pending") == 1
    spool.entry(rare[2], "pending")
    for task in soon:
        spool.entry(task, "done")


@pytest.mark.parametrize(
    "limit", [{"concurrency_total": 1}, {"concurrency_key": "args.who", "concurrency_per_key": 1}]
)
def test_what_a_parent_does_takes_its_place_again_when_the_daemon_was_killed(
    live: Spools, limit: dict[str, Any]
) -> None:
    spool = live(handler("order", notify="shop", **limit) + handler("x", "exit 0"))
    one, two = (spool.submit("order", args={"who": "ann"}) for _ in range(2))
    until(lambda: any(spool.events("shop", "ready", each) for each in (one, two)), "one of them is ready")
    if spool.events("shop", "ready", two):  # both came in one tick of the clock: either may be first
        one, two = two, one
    spool.kill9()
    spool.start()
    assert spool.end(spool.submit("x", priority="low"))["event"] == "done"
    spool.entry(two, "pending")
    assert not spool.events("shop", "ready", two)
    spool.do({"action": "ack", "id": one, "attempt": 1})
    spool.event("ready", two, "shop")
    spool.do({"action": "ack", "id": two, "attempt": 1})
    spool.wait_count(3, "done")
