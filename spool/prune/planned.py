"""What pruning would do now, by its own rules on a disk that does not change."""

from __future__ import annotations

import contextlib
from itertools import chain
from typing import TYPE_CHECKING, Any

from spool import layout, look, packs
from spool.disk import Missing
from spool.names import id_date
from spool.prune import retention
from spool.prune.due import Dues, awaited
from spool.prune.noting import Noting
from spool.prune.oldfiles import expired, journals, limits
from spool.prune.weigh import expired as is_over
from spool.prune.weigh import weigh

if TYPE_CHECKING:
    from collections import Counter

    from spool.disk import Disk
    from spool.names import Entry
    from spool.prune.retention import Excess
    from spool.settings import Settings


def planned(disk: Disk, root: str, settings: Settings, now: int) -> Counter[tuple[str, str]]:
    """(pack, thin or drop, directory) -> how many files. How large a new pack will be is a guess."""
    noting = Noting(disk)
    seen: Any = noting
    excess = retention.Excess(settings)
    for _ in weigh(disk, settings, excess, now) if excess.wanted else ():
        pass
    wanted: set[str] = set()
    for _ in awaited(disk, wanted):
        pass
    _ended(noting, settings, excess, now, wanted)
    _thinned(noting, excess, now)
    for _ in chain(
        expired(seen, settings, now, wanted),
        journals(seen, root, settings, now),
        limits(seen, settings, now),
    ):
        pass
    return noting.rows


def _ended(noting: Noting, settings: Settings, excess: Excess, now: int, wanted: set[str]) -> None:
    """What is to be done with what is not packed."""
    disk: Any = noting
    for folder in look.folders(disk, layout.ENDED):
        date = folder.partition("/")[2]
        if not retention.is_date(date) or retention.age(date, now) < 0:
            continue
        for names in disk.slices(folder, packs.BATCH):
            dues = Dues(disk, settings, excess, now, wanted)
            made: dict[tuple[str, str], list[int]] = {}
            for name in names:
                try:
                    due = dues.of(f"{folder}/{name}")
                except (*look.DAMAGED, Missing):
                    continue
                if due is None:
                    continue
                task_id = due.entry.id
                noting.rows[retention.PACK if due.expires else retention.DROP, folder] += 1
                noting.gone.add(layout.own_copy(task_id))
                if due.expires:
                    made.setdefault((id_date(task_id), due.expires), []).append(len(due.body))
                else:
                    _drop_logs(noting, due.entry)
            for (day, expires), sizes in made.items():
                noting.pack(day, expires, len(sizes), sum(sizes))


def _thinned(noting: Noting, excess: Excess, now: int) -> None:
    """Packs that are made anew with less in them."""
    disk: Any = noting
    for path in list(packs.packs(disk)) if excess.left else ():
        held = (
            [] if is_over(path, now) else list(filter(None, map(packs.entry_of, packs.lines(disk, path))))
        )
        goes = [entry for state, entry in held if excess.takes(state, entry.task, entry.time)]
        if goes:
            day, name = path.split("/")[1:]
            left = len(held) - len(goes)
            info = disk.info(path)
            noting.rows["thin", layout.parent_of(path)] += 1
            noting.gone |= {path, path.removesuffix(packs.PACK) + packs.IDS}
            for entry in goes:
                _drop_logs(noting, entry)
            if left and info is not None:
                noting.pack(day, name[:10], left, info.size * left // len(held))


def _drop_logs(noting: Noting, entry: Entry) -> None:
    for number in range(1, entry.attempt + 1):
        with contextlib.suppress(Missing):
            noting.remove(layout.log(entry.id, number))
