"""What keeps ready tasks from starting, as the daemons say: of one task, and of all in few words."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from spool import daemons, layout, look
from spool.errors import SpoolError
from spool.limitkey import OTHERS
from spool.patterns import matches
from spool.times import parse_utc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from spool.disk import Disk
    from spool.names import Entry
    from spool.settings import Handler, Settings
    from spool.views import Listed

PAUSED = "paused ("
OPENED = 200  # tasks of a list that are opened to learn whose they are, where an outbox is full
FEW = 3  # keys at one limit that are told one by one
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class HeldBack:
    """The rows `held_back` of the nodes that are alive, and whose they are by spool.toml.

    `clock` shows an instant in them.
    """

    def __init__(self, disk: Disk, alive: list[dict[str, Any]], clock: Callable[[int], str]) -> None:
        self.disk = disk
        self.alive = alive
        self.clock = clock

    @cached_property
    def _settings(self) -> Settings | None:
        from spool import settingsfile

        try:
            return settingsfile.read(self.disk)
        except (OSError, SpoolError):
            return None

    @cached_property
    def _pauses(self) -> list[dict[str, Any]]:
        return daemons.pauses(self.disk)

    def handler_of(self, task: str) -> Handler | None:
        """The handler of a task name; None where spool.toml names none, or cannot be read."""
        return None if self._settings is None else self._settings.handler_for(task)

    def parent_of(self, task: str, notify: str | None) -> str:
        """Whose outbox is told of a task."""
        handler = self.handler_of(task)
        return notify or (handler.notify if handler and handler.notify else layout.DEFAULT_PARENT)

    def _parent_at(self, one: Listed) -> str:
        try:
            notify = look.read_task(self.disk, one.path).notify
        except (OSError, SpoolError):
            return ""
        return self.parent_of(one.task, notify)

    def on(self, status: dict[str, Any], entry: Entry) -> str:
        """What one node says of a task that waits; empty where it says nothing."""
        rows = status.get("held_back") or []
        if not rows:
            return ""
        handler = self.handler_of(entry.task)
        own = (None, entry.mark, OTHERS) if entry.mark else (None,)
        for row in rows:
            why = str(row.get("why"))
            if row.get("handler") != (handler.pattern if handler else None):
                continue
            if entry.prio not in (row.get("classes") or []) or row.get("key") not in own:
                continue
            if not why.startswith(PAUSED):  # of some names of its handler; `pause` knows which
                return _timed(why, self.clock)
        return ""

    def pauses(self, task: str) -> list[dict[str, Any]]:
        """What keeps a task name from its start on every node: a pause of all, or one of each alive."""
        found: dict[str | None, dict[str, Any]] = {}
        for row in self._pauses:
            if not row["task"] or matches(row["task"], task):
                found.setdefault(row["node"], row)
        if None in found:
            return [found[None]]
        if not found or not self.alive:
            return list(found.values())[:1]
        nodes = {status["node"] for status in self.alive}
        return [found[node] for node in found if node in nodes] if nodes <= found.keys() else []

    def told(self, rows: Iterable[Listed], now: int) -> list[Listed]:
        """The same lines of a listing, those that are ready with what holds them back."""
        found = []
        full: dict[str, str] = {}
        for status in self.alive:
            full |= daemons.unread_by(status)
        left = OPENED if full else 0
        for one in rows:
            why = ""
            if one.state == layout.PENDING and one.at <= now:
                said = (self.on(status, one.entry) for status in self.alive)
                paused = ", ".join(map(daemons.paused, self.pauses(one.task)))
                why = paused or next(filter(None, said), "")
                if not why and left:
                    left -= 1
                    why = full.get(self._parent_at(one), "")
            found.append(replace(one, why=why) if why else one)
        return found


def brief(status: dict[str, Any], clock: Callable[[int], str]) -> list[tuple[int, str, str]]:
    """(how many are ready, their classes, why) of one node; many keys at one limit are one row."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for number, row in enumerate(status.get("held_back") or []):
        limit = str(row.get("why")).rpartition("(")[2] if row.get("key") else str(number)
        groups.setdefault((str(row.get("handler")), limit), []).append(row)
    found: dict[str, tuple[int, dict[str, None]]] = {}  # two handlers may say the same
    for rows in groups.values():
        parts = [rows] if len(rows) > FEW else [[row] for row in rows]
        for part in parts:
            more = f", and {sum(row.get('keys') or 1 for row in part) - 1} other keys" if part[1:] else ""
            classes = dict.fromkeys(prio for row in part for prio in row.get("classes") or [])
            ready = sum(int(row.get("ready", 0)) for row in part)
            why = f"{_timed(str(part[0].get('why')), clock)}{more}"
            others, before = found.get(why, (0, {}))
            found[why] = (others + ready, before | classes)
    return [(ready, "/".join(classes), why) for why, (ready, classes) in found.items()]


def outboxes(alive: list[dict[str, Any]], clock: Callable[[int], str]) -> list[str]:
    """The full outboxes that an unknown number of tasks wait for, where `brief` does not tell of them."""
    said = {why for status in alive for _, _, why in brief(status, clock)}
    full = {row: None for status in alive for row in daemons.unread_by(status).items()}
    return [f"tasks of parent {parent}: {why}" for parent, why in full if why not in said]


def of_all(alive: list[dict[str, Any]], clock: Callable[[int], str]) -> dict[str, int]:
    """Why -> how many are ready, where no gate is the reason. Each node tells of the same queue."""
    found: dict[str, int] = {}
    for status in alive:
        shut = (status.get("gate") or {}).get("why")
        for many, _, why in brief(status, clock):
            if why != shut:
                found[why] = max(many, found.get(why, 0))
    return found


def _timed(why: str, clock: Callable[[int], str]) -> str:
    return _INSTANT.sub(lambda found: clock(parse_utc(found[0])), why)
