"""What nobody looks after any more: processes of handlers whose keeper is gone, killed for good."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from spoold import keeper
from spoold.keeper.proc import PATIENCE, environ, look, processes, strike, trees

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from spoold.keeper.proc import Proc

log = logging.getLogger("spoold")


def kill_leftovers(spool_dir: str, node: str) -> int:
    """Kill what a daemon and a keeper that were killed together left of this node's handlers.

    Known by SPOOL_DIR, SPOOL_NODE and SPOOL_ID in their environment; their descendants go with them,
    this process and its ancestors never. Waits until they are gone, at most PATIENCE seconds.
    Returns how many were killed. Call it with the lock of the node held and before any start.
    """
    wanted = {os.fsencode(f"SPOOL_DIR={spool_dir}"), os.fsencode(f"SPOOL_NODE={node}")}
    spared = _lineage()

    def is_leftover(pid: int, _: Proc) -> bool:
        entries = environ(pid) if pid not in spared else []
        if entries is None:
            what = "process %d waits for a file system and does not tell whose it is: a handler's, maybe"
            log.warning(what, pid)
            return False
        return wanted.issubset(entries) and any(e.startswith(b"SPOOL_ID=") for e in entries)

    return kill_all(is_leftover, spared)


def kill_keeper(lock: str) -> int:
    """Kill a keeper that has the lock of its node though its daemon is gone, as one that is stopped."""
    found = owners(lock)
    return kill_all(lambda pid, proc: pid in found and proc.comm == keeper.NAME.encode(), _lineage())


def owners(lock: str) -> list[int]:
    """Who has a lock open: other processes than this one, without those that have it of their parent."""
    path, me = os.path.realpath(lock), os.getpid()
    found = {pid: proc for pid, proc in processes().items() if pid != me and path in _opened(pid)}
    return [pid for pid, proc in found.items() if proc.ppid not in found]


def _opened(pid: int) -> set[str]:
    """What a process has open; nothing where it is gone or another user's."""
    found, folder = set[str](), f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):  # the one that lists them
                found.add(os.readlink(f"{folder}/{name}"))
    return found


def _lineage() -> set[int]:
    """This process and its ancestors."""
    found, pid = set[int](), os.getpid()
    while pid and pid not in found:
        found.add(pid)
        proc = look(pid)
        pid = 0 if proc is None else proc.ppid
    return found


def kill_all(chosen: Callable[[int, Proc], bool], spared: Iterable[int] = ()) -> int:
    """SIGKILL the chosen processes and their descendants until there are none; how many they were."""
    until = time.monotonic() + PATIENCE
    killed: set[tuple[int, int]] = set()
    while True:
        procs = processes()
        roots = [pid for pid, proc in procs.items() if chosen(pid, proc)]
        tree = [pid for pid in trees(procs, roots) if pid not in spared]
        for pid in tree:
            strike(pid, procs[pid], signal.SIGKILL)
        killed.update((pid, procs[pid].start) for pid in tree)
        if not tree or time.monotonic() > until:
            return len(killed)
        _await_deaths(tree, procs, until)


def _await_deaths(pids: list[int], procs: dict[int, Proc], until: float) -> None:
    """Wait until all of them, parents first, are dead; reap those that are our children now."""
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        except OSError:
            time.sleep(0.01)  # no pidfd here: the next look at /proc tells
            continue
        now = look(pid)
        if now is not None and now.start == procs[pid].start:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(max(0.0, until - time.monotonic()) * 1000)
        os.close(fd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
