"""Limits in simulated daemons: never exceeded, in nobody's way, and cheap however much waits for them."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import pytest

from spoold.sources import claims
from tests.simulation import invariants
from tests.simulation.run import simulate
from tests.simulation.world import LIMITS, SECOND, World


def submit(world: World, who: str | None, count: int, task: str = "limit.a", **more: Any) -> list[str]:
    """So many tasks of a key, each of a second; their ids."""
    ids = []
    for _ in range(count):
        world.pass_time(1)
        task_id = world.writers.new_id(Random(len(world.writers.wishes)))
        args = {"run": [["ok", 1]], "who": who}
        world.writers.submit({"id": task_id, "task": task, "args": args, **more})
        ids.append(task_id)
    return ids


def submit_one(world: World, runs: list[list[Any]], **more: Any) -> str:
    """A task of the key "a" whose attempts go so; its id."""
    task_id = world.writers.new_id(Random(len(world.writers.wishes)))
    world.pass_time(1)
    world.writers.submit({"id": task_id, "task": "limit.a", "args": {"run": runs, "who": "a"}, **more})
    return task_id


def started(world: World) -> list[str]:
    """Ids in the order their processes started."""
    return [task_id for task_id, _, _ in world.watch.starts]


@pytest.mark.parametrize("window", [16, 400])
def test_what_waits_for_its_key_is_in_the_way_of_nothing(window: int) -> None:
    made = World(more=LIMITS, window=window, tiny=window < 100)
    made.boot()
    many = submit(made, "a", 200)
    one, two = submit(made, "b", 2)
    none = submit(made, None, 1)[0]
    low = made.writers.new_id(Random(9999))
    made.writers.submit({"id": low, "task": "run.a", "priority": "low"})
    made.run(8 * SECOND)
    assert [i for i in started(made) if i in many] == many[: len(started(made)) - 4]
    assert {one, two, none, low} <= set(started(made))
    made.drain()
    assert [i for i in started(made) if i in many] == many
    invariants.at_end(made)
    assert not made.up()[0].state.limits.apart


def test_a_backlog_of_one_key_is_not_read_for_each_of_its_tasks() -> None:
    made = World(more=LIMITS)
    host = made.boot()
    submit(made, "a", 250)
    reads: list[str] = []
    begin = host.core.backlog.start
    host.core.backlog.start = lambda kind, *rest: (reads.append(kind), begin(kind, *rest))[1]  # type: ignore[method-assign]
    made.drain()
    assert len(started(made)) == 250
    assert reads.count("due") < 20


def test_a_retry_lets_the_next_of_its_key_pass() -> None:
    made = World(more=LIMITS)
    made.boot()
    first = submit_one(made, [["1", 1], ["ok", 1]])
    rest = [submit_one(made, [["ok", 1]]) for _ in range(9)]
    made.drain()
    order = started(made)
    assert order.count(first) == 2
    assert order[:2] == [first, rest[0]]
    assert [i for i in order if i != first] == rest
    invariants.at_end(made)


def test_what_the_death_of_the_daemon_cut_off_is_the_next_of_its_key() -> None:
    made = World(more=LIMITS)
    made.boot()
    ids = [submit_one(made, [["ok", 5], ["ok", 5]]) for _ in range(3)]
    made.run(2 * SECOND)
    made.crash()
    made.boot()
    made.drain()
    assert started(made) == [ids[0], *ids]
    invariants.at_end(made)


@pytest.mark.parametrize("cut", [False, True])
def test_tasks_of_a_key_that_each_name_the_one_before_let_none_pass(cut: bool) -> None:
    made = World(more=LIMITS)
    made.boot()
    ids: list[str] = []
    for _ in range(4):
        runs = [["1", 1], ["1", 1], ["ok", 1]] if len(ids) == 1 else [["ok", 1]]
        ids.append(submit_one(made, runs, **({"after": ids[-1:]} if ids else {})))
    made.run(2 * SECOND)
    if cut:
        made.crash()
        made.boot()
    made.drain()
    found = [ids.index(i) for i in started(made)]
    assert found == sorted(found)
    assert found.count(1) >= 3
    invariants.at_end(made)


def test_a_task_that_came_before_its_handler_had_a_key_is_limited_all_the_same() -> None:
    made = World(more='|\n[handlers."limit.*"]\nexec = ["/bin/true"]\n')
    host = made.boot()
    made.disk.write("incoming/p.json", b'{"action": "pause"}')
    host.ring()
    ids = submit(made, "a", 5)
    made.run(SECOND)
    assert all(entry.mark == "" for entry in host.state.waiting.values())
    made.settings = (LIMITS, 400)
    host.reload()
    made.disk.write("incoming/q.json", b'{"action": "resume"}')
    host.ring()
    made.drain()  # the watch objects where two of them run at once
    assert started(made) == ids
    invariants.at_end(made)


@pytest.mark.parametrize("seed", range(800, 805))
def test_no_limit_is_exceeded_whatever_happens_on_one_node(seed: int) -> None:
    story = simulate(seed, cuts=seed % 3, limited=0.7, window=16 if seed % 4 == 0 else 400)
    assert story.problem is None, f"\n{story}"


@pytest.mark.parametrize("seed", (946, 962, 51091))
def test_histories_that_once_broke_a_rule_of_the_simulator_itself_break_none(seed: int) -> None:
    # A pause dropped before the clock was set back came after the last resume; a mark grew in a power cut;
    # a coroutine went by what waited for a slot that was kept for a task that could not start.
    story = simulate(seed, cuts=1, limited=0.7)
    assert story.problem is None, f"\n{story}"


@pytest.mark.parametrize("seed", (820, 822, 823))
def test_no_limit_is_exceeded_by_nodes_that_come_and_go(seed: int) -> None:
    story = simulate(seed, cuts=seed % 2, daemons=2 + seed % 2, lease=10, limited=0.7, steps=25)
    assert story.problem is None, f"\n{story}"


def starts(world: World) -> list[float]:
    """Seconds from the first start to each."""
    return [round((wall - world.watch.starts[0][2]) / SECOND, 1) for _, _, wall in world.watch.starts]


def test_a_rate_starts_its_burst_and_then_one_after_the_other_while_others_go_on() -> None:
    made = World(more=LIMITS)
    made.boot()
    slow = [submit(made, None, 1, task="slow.a")[0] for _ in range(6)]
    low = submit(made, None, 1, task="run.a", priority="low")[0]
    made.run(20 * SECOND)
    assert [i for i in started(made) if i != low] == slow
    assert starts(made) == [0, 0, 0, 3, 6, 9, 12]
    assert started(made).index(low) < 3


def test_no_restart_gives_a_rate_new_tokens() -> None:
    made = World(more=LIMITS)
    made.boot()
    submit(made, None, 8, task="slow.a")
    for _ in range(16):
        made.run(SECOND)
        made.crash()
        made.boot()
    assert starts(made)[:2] == [0, 0]
    assert all(later - early >= 3 for early, later in pairwise(starts(made)[1:]))
    assert len(starts(made)) >= 6


def test_a_restart_that_knows_nothing_begins_without_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LIMIT", 0)
    made = World(more=LIMITS)
    made.boot()
    submit(made, None, 1, task="slow.a")
    made.run(SECOND)
    made.crash()
    made.boot()
    submit(made, None, 2, task="slow.a")
    made.run(8 * SECOND)
    assert starts(made)[1:] == [4, 7]


def test_keys_have_rates_of_their_own_and_wait_in_nobodys_way() -> None:
    made = World(more=f"{LIMITS}".replace('rate = "1/3s"', 'rate = "100/1s"'), window=16, tiny=True)
    made.boot()
    many = submit(made, "a", 50, task="slow.a")
    one = submit(made, "b", 1, task="slow.a")[0]
    made.run(40 * SECOND)
    assert started(made)[:3] == [*many[:2], one]
    assert [i for i in started(made) if i != one] == many[: len(started(made)) - 1]
    assert starts(made) == [0, 0, 0, 15, 30]


@pytest.mark.parametrize("window", [16, 400])
def test_one_task_of_another_key_waits_for_no_backlog(window: int) -> None:
    made = World(more=LIMITS, window=window, tiny=window < 100)
    made.boot()
    many = submit(made, "a", 150, task="fair.a")
    made.run(5 * SECOND)
    one = submit(made, "b", 1, task="fair.a")[0]
    low = submit(made, "c", 1, task="fair.a", priority="low")[0]
    behind = len(started(made))
    made.run(5 * SECOND)
    assert started(made).index(one) <= behind + 3, "as soon as a process is free"
    made.drain()
    assert started(made)[-1] == low, "classes stay strict"
    assert [i for i in started(made) if i in many] == many
    invariants.at_end(made)
    assert not made.up()[0].state.limits.apart


def test_keys_with_backlogs_take_turns_and_new_ones_starve_nobody() -> None:
    made = World(more=LIMITS)
    made.boot()
    a, b = submit(made, "a", 60, task="fair.a"), submit(made, "b", 60, task="fair.a")
    made.run(20 * SECOND)
    first = started(made)[6:60]
    assert abs(sum(i in a for i in first) - sum(i in b for i in first)) <= 54 // 4
    many = [submit(made, f"n{n}", 1, task="fair.a")[0] for n in range(80)]
    before = len(started(made))
    made.run(20 * SECOND)
    later = started(made)[before:]
    assert sum(i in a or i in b for i in later) >= len(later) // 16
    assert sum(i in many for i in later) > len(later) // 2


def test_many_keys_with_many_waiting_are_told_apart_in_a_few_scans() -> None:
    made = World(more=LIMITS)
    host = made.boot()
    made.disk.write("incoming/p.json", b'{"action": "pause"}')
    host.ring()
    keys = [f"k{n}" for n in range(20)]
    many = {key: submit(made, key, 80, task="fair.a") for key in keys}
    host.reload()  # what is known is read anew
    made.run(SECOND)
    reads: list[str] = []
    begin = host.core.backlog.start
    host.core.backlog.start = lambda kind, *rest: (reads.append(kind), begin(kind, *rest))[1]  # type: ignore[method-assign]
    made.disk.write("incoming/q.json", b'{"action": "resume"}')
    host.ring()
    made.run(30 * SECOND)
    first = started(made)[: len(keys)]
    assert len({key for key in keys for task in many[key] if task in first}) > len(keys) // 2
    assert reads.count("due") <= 8
