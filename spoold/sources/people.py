"""A uid to a writer: his name and groups as this machine knows them, asked once a minute."""

from __future__ import annotations

import grp
import os
import pwd

from msgspec.structs import replace

from spool.errors import Invalid
from spoold.core.values import Who

KEPT = 60_000_000  # us
LAPSE = 600_000_000  # us for which who is not found any more is who he was: LDAP may not answer
MOST = 10_000


class People:
    """Looks writers up. `root_counts`: root is root, and not what a client of a file server says."""

    def __init__(self, *, root_counts: bool) -> None:
        self.root_counts = root_counts
        self._known: dict[int, tuple[int, Who, int]] = {}  # when asked, what was said, when that was
        self._nobody = _overflow()

    def who(self, uid: int, key: str | None, mono: int, *, strict: bool = True) -> Who:
        """The writer behind a file's owner, or behind a key; `strict`: Invalid where he is nobody."""
        found = self._known.get(uid)
        if found is None or mono - found[0] > KEPT:
            self._known.pop(uid, None)
            if len(self._known) >= MOST:
                del self._known[next(iter(self._known))]  # looked up before all others
            made, said = self._look_up(uid), mono
            if found is not None and not made.groups and mono - found[2] <= LAPSE:
                _, made, said = found
            found = self._known[uid] = mono, made, said
        if key is not None:
            return Who(uid, found[1].name, (), key)
        if strict and uid == self._nobody:
            rule = f"belongs to uid {uid}, which stands for a user that is not known here"
            raise Invalid("file", None, rule)
        return found[1]

    def _look_up(self, uid: int) -> Who:
        trusted = uid == os.geteuid() or (uid == 0 and self.root_counts)
        made = Who(uid, str(uid), trusted=trusted)
        try:
            found = pwd.getpwuid(uid)
            numbers = os.getgrouplist(found.pw_name, found.pw_gid)
        except (KeyError, OSError):
            return made
        groups = [str(number) for number in numbers]
        for number in numbers:
            try:
                groups.append(grp.getgrgid(number).gr_name)
            except (KeyError, OSError):
                continue
        return replace(made, name=found.pw_name, groups=tuple(groups))


def _overflow() -> int:
    try:
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 65534
