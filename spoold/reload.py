"""`spoold --reload`: HUP to the daemon that serves, and what has come of it."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from spool import daemons
from spool.errors import NotServed, TimedOut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk

log = logging.getLogger("spoold")
LOOK = 0.05  # seconds between looks at the status
PATIENCE = 90.0  # seconds; a worker that does not import its module is killed after 60


def have_reloaded(disk: Disk, root: str, node: str) -> int:
    """0 when settings and code are taken up, 1 where the old ones go on; NotServed, TimedOut."""
    status = _serving(disk, root, node)
    before, pid = status.get("reloads"), status["pid"]
    os.kill(pid, signal.SIGHUP)
    if before is None:
        log.warning("asked; node %s is of an older version, and does not tell what comes of it", node)
        return 0
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        time.sleep(LOOK)
        status = _serving(disk, root, node)
        if status["pid"] != pid:
            raise NotServed(root, node)
        pools = status.get("python") or []
        if status["reloads"] != before and not any(row.get("starting") for row in pools):
            problems = list(_problems(status))
            for problem in problems:
                log.error("the old goes on: %s", problem)
            return int(bool(problems))
    raise TimedOut(f"{root}: node {node!r} has not read all again within {PATIENCE:g} s: spool status")


def _problems(status: dict[str, Any]) -> Iterator[str]:
    if status.get("settings_error"):
        yield status["settings_error"]
    for row in status.get("python") or []:
        if row.get("problem"):
            yield f"{row['module']}: {row['problem']['type']}: {row['problem']['message']}"


def _serving(disk: Disk, root: str, node: str) -> dict[str, Any]:
    """The status of a node whose daemon is there: its lock and its process tell."""
    status = daemons.nodes(disk, root).get(node, {})
    pid = int(status.get("pid") or 0)
    if not status.get("alive") or not any(b"spoold" in word for word in _command_of(pid)):
        raise NotServed(root, node)
    return {**status, "pid": pid}


def _command_of(pid: int) -> list[bytes]:
    """The words a process was started with; none where there is no such process."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(1 << 16).split(b"\0")
    except OSError:
        return []
