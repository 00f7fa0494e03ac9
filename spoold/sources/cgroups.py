"""What the control groups we are in allow us, version 1 and 2: memory, CPUs, and how they fare."""

from __future__ import annotations

import os
from typing import NamedTuple

UNLIMITED = 1 << 60  # version 1 has a number for "no limit", a little below 2^63


class Groups(NamedTuple):
    """Directories of our groups for memory and CPU, the own one first, then those above it."""

    memory: list[str]
    cpu: list[str]
    unified: list[str]  # version 2: all in one, and pressures


class Memory(NamedTuple):
    """The tightest limit on memory: bytes in all, bytes left."""

    total: int
    available: int


def groups(system: str) -> Groups:
    """Our groups, found through the mounts as they are seen from here; `system` is the root."""
    mounts = _mounts(system)
    own = {}
    for line in (text(f"{system}/proc/self/cgroup") or "").splitlines():
        number, controllers, path = line.split(":", 2)
        for name in ["unified"] if number == "0" and not controllers else controllers.split(","):
            own[name] = path
    found = {name: _upwards(system, own[name], *mounts[name]) for name in own if name in mounts}
    unified = found.get("unified", [])
    return Groups(found.get("memory", unified), found.get("cpu", unified), unified)


def _mounts(system: str) -> dict[str, tuple[str, str]]:
    """Controller (or unified) -> the part of the hierarchy that is mounted, and where."""
    found = {}
    for line in (text(f"{system}/proc/self/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, _, options) = left.split(), [*right.split(), "", "", ""][:3]
        if kind == "cgroup2":
            found["unified"] = fields[3], fields[4]
        elif kind == "cgroup":
            found.update(dict.fromkeys(options.split(","), (fields[3], fields[4])))
    return found


def _upwards(system: str, path: str, root: str, mount: str) -> list[str]:
    """The directories of a group and of those above it that can be seen."""
    inside = path == root or path.startswith(root.rstrip("/") + "/")
    below = path[len(root.rstrip("/")) :].strip("/") if inside else ""
    parts = below.split("/") if below else []
    base = system.rstrip("/") + mount
    return ["/".join([base, *parts[:n]]) for n in range(len(parts), -1, -1)]


def memory(found: Groups) -> Memory | None:
    """What is left where it is tightest; page cache counts as left. None: no limit."""
    tightest: Memory | None = None
    for folder in found.memory:
        limit = memory_limit(folder)
        used = number(f"{folder}/memory.current")
        used = number(f"{folder}/memory.usage_in_bytes") if used is None else used
        if limit is None or used is None:
            continue
        stat = _table(f"{folder}/memory.stat")
        names = ("total_inactive_file", "total_active_file")
        if "total_inactive_file" not in stat:
            names = ("inactive_file", "active_file")
        cache = sum(stat.get(name, 0) for name in names)
        left = max(0, limit - max(0, used - cache))
        if tightest is None or left < tightest.available:
            tightest = Memory(limit, left)
    return tightest


def memory_limit(folder: str) -> int | None:
    """Bytes that a group may have; None: it has no limit."""
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    found = [n for name in names if (n := number(f"{folder}/{name}")) is not None]
    return min((n for n in found if n < UNLIMITED), default=None)


def cpus(found: Groups) -> float | None:
    """How many CPUs' time we may use at most. None: no limit."""
    tightest: float | None = None
    for folder in found.cpu:
        words = (text(f"{folder}/cpu.max") or "").split()
        if len(words) == 2 and words[0].isdigit():
            quota, period = int(words[0]), int(words[1])
        else:
            quota = number(f"{folder}/cpu.cfs_quota_us") or 0
            period = number(f"{folder}/cpu.cfs_period_us") or 0
        if quota > 0 and period > 0:
            tightest = min(tightest or quota / period, quota / period)
    return tightest


def pressure(path: str) -> float | None:
    """% of the last 10 s in which something waited (PSI: some avg10). None: the kernel does not tell."""
    for line in (text(path) or "").splitlines():
        if line.startswith("some "):
            for word in line.split()[1:]:
                name, _, value = word.partition("=")
                if name == "avg10":
                    return float(value)
    return None


def _table(path: str) -> dict[str, int]:
    rows = (line.split() for line in (text(path) or "").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def number(path: str) -> int | None:
    """A file that holds one number; None where it holds none or is not there."""
    found = (text(path) or "").strip()
    return int(found) if found.lstrip("-").isdigit() else None


def text(path: str) -> str | None:
    """A small file of the kernel; None where it is not there, or not for us."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 1 << 16).decode(errors="replace")
    except OSError:
        return None  # PSI that is switched off is there and cannot be read
    finally:
        os.close(fd)
