"""What the machine itself answers where a setting leaves it open: its time zone, its CPUs."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from spool import times

if TYPE_CHECKING:
    from collections.abc import Mapping

LOCALTIME = "/etc/localtime"
# tzfile(5): one type, no changes
_EMPTY = 2 * (b"TZif2" + bytes(34) + b"\1" + bytes(3) + b"\1" + bytes(7))


def zone_of(
    name: str, *, environ: Mapping[str, str] = os.environ, localtime: str = LOCALTIME
) -> ZoneInfo:
    """The zone a setting names; for "" the machine's: $TZ, then /etc/localtime, then UTC."""
    if name:
        return times.zone(name)
    return zone_of_tz(environ) or _from_file(localtime, "localtime") or ZoneInfo("UTC")


def zone_of_tz(environ: Mapping[str, str] = os.environ) -> ZoneInfo | None:
    """What $TZ means: a zone's name, the path of its file, or a rule; None where it is none of these."""
    text = environ.get("TZ", "").removeprefix(":")
    if text.startswith("/"):
        return _from_file(text, text)
    return _named(text) or _by_rule(text)


def _named(name: str) -> ZoneInfo | None:
    with suppress(ValueError):
        return times.zone(name)
    return None


def _from_file(path: str, key: str) -> ZoneInfo | None:
    """The zone of a file, by its name where it is one of the machine's; else under a key."""
    if named := _named(os.path.realpath(path).partition("zoneinfo/")[2]):
        return named
    with suppress(OSError, ValueError, struct.error), open(path, "rb") as file:
        return ZoneInfo.from_file(file, key=key)
    return None


def _by_rule(rule: str) -> ZoneInfo | None:
    """A rule such as CET-1CEST,M3.5.0,M10.5.0/3 is what a file may end with, and all that ours has."""
    with suppress(ValueError):
        return ZoneInfo.from_file(BytesIO(_EMPTY + f"\n{rule}\n".encode()), key=rule) if rule else None
    return None


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
