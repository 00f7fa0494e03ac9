"""Many keys with many tasks waiting: what the core has read, and holds in memory, for what it starts."""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace

from spool import layout, limitkey
from spool.names import MARK, Entry, new_id
from spool.settings import load
from spoold.core import dispatch, order, scans
from spoold.core.state import LEAST, State
from spoold.core.values import Ask, Now, Scan, Scanned, Seen

NOW = 1_795_305_540_000_000
SLICE = 100
HEAD = 'concurrency = 2\nwindow = {window}\nadmission.enabled = false\n[handlers."a"]\nexec = ["/bin/true"]\n'
PER_KEY = 'concurrency_key = "args.who"\nconcurrency_per_key = 1\n'
FAIR = 'fair = "args.who"\n'


class Queue:
    """The core, with the names of a directory; of the two tasks that run now and then one ends."""

    def __init__(self, limit: str, keys: int, each: int, *, blocks: bool, window: int) -> None:
        self.state = State("n", load(HEAD.format(window=window) + limit), 2)
        self.state.latest = NOW
        self.waiting: dict[str, Entry] = {}
        for n in range(keys * each):
            who = n // each if blocks else n % keys
            mark = limitkey.mark_of("a", "args.who", who)
            entry = Entry(
                time=NOW - 10**9 + n, id=new_id(NOW + n * 1000), task="a", extra=((MARK, mark),)
            )
            self.waiting[entry.id] = entry
        self.started: list[Entry] = []
        self.running: list[Entry] = []
        self.read = self.held = 0
        self._slices: list[list[str]] = []
        self._rng = Random(1)

    def run(self, number: int) -> None:
        """Until so many have started; a slice of a scan is read between starts."""
        while len(self.started) < number:
            now = Now(NOW, len(self.started))
            for action in dispatch.dispatch(self.state, now):
                if isinstance(action, Scan) and action.kind == "due":
                    self._begin()
                elif isinstance(action, Ask):
                    self._start(action)
            self.held = max(self.held, len(self.state.waiting))
            if self._slices:
                self._go_on(now)
            elif not self.running:
                raise AssertionError("nothing runs, and nothing is read")
            if len(self.running) > 1 or (self.running and self._rng.random() < 0.5):
                dispatch.unreserve(self.state, self.running.pop(0).id, now)

    def _start(self, ask: Ask) -> None:
        for entry in ask.entries.values():
            del self.waiting[entry.id]
            self.started.append(entry)
            self.running.append(entry)

    def _begin(self) -> None:
        names = [layout.pending(entry).rpartition("/") for entry in self.waiting.values()]
        self._folders = {folder for folder, _, _ in names}
        found = [name for _, _, name in names]
        self._rng.shuffle(found)
        self._slices = [found[n : n + SLICE] for n in range(0, len(found), SLICE)] or [[]]

    def _go_on(self, now: Now) -> None:
        (folder,) = self._folders
        _, date, prio = folder.split("/")
        names = self._slices.pop()
        self.read += len(names)
        scans.seen(self.state, Seen("due", date, prio, names), now)
        if not self._slices:
            scans.scanned(self.state, Scanned("due", prio), now)
            scans.scanned(self.state, Scanned("due", None), now)


KEYS, EACH, WINDOW, STARTS = 150, 100, 3000, 1500


@pytest.mark.parametrize("blocks", [False, True], ids=["mixed", "blocks"])
@pytest.mark.parametrize("limit", ["", PER_KEY, FAIR], ids=["none", "per key", "fair"])
def test_few_names_are_read_for_each_start_and_few_are_in_memory(limit: str, *, blocks: bool) -> None:
    queue = Queue(limit, KEYS, EACH, blocks=blocks, window=WINDOW)
    queue.run(STARTS)
    assert queue.read / STARTS <= 45
    assert queue.held <= WINDOW + LEAST * len(queue.state.limits.apart)
    places: dict[str, list[str]] = {}
    for entry in queue.started:
        places.setdefault(entry.mark if limit else "", []).append(order.key(entry))
    assert all(found == sorted(found) for found in places.values())
    if limit == FAIR:
        assert len(places) == KEYS
        often = sorted(map(len, places.values()))  # each eighth start is that of the oldest
        assert STARTS // KEYS - 3 <= often[0] <= often[KEYS * 9 // 10] <= STARTS // KEYS + 3
    elif not blocks:
        assert max(map(len, places.values())) <= STARTS // (KEYS if limit else 1) + 1


def test_what_is_left_to_other_nodes_takes_no_room() -> None:
    queue = Queue(PER_KEY, 20, 1000, blocks=True, window=WINDOW)
    state = queue.state
    state.peers = state.limits.live = frozenset({"n", "m"})
    entries = sorted(queue.waiting.values(), key=lambda entry: not state.is_foreign("a", entry.mark))
    own = [entry for entry in entries if not state.is_foreign("a", entry.mark)]
    assert 2 * WINDOW < len(entries) - len(own) < len(entries)
    for n, entry in enumerate(entries):
        queue.waiting[entry.id] = replace(entry, time=NOW - 10**9 + n)
    queue.run(100)
    assert {entry.id for entry in queue.started} <= {entry.id for entry in own}
    assert queue.read <= 2 * len(entries)
