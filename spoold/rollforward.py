"""What start-up does after a power cut: what the redo log promised is done again.

Only the end counts: the last place of each task, every record and event that was written, the journal
as far as it was logged, drops that were cleared. What is there already stays as it is, so a replay that
is cut off begins anew. Events are staged, not told: `recovery`, which comes next, tells those that have
happened. An event that its parent had handled just before the cut may come again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from spool import handed, layout, look, packs
from spool.disk import Missing, NotRegular, TooLarge
from spool.errors import Invalid
from spool.records import decode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spool.disk import Disk

JOURNAL_LIMIT = 1 << 31


class Logged(Struct):
    """What records of the log come to: for each task, attempt, event and journal."""

    bodies: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # where staged, and its own copy
    moves: dict[str, list[tuple[str | None, str]]] = field(default_factory=dict)
    ends: dict[str, tuple[str, str]] = field(default_factory=dict)  # a record: whose, and its event
    events: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # staged: where to, what it says
    journals: dict[str, tuple[int, list[bytes]]] = field(default_factory=dict)  # from where on
    drops: list[tuple[str, int, int]] = field(default_factory=list)

    def add(self, record: dict[str, Any]) -> None:
        """One record, the oldest first."""
        for task_id, body in record.get("tasks", ()):
            self.bodies[task_id] = layout.staged(record["stage"], task_id), body.encode()
        for task_id, source, target in record.get("moves", ()):
            self.moves.setdefault(task_id, []).append((source, target))
        for path, start, text in record.get("lines", ()):
            self.journals.setdefault(path, (start, []))[1].append(text.encode())
        for task_id, target in record.get("undone", ()):
            self.moves[task_id] = [m for m in self.moves.get(task_id, ()) if m[1] != target]
        self.ends |= {path: (task_id, staged) for task_id, path, staged in record.get("ends", ())}
        self.events |= {staged: (to, text.encode()) for staged, to, text in record.get("events", ())}
        self.drops += record.get("drops", ())


def roll_forward(disk: Disk, records: Iterable[dict[str, Any]]) -> None:
    """Do what these records of the log tell; DiskFull. The caller flushes the disk when it returns."""
    logged = Logged()
    for record in records:
        logged.add(record)
    for path, ino, ctime in logged.drops:
        _clear(disk, os.fsdecode(path.encode("latin-1")), ino, ctime)
    gone = {task_id for task_id in logged.moves if _is_packed(disk, task_id)}
    for task_id, steps in logged.moves.items():
        if steps and task_id not in gone:
            _place(disk, task_id, steps, logged.bodies.get(task_id))
    for path, (task_id, staged) in logged.ends.items():
        if task_id not in gone:
            _record(disk, path, logged.events[staged][1])
    for staged, (told, content) in logged.events.items():
        _stage(disk, staged, told, content)
    for path, (start, lines) in logged.journals.items():
        _journal(disk, path, start, b"".join(lines))


def _is_packed(disk: Disk, task_id: str) -> bool:
    own = layout.own_copy(task_id)
    return disk.info(own) is None and packs.known(disk, task_id) is not None


def _place(
    disk: Disk, task_id: str, steps: list[tuple[str | None, str]], body: tuple[str, bytes] | None
) -> None:
    """A task stands where its last step led, and nowhere else; its own copy is whole."""
    own, target = layout.own_copy(task_id), steps[-1][1]
    paths = {path for step in steps for path in step if path is not None}
    if body is not None:
        paths.add(body[0])
        if _bytes(disk, own) != body[1]:
            for path in (*paths, own):
                _remove(disk, path)
            _write(disk, own, body[1])
    known = disk.info(own)
    if known is None:
        return  # its own copy was whole before the log began: somebody has removed it
    there = [p for p in sorted(paths) if (i := disk.info(p)) is not None and i.ino == known.ino]
    if not there and known.nlink > 1:
        return  # another daemon, or a person, has moved it since
    if target not in there:
        _remove(disk, target)
        disk.make_dir(layout.parent_of(target))
        disk.link(own, target)
    for path in there:
        if path != target:
            disk.remove(path)


def _record(disk: Disk, path: str, content: bytes) -> None:
    """The record of an attempt is there; a whole one that says something else was there first."""
    found = _bytes(disk, path)
    if found is not None and found != content:
        try:
            look.entry_at(decode(found)["entry"])
        except (Invalid, ValueError, KeyError, AttributeError):
            _remove(disk, path)
            found = None
    if found is None:
        _write(disk, path, content)


def _stage(disk: Disk, staged: str, told: str, content: bytes) -> None:
    """An event that is not in its outbox, whole, is staged again, whatever its parent has put there."""
    with suppress(PermissionError):
        if _bytes(disk, told) == content:
            return
    with suppress(IsADirectoryError):
        _remove(disk, told)
    _remove(disk, staged)
    _write(disk, staged, content)


def _journal(disk: Disk, path: str, start: int, lines: bytes) -> None:
    """A journal is what it was before the first logged line, and the logged lines."""
    found = _bytes(disk, path, JOURNAL_LIMIT) or b""
    if found[start:] == lines:
        return
    staged = f"{path}.new"
    _remove(disk, staged)
    _write(disk, staged, found[:start] + lines)
    disk.sync([staged])
    disk.move(staged, path)


def _clear(disk: Disk, path: str, ino: int, ctime: int) -> None:
    """A drop that was cleared is gone, unless it is another file now, or its box is closed to us."""
    info = handed.info(disk, path)
    if info is not None and info.ino == ino and info.ctime_us == ctime:
        with suppress(PermissionError):
            _remove(disk, path)


def _bytes(disk: Disk, path: str, limit: int = look.BODY_LIMIT) -> bytes | None:
    try:
        return disk.read(path, limit)
    except (Missing, NotRegular, TooLarge, NotADirectoryError):
        return None


def _remove(disk: Disk, path: str) -> None:
    try:
        disk.remove(path)
    except (Missing, NotADirectoryError):
        pass  # it is what should be


def _write(disk: Disk, path: str, data: bytes) -> None:
    disk.make_dir(layout.parent_of(path))
    disk.write(path, data)
