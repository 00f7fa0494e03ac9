"""The groups of errors as files errors/FINGERPRINT.json: written late, read at start, never waited for.

A file is behind what is in memory by a second at most. Several nodes write it: each reads what stands
there, and adds what it has counted since. Of two that do so at the same moment one takes the addition of
the other along, of `count` and `nodes` until that writes again.

What a crash took along is made again at start from the end of the journal, whose lines were there before
the failures they tell of. How far the files tell what it says is noted in nodes/NODE.errors, so that no
start reads a day's work; and what was alerted last, so that no start alerts again.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import orjson

from spool import failures, layout, look
from spool.disk import Failing, Missing, NotRegular, TooLarge, open_regular
from spool.errors import Invalid
from spool.names import DAY_US, is_id
from spool.quarantine import aside
from spool.times import parse_utc
from spoold.core import alerts, care
from spoold.effects.rewrite import rewrite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spool.disk import Disk
    from spool.failures import Group
    from spoold.core.state import State
    from spoold.core.values import Now

log = logging.getLogger("spoold")
SOON = 250_000  # us between two rounds of writing
AT_ONCE = 16  # files written in one round of the loop
LIMIT = 1 << 20
TAIL = 16 << 20  # bytes of the journal that are read again at start, at most
NOTED = 1000  # transitions after which it is noted again how far the files tell


class ErrorFiles:
    """Keeps the files after the table; a chore of the loop."""

    def __init__(self, disk: Disk, state: State, root: str) -> None:
        self.disk = disk
        self.state = state
        self.root = root
        self._next = 0
        self._seen = -NOTED  # transitions there were when it was last noted
        self._told: dict[str, Any] = {}  # how far the files tell

    def load(self, now: int) -> None:
        """What the files say, and what the journal knows since. `now`: us UTC."""
        found: list[Group] = []
        note = self._read()
        noted = _noted(note)
        alerts.recall(self.state, note.get("alerts"))
        for name in look.names(self.disk, layout.ERRORS):
            path = f"{layout.ERRORS}/{name}"
            if name.startswith(".") or not name.endswith(".json"):
                continue
            try:
                found.append(failures.decode(self.disk.read(path, LIMIT)))
            except (Invalid, NotRegular, TooLarge) as problem:
                aside(self.disk, path, str(problem))
                noted = None  # the journal may know what it said
            except Missing:
                continue
        if noted is not None:
            self._told = {"journal": noted[0], "size": noted[1]}
        for one in sorted(found, key=lambda g: g.last):
            self.state.groups.put(one)
        told = {one.fingerprint: one.last for one in found}  # failures of one round have one instant
        for line in self._journal(now, noted):
            self._again(line, told)
        self.state.groups.gone.clear()

    def due(self, now: Now) -> int | None:
        """In how many us files want writing; None where none does."""
        groups = self.state.groups
        if not groups.dirty and not groups.gone and not self.state.alerts_changed:
            return 0 if self.state.meter.seen - self._seen >= NOTED else None
        return 0 if groups.said else max(0, self._next - now.mono)

    def step(self, now: Now) -> None:
        """Write some of the files that are behind."""
        if self.due(now) != 0:
            return
        self.state.groups.said = False
        if not self._write(AT_ONCE) or not self.state.groups.dirty:
            self._next = now.mono + SOON
        many = self.state.meter.seen - self._seen >= NOTED and not self.state.groups.dirty
        if many or self.state.alerts_changed:
            self._note(now.wall)

    def close(self, now: int) -> None:
        """Write all that is left. `now`: us UTC."""
        self._write(failures.KEPT)
        self._note(now)

    def _note(self, now: int) -> None:
        """The files tell all that the journal says by now, if they do; and the last alerts."""
        if not self.state.groups.dirty:
            path = layout.journal(self.state.node, now)
            info = self.disk.info(path)
            self._told = {"journal": path, "size": 0 if info is None else info.size}
            self._seen = self.state.meter.seen
        note = {**self._told, "alerts": alerts.plain(self.state)}
        data = orjson.dumps(note, option=orjson.OPT_APPEND_NEWLINE)
        self.state.alerts_changed = not rewrite(self.disk, layout.told(self.state.node), data)

    def _write(self, most: int) -> bool:
        """Some of them; False where there is no room."""
        groups = self.state.groups
        for name in list(groups.dirty)[:most]:
            theirs = _file(self.disk, name)
            found = groups.table[name] if theirs is None else groups.joined(theirs, self.state.node)
            if not rewrite(self.disk, layout.error(name), failures.encode(found), self.state.node):
                return False
            groups.table[name] = found
            del groups.dirty[name]
        while groups.gone:
            try:
                self.disk.remove(layout.error(groups.gone.pop()))
            except (Missing, Failing):
                continue  # never written, or not to be removed: as a start finds it
        return True

    # What a crash took along.

    def _read(self) -> dict[str, Any]:
        """What was noted; nothing where it is not there, or a power cut tore it."""
        try:
            note = orjson.loads(self.disk.read(layout.told(self.state.node), LIMIT))
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def _journal(self, now: int, noted: tuple[str, int] | None) -> Iterator[dict[str, Any]]:
        """The lines about errors at the end of the journal."""
        paths = [layout.journal(self.state.node, at) for at in (now - DAY_US, now)]
        # One of a later day is of before the clock was set back: nothing is known of what came since.
        last, size = noted if noted is not None and noted[0] in paths else ("", 0)
        for path in paths:
            if path < last:
                continue  # all of that day
            try:
                lines = self._tail(f"{self.root}/{path}", size if path == last else 0)
            except OSError:
                continue  # no line that day
            for line in lines:
                if b'"error' not in line:
                    continue
                try:
                    found = orjson.loads(line)
                except orjson.JSONDecodeError:
                    continue  # torn
                if isinstance(found, dict):
                    yield found

    def _tail(self, path: str, start: int) -> list[bytes]:
        with open(open_regular(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = start if 0 <= start <= size else 0  # a power cut has taken what was noted
            file.seek(max(start, size - TAIL))
            return file.read().splitlines()[1 if size - TAIL > start else 0 :]

    def _again(self, line: dict[str, Any], told: dict[str, int]) -> None:
        """One line of the journal, if its group's file, which is as new as `told`, has not got it."""
        groups, kind = self.state.groups, line.get("event")
        try:
            at = parse_utc(line["at"])
            if kind in failures.SAID:
                until = None if line.get("until") is None else parse_utc(line["until"])
                for name in line["errors"]:
                    one = groups.table.get(name)
                    if one is not None and (one.by or {}).get("at", "") < line["by"]["at"]:
                        care.say(groups, name, kind, line["by"], until)
                return
            settings = self.state.settings
            if at <= told.get(line["error"], 0):
                groups.recall(line["error"], at, settings.recurring_count)
                return
            if not is_id(line["id"]):
                return
            record = look.record(self.disk, line["id"], line["attempt"])
            if (record.get("error") or {}).get("fingerprint") == line["error"]:
                groups.count(record, at, (settings.recurring_count, settings.recurring_window))
        except (KeyError, TypeError, ValueError, Invalid, Missing, NotRegular, TooLarge):
            return  # not ours, or the attempt never came to be


def _noted(note: dict[str, Any]) -> tuple[str, int] | None:
    """Up to where the files tell what the journal says: which journal, how many bytes."""
    try:
        return str(note["journal"]), int(note["size"])
    except (ValueError, TypeError, LookupError):
        return None  # nothing is noted: all that is read is compared


def meet(disk: Disk, state: State, names: Iterable[str]) -> None:
    """Know what other nodes have counted and heard of these groups; just before it matters."""
    for name in names:
        if name in state.groups.dirty:
            continue  # read a moment ago, and soon again
        if (theirs := _file(disk, name)) is not None:
            state.groups.put(state.groups.joined(theirs, state.node))


def _file(disk: Disk, fingerprint: str) -> Group | None:
    """What the file of a group says; None where it is not there, or is damaged."""
    try:
        return failures.decode(disk.read(layout.error(fingerprint), LIMIT))
    except (Missing, Invalid, NotRegular, TooLarge):
        return None
