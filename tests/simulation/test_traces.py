"""Machine traces, recorded and made up, replayed against the real core: what fits runs, the rest waits."""

from __future__ import annotations

import pytest

from tests.simulation.machine import (
    TRACES,
    Bench,
    Outcome,
    Trace,
    arrivals,
    builds,
    quiet,
    recorded,
    waves,
)

pytestmark = pytest.mark.timeout(600)  # seconds of one core, where others want it as well

POOL = 8
FIXED = f"retries = 5\nconcurrency = {POOL}\nadmission.enabled = false"
ADMISSION = f"retries = 5\nconcurrency = {POOL}"
MADE_UP = {"quiet": quiet, "builds": builds, "waves": waves}
ALL = [*MADE_UP, *(path.stem for path in sorted(TRACES.glob("*.json")))]


def play(toml: str, trace: str, seed: int) -> Outcome:
    """Ten minutes of drops on a machine with 4 CPUs and 8 GiB, until all have ended."""

    def take(second: float) -> Trace:
        return (MADE_UP.get(trace) or recorded(trace))(second)

    return Bench(toml, take).run(arrivals(seed, 600, 0.6))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("trace", ALL)
def test_hardly_anything_is_killed_and_no_more_runs_than_fits(trace: str, seed: int) -> None:
    found = play(ADMISSION, trace, seed)
    assert found.failed == 0
    limit = {"waves": 3}.get(trace, 1)  # others may take memory after a task was let in
    assert found.killed <= limit
    assert found.overshoot <= 1
    assert found.peak == POOL, "what fits does run"


@pytest.mark.parametrize("trace", ["builds", "waves"])
def test_a_fixed_pool_of_the_same_size_is_killed_from(trace: str) -> None:
    """The traces are hard enough to tell the two apart."""
    fixed, admission = play(FIXED, trace, 1), play(ADMISSION, trace, 1)
    assert fixed.killed > 10 * max(1, admission.killed)
    assert fixed.overshoot > admission.overshoot


def test_it_looks_at_the_machine_at_most_once_a_second() -> None:
    found = play(ADMISSION, "waves", 1)
    assert 0 < found.looks <= found.seconds


def test_the_gate_does_not_flap() -> None:
    """It changes less often than tasks start, on a trace that crosses the thresholds all the time."""
    for trace in ALL:
        found = play(ADMISSION, trace, 1)
        assert found.changes < found.done / 2


def rate(found: Outcome) -> float:
    return found.done / found.seconds


def test_others_at_work_cost_some_throughput_and_not_half_of_it() -> None:
    fixed, admission = play(FIXED, "shared", 1), play(ADMISSION, "shared", 1)
    assert rate(admission) > 0.7 * rate(fixed)
    assert admission.killed <= fixed.killed


def test_a_gate_for_cpu_pressure_would_cost_throughput_and_spare_nobody() -> None:
    """Why it closes nothing by default: one that waits for a CPU looks like ten."""
    default = play(ADMISSION, "shared", 1)
    pressed = play(f"{ADMISSION}\n[admission]\ncpu_pressure = [90, 70]\n", "shared", 1)
    assert rate(pressed) < 0.75 * rate(default)
    assert default.killed == 0
