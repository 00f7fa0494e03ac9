"""A clock that is ahead makes nothing old, for an hour; then it is believed."""

from __future__ import annotations

from spool.names import DAY_US
from spool.times import HOUR, SECOND
from spoold.core.trust import Trust
from spoold.core.values import Now

START = 1_770_000_000 * SECOND


def test_a_clock_that_goes_as_it_should_is_believed() -> None:
    trust = Trust()
    for late in (0, 5 * SECOND, 30 * DAY_US):
        assert trust.look(Now(START + late, 7 + late)) == 0
        assert trust.time(Now(START + late, 7 + late)) == START + late


def test_a_step_of_more_than_a_day_makes_nothing_old_for_an_hour() -> None:
    trust = Trust()
    trust.look(Now(START, 0))
    assert trust.look(Now(START + DAY_US + 10, 10)) == DAY_US
    assert trust.time(Now(START + DAY_US + 10, 10)) == START + DAY_US + 10
    ahead = 100 * DAY_US
    step = Now(START + ahead, 20)
    trust.look(step)
    assert trust.doubts(step)
    assert trust.time(Now(START + ahead + HOUR - 30, HOUR - 10)) == START + DAY_US + HOUR - 10
    after = Now(START + ahead + HOUR, HOUR + 20)
    assert not trust.doubts(after)
    assert trust.time(after) == after.wall


def test_a_clock_that_is_set_right_again_is_believed_at_once() -> None:
    trust = Trust()
    trust.doubt(START, Now(START + 100 * DAY_US, 0))
    assert trust.time(Now(START + 100 * DAY_US, 5)) == START + 5
    right = Now(START + SECOND + 10, 10)
    assert not trust.doubts(right)
    assert trust.time(right) == right.wall


def test_what_was_known_first_stands_while_it_goes_further_ahead() -> None:
    trust = Trust()
    trust.look(Now(START + 50 * DAY_US, 0))
    trust.doubt(START, Now(START + 50 * DAY_US, 0))
    trust.look(Now(START + 90 * DAY_US, HOUR // 2))
    assert trust.time(Now(START + 90 * DAY_US, HOUR)) == START + HOUR
