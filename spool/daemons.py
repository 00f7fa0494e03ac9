"""Which daemons serve a spool: what each last said of itself, and whether it is alive."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Any

import orjson

from spool import layout
from spool.disk import Missing
from spool.times import parse_utc

if TYPE_CHECKING:
    from spool.disk import Disk

STATUS_LIMIT = 64 << 20


def nodes(disk: Disk, root: str) -> dict[str, dict[str, Any]]:
    """Node name -> its status file as spool(5) describes it, with `alive` (bool) added."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(_names(disk)):
        node, _, kind = name.rpartition(".")
        if kind == "lock" and node and not name.startswith("."):
            found[node] = {**_status(disk, node), "node": node, "alive": alive(root, node)}
    return found


def any_alive(disk: Disk, root: str) -> bool:
    """Whether any daemon serves this spool (on a shared file system: as far as locks tell)."""
    return any(alive(root, name.removesuffix(".lock")) for name in _names(disk) if name.endswith(".lock"))


def alive(root: str, node: str) -> bool:
    """Whether a daemon, or a handler it left behind, holds the lock of a node."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(os.path.join(root, layout.NODES, f"{node}.lock"), flags)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    else:
        return False  # closing the descriptor gives the lock back
    finally:
        os.close(fd)


def pauses(disk: Disk) -> list[dict[str, Any]]:
    """What is paused or drained, as kept on disk; instants are us UTC."""
    try:
        found = orjson.loads(disk.read(layout.PAUSES, STATUS_LIMIT))
        rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
        for row in rows:
            for name in ("since", "until"):
                if isinstance(row.get(name), str):
                    row[name] = parse_utc(row[name])
    except (OSError, ValueError):  # a damaged file: spoold puts it aside, and pauses nothing
        return []
    return rows


def unread(disk: Disk) -> dict[str, int]:
    """Parent -> how many events wait in its outbox."""
    found: dict[str, int] = {}
    try:
        parents = disk.names(layout.OUTBOX)
    except (Missing, PermissionError):
        return found
    for parent in sorted(parents):
        try:
            found[parent] = sum(1 for n in disk.names(f"{layout.OUTBOX}/{parent}") if n[:1] != ".")
        except OSError:
            continue
    return found


def _names(disk: Disk) -> list[str]:
    try:
        return disk.names(layout.NODES)
    except (Missing, PermissionError):
        return []


def _status(disk: Disk, node: str) -> dict[str, Any]:
    try:
        found = orjson.loads(disk.read(layout.status(node), STATUS_LIMIT))
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
