"""How many at once: bounded, never more under pressure, and near where more gets nothing more done."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool.settings import load
from spoold.core.admit import Machine
from spoold.core.pace import CALM, STEP, Pace, adapt

if TYPE_CHECKING:
    from collections.abc import Callable
from spoold.core.decide import decide
from spoold.core.state import State
from spoold.core.values import Now, Reloaded

SECOND = 1_000_000
turns = st.tuples(st.booleans(), st.booleans(), st.integers(0, 50), st.integers(1, 20 * SECOND))


@given(st.integers(1, 16), st.integers(1, 64), st.lists(turns, max_size=60))
def test_it_stays_within_its_bounds_and_rises_one_at_a_time(
    usual: int, most: int, history: list[tuple[bool, bool, int, int]]
) -> None:
    usual = min(usual, most)
    pace, now, ended = Pace(level=usual), 0, 0
    for pressed, full, more, past in history:
        now, ended, before = now + past, ended + more, pace.level
        pace = adapt(pace, pressed=pressed, full=full, ended=ended, usual=usual, most=most, now=now)
        assert 1 <= pace.level <= most
        assert pace.level <= before + 1
        if pressed or not full:
            assert pace.level <= before


@given(st.integers(1, 64), st.integers(0, 60 * SECOND), st.integers(0, 500), st.booleans())
def test_pressure_never_makes_it_more(level: int, now: int, ended: int, full: bool) -> None:
    pace = Pace(level=level)
    calm, pressed = (
        adapt(pace, pressed=p, full=full, ended=ended, usual=4, most=64, now=now) for p in (False, True)
    )
    assert pressed.level <= calm.level


def play(rate: Callable[[int], float], seconds: int, pressed: Callable[[int], bool]) -> list[int]:
    """The level at each second of a machine on which `rate(level)` tasks a second end."""
    pace, done, levels = Pace(level=2), 0.0, []
    for second in range(1, seconds):
        done += rate(pace.level)
        pace = adapt(
            pace,
            pressed=pressed(pace.level),
            full=True,
            ended=int(done),
            usual=2,
            most=32,
            now=second * SECOND,
        )
        levels.append(pace.level)
    return levels


@pytest.mark.parametrize("knee", [2, 5, 12])
def test_it_settles_where_more_gets_nothing_more_done(knee: int) -> None:
    levels = play(lambda level: 10.0 * min(level, knee), 2000, lambda _: False)
    late = levels[1000:]
    assert knee <= sum(late) / len(late) <= knee + 1
    assert max(late) <= knee + 1


def test_it_settles_where_more_makes_it_slower() -> None:
    levels = play(lambda level: 10.0 * min(level, 6) - 8 * max(0, level - 6), 2000, lambda _: False)
    assert max(levels[1000:]) <= 7
    assert min(levels[1000:]) >= 5


def test_under_pressure_it_falls_at_once_and_comes_back_step_by_step() -> None:
    levels = play(lambda level: 10.0 * level, 400, lambda level: level > 8)
    assert max(levels) == 9
    falls = [(one, two) for one, two in itertools.pairwise(levels) if two < one]
    assert falls
    assert all(two == one // 2 for one, two in falls)


def test_pressure_that_is_only_an_average_halves_it_once() -> None:
    pace = adapt(Pace(level=16), pressed=True, full=True, ended=0, usual=16, most=16, now=CALM)
    assert pace.level == 8
    again = adapt(pace, pressed=True, full=True, ended=0, usual=16, most=16, now=CALM + SECOND)
    assert again.level == 8
    later = adapt(again, pressed=True, full=True, ended=0, usual=16, most=16, now=2 * CALM + 1)
    assert later.level == 4


def test_in_a_container_the_usual_number_is_that_of_the_cpus_it_may_use() -> None:
    state = State("n", load(""), 64)
    assert state.limit == 64
    found = Machine(at=0, cpus=64, cores=3.5, total=1 << 34, available=1 << 33)
    state.gate.measured(state, found, Now(0, 0))
    assert state.limit == 4
    state.settings = load("admission.enabled = false\nconcurrency = 9")
    assert state.limit == 9


def test_below_the_usual_number_it_needs_no_proof() -> None:
    pace = Pace(level=1)
    for step in range(1, 4):
        pace = adapt(pace, pressed=False, full=True, ended=0, usual=4, most=4, now=2 * step * STEP)
    assert pace.level == 4


def test_where_fewer_run_than_may_pressure_does_not_make_it_less() -> None:
    pace = adapt(Pace(level=8), pressed=True, full=False, ended=0, usual=8, most=8, now=CALM)
    assert pace.level == 8


def test_it_is_never_below_the_floor_and_at_once_above_it() -> None:
    pace = Pace(level=8)
    for pressed, level in ((True, 4), (True, 3), (False, 4)):
        now = pace.since + CALM
        pace = adapt(pace, pressed=pressed, full=True, ended=0, usual=8, most=8, now=now, least=3)
        assert pace.level == level


def test_it_is_halved_once_in_ten_seconds_though_it_rises_in_between() -> None:
    pace, levels = Pace(level=16), []
    for second in range(21):
        pressed, at = second % 5 == 0, CALM + second * SECOND
        pace = adapt(pace, pressed=pressed, full=True, ended=0, usual=16, most=16, now=at)
        levels.append(pace.level)
    assert levels[0] == 8
    assert [two for one, two in itertools.pairwise(levels) if two < one] == [6, 5]


@pytest.mark.parametrize("concurrency", [2, 9])
def test_another_concurrency_is_not_taken_for_a_busy_machine(concurrency: int) -> None:
    state = State("n", load("concurrency = 3"), 2)
    found = Machine(at=0, cpus=2, cores=2, total=1 << 34, available=1 << 33)
    state.gate.measured(state, found, Now(0, 0))
    assert state.limit == 3
    decide(state, Reloaded(load(f"concurrency = {concurrency}")), Now(0, 0))
    assert state.limit == concurrency
