"""Schedules set by actions: what is said of them is done, wherever the daemon or the power goes."""

from __future__ import annotations

import pytest

from spool import daemons
from tests.crash.everywhere import Fault, play, steps
from tests.crash.scenarios import YEARLY


@pytest.mark.parametrize("cut", [None, 0])
def test_the_schedules_that_stand_at_the_end_are_those_that_were_set(cut: int | None) -> None:
    for n in range(0, steps("schedules"), 2):
        world = play("schedules", Fault(n=n, cut=cut))
        assert daemons.read_schedules(world.disk) == {"b": YEARLY}
