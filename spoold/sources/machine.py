"""How the machine is: psutil where it knows, the kernel's files where it does not.

A look costs a hundred microseconds; nobody looks unless a task waits at the gate. What changes seldom
(our control groups, the CPUs, heat, charge) is read every half minute. What is limited for us alone is
judged by our own group, what is not by the machine: a load average counts the whole machine, so it is
left out where our CPU time is limited.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from spool.times import SECOND
from spoold.core.admit import ROOM_AGAIN, Machine, size
from spoold.sources import cgroups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spoold.core.state import State

SENSORS_EVERY = 30 * SECOND  # us; asking for heat and charge takes milliseconds
STALE = 60 * SECOND  # us; a rate between looks further apart says nothing of now
MIB = 1 << 20


class Gauge:
    """Looks at the machine. `system` is the root of the kernel's files, `ps` does what psutil does."""

    def __init__(
        self,
        state: State,
        logs: str,
        pids: Callable[[], Mapping[str, int]],
        *,
        system: str = "",
        ps: Any = None,
    ) -> None:
        """`logs`: a path on the file system of the logs. `pids`: task id -> process, of what runs."""
        self.state = state
        self.logs = logs
        self.pids = pids
        self.system = system
        self._ps = ps
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._short = False
        self._swapped: tuple[int, int] | None = None  # when, bytes in and out until then
        self._swaps = False
        self._sensed: int | None = None
        self._heat: float | None = None
        self._battery: float | None = None
        self._groups = cgroups.Groups([], [], [])
        self._quota: float | None = None
        self._cpus = self._mine = 1

    def look(self, mono: int) -> Machine:
        """The machine now, at this monotonic instant (us)."""
        ps = self._ps = self._ps or _psutil()
        self._sense(ps, mono)
        groups, quota, mine = self._groups, self._quota, self._mine
        bound = cgroups.memory(groups)
        ram = ps.virtual_memory()
        total, available = ram.total, ram.available
        if bound is not None:
            total, available = min(total, bound.total), min(available, bound.available)
        ours = groups.unified[0] if groups.unified else None
        alone = quota is not None and quota < mine
        return Machine(
            at=mono,
            cpus=self._cpus,
            cores=min(mine, quota or mine),
            total=total,
            available=available,
            load=None if alone else self._load(),
            cpu_pressure=self._pressure("cpu", ours, alone=alone),
            memory_pressure=self._pressure("memory", ours, alone=bound is not None),
            io_pressure=self._pressure("io", ours, alone=alone or bound is not None),
            swap=self._swap(ps, mono),
            heat=self._heat,
            battery=self._battery,
            short=self._disk(),
            resident={task: self._resident(pid, 8) for task, pid in self.pids().items() if pid},
        )

    def _load(self) -> float | None:
        words = (cgroups.text(f"{self.system}/proc/loadavg") or "").split()
        return float(words[0]) if words else None

    def _pressure(self, what: str, ours: str | None, *, alone: bool) -> float | None:
        own = cgroups.pressure(f"{ours}/{what}.pressure") if ours is not None else None
        if alone and (own is not None or what == "cpu"):
            return own
        everywhere = cgroups.pressure(f"{self.system}/proc/pressure/{what}")
        return max((p for p in (own, everywhere) if p is not None), default=None)

    def _swap(self, ps: Any, mono: int) -> float | None:
        """MiB a second since the last look."""
        if not self._swaps:
            return None
        found = ps.swap_memory()
        moved = found.sin + found.sout
        before, self._swapped = self._swapped, (mono, moved)
        if before is None or not 0 < mono - before[0] <= STALE:
            return None
        rate: float = max(0, moved - before[1]) / MIB / ((mono - before[0]) / SECOND)
        return rate

    def _disk(self) -> str:
        """What is short on the file system of the logs, in words; that of the spool has its own watch."""
        try:
            found = os.statvfs(self.logs)
        except FileNotFoundError:  # removed: it is made again where the spool is
            found = os.statvfs(os.path.dirname(self.logs))
        settings = self.state.settings
        margin = ROOM_AGAIN if self._short else 1
        free, inodes = found.f_bavail * found.f_frsize, found.f_favail
        why = ""
        if free < settings.min_free_bytes * margin:
            why = f"logs: {size(free)} free, min_free_bytes is {size(settings.min_free_bytes)}"
        elif found.f_files and inodes < settings.min_free_inodes * margin:
            why = f"logs: {inodes} inodes free, min_free_inodes is {settings.min_free_inodes}"
        self._short = bool(why)
        return why

    def _sense(self, ps: Any, mono: int) -> None:
        if self._sensed is not None and mono - self._sensed < SENSORS_EVERY:
            return
        self._sensed = mono
        found = cgroups.groups(self.system)
        self._groups = found._replace(
            memory=[folder for folder in found.memory if cgroups.memory_limit(folder)]
        )
        self._quota = cgroups.cpus(found)
        self._cpus, self._mine = ps.cpu_count() or 1, len(ps.Process().cpu_affinity())
        self._swaps = ps.swap_memory().total > 0
        try:
            battery = ps.sensors_battery()
        except FileNotFoundError:  # a kernel without /sys/class/power_supply
            battery = None
        on_mains = battery is None or battery.power_plugged is not False
        self._battery = None if on_mains else battery.percent
        shares = [
            100 * sensor.current / limit
            for rows in ps.sensors_temperatures().values()
            for sensor in rows
            if 30 < (limit := sensor.critical or sensor.high or 0) < 200 and sensor.current
        ]
        self._heat = max(shares, default=None)

    def _resident(self, pid: int, depth: int) -> int:
        """The memory of a process and of what its first thread has started."""
        words = (cgroups.text(f"{self.system}/proc/{pid}/statm") or "").split()
        if len(words) < 2:
            return 0
        below = (cgroups.text(f"{self.system}/proc/{pid}/task/{pid}/children") or "").split()
        own = int(words[1]) * self._page
        return own + (sum(self._resident(int(child), depth - 1) for child in below) if depth else 0)


def _psutil() -> Any:
    import psutil  # 15 ms that a daemon with nothing to start need not spend

    return psutil
