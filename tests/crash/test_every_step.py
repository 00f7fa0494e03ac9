"""The daemon dies, the power fails, or the disk says no before every single step of every story."""

from __future__ import annotations

import errno

import pytest

from tests.crash.everywhere import Fault, play, steps
from tests.crash.scenarios import STORIES
from tests.simulation.faults import CHANGES, WRITES, Crash
from tests.simulation.invariants import at_rest
from tests.simulation.watch import Broken

POWER_CUTS = 2  # seeds of what survives, for each step


def each(story: str, durability: str = "durable", *, redo: bool = True) -> range:
    """Every step of a story at which something can go wrong."""
    return range(steps(story, durability, redo=redo))


@pytest.mark.parametrize("story", STORIES)
def test_nothing_is_lost_wherever_the_daemon_dies(story: str) -> None:
    for n in each(story):
        play(story, Fault(n=n))


@pytest.mark.parametrize("story", STORIES)
def test_nothing_is_lost_where_the_daemon_dies_again_while_it_recovers(story: str) -> None:
    for n in each(story)[::2]:
        play(story, Fault(n=n, again=n * 7 % 13))


@pytest.mark.parametrize("story", STORIES)
def test_nothing_is_lost_or_done_twice_where_somebody_mends_what_a_dead_daemon_left(story: str) -> None:
    for n in each(story):
        play(story, Fault(n=n, mended=True))


@pytest.mark.parametrize("story", STORIES)
def test_nothing_is_lost_wherever_the_power_fails(story: str) -> None:
    for n in each(story):
        for seed in range(POWER_CUTS):
            play(story, Fault(n=n, cut=seed))


@pytest.mark.parametrize("story", STORIES)
def test_nothing_is_lost_without_the_redo_log(story: str) -> None:
    for n in each(story, redo=False)[::2]:
        play(story, Fault(n=n, cut=n), redo=False)


@pytest.mark.parametrize("story", STORIES)
def test_nothing_is_lost_where_the_disk_is_full_and_the_daemon_goes_on(story: str) -> None:
    for n in each(story):
        world = play(story, Fault(n=n, error=errno.ENOSPC, verbs=CHANGES, times=1 + n % 3))
        assert not world.deaths or not n, "a full disk ends no daemon that has started"


@pytest.mark.parametrize("story", STORIES)
def test_nothing_is_lost_where_the_disk_fails_and_the_daemon_ends(story: str) -> None:
    for n in each(story)[::2]:
        play(story, Fault(n=n, error=errno.EIO, verbs=WRITES))


@pytest.mark.parametrize("story", STORIES)
def test_relaxed_keeps_everything_where_only_the_process_dies(story: str) -> None:
    for n in each(story, "relaxed")[::3]:
        play(story, Fault(n=n), "relaxed")


def test_the_checks_find_a_task_that_is_lost() -> None:
    """The net has no hole of its own: a daemon that forgets is caught."""
    from tests.crash.scenarios import submit, wait
    from tests.simulation.watch import pending
    from tests.simulation.world import World

    world = World()
    world.boot()
    submit({"task": "run.a", "n": 1, "at": "+1h"})(world)
    wait(1)(world)
    at_rest(world)
    world.disk.remove(pending(world)[0])
    with pytest.raises(Broken, match="is lost"):
        at_rest(world)


def test_dying_stops_everything() -> None:
    from tests.simulation.faults import Dying
    from tests.simulation.world import World

    world = World()
    with pytest.raises(Crash):
        world.boot(wrap=lambda disk: Dying(disk, 0))


@pytest.mark.parametrize("story", STORIES)
def test_relaxed_starts_again_and_goes_on_after_a_power_cut(story: str) -> None:
    """That is all it promises: what was not written may be lost, torn and put aside, or run again."""
    for n in each(story, "relaxed")[::6]:
        try:
            play(story, Fault(n=n, cut=n), "relaxed", rest=False)
        except Broken:
            continue  # any other exception is a daemon that died of what it found
