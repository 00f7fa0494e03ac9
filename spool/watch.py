"""Waiting until something comes into a directory: by inotify, by looking again where there is none.

A ring says that something may have come, never what: the caller looks. A directory that is not
there yet is waited for through the nearest one above it that is. inotify is silent about what other
hosts do on a network file system, so no wait is longer than `PULSE`.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

PULSE = 1.0  # seconds; longest wait without a look
FIRST, LAST = 0.005, 0.2  # seconds between looks where inotify is not available


class Watch:
    """A doorbell on directories, for one thread. Rings while nobody waits are not lost."""

    def __init__(self, paths: Sequence[str]) -> None:
        """`paths`: absolute; they may come and go."""
        self._paths = list(paths)
        self._bell = _Bell()
        self._pause = FIRST
        self._armed: dict[str, tuple[int, int]] = {}
        self._inotify: Any = None
        self._rings = 0
        try:
            from watchdog.observers.inotify_c import InotifyFD

            self._inotify = InotifyFD()
        except (ImportError, OSError):
            return  # no inotify here, or no more of them for this user: look again and again
        self._inotify.start()
        self._arm()

    @property
    def polls(self) -> bool:
        """Whether it only looks again from time to time."""
        return self._inotify is None

    def wait(self, timeout: float | None = None) -> bool:
        """True when something may have come; False after `timeout` s, or PULSE, with no sign of it."""
        limit = PULSE if timeout is None else max(0.0, min(timeout, PULSE))
        if self._inotify is None or not self._inotify.is_alive():
            time.sleep(min(limit, self._pause))
            self._pause = min(self._pause * 2, LAST)
            return True
        rung = self._bell.wait(limit)
        self._arm()
        return rung

    def calm(self) -> None:
        """Something did come: where there is no inotify, the next looks are close together again."""
        self._pause = FIRST

    def close(self) -> None:
        """Stop watching."""
        if self._inotify is not None and self._inotify.is_alive():
            self._inotify.stop()
            self._inotify.join(2)
        if self._inotify is None or not self._inotify.is_alive():
            self._bell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _arm(self) -> None:
        """Watch what is there; a new watch is a ring, for what came before it."""
        for path in self._paths:
            place = _nearest(path)
            try:
                found = os.stat(place)
            except OSError:
                continue  # gone again: the pulse looks
            mark = (found.st_dev, found.st_ino)
            if self._armed.get(place) == mark:
                continue
            try:
                os.scandir(place).close()  # watchdog swallows EACCES
                self._listen(place)
            except OSError:
                continue
            self._armed[place] = mark
            self._bell.ring()

    def _listen(self, place: str) -> None:
        from watchdog.observers.inotify_c import CallbackId, InotifyConstants, Mask

        mask = Mask(
            InotifyConstants.IN_CREATE
            | InotifyConstants.IN_CLOSE_WRITE
            | InotifyConstants.IN_MOVED_TO
            | InotifyConstants.IN_MOVED_FROM
            | InotifyConstants.IN_DELETE
            | InotifyConstants.IN_MODIFY
            | InotifyConstants.IN_DELETE_SELF
            | InotifyConstants.IN_ONLYDIR
        )
        self._rings += 1
        ring = _Ring(self._bell)
        self._inotify.add_callback(os.fsencode(place), mask, ring, CallbackId(self._rings))


class _Ring:
    """What watchdog calls, in its thread: any news is a ring, an overflow too."""

    def __init__(self, bell: _Bell) -> None:
        self._bell = bell

    def on_event(self, event: object) -> None:
        del event
        self._bell.ring()

    def on_watch_deleted(self, wd: object) -> None:
        del wd
        self._bell.ring()

    def on_queue_overflow(self) -> None:
        self._bell.ring()


class _Bell:
    """A pipe, as a signal in the middle of a wait would leave the lock of threading.Event held."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()
        os.set_blocking(self._out, False)
        os.set_blocking(self._in, False)
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)

    def ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it has rung
            os.write(self._in, b"!")

    def wait(self, seconds: float) -> bool:
        rung = bool(self._poll.poll(seconds * 1000))
        if rung:
            os.read(self._out, 1 << 16)
        return rung

    def close(self) -> None:
        if self._in >= 0:
            os.close(self._out)
            os.close(self._in)
            self._out = self._in = -1


def _nearest(path: str) -> str:
    """The directory itself, or the nearest one above it that is there."""
    while not os.path.isdir(path):
        above = os.path.dirname(path)
        if above == path:
            return path
        path = above
    return path
