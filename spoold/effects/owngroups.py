"""A control group for each attempt of a handler that wants one: what all its processes take is limited.

Version 1: a directory below our own group for memory. Version 2: below our own group as well, where
it was handed over to us and nobody else is in it; we move into a group beside the others first, for a
group that has groups below it may hold no processes. Where neither can be, `problem` says why, and
the limits of each process hold alone.
"""

from __future__ import annotations

import hashlib
import logging
import os
from itertools import pairwise
from typing import TYPE_CHECKING

from spoold.keeper.proc import processes, trees

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger("spoold")
DAEMON = "daemon"  # the group that we and the keeper move to
LIMITS = ("memory.max", "memory.limit_in_bytes")
# Swap beyond the limit is no memory saved; what is killed is killed whole.
MORE = {"memory.swap.max": "0", "memory.oom.group": "1"}
COUNTS = ("memory.events", "memory.oom_control")


class OwnGroups:
    """Makes and removes them."""

    def __init__(self, name: str, memory: Sequence[str], unified: Sequence[str]) -> None:
        """`name`: what tells our groups from those of other daemons, of any length.

        `memory`, `unified`: the groups we are in, as spoold.sources.cgroups finds them.
        """
        mark = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        self.problem: str | None = None  # why none can be made; None: they can, or nobody wants one
        self._prefix = f"spool-{mark}."
        self._base = memory[0] if memory else ""
        self._unified = bool(memory) and list(memory) == list(unified)
        self._ready = False
        self._left: set[str] = set()  # ended, and not removed yet

    def prepare(self, *, wanted: bool) -> None:
        """See whether they can be made, and remove what an earlier daemon has left."""
        if not wanted or self._ready:
            self.problem = None if not wanted else self.problem
            return
        try:
            self.problem = self._ready_made()
        except OSError as problem:
            self.problem = f"{problem.filename}: {problem.strerror}"
        self._ready = self.problem is None
        if self.problem is not None:
            log.warning("no control group for a handler, limits hold for each process: %s", self.problem)

    def _ready_made(self) -> str | None:
        if not self._base:
            return "no control group for memory is mounted"
        if self._unified and "memory" not in _words(f"{self._base}/cgroup.subtree_control"):
            why = self._hand_down()
            if why is not None:
                return why
        for name in os.listdir(self._base):
            if name.startswith(self._prefix) and name != f"{self._prefix}{DAEMON}":
                self._left.add(f"{self._base}/{name}")
        self._sweep()
        probe = f"{self._base}/{self._prefix}probe"
        os.mkdir(probe)
        self._remove(probe)
        return None

    def _hand_down(self) -> str | None:
        """Version 2: have the controller for memory in the groups below ours."""
        if "memory" not in _words(f"{self._base}/cgroup.controllers"):
            return f"{self._base} was given no controller for memory"
        inside = {int(pid) for pid in _words(f"{self._base}/cgroup.procs")}
        if inside and os.path.exists(f"{self._base}/cgroup.type"):  # the root group has no such rule
            if inside - set(trees(processes(), [os.getpid()])):
                return f"others are in {self._base}: start spoold in a unit of its own, with Delegate=yes"
            leaf = f"{self._base}/{self._prefix}{DAEMON}"
            os.makedirs(leaf, exist_ok=True)
            for pid in sorted(inside):
                _write(f"{leaf}/cgroup.procs", str(pid))
        _write(f"{self._base}/cgroup.subtree_control", "+memory")
        return None

    def make(self, key: str, memory: int) -> str | None:
        """The directory of a new group with so much memory (bytes); None where none can be made."""
        if not self._ready:
            return None
        path = f"{self._base}/{self._prefix}{key}"
        try:
            os.makedirs(path, exist_ok=True)
            limit = LIMITS[0] if self._unified else LIMITS[1]
            _write(f"{path}/{limit}", str(memory))
            for name, value in MORE.items() if self._unified else ():
                if os.path.exists(f"{path}/{name}"):
                    _write(f"{path}/{name}", value)
        except OSError as problem:
            log.warning("no control group for %s: %s", key, problem)
            self._left.add(path)
            return None
        return path

    def end(self, key: str) -> bool:
        """An attempt has ended: its group goes. Whether the kernel killed in it for want of memory."""
        path = f"{self._base}/{self._prefix}{key}"
        if not self._ready or not os.path.isdir(path):
            return False
        killed = any(_count(f"{path}/{name}") for name in COUNTS)
        self._left.add(path)
        self._sweep()
        return killed

    def _sweep(self) -> None:
        """What somebody is still in stays for the next time."""
        for path in list(self._left):
            try:
                self._remove(path)
            except FileNotFoundError:
                pass  # gone already
            except OSError:
                continue
            self._left.discard(path)

    def _remove(self, path: str) -> None:
        """The kernel removes a group with the files in it."""
        os.rmdir(path)


def _count(path: str) -> int:
    words = _words(path)
    return next((int(n) for name, n in pairwise(words) if name == "oom_kill"), 0)


def _words(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().split()
    except OSError:
        return []


def _write(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)
