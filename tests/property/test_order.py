"""Properties of the order: keys, deadlines, demotion, backoff, and the window on the backlog."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from spool.actions import Backoff
from spool.names import PRIORITIES, Entry, id_from
from spool.turn import turn
from spoold.core import order, table
from spoold.core.window import Window

US = st.integers(0, 4_000_000_000_000_000)
ENTRIES = st.builds(
    Entry,
    time=US,
    id=st.builds(id_from, US, st.binary(min_size=10, max_size=10)),
    task=st.just("t"),
    prio=st.sampled_from(PRIORITIES),
    front=st.booleans(),
)


def by_the_book(entry):
    """The order of the format, written down a second time."""
    front = (0, -entry.time, [-ord(c) for c in entry.id])
    back = (1, entry.time, [ord(c) for c in entry.id])
    return (PRIORITIES.index(entry.prio), front if entry.front else back)


def to_come(entry):
    """The same of what waits for its time, each at its own."""
    return entry.time, by_the_book(entry)


@given(st.lists(ENTRIES, max_size=20, unique_by=lambda e: e.id))
def test_class_then_front_latest_first_then_time_then_id(found):
    assert sorted(found, key=order.rank) == sorted(found, key=by_the_book)


@given(st.lists(ENTRIES, max_size=20, unique_by=lambda e: e.id), US, st.sets(st.integers(0, 19)))
def test_what_waits_for_its_time_comes_by_that_then_as_it_will_start(found, time, same):
    found = [replace(entry, time=time) if n in same else entry for n, entry in enumerate(found)]
    wanted = sorted(found, key=to_come)
    assert sorted(found, key=order.coming) == wanted
    assert sorted(found, key=lambda entry: turn(entry, -1)) == wanted
    for entry in found:
        assert order.stamp(entry.time) <= order.coming(entry) < order.stamp(entry.time + 1)


@given(ENTRIES)
def test_a_key_can_be_cut_out_of_a_file_name(entry):
    from spool.names import date_of, entry_name

    name = entry_name(entry, dated=False)
    stamp = order.stamp_of_name(date_of(entry.time), name)
    assert order.key_of_stamp(stamp, front=entry.front) == order.key(entry)
    assert order.coming_of_stamp(stamp, entry.prio, front=entry.front) == order.coming(entry)


@given(ENTRIES, US, st.none() | st.integers(0, 10**12), st.integers(0, 10**10))
def test_the_lift_comes_before_the_deadline_and_only_once(entry, deadline, lead, p95):
    entry = replace(entry, deadline=deadline, lead=lead)
    when = order.moment(entry, p95)
    assert when is not None
    assert when <= deadline
    if entry.prio != "high":
        assert deadline - when == (lead if lead is not None else max(p95, 5_000_000))
    raised = order.lifted(entry)
    assert (raised.prio, raised.base) == ("high", entry.base)
    assert order.moment(raised, p95) == deadline
    assert order.moment(replace(raised, lifted=2), p95) is None
    assert order.moment(replace(raised, lifted=2, miss="fail"), p95) == deadline


def test_without_a_deadline_nothing_is_ever_due():
    assert order.moment(Entry(time=0, id="", task="t"), 0) is None


@pytest.mark.parametrize(("prio", "lower"), [("high", "medium"), ("medium", "low"), ("low", "low")])
def test_a_failure_costs_one_class(prio, lower):
    assert order.demoted(prio) == lower


@given(
    st.integers(0, 10**12), st.floats(1, 100), st.integers(0, 10**13), st.integers(1, 2000), st.uuids()
)
def test_backoff_is_bounded_and_the_same_everywhere(base, factor, cap, failures, chance):
    policy = Backoff(base=base, factor=factor, max=cap)
    wait = order.backoff(policy, chance.hex, failures)
    assert 0 <= wait <= cap
    assert wait == order.backoff(policy, chance.hex, failures)
    if failures == 1:
        assert wait <= base


def test_backoff_has_full_jitter():
    policy = Backoff(base=1_000_000, factor=2, max=10**12)
    waits = [order.backoff(policy, f"{i:032x}", 3) for i in range(2000)]
    assert min(waits) < 100_000
    assert max(waits) > 3_900_000
    assert 1_800_000 < sum(waits) / len(waits) < 2_200_000


class WindowOnDisk(RuleBasedStateMachine):
    """A window beside the whole backlog it is a window on."""

    @initialize(limit=st.integers(1, 6), there=st.sets(st.integers(0, 99), max_size=40))
    def start(self, limit, there):
        self.disk = {f"{n:02d}" for n in there}
        self.window = Window(limit, "")
        self.scanning = None

    @staticmethod
    def entry(key):
        return Entry(time=int(key), id=key, task="t")

    @rule(n=st.integers(0, 99))
    def a_newcomer(self, n):
        key = f"{n:02d}"
        if key not in self.disk:
            self.disk.add(key)
            self.window.add(key, self.entry(key))

    @precondition(lambda self: self.window.first() is not None)
    @rule()
    def the_first_goes(self):
        key = self.window.first()
        if self.window.bound is not None or self.disk:
            self.disk.discard(key)
        self.window.discard(key)

    @rule(n=st.integers(0, 99))
    def any_goes(self, n):
        key = f"{n:02d}"
        self.disk.discard(key)
        self.window.discard(key)

    @precondition(lambda self: self.scanning is None)
    @rule()
    def a_scan_begins(self):
        self.window.gather()
        self.scanning = sorted(self.disk, reverse=True)

    @precondition(lambda self: self.scanning is not None)
    @rule(slices=st.integers(1, 3))
    def a_scan_goes_on(self, slices):
        for _ in range(slices * 7):
            if self.scanning:
                key = self.scanning.pop()
                self.window.offer(key, key)

    @precondition(lambda self: self.scanning is not None)
    @rule()
    def a_scan_ends(self):
        while self.scanning:
            self.a_scan_goes_on(3)
        for key, found in self.window.settle():
            if key in self.disk:
                self.window.add(key, found if isinstance(found, Entry) else self.entry(key))
        self.scanning = None

    @invariant()
    def all_below_the_bound_is_in_memory(self):
        bound = self.window.bound
        below = {k for k in self.disk if bound is None or k < bound}
        assert below <= set(self.window.entries)

    @invariant()
    def it_is_bounded_and_sorted(self):
        assert len(self.window) <= self.window.limit
        if len(self.window):
            assert self.window.first() == min(self.window.entries)


TestWindowOnDisk = WindowOnDisk.TestCase
TestWindowOnDisk.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def test_every_transition_leads_to_a_state_of_the_table():
    for state, row in table.TABLE.items():
        for event, after in row.items():
            assert after in table.TABLE, (state, event)
            assert table.after(state, event) == after


def test_what_has_ended_only_comes_back_by_a_persons_word():
    for state in table.TERMINAL:
        assert set(table.TABLE[state]) <= {"retry", "cancel"}


@given(st.sampled_from(sorted(table.TABLE)), st.text(max_size=12))
def test_what_is_not_in_the_table_raises(state, event):
    if event in table.TABLE[state]:
        return
    with pytest.raises(table.Illegal):
        table.after(state, event)
