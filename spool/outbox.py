"""Reading a parent's outbox: events oldest first, each acknowledged by deleting its file."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from spool import layout
from spool.closed import telling
from spool.disk import Missing, NotRegular, TooLarge, Unreadable
from spool.errors import Invalid
from spool.names import is_task, parse_event
from spool.records import RECORD_LIMIT, decode
from spool.views import event_of
from spool.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from spool.disk import Disk
    from spool.views import Event


class Outbox:
    """The outbox of one parent, which need not be there yet; of two readers both get most events."""

    def __init__(self, disk: Disk, root: str, parent: str) -> None:
        if not is_task(parent):
            raise Invalid("parent", parent, "must be [A-Za-z0-9][A-Za-z0-9._-]{0,63}")
        self.disk = disk
        self.root = root
        self.parent = parent
        self.folder = f"{layout.OUTBOX}/{parent}"
        self._given: set[str] = set()  # already, when keeping
        self._unreadable: dict[str, int] = {}  # names to their ctime: they may be mended

    def events(
        self, *, follow: bool = True, timeout: float | None = None, keep: bool = False
    ) -> Iterator[Event]:
        """Yield events, and delete the file of each when the caller comes back for the next one.

        A caller that raises, or leaves the loop, keeps the event it was given: it comes again.
        With `keep` nothing is deleted. Ends when there is none left (`follow` False) or none has
        come for `timeout` seconds.
        """
        return (event for _, event in each([self], follow=follow, timeout=timeout, keep=keep))

    @property
    def path(self) -> str:
        """Where it is, or will be."""
        return os.path.join(self.root, self.folder)

    def passed(self, event: Event, *, keep: bool) -> None:
        """An event was handled: it is not given out again."""
        if keep:
            self._given.add(event.name)
        else:
            self.acknowledge(event)

    def unread(self) -> Iterator[Event]:
        """The events that are there now, oldest first, but for those given out or unreadable."""
        names = set(self._names())
        self._given &= names
        self._unreadable = {name: at for name, at in self._unreadable.items() if name in names}
        for name in sorted(names - self._given):
            event = self._read(name)
            if event is not None:
                yield event

    def acknowledge(self, event: Event) -> None:
        """Delete the file of an event; one that is gone already is no error."""
        with suppress(Missing), telling(self.root):  # another reader of the same outbox was faster
            self.disk.remove(f"{self.folder}/{event.name}")

    def _names(self) -> list[str]:
        try:
            with telling(self.root):
                found = self.disk.names(self.folder)
        except Missing:
            return []
        return [name for name in found if parse_event(name) is not None]

    def _read(self, name: str) -> Event | None:
        path = f"{self.folder}/{name}"
        info = self.disk.info(path) if name in self._unreadable else None
        if info is not None and info.ctime_us == self._unreadable[name]:
            return None
        try:
            data = self.disk.read(path, RECORD_LIMIT)
            return event_of(name, self.parent, decode(data))
        except Missing:
            return None
        except (Invalid, NotRegular, TooLarge, Unreadable, PermissionError, ValueError) as problem:
            import logging

            info = None if isinstance(problem, Unreadable) else self.disk.info(path)  # it may pass
            self._unreadable[name] = info.ctime_us if info else 0
            place = f"{self.root}/{path}"
            logging.getLogger("spool").warning("%s: skipped, it cannot be read: %s", place, problem)
            return None


def each(
    boxes: Sequence[Outbox], *, follow: bool = True, timeout: float | None = None, keep: bool = False
) -> Iterator[tuple[Outbox, Event]]:
    """The events of several outboxes and whose they are, of each oldest first; else as Outbox.events."""
    with Watch([box.path for box in boxes]) as watch:
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            for box in boxes:
                for event in box.unread():
                    watch.calm()
                    yield box, event
                    box.passed(event, keep=keep)
                    end = None if timeout is None else time.monotonic() + timeout
            if not follow:
                return
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            watch.wait(left)
