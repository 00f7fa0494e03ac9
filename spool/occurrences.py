"""How far schedules have come, and the task that a schedule makes for one of its instants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct

from spool import layout
from spool.disk import DiskFull, Exists, Missing, NotRegular, TooLarge
from spool.machine import zone_of
from spool.owncopy import Task, canonical, digest_of
from spool.schedule import ON_TIME, occurrence_id, shift
from spool.times import format_utc, maybe_utc, parse_utc

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from spool.disk import Disk
    from spool.settings import Recurring, Settings

LIMIT = 4 << 20
PREFIX = "recurring "  # how the keys of schedules begin
OVERLAPS = {"skip": "keep", "replace": "replace"}


class Mark(Struct, frozen=True):
    """How far a schedule has come: its rule, up to when (us UTC) all is made, the last time made."""

    rule: str
    until: int
    last: int | None


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
        digest=digest_of(canonical({"recurring": schedule.name, "scheduled_at": told["scheduled_at"]})),
    )


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
                mark = Mark(str(row["rule"]), parse_utc(row["until"]), last)
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


def seed(disk: Disk, chance: str) -> str:
    """What this spool adds to the names of its schedules where they are spread; `chance` at first."""
    try:
        disk.write(layout.SEED, chance.encode())
    except Exists:
        pass
    except DiskFull:
        return chance  # for as long as this daemon lives, or until it asks again
    try:
        return disk.read(layout.SEED, LIMIT).decode("ascii", "replace")
    except (Missing, NotRegular, TooLarge):
        return ""
