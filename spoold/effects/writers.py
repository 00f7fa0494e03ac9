"""How many tasks each writer of a shared spool has that have not ended, counted by names at the start.

From then on every transition counts; from time to time all are counted again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from spool import layout, look
from spool.names import OWNER
from spool.times import HOUR
from spoold.spared import listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk
    from spoold.core.state import State
    from spoold.core.values import Now

SLICE = 1000
PAUSE = 20_000  # us between two slices
WRITER = re.compile(rf",{OWNER}=([0-9a-z]+)[,.]")


class Writers:
    """A chore of the loop; in a user's own spool it has nothing to do."""

    def __init__(self, disk: Disk, state: State) -> None:
        self.disk = disk
        self.state = state
        self._next = 0
        self._under_way: Iterator[None] | None = None

    def due(self, now: Now) -> int | None:
        """In how many us the next slice is due; None where nobody has a quota."""
        return max(0, self._next - now.mono) if self.state.settings.guarded else None

    def step(self, now: Now) -> None:
        """One slice."""
        if self.due(now) != 0:
            return
        if self._under_way is None:
            self._under_way = self._count()
        self._next = now.mono + PAUSE
        for _ in self._under_way:
            return
        self._under_way, self._next = None, now.mono + HOUR

    def _count(self) -> Iterator[None]:
        found: dict[str, int] = {}
        for folder in look.folders(self.disk, (layout.PENDING, *look.LIVE)):
            for names in listed(self.disk, folder, SLICE):
                for name in names:
                    writer = WRITER.search(name) if name[:1] != "." else None
                    if writer is not None:
                        found[writer[1]] = found.get(writer[1], 0) + 1
                yield
        self.state.live = found
