"""What a replay is about: tasks that have ended, here or in packs, as the new tasks they become."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool import layout, look, match, packs, waiting
from spool.disk import Missing, Unreadable
from spool.look import DAMAGED
from spool.names import id_time
from spool.replay import again, new_id
from spoold.core.values import Matched
from spoold.spared import spare

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spool.actions import Replay
    from spool.disk import Disk
    from spool.owncopy import Task
    from spool.requests import Match
    from spool.settings import Settings
    from spoold.core.values import Source

SLICE = 50
KEPT = 100_000  # tasks that others waited for


class Sought:
    """One replay. What waited for others waits for what they become, where they are of it too."""

    def __init__(self, disk: Disk, source: Source, request: Replay, settings: Settings) -> None:
        self.disk = disk
        self.source = source
        self.request = request
        self.settings = settings
        self.base = source.ctime if request.id is None else id_time(request.id)
        self.key = request.id or f"{source.path}.{source.ino}.{source.ctime}"
        self._ids = frozenset(request.ids)
        self._known: dict[str, bool] = {}  # tasks that others waited for: whether they are of it

    def tasks(self) -> Iterator[Matched]:
        """The new tasks, some at a time; those that were made before are only counted."""
        disk, request, dropped = self.disk, self.request, self.source.ctime
        if request.match is None:
            for at in range(0, len(request.ids), SLICE):
                found, denied = _named(disk, request.ids[at : at + SLICE])
                yield from self._new(found, tuple(denied))
            return
        for paths in match.find(disk, "replay", request.match):
            yield from self._new(self._others(_ended(disk, not_since(disk, paths, dropped), dropped)))
        for path in packs.packs(disk):
            yield from self._new(self._others(_packed(disk, path, request.match)))

    def _others(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """Without those that this replay has made."""
        return (task for task in tasks if task.replay_of is None or task.id != self._id(task.replay_of))

    def _new(self, old: Iterable[Task], denied: tuple[str, ...] = ()) -> Iterator[Matched]:
        tasks: list[Task] = []
        known = looks = 0
        for task in old:
            if packs.is_taken(self.disk, self._id(task.id or "")):
                known += 1
                continue
            if (lost := _lost(self.disk, task)) is not None:
                denied += (f"{task.id}: its file {lost} is not there any more",)
                continue
            before: dict[str, str] = {}
            for one in task.after:
                if one not in self._known and (looks := looks + 1) % SLICE == 0:
                    yield Matched(self.source, {})  # others have their turn
                if self._is_too(one):
                    before[one] = self._id(one)
            tasks.append(again(task, self.key, self.base, self.source.uid, before))
        yield Matched(self.source, {}, tasks=tuple(tasks), denied=denied, known=known)

    def _id(self, old: str) -> str:
        return new_id(self.key, self.base, old)

    def _is_too(self, old: str) -> bool:
        """Whether a task that another one waited for is replayed as well, or has been."""
        found = self._known.get(old)
        if found is None:
            if len(self._known) >= KEPT:
                self._known.clear()
            found = self._known[old] = self._is_meant(old) or packs.is_taken(self.disk, self._id(old))
        return found

    def _is_meant(self, old: str) -> bool:
        wanted = self.request.match
        meant = wanted is not None or old in self._ids
        end = waiting.end_of(self.disk, old, look.ending) if meant else None
        if end is None:
            return False
        handler = self.settings.handler_for(end["task"])
        if handler is not None and not handler.replayable and not self.request.force:
            return False
        return wanted is None or self._matches(old, wanted, end["entry"])

    def _matches(self, old: str, wanted: Match, path: str) -> bool:
        if (packed := packs.find(self.disk, old)) is not None:
            return match.packed(wanted, packed)
        entry = look.entry_at(path)
        meant = path.partition("/")[0] in match.states("replay", wanted) and match.keeps(wanted, entry)
        ended = meant and not_since(self.disk, {old: path}, self.source.ctime)
        return bool(ended) and match.opened(self.disk, wanted, entry, path)


def _lost(disk: Disk, task: Task) -> str | None:
    """A file that came with a task and has been removed since, which a replay could not link."""
    folder = layout.files(task.id or "")
    return next((name for name in task.files if disk.info(f"{folder}/{name}") is None), None)


def _named(disk: Disk, ids: tuple[str, ...]) -> tuple[list[Task], list[str]]:
    found: list[Task] = []
    denied: list[str] = []
    for task_id in ids:
        try:
            place = look.find(disk, task_id)
        except DAMAGED as problem:
            denied.append(f"{task_id} is damaged: {problem}")
            continue
        except Unreadable as problem:
            denied.append(f"{task_id}: {problem.filename} {problem}")
            continue
        if place is None:
            packed = packs.find(disk, task_id)
            if packed is None:
                denied.append(f"{task_id}: no task has this id")
            else:
                found.append(packed.task)
        elif place.state not in layout.ENDED:
            denied.append(f"{task_id} is {place.state}: only what has ended is replayed")
        else:
            found.append(place.task)
    return found, denied


def not_since(disk: Disk, paths: dict[str, str], dropped: int) -> dict[str, str]:
    """Without what became due after the drop of a retry or a replay, and then came to its state.

    It may have been due because of it, and would be found again and again.
    """
    found: dict[str, str] = {}
    for task_id, path in paths.items():
        time = look.entry_at(path).time
        try:
            if time <= dropped or ((info := disk.info(path)) is not None and info.ctime_us < time):
                found[task_id] = path
        except Unreadable as problem:
            spare(problem)
    return found


def _ended(disk: Disk, paths: dict[str, str], dropped: int) -> Iterator[Task]:
    """Tasks at these paths that were submitted by the drop."""
    for path in paths.values():
        try:
            task = look.read_task(disk, path)
        except Unreadable as problem:
            spare(problem)
        except (*DAMAGED, Missing):
            continue  # gone, or damaged: quarantined when somebody asks for it by its id
        else:
            if task.submitted_at <= dropped:
                yield task


def _packed(disk: Disk, path: str, wanted: Match) -> Iterator[Task]:
    for one in packs.read(disk, path):
        if match.packed(wanted, one) and not packs.lives(disk, one.entry.id):
            yield one.task
