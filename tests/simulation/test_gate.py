"""The gate in a simulated daemon: strict order, one deadline at a time, next looks, and no idle looks."""

from __future__ import annotations

from itertools import groupby, pairwise
from random import Random
from typing import Any

import pytest

from tests.simulation import invariants
from tests.simulation.run import simulate
from tests.simulation.world import SECOND, World

BUSY = {"load": 30.0}


def world(more: str = "admission.floor = 0", **machine: Any) -> World:
    """A served spool on a machine that is as said."""
    made = World(more=more)
    made.machine = machine
    made.boot()
    return made


def submit(world: World, *docs: dict[str, Any]) -> list[str]:
    """Tasks, by the id each got."""
    ids = []
    for doc in docs:
        world.pass_time(1)  # what is dropped in one instant is in the order of its ids
        task_id = world.writers.new_id(Random(len(world.writers.wishes)))
        ids.append(task_id)
        args = {"run": doc.pop("run", [["ok", doc.pop("took", 1)]])}
        world.writers.submit({"id": task_id, "args": args, **doc})
    return ids


def started(world: World) -> list[str]:
    """Ids in the order their processes started."""
    return [task_id for task_id, _, _ in world.watch.starts]


def gate(world: World) -> Any:
    """The gate of the one daemon."""
    return world.up()[0].state.gate


def looks(world: World) -> int:
    """How often the machine was looked at."""
    return world.up()[0].gauge.looks


def test_nothing_starts_while_the_machine_is_busy_and_all_does_afterwards() -> None:
    made = world(**BUSY)
    ids = submit(made, {"task": "run.a"}, {"task": "run.b"}, {"task": "solo"})
    made.run(20 * SECOND)
    assert started(made) == []
    assert gate(made).shut
    made.machine = {}
    made.run(6 * SECOND)
    assert sorted(started(made)) == sorted(ids)
    assert not gate(made).shut


def test_two_samples_after_there_is_room_it_goes_on() -> None:
    made = world(**BUSY)
    submit(made, {"task": "run.a"})
    made.run(3 * SECOND)
    made.machine = {}
    seen = looks(made)
    while not started(made):
        made.run(SECOND // 10)
    assert looks(made) - seen <= 2


def test_an_idle_daemon_looks_at_nothing_and_a_busy_one_once_a_second() -> None:
    made = world()
    made.run(100 * SECOND)
    assert looks(made) == 0
    submit(made, *[{"task": "run.a", "took": 0} for _ in range(30)])
    made.run(SECOND // 2)
    assert len(started(made)) == 30
    assert looks(made) == 1


def test_a_held_daemon_looks_less_and_less_often() -> None:
    made = world(**BUSY)
    submit(made, {"task": "run.a"})
    made.run(60 * SECOND)
    assert 10 <= looks(made) <= 20


def test_nothing_lower_passes_a_task_that_waits_at_the_gate() -> None:
    made = world(available=1 << 30)  # of 16: too little for anything
    high, low = submit(made, {"task": "run.a", "priority": "high"}, {"task": "run.b", "priority": "low"})
    made.run(5 * SECOND)
    made.machine = {}
    made.run(10 * SECOND)
    assert started(made) == [high, low]


def test_a_small_task_waits_behind_a_big_one() -> None:
    made = world(available=5 << 30)
    state = made.up()[0].state
    state.history.learn("run.a", memory=4 << 30, took=1)
    state.history.learn("run.b", memory=1 << 20, took=1)
    big, small = submit(made, {"task": "run.a"}, {"task": "run.b"})
    made.run(5 * SECOND)
    assert started(made) == []
    assert "run.a needs about 4.0 GiB, 5.0 GiB free" in gate(made).why
    made.machine = {"available": 9 << 30}
    made.run(10 * SECOND)
    assert started(made) == [big, small]


def test_what_parents_do_is_not_held() -> None:
    made = world(**BUSY)
    submit(made, {"task": "run.a", "priority": "high"}, {"task": "order.a"})
    made.run(SECOND)
    assert [run.entry.task for run in made.up()[0].state.runs.values()] == ["order.a"]


def test_the_floor_runs_one_at_a_time_on_a_busy_machine() -> None:
    made = world("admission.floor = 1", **BUSY)
    ids = submit(made, *[{"task": "run.a", "took": 2} for _ in range(3)])
    made.run(1 * SECOND)
    assert len(started(made)) == 1
    made.run(6 * SECOND)
    assert sorted(started(made)) == sorted(ids)
    seconds = [at // SECOND for _, _, at in made.watch.starts]
    assert all(later - earlier >= 2 for earlier, later in pairwise(seconds))


def test_deadlines_pass_one_at_a_time_and_the_record_says_so() -> None:
    made = world(**BUSY)
    first, second, later = submit(
        made,
        {"task": "run.a", "deadline": "+30s", "lead": 20, "took": 4},
        {"task": "urgent.a", "deadline": "+31s", "lead": 20, "took": 4},
        {"task": "run.b", "priority": "high"},
    )
    made.run(9 * SECOND)
    assert started(made) == []
    made.run(2 * SECOND)
    assert started(made) == [first]
    assert gate(made).shut
    made.run(5 * SECOND)  # a deadline is kept to the second
    assert started(made) == [first, second]
    made.run(60 * SECOND)
    assert started(made) == [first, second]
    made.machine = {}
    made.run(10 * SECOND)
    assert started(made) == [first, second, later]
    records = invariants.survey(made).records
    assert records[first][1]["passed"] == "load 10.0 for each CPU, opens below 2"
    assert records[later][1]["passed"] is None
    claims = [line for line in invariants.journal(made) if line["event"] == "claim"]
    assert ["passed" in line for line in claims] == [True, True, False]


def test_not_even_a_deadline_starts_what_would_be_killed() -> None:
    made = world(available=1 << 20)
    made.up()[0].state.history.learn("run.a", memory=1 << 30, took=1)
    (task,) = submit(made, {"task": "run.a", "deadline": "+8s"})
    made.run(100 * SECOND)
    assert started(made) == []
    made.machine = {}
    made.run(10 * SECOND)
    assert started(made) == [task]


def test_what_needs_more_than_there_is_lets_others_pass_and_is_tried_again() -> None:
    made = world()
    made.up()[0].state.history.learn("run.a", memory=1 << 40, took=1)
    big, small = submit(made, {"task": "run.a"}, {"task": "run.b"})
    made.run(5 * SECOND)
    assert started(made) == [small]
    path, entry = invariants.survey(made).places[big][0]
    assert (path.split("/")[0], entry.why) == ("held", "no-room")
    made.machine = {"total": 1 << 42, "available": 1 << 42}
    made.up()[0].reload()
    made.run(5 * SECOND)
    assert started(made) == [small, big]


def test_every_change_is_in_the_journal_and_counted() -> None:
    made = world(**BUSY)
    submit(made, {"task": "run.a"})
    made.run(3 * SECOND)
    made.machine = {}
    made.run(10 * SECOND)
    lines = [line for line in invariants.journal(made) if line["event"] == "gate"]
    assert [line["open"] for line in lines] == [False, True]
    assert lines[0]["why"].startswith("load 10.0 for each CPU")
    assert 3 <= lines[1]["held"] <= 6
    counts = made.up()[0].state.counts
    assert (counts["gate_closed"], counts["gate_opened"], counts["gate_passed"]) == (1, 1, 0)


def test_switched_off_it_holds_nothing_and_looks_at_nothing() -> None:
    made = world("admission.enabled = false", **BUSY)
    submit(made, {"task": "run.a"})
    made.run(SECOND)
    assert len(started(made)) == 1
    assert looks(made) == 0


def test_switching_it_off_opens_it() -> None:
    made = world(**BUSY)
    submit(made, {"task": "run.a"})
    made.run(3 * SECOND)
    assert started(made) == []
    made.settings = ('durability = "durable"\nadmission.enabled = false', 400)
    made.up()[0].reload()
    made.run(SECOND)
    assert len(started(made)) == 1


def test_histories_by_chance_close_and_open_the_gate() -> None:
    """The moves of the simulation reach what they are there for."""
    seen = {"gate_closed": 0, "gate_opened": 0, "gate_passed": 0}
    for seed in range(12):
        for line in simulate(seed, cuts=0).journal:
            if line.get("event") == "gate":
                seen["gate_opened" if line["open"] else "gate_closed"] += 1
            seen["gate_passed"] += bool(line.get("passed"))
    assert min(seen.values()) >= 1, seen


def test_how_many_run_at_once_follows_the_machine() -> None:
    made = world("admission.floor = 1")  # concurrency is 3
    state = made.up()[0].state
    submit(made, *[{"task": "run.a", "took": 2} for _ in range(60)])
    made.run(6 * SECOND)
    assert state.processes == state.limit == 3
    made.machine = {"memory_pressure": 30.0}
    made.run(8 * SECOND)
    assert state.processes == state.limit == 1
    made.machine = {}
    made.run(30 * SECOND)
    assert state.processes == state.limit == 3


@pytest.mark.parametrize("prio", ["high", "medium", "low"])
def test_it_is_told_which_deadline_lets_a_task_pass_next(prio: str) -> None:
    made = world(**BUSY)
    told = []
    submit(made, {"task": "run.d", "at": "+60s", "deadline": "+40s", "lead": 20, "priority": prio})
    for name, at in (("run.a", 60), ("run.b", 50), ("run.c", 70)):
        submit(made, {"task": name, "deadline": f"+{at}s", "lead": 20, "took": 4, "priority": prio})
    for _ in range(10):
        made.run(6 * SECOND)
        told.append(gate(made).plain(made.now())["deadline_task"])
    assert [name for name, _ in groupby(told) if name] == ["run.b", "run.a", "run.c"]
    assert told[-1] is None, "nothing passes any more"


@pytest.mark.parametrize("floor", [1, 2])
def test_it_grows_again_though_nothing_ends(floor: int) -> None:
    made = world(f"admission.floor = {floor}")  # concurrency is 3
    state = made.up()[0].state
    submit(made, *[{"task": "run.a", "took": 900 if n < floor else 15} for n in range(3)])
    made.run(SECOND)
    made.machine = {"memory_pressure": 30.0}
    submit(made, *[{"task": "run.b", "took": 900} for _ in range(9)])
    made.run(25 * SECOND)
    assert state.processes == state.limit == floor
    seen = looks(made)
    made.run(15 * SECOND)
    assert state.limit == floor
    assert 3 <= looks(made) - seen <= 4, "the machine is busy for long: less and less often"
    made.machine = {}
    made.run((5 + 2 * (3 - floor)) * SECOND)
    assert state.processes == state.limit == 3
    seen = looks(made)
    made.run(8 * SECOND)
    assert looks(made) == seen, "as many run as may"


def test_nobody_takes_it_for_open_before_a_look_says_so() -> None:
    made = world()
    submit(made, *[{"task": "run.a", "took": 3} for _ in range(3)])
    made.run(SECOND)
    made.machine = BUSY
    late = [{"task": "run.b", "deadline": f"+{at}s", "lead": 9, "took": 4} for at in range(30, 80, 3)]
    submit(made, *late, {"task": "run.a"})
    made.run(90 * SECOND)
    assert len(started(made)) == 3 + len(late)
    made.machine = {}
    made.run(6 * SECOND)
    lines = [line for line in invariants.journal(made) if line["event"] == "gate"]
    assert [line["open"] for line in lines] == [False, True]
    assert 90 <= lines[1]["held"] <= 96
    assert not gate(made).plain(made.now())["why"]


def test_a_deadline_passes_beside_what_the_floor_lets_run() -> None:
    made = world("admission.floor = 1", **BUSY)
    slow, urgent = submit(
        made, {"task": "run.a", "took": 300}, {"task": "run.b", "deadline": "+60s", "lead": 30}
    )
    made.run(20 * SECOND)
    assert started(made) == [slow]
    made.run(20 * SECOND)
    assert started(made) == [slow, urgent]


def test_the_floor_is_as_high_as_it_is_set() -> None:
    made = world("admission.floor = 2", **BUSY)
    submit(made, *[{"task": "run.a", "took": 20} for _ in range(6)])
    made.run(50 * SECOND)
    assert made.up()[0].state.processes == 2


def test_no_deadline_passes_the_concurrency() -> None:
    made = world("admission.floor = 3", **BUSY)
    submit(made, *[{"task": "run.a", "took": 300} for _ in range(3)])
    made.run(SECOND)
    submit(made, {"task": "run.b", "deadline": "+10s", "lead": 5})
    made.run(40 * SECOND)
    assert len(started(made)) == 3


def test_the_load_is_told_at_most_once_a_minute_and_only_while_tasks_start() -> None:
    made = world(load=0.5)
    for _ in range(30):
        submit(made, {"task": "run.a"})
        made.run(6 * SECOND)
    made.run(600 * SECOND)
    told = [line["load"] for line in invariants.journal(made) if line["event"] == "load"]
    assert 2 <= len(told) <= 5
    assert set(told) == {0.5}


def test_a_machine_that_gets_busy_while_programs_follow_each_other_is_noticed_within_a_second() -> None:
    made = world()
    submit(made, *({"task": "run.quick", "took": 1} for _ in range(20)))
    made.run(2 * SECOND)  # it is known to be quick
    submit(made, *({"task": "run.quick", "took": 4} for _ in range(1200)))
    made.run(SECOND // 4, turns=100_000)
    made.machine = dict(BUSY)
    made.run(5 * SECOND // 4, turns=100_000)
    before = len(started(made))
    assert gate(made).shut
    made.run(SECOND // 2, turns=100_000)
    assert len(started(made)) == before < 1000


def test_what_the_machine_cannot_start_waits_with_no_attempt_used_and_blocks_nobody() -> None:
    made = world()
    full, other = submit(
        made,
        {"task": "run.a", "priority": "high", "run": [["full", 0]] * 3},
        {"task": "run.b"},
    )
    made.run(SECOND // 2)
    assert gate(made).shut
    assert gate(made).why == "the machine can start no process: no process more"
    made.run(30 * SECOND)
    assert not gate(made).shut
    found = invariants.survey(made)
    assert started(made).index(other) < len(started(made)) - 1  # it was not the machine: others pass
    for task_id, attempts in ((full, 4), (other, 1)):
        path, entry = found.places[task_id][0]
        assert (path.split("/")[0], entry.fails, entry.lost, entry.attempt) == ("done", 0, 0, attempts)
    record = found.records[full][1]
    assert (record["outcome"], record["will_retry"]) == ("lost", True)
    assert record["error"]["message"] == "the machine could not start it: no process more"


def test_what_the_machine_cannot_start_it_tries_less_and_less_often() -> None:
    made = world("admission.enabled = false")
    submit(made, {"task": "run.a", "run": [["full", 0]] * 99})
    made.run(600 * SECOND)
    assert 12 <= len(started(made)) <= 18


def test_no_more_start_than_the_machine_can_have_and_more_do_when_it_can() -> None:
    made = world("admission.enabled = false")
    submit(made, {"task": "run.a"})
    made.run(2 * SECOND)
    handlers = made.up()[0].handlers
    handlers.most = 1
    ids = submit(made, *[{"task": "run.a"} for _ in range(100)])
    made.run(60 * SECOND, turns=100_000)
    done = sum(invariants.survey(made).places[task_id][0][0].startswith("done/") for task_id in ids)
    assert done >= 55  # of 60, at best
    assert len(started(made)) - done < 20  # and not two with each of them
    handlers.most = None
    made.run(25 * SECOND, turns=100_000)
    assert not gate(made).shut
    assert all(rows[0][0].startswith("done/") for rows in invariants.survey(made).places.values())
