"""One seed, one history: plays it, checks every promise, and shrinks what fails to a short story."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from random import Random
from typing import Any

from msgspec.structs import replace

from tests.simulation import invariants
from tests.simulation.chance import Move, act, moves
from tests.simulation.watch import Broken
from tests.simulation.world import LIMITS, World

SHRINK_SECONDS = 20.0
LOOK_EVERY = 5  # moves between two looks at the whole disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What makes a history: with the same plan it is the same to the last byte."""

    seed: int
    steps: int = 60
    cuts: int = 1
    daemons: int = 1
    window: int = 400
    durability: str = "durable"
    keyed: float = 0.0  # the share of tasks that have a key
    linked: float = 0.0  # the share of batches whose tasks wait for each other
    limited: float = 0.0  # the share of tasks whose handler has limits over all nodes
    recurring: str = ""  # the overlap of a schedule
    outbox: int = 0  # outbox_limit; 0: as it is set by default
    lease: int = 0  # s; daemons that watch each other
    far: float = 0  # s that what they see of the disk may be old; its server answers wrongly now and then


@dataclass(slots=True)
class Story:
    """A history that was played: its moves, and what broke, if anything did."""

    plan: Plan
    moves: list[Move]
    problem: BaseException | None = None
    tasks: int = 0
    told: list[str] = field(default_factory=list)
    journal: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        words = " ".join(str(m) for m in self.moves)
        return f"{self.plan}\n  moves: {words}\n  {type(self.problem).__name__}: {self.problem}"


def simulate(seed: int, *, shrink: float = SHRINK_SECONDS, **plan: float | str) -> Story:
    """The history of a seed; one that breaks a promise comes back with its shortest story."""
    made = Plan(seed=seed, **plan)  # type: ignore[arg-type]
    story = play(
        made, moves(Random(seed), made.steps, made.cuts, made.daemons, made.lease, far=bool(made.far))
    )
    return shorten(story, shrink) if story.problem is not None and shrink else story


def play(plan: Plan, todo: list[Move]) -> Story:
    """Play these moves, then drain, and check."""
    story = Story(plan, todo)
    world = World(
        window=plan.window,
        durability=plan.durability,
        nodes=plan.daemons,
        tiny=plan.window < 100,
        more=(f"outbox_limit = {plan.outbox}" if plan.outbox else "") + (LIMITS if plan.limited else ""),
        lease=plan.lease,
        far=plan.far,
        recurring=plan.recurring,
    )
    world.keyed = plan.keyed
    world.linked = plan.linked
    world.limited = plan.limited
    try:
        for node in world.hosts:
            world.boot(node)
        for count, move in enumerate(todo):
            act(world, move)
            if count % LOOK_EVERY == 0 and not any(h.stuck for h in world.up()):
                invariants.at_rest(world)
        world.drain()
        invariants.at_end(world)
        story.journal = invariants.journal(world)
    except Exception as problem:
        story.problem = problem
    story.tasks = len(world.writers.wishes)
    return story


def shorten(story: Story, seconds: float) -> Story:
    """Leave out moves as long as something still breaks; in bounded time."""
    end = time.monotonic() + seconds
    size = max(1, len(story.moves) // 2)
    while size and time.monotonic() < end:
        start, better = 0, False
        while start < len(story.moves) and time.monotonic() < end:
            less = story.moves[:start] + story.moves[start + size :]
            found = play(story.plan, less)
            if _same(found.problem, story.problem):
                story, better = found, True
            else:
                start += size
        if not better:
            size //= 2
    return story


def _same(one: BaseException | None, other: BaseException | None) -> bool:
    """Whether two problems are of one kind: type and first words, whatever task they are about."""
    if type(one) is not type(other):
        return False
    words = [
        "".join(" " if c in "0123456789abcdef" else c for c in str(p)[:80]).split() for p in (one, other)
    ]
    return words[0] == words[1]


__all__ = ["Broken", "Plan", "Story", "play", "replace", "shorten", "simulate"]
