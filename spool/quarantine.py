"""What is damaged or strange is kept, with a reason beside it, and is in nobody's way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from spool import layout
from spool.disk import Exists, Missing

if TYPE_CHECKING:
    from spool.disk import Disk

TRIES = 1000


def quarantine(disk: Disk, path: str, why: str) -> str | None:
    """Move a file to corrupt/ under a harmless name; the new path, None where it was gone.

    The reason comes first, so that no crash leaves a file there without one.
    """
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._,=-") else "_" for c in path)
    shown = path.encode("utf-8", "backslashreplace").decode()
    reason = orjson.dumps({"path": shown, "reason": why}, option=orjson.OPT_APPEND_NEWLINE)
    disk.make_dir(layout.CORRUPT)
    for number in range(TRIES):
        target = f"{layout.CORRUPT}/{name.lstrip('.')[:200]}{f'.{number}' if number else ''}"
        try:
            disk.write(f"{target}.reason.json", reason)
        except Exists:
            if disk.info(target) is not None:
                continue  # another one came from the same place before
        try:
            disk.move(path, target)
        except Missing:
            disk.remove(f"{target}.reason.json")
            return None
        return target
    return None
