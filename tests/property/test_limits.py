"""Places and keys of limits: divided without a rest, the same on all nodes, and told in names."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool import limitkey
from spool.errors import ConfigError
from spool.names import entry_name, parse_entry
from spool.settings import load
from spool.times import SECOND
from spoold.core.limits import allowed, heard, is_sure, places, shared_by
from spoold.core.state import State
from spoold.core.values import Now
from spoold.core.window import Window, shorten
from tests.property.test_order import ENTRIES

NODES = st.frozensets(st.sampled_from([f"n{i}" for i in range(9)]), min_size=1)
BASE = '[handlers."a.*"]\nexec = ["/bin/true"]\n'


@given(st.integers(1, 100), st.text(max_size=5), NODES)
def test_nodes_that_see_the_same_divide_all_places(most, name, live):
    shares = [places(most, name, node, live) for node in live]
    assert sum(shares) == most
    assert max(shares) - min(shares) <= 1
    assert places(most, name, "other", live) == 0


@given(st.integers(1, 100), st.text(max_size=5), NODES, st.data())
def test_a_death_that_some_have_not_seen_yet_exceeds_nothing(most, name, live, data):
    dead = data.draw(st.sampled_from(sorted(live)))
    left = live - {dead}
    knows = data.draw(st.frozensets(st.sampled_from(sorted(left)))) if left else frozenset()
    used = sum(places(most, name, node, left if node in knows else live) for node in left)
    assert used <= most


@given(st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(), st.lists))
def test_the_mark_of_a_key_is_in_the_name_and_found_without_parsing_it(value):
    handler = load(f"{BASE}concurrency_key = 'args.who'\nconcurrency_per_key = 1").handlers["a.*"]
    task = SimpleNamespace(args={"who": value}, meta={})
    entry = parse_entry(
        "120000.000000,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,a.b,n=1,o=1000.json", date="2026-01-01"
    )
    marked = limitkey.marked(entry, task, handler)
    assert limitkey.marked(marked, task, handler) == marked
    assert limitkey.marked(marked, SimpleNamespace(args=[], meta={}), handler) == entry
    assert bool(marked.mark) == (value is not None)
    assert limitkey.mark_in(entry_name(marked, dated=True)) == marked.mark
    assert parse_entry(entry_name(marked, dated=False), date="2026-01-01").mark == marked.mark


@given(st.lists(ENTRIES, max_size=20, unique_by=lambda e: e.id), st.integers(1, 5))
def test_a_window_that_is_parted_loses_and_invents_nothing(found, limit):
    window = Window(20, "")
    window.bound = None
    for entry in found:
        window.add(entry.id, entry)
    parted = window.part(lambda entry: "front" if entry.front else "", ["front", "none"], limit)
    own = parted["front"]
    assert len(parted["none"]) == 0
    assert parted["none"].bound is None
    assert {*own.entries} == {e.id for e in found if e.front}
    assert {*window.entries} == {e.id for e in found if not e.front}
    assert own.limit == max(limit, len(own))
    assert own.bound is None


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 999)), unique=True, max_size=80),
    st.integers(0, 20),
    st.integers(1, 9),
)
def test_windows_that_share_room_keep_what_comes_first_and_know_what_they_lack(names, room, size):
    windows = [Window(least, "") for least in (1, 2, 3, 3)]
    own = [sorted(f"{n:03}{one}" for one, n in names if one == which) for which in range(4)]
    for window in windows:
        window.gather(shared=True)
    for at in range(0, len(names), size):
        for one, number in names[at : at + size]:
            windows[one].offer(f"{number:03}{one}", f"{number:03}{one}")
        shorten(windows, room, ended=False)
        assert sum(len(window.gathered) for window in windows) <= 2 * room + size + 9
    shorten(windows, room, ended=True)
    kept = [[place for place, _ in window.settle()] for window in windows]
    for window, here, there in zip(windows, kept, own, strict=True):
        assert here == there[: len(here)]
        assert len(here) >= min(window.least, len(there))
        assert window.limit == max(window.least, len(here))
        assert window.bound == next(iter(there[len(here) :]), None)
    beyond = sorted(place for w, here in zip(windows, kept, strict=True) for place in here[w.least :])
    assert (
        beyond
        == sorted(place for w, there in zip(windows, own, strict=True) for place in there[w.least :])[
            : len(beyond)
        ]
    )
    assert len(beyond) == min(
        room, sum(max(0, len(o) - w.least) for w, o in zip(windows, own, strict=True))
    )


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("concurrency_key = 'customer'\nconcurrency_per_key = 1", limitkey.RULE),
        ("concurrency_key = 'args.'\nconcurrency_per_key = 1", limitkey.RULE),
        ("concurrency_key = 7\nconcurrency_per_key = 1", limitkey.RULE),
        ("concurrency_key = 'args.a'", "goes with concurrency_per_key or rate_per_key"),
        ("rate_per_key = '1/1m'", "goes with concurrency_key"),
        ("burst = 3", "goes with rate or rate_per_key"),
        ("fair = 'customer'", limitkey.RULE),
        (
            "fair = 'writer'\nconcurrency_key = 'args.a'\nconcurrency_per_key = 1",
            "must be the same as concurrency_key",
        ),
        ("rate = '100'", "must be a number of tasks and a duration, such as 100/1m"),
        ("rate = '0/1m'", "must be from 1 task in the time to 10000 a second"),
        ("rate = '99999/1s'", "must be from 1 task in the time to 10000 a second"),
        ("rate = '1/0.1s'", "has a duration that must be"),
        ("rate = '1/9d'", "has a duration that must be"),
        ("rate = '1/often'", "has a duration that must be"),
        ("rate = 5", "must be a number of tasks and a duration"),
        ("concurrency_per_key = 1", "goes with concurrency_key"),
        ("concurrency_total = 0", "must be from 1 to 10000"),
    ],
)
def test_what_is_no_limit_is_refused_by_name(line, rule):
    with pytest.raises(ConfigError, match=r'handlers\."a') as caught:
        load(BASE + line)
    assert rule in str(caught.value)


def test_what_runs_elsewhere_without_a_limit_lets_nobody_look_again():
    limited = f"{BASE}concurrency_total = 2\n[handlers.'b.*']\nexec = ['/bin/true']\n"
    state = State("n1", load(limited), 2)
    name = "120000.000000,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,{},c=low,s=20260101.json"
    heard(state, [name.format("b.x"), ".staged", "strange"])
    assert (state.passed, state.limits.elsewhere) == (False, {})
    heard(state, [name.format("a.x"), name.format("b.x")])
    assert (state.passed, state.limits.elsewhere) == (True, {"a.*": 1})


def test_what_runs_on_a_node_that_takes_no_more_takes_places_until_it_ends():
    """The other one is drained: all places are ours, less those that are still in use there."""
    key = 'concurrency_key = "args.k"\nconcurrency_per_key = 1\n'
    state = State("n1", load(f"{BASE}concurrency_total = 2\n{key}"), 2)
    state.peers, state.lease = frozenset(("n1", "n2")), 4 * SECOND
    handler = state.settings.handlers["a.*"]
    mark = limitkey.mark_of("a.*", "args.k", "zoe")
    shared_by(state, Now(0, 0))
    state.pauses = [{"kind": "drain", "node": "n2"}]
    shared_by(state, Now(SECOND, SECOND))
    shared_by(state, Now(3 * SECOND, 3 * SECOND))
    assert state.limits.before == ()
    name = f"120000.000000,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,a.x,g={mark}.json"
    heard(state, [name])
    assert (allowed(state, handler), allowed(state, handler, mark)) == (1, 0)
    assert not is_sure(state, handler)
    heard(state, [])
    assert (allowed(state, handler), allowed(state, handler, mark)) == (2, 1)
    assert is_sure(state, handler)
