"""Plays a story with a fault before one of its disk steps, then to its end, and checks every promise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from spool import fsck
from spool.disk import DiskFull
from tests.crash.scenarios import ENDS, STORIES, ident, rng_of
from tests.simulation import invariants
from tests.simulation.faults import Crash, Dying, Failing
from tests.simulation.watch import Broken
from tests.simulation.world import SECOND, World

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from spoold.effects.store import Store

ROOM_AGAIN = 30  # turns on a full disk before somebody makes room


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens before the n-th verb: the process dies (`cut`: the power fails), or an error."""

    n: int
    cut: int | None = None  # the seed of what survives
    error: int | None = None
    verbs: tuple[str, ...] = ()
    times: int | None = 1
    again: int | None = None  # after the restart, die once more before this verb
    mended: bool = False  # somebody runs `fsck --repair` before the restart


def steps(story: str, durability: str = "durable", *, redo: bool = True) -> int:
    """How many changing verbs a story has, so that each can be the last one."""
    world = World(durability=durability, redo=redo)
    host = world.boot()
    counted = host.disk
    total = 0
    for step in STORIES[story]:
        step(world)
        if world.hosts["n1"] is not None and world.hosts["n1"].disk is not counted:
            total += counted.writes
            counted = world.hosts["n1"].disk
    return total + counted.writes


def play(
    story: str,
    fault: Fault,
    durability: str = "durable",
    hook: Callable[[Store], None] | None = None,
    *,
    rest: bool = True,
    redo: bool = True,
) -> World:
    """The whole story with one fault; raises Broken, or whatever the daemon dies of."""
    world = World(durability=durability, redo=redo)
    world.store_hook = hook
    world.keep_log = fault.cut is not None
    rng = rng_of(story, fault)
    wraps = [partial(Dying, n=fault.again)] if fault.again is not None else []
    try:
        _alive(world, lambda: world.boot(wrap=_wrap(fault)), fault, rng, wraps)
        for step in STORIES[story]:
            _alive(world, lambda step=step: step(world), fault, rng, wraps)
            _make_room(world)
        if not rest:
            _alive(world, lambda: world.run(600 * SECOND), fault, rng, wraps)
            return world
        for _ in range(3):
            _alive(world, world.drain, fault, rng, wraps)
            _make_room(world)
        found = invariants.at_end(world)
        wanted = ENDS.get(story, {}) if fault.error is None else {}
        for number, state in wanted.items():
            for path, _ in found.places.get(ident(number), []):
                if not path.startswith(state):
                    raise Broken(f"{path} should be {state}: somebody asked for it")
    except Broken as problem:
        raise Broken(f"{story}, {fault}: {problem}") from problem
    return world


def _wrap(fault: Fault) -> Callable[[Any], Any]:
    if fault.error is not None:
        return lambda disk: Failing(disk, fault.verbs, fault.n, fault.error or 5, fault.times)
    return lambda disk: Dying(disk, fault.n)


def _alive(world: World, act: Callable[[], Any], fault: Fault, rng: Random, wraps: list[Any]) -> None:
    """Do something; where a daemon dies of it, it is started again."""
    try:
        act()
    except (Crash, DiskFull) as problem:
        _died(world, problem, fault, rng, wraps)
    except OSError as problem:
        if fault.error is None:
            raise
        _died(world, problem, fault, rng, wraps)


def _died(world: World, problem: BaseException, fault: Fault, rng: Random, wraps: list[Any]) -> None:
    world.deaths.append(repr(problem))
    if rng.random() < 0.5:  # a parent reads in the last moment
        world.parents.read(sure=rng.random() < 0.5)
    if fault.cut is not None:
        world.power_cut(rng_of(fault, fault.cut))
    else:
        world.crash()
    if not (fault.cut is not None and world.redo):
        invariants.survey(world)  # after a power cut the log knows what is missing
    if fault.mended:
        list(fsck.check(world.disk, repair=True))
    while True:
        try:
            world.boot(wrap=wraps.pop() if wraps else None)
            world.run(SECOND // 1000)
        except Crash:
            world.crash()
            continue
        return


def _make_room(world: World) -> None:
    """The disk was full for a while; in the end somebody makes room."""
    for host in world.up():
        for _ in range(ROOM_AGAIN):
            if not host.stuck:
                break
            host.step()
        disk = host.disk.disk
        if host.stuck and isinstance(disk, Failing):
            disk.times = 0
            host.step()
