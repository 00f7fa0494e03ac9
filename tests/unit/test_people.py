"""Who a uid is, while the machine's lists of users can be asked and while they cannot."""

from __future__ import annotations

import pwd
from typing import TYPE_CHECKING

from spoold.core import rights
from spoold.sources.people import KEPT, LAPSE, People
from tests.simulation.host import load
from tests.simulation.world import World

if TYPE_CHECKING:
    import pytest

DAEMON = 1


def test_who_is_not_found_for_a_while_keeps_his_rights_and_who_is_gone_loses_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people, asked = People(root_counts=True), [0]

    def silent(uid: int) -> None:
        asked[0] += 1
        raise KeyError(uid)

    known = people.who(DAEMON, None, 0)
    assert known.groups
    with monkeypatch.context() as patched:
        patched.setattr(pwd, "getpwuid", silent)
        for mono in range(KEPT + 1, LAPSE, KEPT // 2):
            assert people.who(DAEMON, None, mono) == known
        assert 1 < asked[0] <= LAPSE // KEPT  # not once for each file
        gone = people.who(DAEMON, None, LAPSE + KEPT)
        assert rights.turn_of(load(World().settings), gone) == rights.UNKNOWN
    assert people.who(DAEMON, None, LAPSE + 3 * KEPT) == known
