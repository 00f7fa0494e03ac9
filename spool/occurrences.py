"""How far schedules have come, and the task that a schedule makes for one of its instants."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct

from spool import layout, packs
from spool.disk import DiskFull, Exists, Missing, NotRegular, TooLarge, Unreadable
from spool.machine import zone_of
from spool.owncopy import Task, canonical, digest_of
from spool.schedule import ON_TIME, occurrence_id, shift
from spool.times import format_utc, maybe_utc, parse_utc

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from spool.disk import Disk
    from spool.settings import Recurring, Settings

LIMIT = 4 << 20
UNDRAWN = (DiskFull, Missing, NotRegular, PermissionError, TooLarge, Unreadable)
PREFIX = "recurring "  # how the keys of schedules begin
OVERLAPS = {"skip": "keep", "replace": "replace"}


class Mark(Struct, frozen=True):
    """How far a schedule has come: its rule, up to when (us UTC) all is made, the last time made.

    `id`: of the task of that time.
    """

    rule: str
    until: int
    last: int | None
    id: str = ""


def made(schedule: Recurring, at: int, now: int, seed: str, uid: int | None) -> Task:
    """The task of an instant (us UTC), as it comes in at `now`; the same id whoever makes it."""
    start = at + shift(seed, schedule.name, schedule.spread)
    told = {"name": schedule.name, "scheduled_at": format_utc(at), "late": now - at > ON_TIME}
    choice = OVERLAPS.get(schedule.overlap)
    return Task(
        id=occurrence_id(schedule.name, at),
        task=schedule.task,
        args=schedule.args,
        at=start,
        deadline=None if schedule.deadline is None else start + schedule.deadline,
        lead=schedule.lead,
        priority=schedule.priority,
        front=schedule.position == "front",
        retries=schedule.retries,
        backoff=schedule.backoff,
        timeout=schedule.timeout,
        version=schedule.version,
        notify=schedule.notify,
        on_miss=schedule.on_miss,
        trace=schedule.trace,
        key=None if choice is None else f"{PREFIX}{schedule.name}",
        on_duplicate=choice or "keep",
        recurring=told,
        meta=schedule.meta,
        extra=schedule.extra,
        submitted_at=now,
        uid=uid,
        digest=digest(schedule.name, at),
    )


def digest(name: str, at: int) -> str:
    """What the task of an instant says: no writer can say it, for what he submits names a task."""
    return digest_of(canonical({"recurring": name, "scheduled_at": format_utc(at)}))


def standing(disk: Disk, name: str, at: int, node: str) -> tuple[str, bool]:
    """The id of the task of an instant, whoever makes it, and whether that task was made.

    Who knows the name of a schedule knows its ids, and may have submitted one: then it is another one,
    which nobody can foresee. UNDRAWN.
    """
    task_id = occurrence_id(name, at)
    found = packs.digest(disk, task_id)
    if found in (None, "", digest(name, at)):
        return task_id, found is not None
    task_id = occurrence_id(name, at, drawn(disk, layout.SECRET, os.urandom(16).hex(), node))
    return task_id, packs.is_taken(disk, task_id)


def rule_of(schedule: Recurring, zone: ZoneInfo) -> str:
    """What decides when a schedule occurs: where it changes, the past does not count."""
    return f"{schedule.every.cron or schedule.every.span} {zone.key}"


def zone(schedule: Recurring, settings: Settings) -> ZoneInfo:
    """The zone its wall clock stands in."""
    return zone_of(schedule.timezone or settings.timezone)


def marks(disk: Disk, *, but: str = "") -> dict[str, Mark]:
    """How far each schedule has come, by what any node says, `but` one."""
    found: dict[str, Mark] = {}
    try:
        names = sorted(disk.names(layout.NODES))
    except Missing:
        return found
    for name in names:
        if name.startswith(".") or not name.endswith(".recurring") or name == f"{but}.recurring":
            continue
        for schedule, row in _rows(disk, f"{layout.NODES}/{name}").items():
            try:
                last = parse_utc(row["last"]) if row["last"] else None
                mark = Mark(str(row["rule"]), parse_utc(row["until"]), last, str(row.get("id", "")))
            except (KeyError, TypeError, ValueError):
                continue
            if schedule not in found or found[schedule].until < mark.until:
                found[schedule] = mark
    return found


def encode(marks: dict[str, Mark]) -> bytes:
    """The bytes of a node's file of marks."""
    rows = {
        name: {
            "rule": mark.rule,
            "until": format_utc(mark.until),
            "last": maybe_utc(mark.last),
            "id": mark.id,
        }
        for name, mark in marks.items()
    }
    return orjson.dumps(rows, option=orjson.OPT_APPEND_NEWLINE)


def _rows(disk: Disk, path: str) -> dict[str, Any]:
    try:
        found = orjson.loads(disk.read(path, LIMIT))
    except (Missing, NotRegular, TooLarge, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def drawn(disk: Disk, path: str, chance: str, node: str) -> str:
    """What this spool has drawn by chance, for all its nodes and for nobody else; `chance` at first.

    UNDRAWN where that cannot be said now: what one node makes up meanwhile no other knows.
    """
    if disk.info(path) is None:
        staged = f"{layout.NODES}/.{node}.drawn"
        with suppress(Missing):
            disk.remove(staged)  # of one who died just here
        disk.write(staged, chance.encode(), private=True)
        try:
            disk.sync([staged])
            disk.link(staged, path)
        except Exists:
            pass  # another node was faster
        finally:
            disk.remove(staged)
        disk.sync_dirs([layout.NODES])
    found = disk.read(path, LIMIT).decode("ascii", "replace")
    if not found:  # no node puts another there while one may have read this
        raise NotRegular(errno.EINVAL, "is empty: remove it, and it is drawn anew", path)
    return found
