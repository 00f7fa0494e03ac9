"""What nothing waits for stays small and quiet: no chore keeps the daemon awake, whatever the disk says."""

from __future__ import annotations

from typing import Any

import pytest

from spool.disk import DiskFull, RealDisk
from spool.group import KEPT
from spool.names import new_id
from spool.settings import load
from spoold.core.state import State
from spoold.core.values import Now
from spoold.effects.census import Census
from spoold.effects.errorfiles import ErrorFiles
from spoold.effects.metrics import Metrics
from spoold.effects.packer import Packer

NOON = 1_795_262_400_000_000
LIMITS = (20, 600_000_000)


class Full:
    """A disk on which nothing new finds room."""

    def __init__(self, disk: RealDisk) -> None:
        self.disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self.disk, name)

    def write(self, path: str, data: bytes) -> None:
        raise DiskFull(28, "no room", path)


def failure(number: int) -> dict[str, Any]:
    error = {"type": "x", "message": "m", "trace": None, "fingerprint": f"{number:016x}"}
    return {"error": error, "id": new_id(), "attempt": 1, "task": "t", "event": "failed",
            "version": None, "node": "n"}  # fmt: skip


def quiet(chore: Any, state: State, steps: int = 2000) -> int | None:
    """Do it until it wants a rest of more than a tenth of a second; how long that is."""
    mono = 0
    for _ in range(steps):
        wait = chore.due(Now(NOON, mono))
        if wait is None or wait > 100_000:
            return wait
        mono += wait
        chore.step(Now(NOON, mono))
    raise AssertionError(f"{chore} never rests")


def chores(disk: Any, state: State) -> list[Any]:
    census = Census(disk, state)
    packer = Packer(disk, state, disk.root)
    return [ErrorFiles(disk, state, disk.root), packer, census, Metrics(disk, state, census, NOON)]


@pytest.mark.parametrize("full", [False, True])
def test_every_chore_comes_to_rest(disk: RealDisk, *, full: bool) -> None:
    state = State("n", load(""), 2)
    for number in range(100):
        state.groups.count(failure(number), NOON, LIMITS)
    if full:
        state.shut = "disk full"
    for chore in chores(Full(disk) if full else disk, state):
        quiet(chore, state)


def test_groups_are_bounded_in_memory_and_on_disk(disk: RealDisk) -> None:
    state = State("n", load(""), 2)
    files = ErrorFiles(disk, state, disk.root)
    for number in range(KEPT + 50):
        state.groups.count(failure(number), NOON + number, LIMITS)
        if number % 100 == 0:
            files.close()
    files.close()
    assert len(state.groups.table) == KEPT
    assert len([name for name in disk.names("errors") if name[0] != "."]) == KEPT
    again = State("n", load(""), 2)
    ErrorFiles(disk, again, disk.root).load(NOON)
    assert list(again.groups.table) == list(state.groups.table)
