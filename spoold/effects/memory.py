"""What tasks have needed, kept over restarts in nodes/NODE.usage; whoever deletes it loses no task."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import orjson

from spool import layout
from spool.disk import Missing
from spoold.effects.rewrite import rewrite

if TYPE_CHECKING:
    from spool.disk import Disk
    from spoold.core.usage import History

log = logging.getLogger("spoold")
LIMIT = 16 << 20


class UsageFile:
    """Read once, written now and then, never synced."""

    def __init__(self, disk: Disk, node: str, history: History) -> None:
        self.disk = disk
        self.path = layout.usage(node)
        self.history = history

    def load(self) -> None:
        """Recall what an earlier daemon has learned; a damaged file counts as none."""
        try:
            self.history.recall(orjson.loads(self.disk.read(self.path, LIMIT)))
        except Missing:
            return
        except (OSError, orjson.JSONDecodeError) as problem:
            log.warning("%s is of no use and will be written anew: %s", self.path, problem)

    def save(self) -> None:
        """Replace the file if something was learned since."""
        if not self.history.changed:
            return
        self.history.changed = False
        data = orjson.dumps(self.history.plain(), option=orjson.OPT_APPEND_NEWLINE)
        if not rewrite(self.disk, self.path, data):
            self.history.changed = True  # next time
