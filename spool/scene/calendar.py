"""What comes when: the tasks that wait, counted by the hour of their time."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from typing import TYPE_CHECKING

from spool import layout, look
from spool.machine import zone_of
from spool.names import date_of, day_start, id_and_task
from spool.scene.lists import is_wanted
from spool.times import DAY, HOUR, SECOND, moment

if TYPE_CHECKING:
    from spool.disk import Disk

AHEAD = 8  # days


def hours(disk: Disk, now: int, wanted: str = "") -> dict[int, dict[str, int]]:
    """Start of an hour (us UTC) -> class -> how many are due in it; what is due already, this hour."""
    found: dict[int, dict[str, int]] = {}
    this, last = now // HOUR * HOUR, date_of(now + AHEAD * DAY)
    for folder in look.folders(disk, (layout.PENDING,)):
        _, date, prio = folder.split("/")
        if date > last:
            break
        try:
            start = day_start(date)
        except ValueError:
            continue
        for batch in disk.slices(folder, look.SLICE):
            for name in batch:
                if not name[:2].isdigit():
                    continue
                task_id, task = id_and_task(name) if wanted else ("", "")
                if wanted and not (task and is_wanted(wanted, task, task_id)):
                    continue
                row = found.setdefault(max(this, start + int(name[:2]) * HOUR), {})
                row[prio] = row.get(prio, 0) + 1
    return found


def coming(found: dict[int, dict[str, int]], now: int) -> list[tuple[str, list[tuple[int, int]]]]:
    """The coming days in the user's own time: (day, [(start of the hour in us, how many), ...]).

    Where the clock is set, an hour that it skips has none, and one that occurs twice has those of both.
    """
    zone = zone_of("")
    due: Counter[tuple[date, int]] = Counter()
    for start, row in found.items():  # by its end, where hours begin at another minute here
        local = moment(start + HOUR - 1, zone)
        due[local.date(), local.hour] += sum(row.values())
    today = moment(now, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    days = []
    for ahead in range(AHEAD):
        day = today + timedelta(days=ahead)
        starts = [int(day.replace(hour=hour).timestamp()) * SECOND // HOUR * HOUR for hour in range(24)]
        cells = [(start, due[day.date(), hour]) for hour, start in enumerate(starts)]
        days.append((day.strftime("%a %d %b"), cells))
    return days
