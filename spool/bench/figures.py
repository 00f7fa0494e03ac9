"""Figures as they are gathered, and the table they end in."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from spool.mounts import mount_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SPAWN = "posix_spawn + wait of /bin/true"


class Figure(Struct):
    """One quantity, a value for each repetition."""

    group: str
    name: str
    unit: str
    values: list[float] = field(default_factory=list)

    def plain(self, spawn: float | None) -> dict[str, Any]:
        """Median, min and max; `ratio` to a posix_spawn (median us) where it is a time in us."""
        median = statistics.median(self.values)
        return {
            "group": self.group,
            "name": self.name,
            "unit": self.unit,
            "median": median,
            "min": min(self.values),
            "max": max(self.values),
            "repetitions": len(self.values),
            "ratio": median / spawn if spawn and self.unit == "us" else None,
        }


class Figures:
    """All of them, in the order they first came."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, str], Figure] = {}

    def add(self, group: str, name: str, unit: str, value: float) -> None:
        """The value of one repetition."""
        self._all.setdefault((group, name), Figure(group, name, unit)).values.append(value)

    def times(self, group: str, name: str, ns: Sequence[float]) -> None:
        """p50 and p99 of one repetition's latencies (ns), as us."""
        ordered = sorted(ns)
        for p in (50, 99):
            at = min(len(ordered) - 1, len(ordered) * p // 100)
            self.add(group, f"{name}, p{p}", "us", ordered[at] / 1000)

    def rows(self) -> list[dict[str, Any]]:
        """Every figure as a plain value."""
        return [self.of(*key) for key in self._all]

    def of(self, group: str, name: str) -> dict[str, Any]:
        """A figure as a plain value; KeyError."""
        spawn = self._all.get(("latency", f"{SPAWN}, in between, p50"))
        base = statistics.median(spawn.values) if spawn else None
        return self._all[group, name].plain(base)

    def timed(self) -> list[tuple[str, str]]:
        """Group and name of what has a p50 and a p99."""
        return [(group, name[:-5]) for group, name in self._all if name.endswith(", p50")]

    def paired(self, kinds: Sequence[str]) -> list[tuple[str, str]]:
        """Group and name of the rates that each of these kinds has."""
        end = f", {kinds[0]}"
        return [(group, name[: -len(end)]) for group, name in self._all if name.endswith(end)]


def environment(place: Path) -> dict[str, Any]:
    """What these figures depend on."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "file_system": file_system(place),
        "python": sys.version.split()[0],
        "load": [round(part, 2) for part in os.getloadavg()],
    }


def listing(about: dict[str, Any]) -> str:
    """Markdown, a line for each."""
    return "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in about.items())


def file_system(place: Path) -> str:
    """Type and device of the file system a path is on; for ext4 whether it has a journal."""
    mount = mount_of(str(place))
    if mount is None:
        return "unknown"
    found = f"{mount.type} on {mount.source}"
    if mount.type == "ext4":
        number = os.stat(mount.place).st_dev
        name = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
        found += ", journal" if any(Path("/proc/fs/jbd2").glob(f"{name}-*")) else ", no journal"
    return found


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| | | median | min | max | unit | x spawn |", "|---|---|---:|---:|---:|---|---:|"]
    for row in rows:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        numbers = " | ".join(_number(row[part]) for part in ("median", "min", "max"))
        lines.append(f"| {row['group']} | {row['name']} | {numbers} | {row['unit']} | {ratio} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"
