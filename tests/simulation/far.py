"""What one host sees of a file server: late, and now and then with an answer that is not true.

Measured on NFSv4.2, v3 and GlusterFS, and here all at once:

- A listing, or the time of change of a directory, may be an old one, until this host changes something
  there or `late` is over. Opening a directory makes the host forget what it did not find there.
- A name that was looked up and not found stays "not found", even for one's own rename of it.
- What a name is (size, links, times) may be old as well.
- After a crash of the server a rename, link or removal that was done may answer that it was not.

What this host does itself is done at once, and what it reads is what is there.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from spool.disk import Exists, Missing
from spoold.effects.fenced import Fence
from tests.simulation.faults import CHANGES, VERBS, Wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

STALE = 0.5  # of the answers that may be old are


class Far(Wrapper):
    """The disk of the server as one host sees it; `clock` gives us, answers are up to `late` us old."""

    def __init__(self, disk: Any, clock: Callable[[], int], late: int, rng: Random) -> None:
        super().__init__(disk)
        self.clock, self.late, self.rng = clock, late, rng
        self.lie: int | None = None  # after so many changes one is done, and said not to be
        self._lists: dict[str, tuple[int, list[str], int | None]] = {}
        self._known: dict[str, tuple[int, Any]] = {}  # what a name is; None: not found

    def before(self, verb: str, args: tuple[Any, ...]) -> None:
        if verb in CHANGES:
            for path in args[:2] if verb in ("move", "link") else args[:1]:
                self._forget(path)

    def _forget(self, path: str) -> None:
        self._known.pop(path, None)
        self._lists.pop(path.rpartition("/")[0], None)

    def _old(self, at: int) -> bool:
        return self.clock() - at < self.late and self.rng.random() < STALE

    def _opened(self, path: str) -> tuple[list[str], int | None]:
        gone = [name for name, (_, info) in self._known.items() if info is None]
        for name in gone:
            if name.rpartition("/")[0] == path:
                del self._known[name]
        if (found := self._lists.get(path)) is not None and self._old(found[0]):
            return found[1:]
        fresh = self.disk.names(path), self.disk.stamp(path)
        self._lists[path] = self.clock(), *fresh
        return fresh

    def names(self, path: str) -> list[str]:
        return list(self._opened(path)[0])

    def slices(self, path: str, size: int) -> Iterator[list[str]]:
        try:
            names = self.names(path)
        except (Missing, NotADirectoryError):
            return
        for start in range(0, len(names), size):
            yield names[start : start + size]

    def stamp(self, path: str) -> int | None:
        try:
            return self._opened(path)[1]
        except (Missing, NotADirectoryError):
            return None

    def info(self, path: str) -> Any:
        if (found := self._known.get(path)) is not None and self._old(found[0]):
            return found[1]
        info = self.disk.info(path)
        self._known[path] = self.clock(), info
        return info

    def _absent(self, path: str) -> bool:
        found = self._known.get(path)
        return found is not None and found[1] is None and self._old(found[0])

    def move(self, source: str, target: str) -> None:
        if self._absent(source):
            raise Missing(errno.ENOENT, "was not there a moment ago", source)
        self._change("move", Missing(errno.ENOENT, "done, and said not to be", source), source, target)

    def link(self, source: str, target: str) -> None:
        if self._absent(source):
            raise Missing(errno.ENOENT, "was not there a moment ago", source)
        self._change("link", Exists(errno.EEXIST, "done, and said not to be", target), source, target)

    def remove(self, path: str) -> None:
        self._change("remove", Missing(errno.ENOENT, "done, and said not to be", path), path)

    def _change(self, verb: str, answer: OSError, *args: str) -> None:
        self.before(verb, args)
        getattr(self.disk, verb)(*args)
        if self.lie is not None:
            self.lie -= 1
            if self.lie < 0:
                self.lie = None
                raise answer


class _Verbs:
    """Every verb as a method, for a class that calls those of the one below it."""

    def __init__(self, disk: Any) -> None:
        self.disk = disk


def _verb(name: str) -> Callable[..., Any]:
    def verb(self: _Verbs, *args: Any, **more: Any) -> Any:
        return getattr(self.disk, name)(*args, **more)

    return verb


for _name in VERBS:
    setattr(_Verbs, _name, _verb(_name))


class Doubting(Fence, _Verbs):
    """What a daemon of a cluster makes of it: spoold.effects.fenced over any disk."""

    def __init__(self, disk: Any) -> None:
        super().__init__(disk)
        self.check = lambda: None  # Careful has looked
