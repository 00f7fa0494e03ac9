"""A doorbell on directories: it says that something came; a scan finds out what.

The last names are told as well, for who is in a hurry: they may be gone, unfinished, or not all.

watchdog's inotify descriptor is read by the loop itself, without its threads and emitters: those pair
moves and hold a lone one back for half a second, tell nobody of an overflow, lose their thread to an
exception, and fight the loop for the interpreter. A directory that may not be read would be watched
in silence, so it is read first.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

from spool import layout
from spoold.sources import LATEST

if TYPE_CHECKING:
    from collections.abc import Callable

MASK = Mask(
    InotifyConstants.IN_CREATE  # link(2) into the directory; a file being written rings early
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_ONLYDIR
)
BOXES = "boxes"  # the place where a box for one writer is made, and then given to him


class _Ring:
    """What watchdog calls: any news is a ring, an overflow too."""

    def __init__(
        self, rung: set[str], latest: deque[str], seen: dict[str, tuple[int, int]], name: str
    ) -> None:
        self.rung = rung
        self.latest = latest
        self.seen = seen
        self.name = name

    def on_event(self, event: InotifyEvent) -> None:
        self.rung.add(self.name)
        if self.name == layout.INCOMING:
            self.latest.append(os.fsdecode(event.name))

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        del wd
        self.rung.add(self.name)
        self.seen.pop(self.name, None)

    def on_queue_overflow(self) -> None:
        self.rung.add(self.name)


class Doorbell:
    """Its `fd` is readable when something was created in, or renamed into, a directory."""

    def __init__(self, places: dict[str, str], more: Callable[[], dict[str, str]] | None = None) -> None:
        """`places`: name -> directory. OSError where one cannot be read or watched.

        `more`: the places that there are now; asked when there may be others.
        """
        self._places = places
        self._more = more
        self.latest: deque[str] = deque(maxlen=LATEST)  # that came into incoming/, for who takes them
        self._rung: set[str] = set()
        self._seen: dict[str, tuple[int, int]] = {}  # which directories it watches
        self._numbers = count()
        self._inotify = InotifyFD()
        self.fd: int = self._inotify._inotify_fd  # noqa: SLF001 - watchdog lends it to its own thread only
        os.set_inheritable(self.fd, False)  # noqa: FBT003 - watchdog leaves it to be inherited
        os.set_blocking(self.fd, False)
        for name, path in places.items():
            self._watch(name, path)
        self.grow()

    def grow(self) -> None:
        """Watch what has come since, or was made again, and ring for it: something may lie there."""
        found = 1 if self._more is not None else 0
        while found:  # what is made while it looks is found by another look
            found = 0
            for name, path in (self._more() if self._more is not None else {}).items():
                with suppress(OSError):
                    if self._seen.get(name) != _which(path):
                        self._watch(name, path)
                        self._rung.add(name)
                        found += 1

    def _watch(self, name: str, path: str) -> None:
        os.scandir(path).close()  # watchdog swallows EACCES
        found = _which(path)
        ring = _Ring(self._rung, self.latest, self._seen, name)
        mask = MASK | InotifyConstants.IN_ATTRIB if name == BOXES else MASK
        number = CallbackId(next(self._numbers))
        self._inotify.add_callback(os.fsencode(path), Mask(mask), ring, number)
        self._seen[name] = found

    def answer(self) -> set[str]:
        """Who rang since the last answer; many rings are one. Call it when `fd` is readable."""
        for event in self._inotify.read_events():
            self._inotify.handle_event(event)
        if self._rung & {BOXES, "root"}:
            self.grow()
        rung = set(self._rung)
        self._rung.clear()
        return rung

    @property
    def sound(self) -> bool:
        """Whether the directories it was made for are still the ones it watches."""
        try:
            return all(self._seen.get(name) == _which(path) for name, path in self._places.items())
        except OSError:
            return False

    def close(self) -> None:
        """Stop watching."""
        self._inotify.close()


def _which(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
