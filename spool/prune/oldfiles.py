"""Old files that belong to no task that is kept: packs, logs, refusals, journals."""

from __future__ import annotations

import os
import struct
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

from spool import layout, look, packs
from spool.disk import open_regular
from spool.journal import DAY, GONE
from spool.names import DAY_US, date_of
from spool.prune import retention
from spool.prune.weigh import taken

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from spool.disk import Disk
    from spool.settings import Settings

SLICE = 500
CHUNK = 256 * 1024  # bytes of a journal packed in one step


def expired(disk: Disk, settings: Settings, now: int, awaited: set[str]) -> Iterator[None]:
    """Packs past their date, lists of ids, logs and refusals past their age, what gone tasks kept.

    `awaited`: tasks that others wait for; a pack that holds one stays.
    """
    for date in _dates(disk, layout.PACKED):
        _expired_packs(disk, f"{layout.PACKED}/{date}", date_of(now), awaited)
        if retention.age(date, now) >= settings.keep_ids:
            _lone_lists(disk, f"{layout.PACKED}/{date}")
        disk.remove_dir(f"{layout.PACKED}/{date}")
        yield
    for above, span, spared in (
        (layout.LOGS, settings.keep_logs, lambda name: _is_live(disk, name)),
        (layout.REJECTED, settings.keep_rejected, lambda _: False),
        (layout.CHECKPOINTS, 0, lambda name: _is_live(disk, name)),
    ):
        for date in _dates(disk, above):
            if retention.age(date, now) >= span:
                yield from _empty(disk, f"{above}/{date}", spared)


def _expired_packs(disk: Disk, folder: str, today: str, awaited: set[str]) -> None:
    for name in look.names(disk, folder):
        match = packs.NAME.fullmatch(name)
        if match is None or not name.endswith(packs.PACK) or match[1] > today:
            continue
        listed = f"{folder}/{name.removesuffix(packs.PACK)}{packs.IDS}"
        if not awaited or awaited.isdisjoint(packs.digests(disk, listed)):
            _remove(disk, f"{folder}/{name}")


def _lone_lists(disk: Disk, folder: str) -> None:
    """Lists of ids whose pack is gone."""
    names = set(look.names(disk, folder))
    for name in names:
        if name.endswith(packs.IDS) and name.removesuffix(packs.IDS) + packs.PACK not in names:
            _remove(disk, f"{folder}/{name}")


def journals(disk: Disk, root: str, settings: Settings, now: int) -> Iterator[None]:
    """Days of the journal: packed when they are old enough, removed when they are too old."""
    for node in look.names(disk, layout.JOURNAL):
        folder = f"{layout.JOURNAL}/{node}"
        names = look.names(disk, folder)
        for name in names:
            match = DAY.fullmatch(name)
            if name.startswith("."):
                _remove(disk, f"{folder}/{name}")  # of a packing that was cut off
            elif match is None:
                continue
            elif retention.age(match[1], now) >= settings.keep_journal:
                _remove(disk, f"{folder}/{name}")
            elif match[3] is None and retention.age(match[1], now) >= max(0, settings.pack_after):
                with suppress(*GONE):
                    yield from _pack_journal(disk, root, folder, name)
        if disk.info(layout.lock(node)) is None:
            disk.remove_dir(folder)  # of a node that is forgotten
        yield


def _pack_journal(disk: Disk, root: str, folder: str, name: str) -> Iterator[None]:
    """One day into a gzip file, a chunk at a time; its source goes when the pack is durable."""
    source, size, crc = f"{folder}/{name}", 0, 0
    packed = [n for n in look.names(disk, folder) if n.startswith(name[:10]) and n.endswith(".gz")]
    staged, text = f"{folder}/.{name}.gz", zlib.compressobj(wbits=31)
    with open(open_regular(os.path.join(root, source)), "rb") as file:
        while data := file.read(CHUNK):
            size, crc = size + len(data), zlib.crc32(data, crc)
            disk.append(staged, text.compress(data))
            yield
    disk.append(staged, text.flush())
    if (size % (1 << 32), crc) in [_trailer(root, f"{folder}/{one}") for one in packed]:
        _remove(disk, staged)  # packed before a crash, which left its source here
    else:
        disk.sync([staged])
        number = max((int(match[2] or 1) for n in packed if (match := DAY.fullmatch(n))), default=0) + 1
        more = f".{number}" if number > 1 else ""
        disk.move(staged, f"{folder}/{name[:10]}{more}.jsonl.gz")
        disk.sync_dirs([folder])
    if (after := disk.info(source)) is not None and after.size == size:
        _remove(disk, source)  # else a clock that was set back has added to it: once more


def _trailer(root: str, path: str) -> tuple[int, int]:
    """How long a gzip file is when it is unpacked, modulo 2^32, and the CRC of that: its last 8 bytes."""
    try:
        with open(open_regular(os.path.join(root, path)), "rb") as file:
            file.seek(-8, os.SEEK_END)
            crc, size = struct.unpack("<II", file.read(8))
    except OSError:
        return -1, -1
    return size, crc


def limits(disk: Disk, settings: Settings, now: int) -> Generator[None, None, int]:
    """Where history takes more than keep_bytes, or keep_count tasks are packed: the oldest goes.

    What may not go does not count for what may. Returns how many files went.
    """
    for sure in (False, True):  # most often there is room for all: none is asked whether it may go
        size = tasks = gone = 0
        dates: set[str] = set()
        for date, path in _history(disk):
            if path is None:
                yield
            elif not sure or _may_go(disk, date, path, now):
                weight, held = _weighed(disk, path)
                size, tasks = size + weight, tasks + held
                dates.add(date)
        if size <= settings.keep_bytes and tasks <= settings.keep_count:
            return 0
    for oldest in sorted(dates):
        for _, path in _history(disk, oldest):
            if path is None:
                yield
                continue
            weight, held = _weighed(disk, path)
            over = size > settings.keep_bytes or (held and tasks > settings.keep_count)
            if over and _may_go(disk, oldest, path, now):
                size, tasks, gone = size - weight, tasks - held, gone + 1
                _remove(disk, path)
    return gone


def _history(disk: Disk, only: str | None = None) -> Iterator[tuple[str, str | None]]:
    """(date, path) of all files of history, or of one date; a path of None now and then, to rest.

    Of a date its logs come first, then its packs, the oldest first.
    """
    for date in _dates(disk, layout.LOGS) if only is None else [only]:
        for names in disk.slices(f"{layout.LOGS}/{date}", SLICE):
            yield from ((date, f"{layout.LOGS}/{date}/{name}") for name in names)
            yield date, None
    for date in _dates(disk, layout.PACKED) if only is None else [only]:
        found = [packs.NAME.fullmatch(name) for name in look.names(disk, f"{layout.PACKED}/{date}")]
        rows = sorted(
            (match[1], int(match[2]), match[0]) for match in found if match and match[3] == packs.PACK
        )
        yield from ((date, f"{layout.PACKED}/{date}/{name}") for _, _, name in rows)
        yield date, None
    for node in look.names(disk, layout.JOURNAL):
        folder = f"{layout.JOURNAL}/{node}"
        for name in look.names(disk, folder):
            match = DAY.fullmatch(name)
            if match is not None and only in (None, match[1]):
                yield match[1], f"{folder}/{name}"


def _weighed(disk: Disk, path: str) -> tuple[int, int]:
    """The bytes a file takes, and how many tasks it holds."""
    size = taken(disk, path)
    if not path.endswith(packs.PACK) or path.startswith(layout.JOURNAL):
        return size, 0
    listed = disk.info(path.removesuffix(packs.PACK) + packs.IDS)
    return size, 0 if listed is None else listed.size // packs.LINE


def _may_go(disk: Disk, date: str, path: str, now: int) -> bool:
    if path.startswith(layout.LOGS):
        return retention.age(date, now) >= 0 and not _is_live(disk, path.rpartition("/")[2])
    return retention.age(date, now) >= (DAY_US if path.startswith(layout.JOURNAL) else 0)


def _empty(disk: Disk, folder: str, spared: Callable[[str], bool]) -> Iterator[None]:
    for names in disk.slices(folder, SLICE):
        for name in names:
            if not spared(name):
                _remove(disk, f"{folder}/{name}")
        yield
    disk.remove_dir(folder)


def _is_live(disk: Disk, name: str) -> bool:
    """Whether the task of a log, or of what it has kept, is still there as it was."""
    task_id = name.lstrip(".").partition(".")[0]
    try:
        return disk.info(layout.own_copy(task_id)) is not None
    except ValueError:
        return False


def _remove(disk: Disk, path: str) -> None:
    try:
        disk.remove(path)
    except GONE:
        pass


def _dates(disk: Disk, above: str) -> list[str]:
    return [name for name in look.names(disk, above) if retention.is_date(name)]
