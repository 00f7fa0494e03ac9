"""What recurs: for each time of each schedule a task, however often, and by how many nodes, it is made.

A task of a schedule has an id made of the schedule's name and its time, and comes in as any other: the
name in ids/ decides who was first. A schedule is looked after up to an instant when all its tasks up to
then are known; that instant stands in nodes/NODE.recurring, and is only ever too early after a crash.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from spool import daemons, layout, occurrences, scheduled
from spool.actions import Submit
from spool.disk import DiskFull, Missing, write_anew
from spool.errors import Invalid
from spool.occurrences import UNDRAWN, Mark
from spool.patterns import matches
from spool.quarantine import aside
from spool.schedule import due, occurrence_id
from spool.schedule import occurrences as instants
from spool.times import format_utc
from spoold.core.control import replace_rows
from spoold.core.values import Arrived, Source
from spoold.sources.pauses import read_pauses

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from spool.disk import Disk
    from spool.owncopy import Task
    from spool.schedule import Due
    from spool.settings import Recurring as Schedule
    from spool.settings import Settings
    from spoold.core.state import State
    from spoold.core.values import Now

log = logging.getLogger("spoold")
AGAIN = 1_000_000  # us until it is looked whether what was made has come in
NOTICE = 4_000_000  # us until other nodes know of a new one (neighbours.every_look is at most half)
OTHERS = 10_000_000  # us between looks at what another node may have written
AT_ONCE = 1000  # tasks of one schedule in one turn
SLICE = 30  # schedules in one turn, or tasks: the loop is not to be kept
NEVER = 1 << 62


class Recurring:
    """Makes the tasks of schedules; for the loop, a source of arrivals."""

    def __init__(self, disk: Disk, state: State, chance: str = "") -> None:
        self.disk = disk
        self.state = state
        self._settings: Settings | None = None
        self._tables: scheduled.Tables = {}
        self._all: tuple[Schedule, ...] = ()
        self._reread: int | None = None  # monotonic
        self._noticed: int | None = None  # by then the others know that this node leads
        self._marks: dict[str, Mark] = {}
        self._next: dict[str, int] = {}  # us UTC, of each schedule
        self._zones: dict[str, ZoneInfo] = {}  # a file of the machine's may go away
        self._broken: dict[str, str] = {}  # why nothing can be made of a schedule
        self._rules: dict[str, str] = {}  # as they are on disk
        self._seed = chance
        self._again: dict[str, int] = {}  # monotonic, of those whose tasks were made
        self._made: dict[str, Due] = {}  # and what was found due
        self._changed = False  # marks, since they were written
        self._latest = 0
        self._pauses = state.pauses
        self._over: list[dict[str, Any]] = []  # pauses that have ended, until all is looked after

    def due(self, now: Now) -> int | None:
        """In how many us there is something to do; None where nothing recurs."""
        known = self._settings is self.state.settings and self._tables is self.state.schedules
        if not known:
            return 0
        waits = [at - now.wall for name, at in self._next.items() if name not in self._again]
        waits += [at - now.mono for at in self._again.values()]
        waits += [self._reread - now.mono] if self._reread and len(self.state.peers) > 1 else []
        waits += [(self._noticed or now.mono) - now.mono] if self.state.reread else []
        return max(0, min(waits)) if waits else None

    def anew(self) -> None:
        """What the machine says of zones is read again."""
        self._settings = None

    def look(self, now: Now) -> list[Arrived]:
        """Tasks that are due, those aside that are known; none while nothing is due."""
        settings = self.state.settings
        self._read(now)
        if self._pauses is not self.state.pauses:
            gone = [row for row in self._pauses if row not in self.state.pauses]
            self._over += [{**row, "until": min(row.get("until") or NEVER, now.wall)} for row in gone]
            self._pauses = self.state.pauses
        set_back = now.wall < self._latest - AGAIN
        if self._settings is not settings or self._tables is not self.state.schedules or set_back:
            self._begin(settings)
        elif self.due(now) != 0:
            return []
        self._latest = now.wall
        found: list[Arrived] = []
        ready = [schedule for schedule in self._all if self._wait(schedule, now) <= 0]
        ready.sort(key=lambda schedule: self._next[schedule.name])
        for count, schedule in enumerate(ready):
            if max(count, len(found)) >= SLICE:
                return found
            found += [self._arrival(task) for task in self._look_after(schedule, now)]
        if not self._again:
            self._over.clear()
        if self._changed:
            self._save()
        return found

    def _look_after(self, schedule: Schedule, now: Now) -> list[Task]:
        """The tasks of one schedule that are to be made; where there are none, how far it has come."""
        name = schedule.name
        try:
            tasks, mark = self._due(schedule, now)
        except UNDRAWN as problem:
            if name not in self._again:
                words = "recurring %s: its next task waits for %s: %s"
                log.warning(words, name, problem.filename, problem.strerror)
            self._again[name] = now.mono + AGAIN
            return []
        if tasks:
            self._again[name] = now.mono + AGAIN
            return tasks
        self._again.pop(name, None)
        self._marks[name] = mark
        self._next[name] = next(instants(schedule.every, self._zones[name], mark.until), NEVER)
        self._changed = True
        return []

    def _wait(self, schedule: Schedule, now: Now) -> int:
        again = self._again.get(schedule.name)
        return self._next[schedule.name] - now.wall if again is None else again - now.mono

    def _read(self, now: Now) -> None:
        """What actions have set: at the start, and now and then where another node writes it."""
        others = len(self.state.peers) > 1 and now.mono >= (self._reread or 0)
        if self._reread is not None and not others and not self._leads(now):
            return
        self._reread = now.mono + OTHERS
        try:
            tables = daemons.read_schedules(self.disk)
        except Invalid as problem:
            log.error("schedules set by actions are damaged, and go to corrupt/: %s", problem)  # noqa: TRY400 - no bug of ours
            aside(self.disk, layout.SCHEDULES, str(problem))
            return
        if tables != self.state.schedules:
            self.state.schedules = tables

    def _leads(self, now: Now) -> bool:
        """Whether this node leads from now on: with what is paused and set when others have noticed."""
        if not self.state.reread:
            return False
        self._noticed = self._noticed or now.mono + NOTICE
        if now.mono < self._noticed and len(self.state.peers) > 1:
            return False
        self.state.reread, self._noticed = False, None
        replace_rows(self.state, read_pauses(self.disk))
        return True

    def _begin(self, settings: Settings) -> None:
        """From what is on disk, as at a start."""
        if self._changed:
            self._save()
        self._settings, self._tables = settings, self.state.schedules
        found, broken = scheduled.also(settings.recurring, self._tables)
        before, self._broken = self._broken, {name: str(why) for name, why in broken.items()}
        for schedule in found:
            try:
                self._zones[schedule.name] = occurrences.zone(schedule, settings)
            except ValueError as problem:
                self._broken[schedule.name] = f"timezone {schedule.timezone!r}: {problem}"
        for name, why in self._broken.items():
            if before.get(name) != why:
                log.error("recurring %s: %s", name, why)
        self._all = tuple(schedule for schedule in found if schedule.name not in self._broken)
        self._next = {schedule.name: 0 for schedule in self._all}
        self._again, self._made = {}, {}
        marks = occurrences.marks(self.disk)
        names = self._broken.keys() | {schedule.name for schedule in self._all}
        self._marks = {name: mark for name, mark in marks.items() if name in names}
        if len(self._marks) < len(marks):
            self._save()  # one that comes again makes up for nothing
        if any(schedule.spread for schedule in self._all):
            self._seed = self._seed or os.urandom(8).hex()
            with suppress(*UNDRAWN):  # for as long as this daemon lives, or until it asks again
                self._seed = occurrences.drawn(self.disk, layout.SEED, self._seed, self.state.node)

    def _due(self, schedule: Schedule, now: Now) -> tuple[list[Task], Mark]:
        """The tasks that are not known yet, and how far it has come once they are."""
        zone, mark = self._zones[schedule.name], self._marks.get(schedule.name)
        rule = occurrences.rule_of(schedule, zone)
        pauses = [*self._spans(schedule.name, self._over), *self._spans(schedule.name, self.state.rows())]
        paused = any(until > now.wall for _, until in pauses)
        found = self._made.pop(schedule.name, None)  # what was not there the last time, and the newest
        if mark is None or not self._goes_on(mark, schedule, rule) or paused:
            # It begins now, or what would have been was not wanted.
            return [], replace(mark or Mark(rule, 0, None), rule=rule, until=now.wall)
        found = found or due(
            schedule.every,
            zone,
            min(mark.until, now.wall),
            now.wall,
            catch_up=schedule.catch_up,
            window=schedule.window,
            most=schedule.most,
            pauses=pauses,
        )
        self._made[schedule.name] = found
        node = self.state.node
        ids = {at: occurrences.standing(self.disk, schedule.name, at, node) for at in found.make}
        fresh = {at: task_id for at, (task_id, there) in ids.items() if not there}
        for at, task_id in fresh.items() if schedule.name not in self._again else ():
            if task_id != (usual := occurrence_id(schedule.name, at)):
                told = "recurring %s: another task has the id %s of that of %s, which gets %s"
                log.warning(told, schedule.name, usual, format_utc(at), task_id)
        if fresh:
            left = tuple(at for at in found.make if at in fresh or at == found.make[-1])
            self._made[schedule.name] = replace(found, make=left)
        else:
            del self._made[schedule.name]
        if found.missed and not fresh:
            log.info("recurring %s: missed since %s", schedule.name, format_utc(found.missed))
        if found.make:
            mark = Mark(rule, found.until, found.make[-1], ids[found.make[-1]][0])
        tasks = [
            replace(occurrences.made(schedule, at, now.wall, self._seed, os.geteuid()), id=task_id)
            for at, task_id in [*fresh.items()][:AT_ONCE]
        ]
        return tasks, replace(mark, rule=rule, until=found.until)

    def _goes_on(self, mark: Mark, schedule: Schedule, rule: str) -> bool:
        """Whether its rule is still the same; that a machine goes elsewhere changes none."""
        named = schedule.timezone or self.state.settings.timezone
        return mark.rule == rule or (not named and mark.rule.split()[:-1] == rule.split()[:-1])

    def _spans(self, name: str, rows: list[dict[str, Any]]) -> list[tuple[int, int]]:
        """From when to when nothing of a schedule is to be made."""
        mine = [
            row for row in rows if (row.get("task") or "")[:1] == "@" and matches(row["task"][1:], name)
        ]
        return [(row.get("since") or 0, row.get("until") or NEVER) for row in mine]

    def _arrival(self, task: Task) -> Arrived:
        path = f"{layout.INCOMING}/.{task.id}"  # never there: nobody has written it
        source = Source(path, 0, 0, task.uid or 0)
        return Arrived(source, Submit(tasks=(task,), batch=False))

    def _save(self) -> None:
        self._changed = False
        staged = f"{layout.NODES}/.{self.state.node}.recurring"
        data = occurrences.encode(self._marks)
        try:
            write_anew(self.disk, staged, data)
            durable = self.state.settings.durability == "durable"
            if durable:
                self.disk.sync([staged])
            self.disk.move(staged, layout.schedules(self.state.node))
            rules = {name: mark.rule for name, mark in self._marks.items()}
            if durable and rules != self._rules:
                self.disk.sync_dirs([layout.NODES])  # else its past would not count after a power cut
            self._rules = rules
        except (DiskFull, Missing) as problem:
            log.warning("how far schedules have come is not written: %s", problem)
