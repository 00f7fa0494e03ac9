"""What the keeper says, and when: a remark wakes nobody, and is not forgotten either."""

from __future__ import annotations

import json
import select
import socket
from typing import TYPE_CHECKING

import pytest

from spoold.keeper import wire
from spoold.keeper.wire import LATER, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST, SECOND, LAST = (
    {"ev": "started", "key": "a"},
    {"ev": "started", "key": "b"},
    {"ev": "exit", "key": "a"},
)


class Ends:
    """A wire, the end that spoold reads, and a clock."""

    def __init__(self) -> None:
        ours, self.far = socket.socketpair()
        ours.setblocking(False)
        self.far.setblocking(False)
        self.wire = Wire(ours.detach(), select.epoll())
        self.now = 100.0

    def heard(self) -> list[dict[str, object]]:
        self.wire.send()
        try:
            return [json.loads(line) for line in self.far.recv(1 << 16).splitlines()]
        except BlockingIOError:
            return []


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    made = Ends()
    monkeypatch.setattr(wire.time, "monotonic", lambda: made.now)
    yield made
    made.far.close()
    made.wire._socket.close()
    made.wire.epoll.close()


def test_a_remark_goes_before_the_next_report(ends: Ends) -> None:
    ends.wire.remark(FIRST)
    ends.wire.remark(SECOND)
    assert ends.heard() == []
    ends.wire.say({"ev": "exit", "key": "c"})
    assert ends.heard() == [FIRST, SECOND, {"ev": "exit", "key": "c"}]
    assert ends.wire.due is None


def test_of_what_nobody_has_heard_the_last_word_on_each_is_said(ends: Ends) -> None:
    ends.wire.remark(FIRST)
    ends.wire.remark(SECOND)
    ends.wire.say(LAST)
    assert ends.heard() == [SECOND, LAST]
    ends.wire.remark(FIRST)
    ends.wire.remark(SECOND)
    ends.wire.remark(LAST, LATER / 10)
    ends.now += LATER / 10
    assert ends.heard() == [SECOND, LAST]


def test_without_a_report_it_goes_by_itself_soon(ends: Ends) -> None:
    ends.wire.remark(FIRST)
    ends.now += LATER / 2
    ends.wire.remark(SECOND)
    assert ends.wire.due == 100.0 + LATER  # of the first of them
    assert ends.heard() == []
    ends.now += LATER / 2
    assert ends.heard() == [FIRST, SECOND]
    assert ends.wire.due is None
