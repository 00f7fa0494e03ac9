"""What has ended, told to who decides what of it is too much: names, and sizes where they matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool import layout, look, packs
from spool.names import BadName, date_of
from spool.prune import retention

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk
    from spool.names import Entry
    from spool.prune.retention import Excess
    from spool.settings import Settings

SLICE = 500
BLOCK = 4096  # what the smallest file takes


def weigh(disk: Disk, settings: Settings, excess: Excess, now: int) -> Iterator[None]:
    """Tell it all that is kept by its age, a little at a time, and have it decide."""
    for folder in look.folders(disk, layout.ENDED):
        date = folder.partition("/")[2]
        if not retention.is_date(date) or retention.age(date, now) < 0:
            continue
        for names in disk.slices(folder, SLICE):
            for name in names:
                _tell(disk, settings, excess, f"{folder}/{name}", now)
            yield
    for path in packs.packs(disk):
        if not expired(path, now):
            _tell_pack(disk, excess, path)
        yield
    excess.decide()


def expired(path: str, now: int) -> bool:
    """Whether a pack is kept no longer."""
    match = packs.NAME.fullmatch(path.rpartition("/")[2])
    return match is None or match[1] <= date_of(now)


def _tell(disk: Disk, settings: Settings, excess: Excess, path: str, now: int) -> None:
    try:
        entry = look.entry_at(path)
    except BadName:
        return
    state, date, _ = path.split("/")
    if not excess.concerns(state, entry.task):
        return
    if retention.fate(settings, state, date, entry.task, now)[0] == retention.DROP:
        return  # it goes anyway
    size = 0
    if excess.weighed:
        records = [layout.record(entry.id, number) for number in range(1, entry.attempt + 1)]
        files = look.sizes(disk, layout.files(entry.id)).values()
        size = (
            sum(taken(disk, one) for one in (path, *records))
            + _logs(disk, entry)
            + sum(map(_blocks, files))
        )
    excess.tell(state, entry.task, entry.time, size)


def _tell_pack(disk: Disk, excess: Excess, path: str) -> None:
    lines = packs.lines(disk, path)
    share = taken(disk, path) // max(1, len(lines)) if excess.weighed else 0
    for text in lines:
        found = packs.entry_of(text)
        if found is not None and excess.concerns(found[0], found[1].task):
            size = share + _logs(disk, found[1]) if excess.weighed else 0
            excess.tell(found[0], found[1].task, found[1].time, size)


def _logs(disk: Disk, entry: Entry) -> int:
    return sum(taken(disk, layout.log(entry.id, number)) for number in range(1, entry.attempt + 1))


def taken(disk: Disk, path: str) -> int:
    """The bytes a file takes; 0 where there is none."""
    info = disk.info(path)
    return 0 if info is None else _blocks(info.size)


def _blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
