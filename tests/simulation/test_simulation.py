"""Histories made by chance, on a modelled disk and clock: no promise of the spool is ever broken."""

from __future__ import annotations

import hashlib
import random
import re
import stat
from pathlib import Path

import pytest

import spoold
from tests.simulation.model import ModelDisk
from tests.simulation.run import simulate
from tests.simulation.soak import KINDS

FIXED = range(40)


def _fresh(number: int) -> list[int]:
    """Seeds that no other version of the program has met, and that this one meets each time."""
    top = Path(spoold.__file__).parents[1]
    found = hashlib.sha256()
    for path in sorted([*top.glob("spool/**/*.py"), *top.glob("spoold/**/*.py")]):
        found.update(path.read_bytes())
    return [random.Random(f"{found.hexdigest()} {n}").randrange(1 << 32) for n in range(number)]


FRESH = _fresh(12)


def check(seed: int, **plan: float | str) -> None:
    """One history; its seed and shortest story if it breaks a promise."""
    print(f"seed {seed} {plan}")
    story = simulate(seed, **plan)
    assert story.problem is None, f"\n{story}"


@pytest.mark.parametrize("seed", FIXED)
def test_a_history_keeps_every_promise(seed: int) -> None:
    check(seed, cuts=seed % 3)


@pytest.mark.parametrize("number", range(len(FRESH)))
def test_a_history_nobody_has_seen_before_keeps_every_promise(number: int) -> None:
    check(FRESH[number], cuts=number % 3)


@pytest.mark.parametrize("seed", [*range(100, 112), 125])
def test_windows_smaller_than_the_backlog_keep_every_promise(seed: int) -> None:
    check(seed, cuts=0, window=16)


# A clock that is set forward before all that waits for its time has been read.
@pytest.mark.parametrize("seed", [250087, 250237, 270027, 270063, 270188, 270238, 250277, 270048])
def test_histories_that_once_broke_a_promise(seed: int) -> None:
    check(seed, **KINDS[seed % 5])


def test_what_was_decided_is_done_after_the_clock_was_set_back() -> None:
    check(3176770171, cuts=0)  # on a full disk
    check(157, cuts=1, window=16)


def test_what_was_retried_by_hand_may_begin_before_the_result_that_it_names() -> None:
    check(165, cuts=0, durability="relaxed", keyed=0.4, linked=0.5)


@pytest.mark.parametrize("seed", range(500, 512))
def test_no_two_unfinished_tasks_ever_have_one_key(seed: int) -> None:
    check(seed, cuts=seed % 3, keyed=0.6, daemons=1 if seed % 3 else 1 + seed % 2)


@pytest.mark.parametrize("seed", range(700, 712))
def test_no_task_starts_before_those_it_waits_for_and_all_end(seed: int) -> None:
    check(seed, cuts=seed % 3, linked=0.9, daemons=1 + seed % 2)


@pytest.mark.parametrize("seed", range(600, 608))
def test_each_time_of_a_schedule_has_one_task_whatever_happens(seed: int) -> None:
    overlap = "queue" if seed % 2 else "skip"
    check(seed, cuts=seed % 3, recurring=overlap, daemons=1 + seed // 3 % 2)


@pytest.mark.parametrize("seed", range(200, 206))
def test_relaxed_keeps_every_promise_while_the_power_is_on(seed: int) -> None:
    check(seed, cuts=0, durability="relaxed")


@pytest.mark.parametrize(("window", "count"), [(16, 60), (400, 300)])
def test_more_tasks_due_at_one_instant_than_memory_holds_start_in_order(window: int, count: int) -> None:
    from tests.simulation import invariants
    from tests.simulation.world import SECOND, World

    world, rng = World(window=window, tiny=window < 100), random.Random(window)
    world.boot()
    for _ in range(count):
        name, prio = rng.choice(["run.a", "order.a", "solo"]), rng.choice(["high", "medium", "low"])
        args = {"run": [["ok", 0]]}
        at = "2026-11-22T00:00:30Z"
        world.writers.submit({"task": name, "at": at, "priority": prio, "args": args})
    world.run(20 * SECOND)
    assert len(world.up()[0].state.future) < count
    world.drain()  # the watch objects to what starts before its turn
    invariants.at_end(world)


@pytest.mark.parametrize("seed", range(300, 308))
def test_full_outboxes_hold_up_their_own_tasks_alone(seed: int) -> None:
    check(seed, cuts=seed % 2, outbox=1 + seed % 4)


# Where daemons know nothing of each other a pause is known to the one alone that took it in.
@pytest.mark.parametrize("seed", range(400, 406))
def test_two_daemons_on_one_host_lose_nothing_and_end_nothing_twice(seed: int) -> None:
    check(seed, cuts=0, daemons=2)


@pytest.mark.parametrize("seed", range(500, 512))
def test_nodes_that_die_and_freeze_lose_nothing_and_end_nothing_twice(seed: int) -> None:
    check(seed, cuts=seed % 2, daemons=2 + seed % 2, lease=10)


def test_an_action_that_was_forwarded_is_not_lost_and_what_waits_for_nothing_is_refused() -> None:
    check(2115, cuts=1, daemons=3, lease=10, keyed=0.4)
    check(2164, cuts=0, daemons=2, lease=10, linked=0.5)


def test_a_node_begins_though_who_saw_to_its_death_went_with_the_power() -> None:
    check(2575, cuts=1, daemons=3, lease=10, keyed=0.4)


def test_one_seed_is_one_history(capsys: pytest.CaptureFixture[str]) -> None:
    """The same seed again writes the same disk, byte for byte."""
    from tests.simulation import run
    from tests.simulation.chance import act, moves
    from tests.simulation.world import World

    def disk(seed: int) -> dict[str, bytes]:
        world = World()
        world.boot()
        for move in moves(random.Random(seed), 25, 0, 1):
            act(world, move)
        found = {}
        for path in world.disk.walk():
            try:
                found[path] = world.disk.read(path, 1 << 30)
            except OSError:
                found[path] = b""
        return found

    assert disk(7) == disk(7)
    assert run.simulate(7, steps=25).problem is None


def test_a_story_is_shortened_to_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sixty moves the two that break something are left."""
    from tests.simulation import run
    from tests.simulation.chance import Move

    def play(plan: run.Plan, todo: list[Move]) -> run.Story:
        bad = {m.seed for m in todo} >= {7, 31}
        return run.Story(plan, todo, run.Broken("x") if bad else None)

    monkeypatch.setattr(run, "play", play)
    whole = [Move("turn", n) for n in range(60)]
    story = run.shorten(run.play(run.Plan(seed=1), whole), 10)
    assert [m.seed for m in story.moves] == [7, 31]


# The modelled disk itself.


def disk(clock: int = 1) -> ModelDisk:
    """An empty one."""
    return ModelDisk(lambda: clock)


def after_cuts(make: object, seeds: int = 40) -> set[tuple[tuple[str, bytes], ...]]:
    """Every world that power cuts leave of what `make` does to a disk."""
    found = set()
    for seed in range(seeds):
        model = disk()
        make(model)  # type: ignore[operator]
        model.cut(random.Random(seed))
        found.add(tuple((p, model.read(p, 99)) for p in sorted(model.walk())))
    return found


def test_a_power_cut_may_take_a_name_that_was_not_synced() -> None:
    def make(model: ModelDisk) -> None:
        model.make_dir("a")
        model.settle()
        model.write("a/x", b"1")
        model.sync(["a/x"])

    assert after_cuts(make) == {(), (("a/x", b"1"),)}


def test_a_power_cut_may_tear_data_that_was_not_synced() -> None:
    def make(model: ModelDisk) -> None:
        model.make_dir("a")
        model.settle()
        model.write("a/x", b"12")
        model.sync_dirs(["a"])

    kept = {world[0][1] for world in after_cuts(make)}
    assert {b"", b"1", b"12"} <= kept
    assert b"\0\0" in kept


def test_a_directory_that_was_made_anew_and_synced_is_the_new_one() -> None:
    def make(model: ModelDisk) -> None:
        for text in (b"old", b"new"):
            model.make_dir("a")
            model.write("a/x", text)
            model.sync(["a/x"], ["a", ""])
            if text == b"old":
                model.remove("a/x")
                model.remove_dir("a")

    assert after_cuts(make) == {(("a/x", b"new"),)}


def test_what_was_synced_stays() -> None:
    def make(model: ModelDisk) -> None:
        model.make_dir("a")
        model.make_dir("b")
        model.settle()
        model.write("a/x", b"1")
        model.sync(["a/x"])
        model.move("a/x", "b/y")
        model.sync_dirs(["b"])

    assert after_cuts(make) == {(("b/y", b"1"),)}


def test_a_rename_is_never_half_done() -> None:
    def make(model: ModelDisk) -> None:
        model.make_dir("a")
        model.write("a/x", b"1")
        model.settle()
        model.make_dir("b")
        model.move("a/x", "b/y")

    assert after_cuts(make) == {(("a/x", b"1"),), (("b/y", b"1"),)}


def test_a_link_in_a_directory_that_was_not_synced_goes_with_it() -> None:
    def make(model: ModelDisk) -> None:
        model.make_dir("a")
        model.write("a/x", b"1")
        model.settle()
        model.make_dir("b")
        model.link("a/x", "b/y")
        model.sync_dirs(["b"])

    assert (("a/x", b"1"),) in after_cuts(make)


def test_the_model_and_a_real_disk_do_the_same(tmp_path: object) -> None:
    """The same verbs, the same answers: by chance, against the file system this runs on."""
    from spool.disk import RealDisk

    real, model = RealDisk(str(tmp_path)), disk()
    rng = random.Random(3)
    names = ["a", "b", "d", "d/x", "d/y", "e/f/z"]
    verbs = ("write", "append", "move", "link", "remove", "make_dir", "remove_dir", "read", "names")
    for _ in range(3000):
        verb = rng.choice(verbs)
        one, two = rng.choice(names), rng.choice(names)
        if verb == "move" and (found := model.info(one)) and stat.S_ISDIR(found.mode):
            continue  # the daemon never renames a directory onto something
        args: tuple[object, ...] = {
            "write": (one, b"1"),
            "append": (one, b"2"),
            "move": (one, two),
            "link": (one, two),
            "read": (one, *rng.choice([(1 << 20,), (1 << 20, 2), (1, 1)])),
        }.get(verb, (one,))
        assert answer(real, verb, args) == answer(model, verb, args), (verb, args)
        one_info, other = real.info("d/x"), model.info("d/x")
        assert (one_info is None) == (other is None)
        if one_info and other and not one_info.mode & 0o040000:
            assert (one_info.size, one_info.nlink) == (other.size, other.nlink)
    real.close()


def answer(of: object, verb: str, args: tuple[object, ...]) -> object:
    """What a disk answers, errors by the name of their class."""
    try:
        found = getattr(of, verb)(*args)
    except OSError as problem:
        return _kind(problem)
    return sorted(found) if isinstance(found, list) else found


def _kind(problem: OSError) -> str:
    name = type(problem).__name__
    return re.sub("IsADirectoryError|NotADirectoryError|PermissionError|OSError|NotRegular", "no", name)
