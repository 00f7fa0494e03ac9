"""Who begins which Python task: in order, whatever was handed over ahead, and each once."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from spool.names import Entry, id_from
from spool.worker.line import Closed, Line
from spoold.core import order
from spoold.core.values import Begun, Start, Waits
from spoold.effects.turns import Turns
from spoold.effects.worker import Worker

RULE: Any = SimpleNamespace(recycle_tasks=100, async_tasks=3)


class Far:
    """The worker's end: what its process would see."""

    def __init__(self, name: str = "w", *asyncs: str, lease: int | None = None) -> None:
        ours, theirs = socket.socketpair()
        self.near = Worker(name, ours, 0, "")
        self.near.ready, self.near.asyncs = True, frozenset(asyncs)
        self.near.greet({"op": "hello"}, lease)
        self.line = Line(theirs)
        assert self.line.receive(wait=True) == [{"op": "hello"}]
        self.told: dict[int, dict[str, Any]] = {}

    def begin(self) -> str | None:
        """The name of the task whose turn it is, begun now."""
        turn = self.line.turn(wait=False)
        if not turn:
            return None
        while turn not in self.told:
            self.told |= {m["turn"]: m for m in self.line.receive(wait=True) if m["op"] == "start"}
        return str(self.told[turn]["args"])

    def end(self) -> None:
        """What it runs has ended."""
        self.near.ended(next(iter(self.near.runs)))


def start(name: str, number: int, prio: str = "medium", *, ahead: int = 0, pattern: str = "t.*") -> Start:
    entry = Entry(
        time=number, id=id_from(1_795_240_000_000_000 + number * 1000, bytes(10)), task="t.run", prio=prio
    )
    task: Any = SimpleNamespace(
        version=None, args=name, meta={}, trace=None, recurring=None, after=(), deadline=None
    )
    handler: Any = SimpleNamespace(pattern=pattern)
    return Start(entry, task, handler, ahead, order.rank(entry))


@pytest.fixture
def far():
    made: list[Far] = []

    def make(*asyncs: str) -> Far:
        made.append(Far(f"w{len(made)}", *asyncs))
        return made[-1]

    yield make
    for one in made:
        one.near.close()
        one.line.sock.close()


def turns(*workers: Far, asyncs: tuple[str, ...] = ()) -> Turns:
    found = Turns({far.near.name: far.near for far in workers})
    found.asyncs = frozenset(asyncs)
    return found


def feed(to: Turns, *starts: Start) -> list[Begun | Waits]:
    for one in starts:
        to.add(one)
    return to.feed(0, RULE)


def rest(far: Far) -> list[str]:
    """What it begins from now on, one after the other."""
    found = []
    while (name := far.begin()) is not None:
        found.append(name)
        far.end()
    return found


def test_what_is_handed_ahead_begins_in_order(far):
    one = far()
    to = turns(one)
    assert feed(to, start("a", 1)) == []
    feed(to, *(start(name, n, ahead=1) for n, name in enumerate("bcd", 2)))
    assert not to.waiting
    assert rest(one) == ["a", "b", "c", "d"]


def test_coroutines_that_have_died_together_share_a_worker_with_as_few_as_they_may_and_no_others(far):
    def among(few: int, number: int) -> Start:
        one = start(str(number), number)
        return replace(one, entry=replace(one.entry, among=few))

    workers = [far("t.run") for _ in range(4)]
    to = turns(*workers, asyncs=("t.run",))
    feed(
        to, start("0", 0), among(2, 1), among(2, 2), among(2, 3), among(1, 4), among(1, 5), start("6", 6)
    )
    assert [[s.task.args for s in w.near.runs.values()] for w in workers] == [
        ["0", "6"], ["1", "2"], ["3"], ["4"],
    ]  # fmt: skip
    assert [s.task.args for s in to.waiting] == ["5"]
    for number, few in ((7, 1), (8, 2), (9, 2), (10, 2), (11, 9), (12, 9), (13, 9), (14, 9)):
        to.add(among(few, number))
    assert to.wanted(100) == 5, "of 5, 7, 8 and 9, 10, 11 to 14"
    assert to.wanted(3) == 0, "three have such ones"
    workers[3].end()
    assert to.wanted(3) == 1
    feed(to)
    assert [s.task.args for s in workers[3].near.runs.values()] == ["5"]


def test_a_newcomer_of_a_higher_class_begins_before_what_was_handed_ahead(far):
    one = far()
    to = turns(one)
    feed(to, start("a", 1), *(start(name, n, "low", ahead=1) for n, name in enumerate("bcd", 2)))
    assert one.begin() == "a"
    feed(to, start("high", 9, "high", ahead=1))
    one.end()
    assert rest(one) == ["high", "b", "c", "d"]


def test_what_comes_back_is_not_begun_and_what_is_begun_does_not_come_back(far):
    one = far()
    to = turns(one)
    feed(to, start("a", 1), start("b", 2, ahead=1), start("c", 3, ahead=1))
    assert one.begin() == "a"
    one.end()
    assert one.begin() == "b"
    assert [s.task.args for s in to.recalled("t.*")] == ["c"]
    assert one.begin() is None
    assert [s.task.args for s in one.near.runs.values()] == ["b"]


def test_only_a_handler_s_own_come_back(far):
    one, two = far(), far()
    to = turns(one, two)
    feed(to, start("a", 1), start("x", 2, pattern="u"), start("b", 3, ahead=1))
    feed(to, start("y", 4, ahead=1, pattern="u"))
    assert [s.task.args for s in to.recalled("t.*")] == ["b"]
    to.feed(0, RULE)
    assert (rest(one), rest(two)) == (["a"], ["x", "y"])


def test_a_worker_without_work_gets_what_another_has_not_begun(far):
    one, two = far(), far()
    to = turns(one)
    feed(to, start("a", 1), *(start(name, n, ahead=2) for n, name in enumerate("bcde", 2)))
    assert one.begin() == "a"
    to.workers["w1"] = two.near
    told = to.feed(0, RULE)
    assert two.begin() == "b"
    assert told == [Begun(start("b", 2).entry.id, 1)]
    assert {one.line.turn(wait=False), two.line.turn(wait=False)} != {None}


def test_no_more_workers_than_its_handler_has_slots(far):
    one, two = far(), far()
    to = turns(one, two)
    feed(to, start("a", 1), *(start(name, n, ahead=1) for n, name in enumerate("bcd", 2)))
    assert two.begin() is None
    assert rest(one) == ["a", "b", "c", "d"]


def test_one_with_a_slot_that_waits_for_its_worker_comes_before_what_is_handed_ahead(far):
    one = far()
    to = turns(one)
    feed(to, start("a", 1), start("c", 3, ahead=1), start("d", 4, ahead=1))
    assert one.begin() == "a"
    late = start("b", 2)
    assert feed(to, late) == [Waits(late.entry.id, 1)]
    one.end()
    assert to.feed(0, RULE) == [Begun(late.entry.id, 1)]
    assert rest(one) == ["b", "c", "d"]


def test_a_worker_is_given_no_more_than_it_may_have(far):
    one = far()
    to = turns(one)
    starts = [start(str(n), n, ahead=1) for n in range(2, 200)]
    feed(to, start("1", 1), *starts)
    assert len(one.near.runs) == RULE.recycle_tasks
    assert len(to.waiting) == 99


def test_words_between_the_turns_are_not_lost_when_these_are_taken_back(far):
    one = far()
    to = turns(one)
    feed(to, start("a", 1), start("b", 2, ahead=1))
    one.near.send({"op": "quit"})
    to.take_back(one.near)
    assert one.line.turn(wait=False) == 0
    assert {m["op"] for m in one.line.receive(wait=True)} == {"start", "quit"}
    assert [s.task.args for s in to.waiting] == ["a", "b"]


def test_nothing_begins_after_the_lease_of_the_node():
    lease = os.memfd_create("lease")
    one = Far(lease=lease)
    feed(turns(one), start("a", 1), start("b", 2, ahead=1))
    assert one.begin() == "a"
    os.pwrite(lease, (1).to_bytes(8, "little"), 0)  # long ago: the machine was frozen since
    with pytest.raises(Closed, match="lease"):
        one.begin()
    one.near.close()
    one.line.sock.close()
    os.close(lease)


def test_words_larger_than_the_socket_takes_at_once_come_whole(far):
    one = far()
    to = turns(one)
    large = start("x" * 3_000_000, 1)
    feed(to, large, start("b", 2, ahead=1))
    assert one.near.wants_write
    data = b""
    while one.near.wants_write:
        data += one.line.sock.recv(1 << 20)
        one.near.flush()
    while len(lines := data.split(b"\n")) < 3:
        data += one.line.sock.recv(1 << 20)
    found = [orjson.loads(line) for line in lines[:-1]]
    assert [len(m["args"]) for m in found] == [3_000_000, 1]
    assert [one.line.turn(wait=False) for _ in range(3)] == [1, 2, None]


def test_coroutines_share_a_worker_and_begin_at_once(far):
    one = far("t.run")
    to = turns(one, asyncs=("t.run",))
    feed(to, *(start(str(n), n) for n in range(1, 6)))
    assert [one.begin() for _ in range(4)] == ["1", "2", "3", None]
    assert len(to.waiting) == 2
