"""A disk on which nothing changes: what would be removed or packed is counted, and seen no more."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from spool import layout, packs
from spool.disk import Info, Missing
from spool.prune import retention

if TYPE_CHECKING:
    from spool.disk import Disk


class Noting:
    """For the rules of pruning. `rows`: (what, directory) -> how many files."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.rows: Counter[tuple[str, str]] = Counter()
        self.gone: set[str] = set()
        self._made: dict[str, int] = {}  # files that there would be: how large

    def __getattr__(self, name: str) -> Any:
        return getattr(self.disk, name)

    def pack(self, day: str, expires: str, tasks: int, size: int) -> None:
        """So many tasks would be in a pack of their own."""
        stem = f"{layout.PACKED}/{day}/{expires}.{10**9 + len(self._made)}"  # after all that are there
        self._made |= {f"{stem}{packs.PACK}": size, f"{stem}{packs.IDS}": tasks * packs.LINE}

    # The disk.

    def names(self, path: str) -> list[str]:
        """As they would be."""
        made = {
            one[len(path) + 1 :].partition("/")[0] for one in self._made if one.startswith(f"{path}/")
        }
        try:
            found = self.disk.names(path)
        except Missing:
            if not made:
                raise
            found = []
        return [name for name in {*found, *made} if f"{path}/{name}" not in self.gone]

    def info(self, path: str) -> Info | None:
        """As it would be."""
        if path in self.gone:
            return None
        size = self._made.get(path)
        return self.disk.info(path) if size is None else Info(size, 1, 0, 0, 0, 0)

    def append(self, path: str, data: bytes) -> None:
        """A pack of a day of the journal: how large it would be."""
        self._made[path] = self._made.get(path, 0) + len(data)

    def sync(self, *_: object) -> None:
        """Nothing is new."""

    sync_dirs = sync

    def move(self, source: str, target: str) -> None:
        """A pack gets its name: the day it is made of, whose name the dot file bears, is packed."""
        folder, _, name = source.rpartition("/")
        self._made[target] = self._made.pop(source)
        self.rows[retention.PACK, layout.parent_of(target)] += 1
        self.gone.add(f"{folder}/{name.removeprefix('.').removesuffix('.gz')}")

    def remove(self, path: str) -> None:
        """It would go."""
        if self.info(path) is None:
            raise Missing(path)
        self.gone.add(path)
        if not path.rpartition("/")[2].startswith(".") or path not in self._made:
            self.rows[retention.DROP, layout.parent_of(path)] += 1

    def remove_dir(self, _: str) -> bool:
        """Directories are not told of."""
        return False
