"""incoming/ of a shared spool: whose files lie there, who is next, and who has dropped too much.

A pass reads names a slice at a time and keeps the first of each writer, so that a million files of one
take neither memory nor the turns of the others. What lies in a box of incoming.d/ is of its owner.
"""

from __future__ import annotations

import heapq
import logging
import os
import stat
from typing import TYPE_CHECKING

from spool import handed, layout
from spool.knobs import POLICY_ROWS, parse_size
from spool.modes import FIX
from spool.names import DAY_US
from spool.times import MINUTE
from spoold.core import rights
from spoold.core.fairness import Rates, in_turn

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from spool.disk import Disk, Info
    from spool.settings import Settings
    from spoold.core.values import Now, Who
    from spoold.sources.people import People

log = logging.getLogger("spoold")
SLICE = 256  # files handed out, and names looked at, in one round of the loop
KEPT = 2 * SLICE  # files of each writer that a pass remembers
SURPLUS = 4096  # files that are refused for their number in one pass
SLOW = 250_000  # us: not sooner does a writer who is over his rate get another look
UNKNOWN = "whoever has no name here"
_LIMITS = {name: parse_size(POLICY_ROWS[name].default) for name in ("files", "bytes", "rate")}


class Crowd:
    """Whose turn it is. `surplus`: files beyond a quota, or never finished, and the rule they break."""

    def __init__(self, disk: Disk, people: People, settings: Settings) -> None:
        self.disk = disk
        self.people = people
        self.settings = settings
        self.listing = 0  # passes so far
        self.surplus: list[tuple[str, Info, str]] = []
        self.held = 0  # files that wait for the rate of their writer
        self._rates = Rates()
        self._rung = True
        self._pass: Iterator[None] | None = None
        self._writers: dict[int, _Writer] = {}
        self._queues: dict[int, list[tuple[int, str]]] = {}
        self._last = rights.UNKNOWN  # who had the last turn
        self._behind = False  # there are more files than a pass remembers
        self._moved = False  # something came of what it did
        self._wait: int | None = None
        self.told: dict[str, str] = {}  # what is left alone, and why
        self._seen: set[str] = set()  # of that, in this pass

    def ring(self) -> None:
        """Something may have been dropped."""
        self._rung = True

    @property
    def busy(self) -> bool:
        """Whether `batch` would do something now."""
        return self._rung or self._pass is not None or (any(self._queues.values()) and not self.held)

    def next_look(self) -> int | None:
        """In how many us a writer who is over his rate may go on; None where there is none."""
        return max(SLOW, self._wait) if self._wait is not None else None

    def batch(self, now: Now, unready: Container[str]) -> list[tuple[int, str]]:
        """The next files, writer and path, each in his turn; nothing while a pass is under way.

        `unready`: those that were looked at before, and are only looked at again if there are no others.
        """
        if self._pass is None and self._rung:
            self._rung, self._pass, self._moved = False, self._look(now, unready), False
        if self._pass is not None:
            for _ in self._pass:
                return []
            self._pass = None
            self.listing += 1
        rates = {w: rate for w in self._queues if (rate := self._writers[w].rate)}
        allowed = {w: self._rates.left(w, rate, now) for w, rate in rates.items()}
        found = in_turn(self._queues, SLICE, allowed, self._last)
        if found:
            self._last = found[-1][0]
        waiting = {w: len(q) for w, q in self._queues.items() if q}
        slow = [w for w in rates.keys() & waiting if self._rates.left(w, rates[w], now) <= 0]
        self.held = sum(waiting[w] for w in slow) if len(slow) == len(waiting) else 0
        waits = [self._rates.wait(w, rates[w], now) for w in slow]
        self._wait = min(waits, default=None) if self.held else None
        return found

    def back(self, batch: list[tuple[int, str]], paths: Container[str], *, moved: bool) -> None:
        """Some of a batch are for later: they are the next of their writers.

        `moved`: something came of it; else another pass at once would find the same files.
        """
        for one in reversed(batch):
            if one[1] in paths:
                self._queues[one[0]].insert(0, one)
        self._moved |= moved
        if self._behind and self._moved and not any(self._queues.values()):
            self._behind, self._rung = False, True

    def took(self, uid: int, now: Now) -> None:
        """An action of a writer was looked at: it counts."""
        who = self._who(uid, now)
        self._rates.take(rights.turn_of(self.settings, who), self._limit("rate", who), now)

    def _limit(self, name: str, who: Who) -> int:
        """A quota of a writer: what his rules say, the default where he has none."""
        return rights.quota(self.settings, who, name) or _LIMITS[name]

    def _who(self, uid: int, now: Now) -> Who:
        return self.people.who(uid, None, now.mono, strict=False)

    def _writer(self, uid: int, writers: dict[int, _Writer], now: Now) -> tuple[int, _Writer]:
        who = self._who(uid, now)
        turn = rights.turn_of(self.settings, who)
        if turn not in writers:
            files, size, rate = (0 if who.trusted else self._limit(n, who) for n in _LIMITS)
            said = UNKNOWN if turn == rights.UNKNOWN else who.said
            writers[turn] = _Writer(said, files, size, rate)
        return turn, writers[turn]

    # A pass over all that lies there.

    def _look(self, now: Now, unready: Container[str]) -> Iterator[None]:
        writers: dict[int, _Writer] = {}
        first: dict[int, list[_Last]] = {}
        behind = False
        for files in self._files(now):
            for path, info, uid in files:
                turn, writer = self._writer(uid, writers, now)
                folder, _, name = path.rpartition("/")
                finished = folder != layout.TMP and is_action(name)
                rule = writer.too_much(min(info.size, self.settings.max_action_bytes))
                if not finished and now.wall - info.ctime_us >= DAY_US:
                    rule = "was not finished within a day"
                if rule:
                    if len(self.surplus) < SURPLUS:
                        self.surplus.append((path, info, rule))
                elif finished:
                    kept = first.setdefault(turn, [])
                    heapq.heappush(kept, _Last(path, unready=path in unready))
                    if len(kept) > KEPT:
                        heapq.heappop(kept)
                        behind = True
            yield
        self._queues = {
            turn: [(turn, path) for path in sorted(last.rank[1] for last in kept)]
            for turn, kept in first.items()
        }
        self._writers, self._behind = writers, behind
        for path in self.told.keys() - self._seen:
            del self.told[path]
        self._seen.clear()

    def _files(self, now: Now) -> Iterator[list[tuple[str, Info, int]]]:
        """All files, a slice at a time, and in whose quota each counts; directories go, if they can."""
        for folder, owner in self._folders():
            for names in self._slices(folder):
                found = []
                for name in names:
                    path = f"{folder}/{name}"
                    info = handed.info(self.disk, path)
                    if info is None:
                        continue
                    if not stat.S_ISDIR(info.mode):
                        found.append((path, info, info.uid if owner is None else owner))
                    elif now.wall - info.ctime_us >= MINUTE and not self._is_removed(path):
                        self._tell(folder, "has directories that are not empty: rm -r them")
                yield found

    def _is_removed(self, path: str) -> bool:
        """Whether a directory is gone, as one that is empty."""
        try:
            return self.disk.remove_dir(path)
        except OSError:
            return False

    def _folders(self) -> Iterator[tuple[str, int | None]]:
        """incoming/ and tmp/, of everybody, then the boxes of single writers."""
        yield layout.INCOMING, None
        yield layout.TMP, None
        for name in boxes(self.disk):
            path = f"{layout.WRITERS}/{name}"
            info = handed.info(self.disk, path)
            if info is None or not stat.S_ISDIR(info.mode) or info.uid != int(name):
                self._tell(path, "is left alone: it does not belong to the user it is named after")
            elif info.mode & stat.S_ISVTX and info.uid != os.geteuid():
                self._tell(path, f"is left alone: it is sticky, so nothing can be removed ({FIX})")
            elif not info.mode & stat.S_ISGID and info.uid != os.geteuid():
                self._tell(path, f"is left alone: it is not setgid, so nothing can be read ({FIX})")
            elif not _open(self.disk, path):
                self._tell(path, "is left alone: spoold may not take files from it")
            else:
                yield path, info.uid

    def _slices(self, folder: str) -> Iterator[list[str]]:
        try:
            yield from self.disk.slices(folder, SLICE)
        except OSError as problem:
            self._tell(folder, f"cannot be listed: {problem.strerror}")

    def _tell(self, path: str, what: str) -> None:
        self._seen.add(path)
        if self.told.get(path) != what:
            self.told[path] = what
            log.warning("%s %s", path, what)


class _Writer:
    """What lies there of one writer so far, and how much may; no limit: he is trusted."""

    __slots__ = ("files", "number", "rate", "said", "size", "sizes")

    def __init__(self, said: str, files: int, sizes: int, rate: int) -> None:
        self.said, self.files, self.sizes, self.rate = said, files, sizes, rate
        self.number = self.size = 0

    def too_much(self, size: int) -> str:
        """The rule that one more file of this size breaks, if any."""
        self.number += 1
        self.size += size
        what = ""
        if self.files and self.number > self.files:
            what = f"{self.files} files in incoming/ and tmp/ (files in [policy])"
        elif self.sizes and self.size > self.sizes:
            what = f"{self.sizes} bytes in incoming/ and tmp/ (bytes in [policy])"
        return what and f"{self.said} has more than {what}"


class _Last:
    """A path in a heap that gives up what is not ready first, then the last by name."""

    __slots__ = ("rank",)

    def __init__(self, path: str, *, unready: bool) -> None:
        self.rank = unready, path

    def __lt__(self, other: _Last) -> bool:
        return self.rank > other.rank


def is_action(name: str) -> bool:
    """Whether a name is that of a finished action."""
    return name.upper().endswith(".JSON") and not is_unfinished(name)


def is_unfinished(name: str) -> bool:
    """Whether a name says that its file is still being written."""
    return name.startswith(".") or name.endswith(UNFINISHED)


UNFINISHED = (".tmp", ".part", "~", ".swp")


def boxes(disk: Disk) -> list[str]:
    """The user ids that have a box of their own."""
    try:
        return sorted(name for name in disk.names(layout.WRITERS) if name.isascii() and name.isdecimal())
    except OSError:
        return []


def _open(disk: Disk, path: str) -> bool:
    """Whether this process may list a box and take files away from it."""
    root = getattr(disk, "fd", None)
    return root is None or os.access(path, os.R_OK | os.W_OK | os.X_OK, dir_fd=root)
