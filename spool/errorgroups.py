"""The groups of errors as a client reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool import layout, look
from spool.disk import Missing, NotRegular, TooLarge
from spool.errors import Invalid
from spool.failures import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk
    from spool.failures import Group

LIMIT = 1 << 20
SUFFIX = ".json"


def fingerprints(disk: Disk) -> list[str]:
    """Those that have a file, in order."""
    names = look.names(disk, layout.ERRORS)
    return [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX) and name[0] != "."]


def read(disk: Disk, fingerprint: str) -> Group:
    """One group; Invalid where there is none, or its file is damaged."""
    try:
        return decode(disk.read(layout.error(fingerprint), LIMIT))
    except (Missing, NotRegular, TooLarge):
        rule = "no error group has this fingerprint; `spool errors --all` lists them"
        raise Invalid("error", fingerprint, rule) from None


def groups(disk: Disk) -> Iterator[Group]:
    """All of them; damaged files are left out, spoold puts them away."""
    for name in fingerprints(disk):
        try:
            yield read(disk, name)
        except Invalid:
            continue


def expand(disk: Disk, start: str) -> str:
    """The whole fingerprint that begins so; Invalid where none does, or more than one."""
    found = [name for name in fingerprints(disk) if name.startswith(start)]
    if len(found) > 1 and start not in found:
        raise Invalid("error", start, f"is the beginning of {len(found)} fingerprints; give more of it")
    if not found:
        return read(disk, start).fingerprint
    return start if start in found else found[0]
