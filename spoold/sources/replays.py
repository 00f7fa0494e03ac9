"""What a replay is about: tasks that have ended, here or in packs, as the new tasks they become."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool import layout, look, match, packs
from spool.disk import Missing
from spool.look import DAMAGED
from spool.names import id_time
from spool.replay import again
from spoold.core.values import Matched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spool.actions import Replay
    from spool.disk import Disk
    from spool.owncopy import Task
    from spool.requests import Match
    from spoold.core.values import Source

SLICE = 50


def sought(disk: Disk, source: Source, request: Replay) -> Iterator[Matched]:
    """The new tasks, some at a time; those that were made before are only counted."""
    if request.match is None:
        for at in range(0, len(request.ids), SLICE):
            found, denied = _named(disk, request.ids[at : at + SLICE])
            yield _matched(disk, source, request, found, tuple(denied))
        return
    for paths in match.find(disk, "replay", request.match):
        yield _matched(disk, source, request, _ended(disk, paths, source.ctime))
    for path in packs.packs(disk):
        yield _matched(disk, source, request, _packed(disk, path, request.match, source.ctime))


def _matched(
    disk: Disk, source: Source, request: Replay, old: Iterable[Task], denied: tuple[str, ...] = ()
) -> Matched:
    base = source.ctime if request.id is None else id_time(request.id)
    key = request.id or f"{source.path}.{source.ino}.{source.ctime}"
    tasks = [again(task, key, base, source.uid) for task in old]
    fresh = tuple(task for task in tasks if not _is_known(disk, task.id or ""))
    return Matched(source, {}, tasks=fresh, denied=denied, known=len(tasks) - len(fresh))


def _is_known(disk: Disk, task_id: str) -> bool:
    info = disk.info(layout.own_copy(task_id))
    return (info is not None and info.nlink > 1) or packs.known(disk, task_id) is not None


def _named(disk: Disk, ids: tuple[str, ...]) -> tuple[list[Task], list[str]]:
    found: list[Task] = []
    denied: list[str] = []
    for task_id in ids:
        try:
            place = look.find(disk, task_id)
        except DAMAGED as problem:
            denied.append(f"{task_id} is damaged: {problem}")
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


def _ended(disk: Disk, paths: dict[str, str], dropped: int) -> Iterator[Task]:
    """Tasks at these paths; not what came to run after the drop, such as what this replay made."""
    for path in paths.values():
        if look.entry_at(path).time >= dropped:
            continue
        try:
            yield look.read_task(disk, path)
        except (*DAMAGED, Missing):
            continue  # gone, or damaged: quarantined when somebody asks for it by its id


def _packed(disk: Disk, path: str, wanted: Match, dropped: int) -> Iterator[Task]:
    states = match.states("replay", wanted)
    for one in packs.read(disk, path):
        meant = one.state in states and match.keeps(wanted, one.entry)
        if (
            meant
            and one.entry.time < dropped
            and wanted.error in (None, one.error)
            and match.says(wanted, one.task)
        ):
            yield one.task
