"""What is paused, as it stands on disk."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from spool import daemons, layout
from spool.disk import Missing, NotRegular, TooLarge
from spool.quarantine import aside

if TYPE_CHECKING:
    from spool.disk import Disk

log = logging.getLogger("spoold")


def read_pauses(disk: Disk) -> list[dict[str, Any]]:
    """What is paused; a file that is damaged is put aside and said so, and pauses nothing."""
    try:
        return daemons.read_pauses(disk)
    except Missing:
        return []
    except (ValueError, TypeError, NotRegular, TooLarge) as problem:
        log.error("nothing is paused: %s is damaged, and goes to corrupt/: %s", layout.PAUSES, problem)  # noqa: TRY400 - no bug of ours
        aside(disk, layout.PAUSES, str(problem))
        return []
