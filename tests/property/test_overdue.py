"""Deadlines of what is held: each that passes is told, once, whatever comes, goes and is scanned meanwhile."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from spool import layout
from spool.names import Entry, id_from
from spoold.core import order
from spoold.core.overdue import Overdue
from spoold.core.values import Move

NOW = 1_795_305_540_000_000
SECOND = 1_000_000
FAR = 60


class Held(RuleBasedStateMachine):
    """held/ as it is on disk, and what is known of it."""

    @initialize(limit=st.integers(1, 6), there=st.lists(st.none() | st.integers(0, FAR), max_size=30))
    def start(self, limit, there):
        self.now, self.made = 0, 0
        self.disk = {}  # path: entry
        self.told = []
        for at in there:
            entry = self.entry(at)
            self.disk[layout.held(entry)] = entry
        self.overdue = Overdue(limit)
        self.limit = limit
        self.listing = None

    def entry(self, at, **more):
        self.made += 1
        task_id = id_from(NOW, self.made.to_bytes(10, "big"))
        deadline = None if at is None else NOW + at * SECOND
        return Entry(time=NOW, id=task_id, task="t", deadline=deadline, why="asked", **more)

    def moves(self, old, new, after="held"):
        source = "new" if old is None else layout.held(old)
        target = layout.held(new) if after == "held" else "elsewhere"
        before = "new" if old is None else "held"
        self.disk.pop(source, None)
        if after == "held":
            self.disk[target] = new
        entry = new or old
        move = Move(event="x", entry=entry, before=before, after=after, source=source, target=target)
        if move.entry.deadline is not None:
            self.overdue.see(move)

    @rule(at=st.none() | st.integers(0, FAR))
    def one_comes(self, at):
        self.moves(None, self.entry(at))

    @rule(
        at=st.integers(0, FAR), lifted=st.sampled_from([0, 1, 2]), miss=st.sampled_from(["drop", "fail"])
    )
    def one_comes_that_may_miss_it_and_was_told_or_not(self, at, lifted, miss):
        self.moves(None, self.entry(at, lifted=lifted, miss=miss))

    @precondition(lambda self: self.disk)
    @rule(data=st.data())
    def one_goes(self, data):
        self.moves(data.draw(st.sampled_from([*self.disk.values()])), None, "pending")

    @precondition(lambda self: self.disk)
    @rule(data=st.data(), at=st.integers(0, FAR))
    def one_gets_another_deadline(self, data, at):
        old = data.draw(st.sampled_from([*self.disk.values()]))
        self.told = [task_id for task_id in self.told if task_id != old.id]
        self.moves(old, replace(old, deadline=NOW + at * SECOND, lifted=0))

    @precondition(lambda self: self.disk)
    @rule(data=st.data())
    def one_gets_another_class(self, data):
        old = data.draw(st.sampled_from([*self.disk.values()]))
        self.moves(old, replace(old, prio="low" if old.prio != "low" else "high"))

    @rule()
    def a_turn_ends(self):
        if self.overdue.wanted():
            self.listing = [path.removeprefix("held/") for path in self.disk]  # from now on it may be old

    @precondition(lambda self: self.listing is not None)
    @rule(many=st.integers(1, 20))
    def a_scan_goes_on(self, many):
        some, self.listing = self.listing[:many], self.listing[many:]
        self.overdue.seen(some)
        if not self.listing:
            self.overdue.scanned()
            self.listing = None

    @rule(by=st.integers(0, 10))
    def time_passes(self, by):
        self.now += by
        self.look()

    def look(self):
        for known in self.overdue.due(NOW + self.now * SECOND):
            found = self.disk.get(layout.held(known))
            if found is not None:
                assert not order.decided(found)
                assert found.id not in self.told
                self.told.append(found.id)
                ends = found.miss != "run"
                self.moves(found, *((None, "failed") if ends else (replace(found, lifted=2),)))

    @invariant()
    def memory_is_bounded(self):
        assert len(self.overdue.window) <= self.limit

    def teardown(self):
        """Turns without end: all is told whose deadline has passed."""
        for _ in range(3 * self.made + 3):
            self.a_turn_ends()
            while self.listing is not None:
                self.a_scan_goes_on(7)
            self.look()
        passed = [e for e in self.disk.values() if e.deadline and e.deadline <= NOW + self.now * SECOND]
        assert all(map(order.decided, passed))
        assert not self.overdue.wanted()


TestHeld = Held.TestCase
