"""What the machine itself answers where a setting leaves it open: its time zone, its CPUs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from spool import times

if TYPE_CHECKING:
    from collections.abc import Mapping

LOCALTIME = "/etc/localtime"


def zone_of(
    name: str, *, environ: Mapping[str, str] = os.environ, localtime: str = LOCALTIME
) -> ZoneInfo:
    """The zone a setting names; for "" the machine's: $TZ, then /etc/localtime, then UTC."""
    if name:
        return times.zone(name)
    target = os.path.realpath(localtime)
    for candidate in (environ.get("TZ", "").lstrip(":"), target.partition("zoneinfo/")[2]):
        if candidate:
            try:
                return times.zone(candidate)
            except ValueError:
                continue
    return _from_file(localtime)


def _from_file(path: str) -> ZoneInfo:
    try:
        with open(path, "rb") as file:
            return ZoneInfo.from_file(file, key="localtime")
    except (OSError, ValueError):
        return ZoneInfo("UTC")


def life(root: str) -> str:
    """A text that changes when what the kernel had not written of a file system may be gone.

    A boot, or another device: nothing is known of a file system that was unmounted by force.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
    except OSError:
        boot = ""  # then each start is a new life
    return f"{boot or os.urandom(8).hex()} {os.stat(root).st_dev}"


def usable_cpus() -> int:
    """How many CPUs this process may use, at least 2."""
    return max(2, len(os.sched_getaffinity(0)))
