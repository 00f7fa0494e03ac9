"""Wrappers over any Disk that count its verbs, die before one of them, or fail in one of them."""

from __future__ import annotations

import errno
from collections import Counter
from typing import TYPE_CHECKING, Any

from spool.disk import DiskFull

if TYPE_CHECKING:
    from collections.abc import Callable

CHANGES = ("write", "append", "move", "link", "remove", "make_dir", "remove_dir", "overwrite")
SYNCS = ("sync", "sync_dirs", "flush")
READS = ("names", "slices", "read", "info", "stamp", "free")
WRITES = (*CHANGES, *SYNCS)
VERBS = (*WRITES, *READS)


class Crash(BaseException):
    """The process dies here. Not an Exception: nothing in the program may catch it."""


class Wrapper:
    """Every verb goes through `before`, then to the disk below, then through `after`."""

    def __init__(self, disk: Any) -> None:
        self.disk = disk
        self._verbs: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in VERBS:
            return getattr(self.disk, name)
        below = getattr(self.disk, name)

        def verb(*args: Any, **more: Any) -> Any:
            self.before(name, args)
            return below(*args, **more)

        self.__dict__[name] = verb
        return verb

    def before(self, verb: str, args: tuple[Any, ...]) -> None:
        """Called with every verb before it is done."""

    def swap(self, disk: Any) -> None:
        """From now on another disk is below."""
        self.disk = disk
        for name in VERBS:
            self.__dict__.pop(name, None)


class Counting(Wrapper):
    """Counts verbs, and keeps the story of those that change something."""

    def __init__(self, disk: Any) -> None:
        super().__init__(disk)
        self.counts: Counter[str] = Counter()
        self.story: list[str] = []

    def before(self, verb: str, args: tuple[Any, ...]) -> None:
        self.counts[verb] += 1
        if verb in WRITES:
            plain = (bytes, str, int)
            shown = [str(a)[:160] if isinstance(a, plain) else ", ".join(a) for a in args]
            self.story.append(f"{verb} {' -> '.join(shown)}")

    @property
    def writes(self) -> int:
        """How many verbs so far that change or sync something."""
        return sum(self.counts[v] for v in WRITES)


class Careful(Counting):
    """What a daemon of a cluster has between itself and the disk: `guard` before each change."""

    def __init__(self, disk: Any) -> None:
        super().__init__(disk)
        self.guard: Callable[[], None] = lambda: None

    def before(self, verb: str, args: tuple[Any, ...]) -> None:
        if verb in WRITES:
            self.guard()
        super().before(verb, args)


class Dying(Wrapper):
    """Dies before its n-th changing verb (from 0), and before every verb after that."""

    def __init__(self, disk: Any, n: int) -> None:
        super().__init__(disk)
        self.left = n

    def before(self, verb: str, args: tuple[Any, ...]) -> None:
        if verb not in WRITES and self.left >= 0:
            return
        self.left -= 1
        if self.left < 0:
            raise Crash(f"died before {verb} {args!r:.200}")


class Failing(Wrapper):
    """Verbs of `verbs` fail with `error` from the n-th one on, `times` times (None: for ever)."""

    def __init__(
        self, disk: Any, verbs: tuple[str, ...], n: int, error: int, times: int | None = 1
    ) -> None:
        super().__init__(disk)
        self.verbs = verbs
        self.left = n
        self.error = error
        self.times = times
        self.failed = ""

    def before(self, verb: str, args: tuple[Any, ...]) -> None:
        if verb not in self.verbs or self.times == 0:
            return
        self.left -= 1
        if self.left >= 0:
            return
        if self.times is not None:
            self.times -= 1
        self.failed = f"{verb} {args!r:.200}"
        kind = DiskFull if self.error in (errno.ENOSPC, errno.EDQUOT) else OSError
        raise kind(self.error, errno.errorcode[self.error], str(args)[:200])


class Hooked(Wrapper):
    """Calls a function once, before its n-th changing verb: somebody else does something there."""

    def __init__(
        self, disk: Any, n: int, hook: Callable[[], None], but: Callable[[str, Any], bool] | None = None
    ) -> None:
        """`but`: verbs before which it is not called, nor counted."""
        super().__init__(disk)
        self.left = n
        self.hook = hook
        self.but = but

    def before(self, verb: str, args: tuple[Any, ...]) -> None:
        if verb not in WRITES or (self.but is not None and self.but(verb, args[0])):
            return
        self.left -= 1
        if self.left == -1:
            self.hook()
