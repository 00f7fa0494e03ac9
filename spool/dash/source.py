"""What the pages show, kept up to date by a thread: the moment, the flow, lists that take long."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from spool.disk import RealDisk
from spool.errors import SpoolError
from spool.scene.flow import Flow
from spool.scene.moment import Gatherer
from spool.scene.tail import Tail
from spool.times import WEEK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from spool.client import Spool
    from spool.scene.moment import Moment

EVERY = 1.0  # seconds between two looks while somebody looks on
CALM = 10.0  # the same while nobody does
GONE = 60.0  # seconds after the last request that somebody still looks on
READING = 0.25  # seconds of a look that go into the journal
PATIENCE = 0.12  # seconds a page waits for its lists
BREATH = 0.002  # seconds a long list leaves to the pages after each slice
SHARE = 20  # a list may take one second in so many
KEPT = 32  # lists


class Source:
    """One spool. Its thread ends with the process."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.flow = Flow()
        self.lock = threading.RLock()  # of the flow
        self.left = 1  # bytes of the newest journals that are still to be read
        self.trouble = ""  # what cannot be read, in words
        self.version = 0
        self._gatherer = Gatherer(spool)
        self._tail = Tail(spool.path, self.flow, back=WEEK)
        self._asked = time.monotonic()
        self._lists: dict[Any, _List] = {}
        self.mark: Any = None  # another object whenever the spool has changed
        self._wake = threading.Event()
        self.moment: Moment = self._gatherer.look()
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def asked(self) -> None:
        """Somebody looks on."""
        if time.monotonic() - self._asked > GONE:
            self._wake.set()
        self._asked = time.monotonic()

    def _run(self) -> None:
        while True:
            more = self._look()
            for one in tuple(self._lists.values()):
                if one.owed:
                    one.begin()
            calm = time.monotonic() - self._asked > GONE
            self._wake.wait(0.05 if more else CALM if calm else EVERY)
            self._wake.clear()

    def _look(self) -> bool:
        """Look once; whether the journal has more to read."""
        try:
            moment = self._gatherer.look()
        except (SpoolError, OSError) as problem:
            self._say(f"the pages show what was a while ago: {problem}")
            return False
        end = time.monotonic() + READING
        more = True
        while more and time.monotonic() < end:
            with self.lock:
                more = self._tail.step(moment.now)
            time.sleep(0.001)  # whoever renders a page comes first
        self.left = self._tail.left
        self._say(self._tail.trouble)
        with self.lock:
            for node in moment.alive:
                if isinstance(load := node.get("load"), int | float):
                    self.flow.load(moment.now, str(node["node"]), load)
        self.moment = moment
        mark = _mark(moment, self.flow.newest, more=more)
        if mark != self.mark:
            self.mark = mark
            self.tell()
        return more

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self.tell()

    def tell(self) -> None:
        """There is something new to see."""
        with self.lock:
            self.version += 1

    def list(self, key: Any, make: Callable[[RealDisk], Any]) -> tuple[Any, float | None]:
        """(what `make` has found, its age in seconds), or (None, None) while it is being made."""
        return self.lists({key: make})[0]

    def lists(
        self, wanted: Mapping[Any, Callable[[RealDisk], Any]]
    ) -> Sequence[tuple[Any, float | None]]:
        """The same of several, which are made side by side and waited for together."""
        end = time.monotonic() + PATIENCE
        found = [self._list(key, make) for key, make in wanted.items()]
        return [one.get(end) for one in found]

    def _list(self, key: Any, make: Callable[[RealDisk], Any]) -> _List:
        found = self._lists.get(key)
        if found is None:
            while len(self._lists) >= KEPT:
                self._lists.pop(next(iter(self._lists)))
            found = self._lists[key] = _List(self, make)
        found.make = make  # it knows what time it is now
        found.begin()
        return found


class _List:
    """Something that may take long to make, made in a thread of its own, and kept for a while."""

    def __init__(self, source: Source, make: Callable[[RealDisk], Any]) -> None:
        self.source = source
        self.make = make
        self.value: Any = None
        self.made: float | None = None
        self.took = 0.0
        self.again = 0.0
        self.owed = False  # somebody was shown one that is not the newest
        self._mark: Any = None  # of what the value was made
        self._busy = threading.Lock()
        self._lock = threading.Lock()  # of what is shown and owed
        self._done = threading.Event()

    def begin(self) -> None:
        """Have it made anew where it is time for that."""
        if time.monotonic() >= self.again and self._busy.acquire(blocking=False):
            self._done.clear()
            threading.Thread(target=self._run, args=(self.source.mark,), daemon=True).start()

    def get(self, end: float) -> tuple[Any, float | None]:
        """What there is of it at `end`; at once where it will take longer anyway, as the last time."""
        if self.made is None or self.took < PATIENCE:
            self._done.wait(max(0.0, end - time.monotonic()))
        with self._lock:
            if self.made is None or not self._done.is_set() or self._mark is not self.source.mark:
                self.owed = True
            return self.value, None if self.made is None else time.monotonic() - self.made

    def _run(self, mark: Any) -> None:
        begun = time.monotonic()
        try:
            disk = _Aside(self.source.spool.path)
            try:
                value = self.make(disk)
            finally:
                disk.close()
            with self._lock:
                self.value, self.made, self._mark = value, time.monotonic(), mark
                owed, self.owed = self.owed, False
                self._done.set()
            if owed:
                self.source.tell()
        except (OSError, SpoolError):
            pass  # what moved meanwhile; it is made again for whoever waits for it or asks next
        finally:
            self.took = time.monotonic() - begun
            self.again = time.monotonic() + max(0.5, SHARE * self.took)
            self._done.set()
            self._busy.release()


class _Aside(RealDisk):
    """Reads names beside the pages: what takes longer than they wait goes on in turns, with pauses."""

    turn = threading.Lock()

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._hurry = time.monotonic() + PATIENCE

    def slices(self, path: str, size: int) -> Iterator[list[str]]:
        for batch in super().slices(path, size):
            if time.monotonic() < self._hurry:
                yield batch
                continue
            with self.turn:  # whoever asked uses the slice before it asks for the next one
                yield batch
            time.sleep(BREATH)


def _mark(moment: Moment, newest: int, *, more: bool) -> Any:
    """What changes when there is something new to see."""
    written = [node.get("written_at") for node in moment.status["nodes"].values()]
    status = moment.status
    return (written, status["counts"], status["outboxes"], status["alive"], newest, more,
            [group.last for group in moment.groups], len(moment.groups))  # fmt: skip
