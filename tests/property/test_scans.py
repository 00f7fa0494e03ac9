"""A scan passes names over that no lane has room for; what it leaves in memory is the same."""

from __future__ import annotations

from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from spool import layout
from spool.names import DAY_US, Entry, new_id
from spool.settings import load
from spoold.core import scans
from spoold.core.state import State
from spoold.core.values import Now, Scanned, Seen

NOON = 1_795_305_540_000_000
TOML = 'window = 100\n[handlers."a"]\nexec = ["/bin/true"]\n[handlers."b*"]\nexec = ["/bin/true"]\n'
SLICE = 40
ENTRIES = st.builds(
    lambda before, task, front, deadline, number: Entry(
        time=NOON - before,
        id=new_id(NOON + number),
        task=task,
        front=front,
        deadline=None if deadline is None else NOON // 1_000_000 * 1_000_000 + deadline * 1_000_000,
    ),
    st.integers(-(10**9), 2 * DAY_US),
    st.sampled_from(["a", "a", "a", "b.one", "b.two", "nobody"]),
    st.sampled_from([False] * 9 + [True]),
    st.none() | st.integers(0, 10**6),
    st.integers(0, 10**9),
)


def scanned(names: dict[str, list[str]]) -> Any:
    """What is in memory after a scan of all, by folder."""
    state, now = State("n", load(TOML), 2), Now(NOON, 0)
    state.latest = NOON
    scans.wanted(state, now)
    for folder, some in sorted(names.items()):
        date, prio = folder.split("/")
        for at in range(0, len(some), SLICE):
            scans.seen(state, Seen("due", date, prio, some[at : at + SLICE]), now)
    for prio in state.lanes:
        scans.scanned(state, Scanned("due", prio), now)
    scans.scanned(state, Scanned("due", None), now)
    lanes = {
        (prio, lane): (window.entries, window.bound)
        for prio, lanes in state.lanes.items()
        for lane, window in lanes.items()
    }
    future, urgent = state.future, state.urgent
    return lanes, future.entries, future.bound, urgent.entries, urgent.bound


@given(
    st.lists(ENTRIES, min_size=150, max_size=400),
    st.lists(st.text(max_size=60), max_size=3),
    st.randoms(),
)
@settings(max_examples=60, deadline=None)
def test_what_is_passed_over_is_of_no_use(entries: list[Entry], others: list[str], chance: Any) -> None:
    names: dict[str, list[str]] = {}
    for entry in entries:
        folder, _, name = layout.pending(entry).removeprefix("pending/").rpartition("/")
        names.setdefault(folder, []).append(name)
    for some in names.values():
        some.extend(others)
        chance.shuffle(some)
    with mock.patch.object(scans, "_of_use", lambda _state, event, _limit: event.names):
        wanted = scanned(names)
    assert scanned(names) == wanted
