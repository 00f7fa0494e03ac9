"""The names that are known to a spool: of tasks (bound, seen to run or to wait), parents, schedules."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import orjson

from spool import daemons, layout, look, settingsfile
from spool.errors import SpoolError
from spool.names import is_task
from spool.scene import recurring

if TYPE_CHECKING:
    from spool.client import Spool

LIMIT = 64 << 20


def names(spool: Spool) -> list[str]:
    """In order, and quick, as somebody waits for them. What cannot be read counts as nothing."""
    found: set[str] = set()
    with suppress(OSError, SpoolError):
        bound = settingsfile.read(spool.disk).handlers
        found |= {pattern for pattern in bound if "*" not in pattern}
    for node in daemons.nodes(spool.disk, spool.path):
        for path in (layout.usage(node), layout.shape(node)):
            try:
                found |= set(orjson.loads(spool.disk.read(path, LIMIT))["tasks"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
    return sorted(filter(is_task, found))  # a shell expands them


def parents(spool: Spool) -> list[str]:
    """Those that have an outbox, and those that spool.toml names."""
    found = set(look.names(spool.disk, layout.OUTBOX))
    with suppress(OSError, SpoolError):
        known = settingsfile.read(spool.disk)
        found |= {handler.notify or "" for handler in known.handlers.values()}
        found |= {schedule.notify or "" for schedule in known.recurring}
    return sorted(filter(is_task, found))


def schedules(spool: Spool) -> list[str]:
    """Of spool.toml, and those set by actions; none where it cannot be read."""
    try:
        return [schedule.name for schedule in recurring.settings_of(spool.disk).recurring]
    except (OSError, SpoolError):
        return []
