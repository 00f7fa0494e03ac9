"""The schedules of spool.toml: when each comes, what became of the last time, the coming days."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from spool import daemons, look, occurrences, scheduled, settingsfile
from spool.disk import Missing
from spool.errors import Invalid
from spool.machine import zone_of
from spool.patterns import matches
from spool.schedule import occurrence_id
from spool.schedule import occurrences as instants
from spool.times import SECOND, moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spool.disk import Disk
    from spool.settings import Settings

Day = tuple[str, list[tuple[str, list[str]]]]  # "Sat 21 Nov", [(schedule, its times of that day)]
AHEAD = 7  # days of the calendar
OFTEN = 3 * 24 * AHEAD  # what comes more often is not spelled out in it


def settings_of(disk: Disk) -> Settings:
    """What spool.toml says, with the schedules that were set by actions; ConfigError, Invalid."""
    found = settingsfile.read(disk)
    return replace(found, recurring=scheduled.also(found.recurring, daemons.read_schedules(disk))[0])


def rows(disk: Disk, known: Settings, now: int) -> Iterator[dict[str, Any]]:
    """Each schedule: name, every, timezone, task, next, last (us UTC or None), id, state, paused.

    `paused_until`: us UTC, None where the pause has no end, or there is none. `id` and `state` are
    those of the task that its last time has made; `problem`: why nothing is made.
    """
    marks = occurrences.marks(disk)
    pauses = [row for row in daemons.pauses(disk, now) if (row["task"] or "")[:1] == "@"]
    for schedule in known.recurring:
        mark = marks.get(schedule.name)
        last = mark.last if mark else None
        task_id = mark.id or occurrence_id(schedule.name, last) if mark and last is not None else None
        try:
            place = None if task_id is None else look.find(disk, task_id)
        except (Missing, Invalid, OSError):
            place = None
        zone = occurrences.zone(schedule, known)
        yield {
            "name": schedule.name,
            "every": schedule.every.text,
            "timezone": getattr(zone, "key", "UTC"),
            "task": schedule.task,
            "next": next(instants(schedule.every, zone, now), None),
            "last": last,
            "id": task_id,
            "state": None if place is None else place.state,
            **_paused(pauses, schedule.name),
            "problem": None,
        }
    tables = daemons.read_schedules(disk)
    for name, why in broken(disk, known).items():
        table = tables[name] if isinstance(tables.get(name), dict) else {}
        told = {key: str(table.get(key) or "") for key in ("every", "timezone", "task")}
        no = dict.fromkeys(("next", "last", "id", "state"))
        yield {"name": name, **told, **no, **_paused(pauses, name), "problem": why}


def _paused(pauses: list[dict[str, Any]], name: str) -> dict[str, Any]:
    ends = [row["until"] for row in pauses if matches(row["task"][1:], name)]
    return {"paused": bool(ends), "paused_until": None if None in ends else max(ends, default=None)}


def broken(disk: Disk, known: Settings) -> dict[str, str]:
    """Why nothing is made of a schedule that was set by an action, by its name."""
    found = scheduled.also(known.recurring, daemons.read_schedules(disk))[1]
    return {name: str(why) for name, why in found.items()}


def calendar(
    known: Settings, now: int, rows: Iterable[dict[str, Any]] = ()
) -> tuple[list[tuple[str, list[tuple[str, list[str]]]]], list[str]]:
    """([(day, [(schedule, its times of that day)])], those that come too often for it).

    Days and times are the user's own; each day begins with what comes first. `rows`: of the same
    schedules, of which some are paused: their times are those after it.
    """
    zone = zone_of("")
    today = moment(now, zone).date()
    days: dict[Any, dict[str, list[str]]] = {today + timedelta(days=ahead): {} for ahead in range(AHEAD)}
    midnight = datetime.combine(today + timedelta(days=AHEAD), datetime.min.time(), zone)
    end = int(midnight.timestamp()) * SECOND
    often: list[str] = []
    found: list[tuple[int, str]] = []
    paused = {row["name"]: row["paused_until"] or end for row in rows if row["paused"]}
    for schedule in known.recurring:
        after = paused.get(schedule.name, now)
        times = instants(schedule.every, occurrences.zone(schedule, known), after)
        mine = list(islice(takewhile(end.__gt__, times), OFTEN + 1))
        if len(mine) > OFTEN:
            often.append(schedule.name)
        else:
            found += [(at, schedule.name) for at in mine]
    for at, name in sorted(found):
        local = moment(at, zone)
        days[local.date()].setdefault(name, []).append(local.strftime("%H:%M"))
    return [(day.strftime("%a %d %b"), list(row.items())) for day, row in days.items()], often
