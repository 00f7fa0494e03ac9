"""A doorbell on directories: it says that something came, never what; a scan finds out.

watchdog's inotify thread does the watching, without its emitters: those pair moves and hold a lone
one back for half a second, tell nobody of an overflow, and lose their thread to an exception. A
directory that may not be read would be watched in silence, so it is read first.
"""

from __future__ import annotations

import logging
import os
import threading

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

log = logging.getLogger("spoold")
MASK = Mask(
    InotifyConstants.IN_CREATE  # link(2) into the directory; a file being written rings early
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_ONLYDIR
)


class _Ring:
    """What watchdog calls, in its thread: any news is a ring, an overflow too."""

    def __init__(self, bell: Doorbell, name: str) -> None:
        self.bell = bell
        self.name = name

    def on_event(self, event: InotifyEvent) -> None:
        del event
        self.bell.ring(self.name)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        del wd
        self.bell.ring(self.name)

    def on_queue_overflow(self) -> None:
        self.bell.ring(self.name)


class Doorbell:
    """Its `fd` becomes readable when something is created in, or renamed into, a directory."""

    def __init__(self, places: dict[str, str]) -> None:
        """`places`: name -> directory. OSError where one cannot be read or watched."""
        self._places = places
        self._rung: set[str] = set()
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[int, int]] = {}
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._inotify = InotifyFD()
        for number, (name, path) in enumerate(places.items()):
            os.scandir(path).close()  # watchdog swallows EACCES
            found = os.stat(path)
            self._seen[name] = (found.st_dev, found.st_ino)
            ring = _Ring(self, name)
            self._inotify.add_callback(os.fsencode(path), MASK, ring, CallbackId(number))
        self._inotify.start()

    def ring(self, name: str) -> None:
        """Somebody came; from any thread. Rings that nobody has answered yet are one."""
        with self._lock:
            if name in self._rung:
                return
            self._rung.add(name)
        os.eventfd_write(self.fd, 1)

    def answer(self) -> set[str]:
        """Who rang since the last answer."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return set()
        with self._lock:
            rung, self._rung = self._rung, set()
        return rung

    @property
    def sound(self) -> bool:
        """Whether it still hears: its thread lives, the directories are the ones it watches."""
        if not self._inotify.is_alive():
            return False
        try:
            now = {n: (s.st_dev, s.st_ino) for n, p in self._places.items() for s in [os.stat(p)]}
        except OSError:
            return False
        return now == self._seen

    def close(self) -> None:
        """Stop watching."""
        self._inotify.stop()
        self._inotify.join(2)
        os.close(self.fd)
