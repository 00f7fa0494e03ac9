"""Places of a spool that are closed to this user: which, who may go there, and how he may."""

from __future__ import annotations

import os
import shlex
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from spool import layout
from spool.errors import NotAllowed

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = (layout.SETTINGS, layout.INCOMING, layout.TMP, layout.WRITERS)


@contextmanager
def telling(root: str) -> Iterator[None]:
    """NotAllowed in place of a PermissionError at a place of the spool at `root` (absolute)."""
    try:
        yield
    except PermissionError as problem:
        raise closed(root, problem) or problem from None


def closed(root: str, problem: PermissionError) -> NotAllowed | None:
    """What to say of it; None where it is about no place of this spool."""
    path = os.path.join(root, os.fsdecode(problem.filename or ""))
    top = path.removeprefix(f"{root}/").split("/")[0]
    if not path.startswith(f"{root}/") or top not in (*layout.TREE, layout.SETTINGS):
        return None
    if os.access(path, os.R_OK):
        return NotAllowed(f"{path}: uid {os.geteuid()} may not change it")
    return unread(root, top, path)


def kept_out(root: str, problem: PermissionError) -> NotAllowed | None:
    """What spoold says of it, whose all of it is to be; None where it is about no place of this spool."""
    named = [os.path.join(root, os.fsdecode(n)) for n in (problem.filename, problem.filename2) if n]
    ours = [path.removeprefix(f"{root}/").split("/") for path in named if path.startswith(f"{root}/")]
    for parts in ours:
        for path in (os.path.join(root, *parts[: i + 1]) for i in range(len(parts))):
            with suppress(OSError):
                if (uid := os.lstat(path).st_uid) != os.geteuid():
                    way = f"chown {os.geteuid()} {shlex.quote(path)}, or spool doctor --fix, as root"
                    return NotAllowed(f"{path} belongs to uid {uid}, not to uid {os.geteuid()}; {way}")
    why = f"{problem.strerror} for uid {os.geteuid()}; spool doctor may tell more"
    return NotAllowed(f"{named[0]}: {why}") if ours else None


def unread(root: str, top: str, path: str) -> NotAllowed:
    """What to say of a path in the directory `top` of a spool that this user may not read.

    Not the group that is spoold's own: who is in it reads all that is dropped.
    """
    place = path
    while place != root and not os.path.lexists(place):  # as it looks to who may not enter
        place = os.path.dirname(place)
    found = os.lstat(place)
    may = found.st_mode & stat.S_IRGRP and top not in OURS
    who = f", group {group_name(found.st_gid)} may" if may else ""
    if top == layout.SETTINGS:
        who = ", root and spoold's user may"
    return NotAllowed(f"{path}: uid {os.geteuid()} may not read it{who}")


def as_user(uid: int) -> str:
    """How another user, who may become this one, does what only this one should."""
    import pwd

    try:
        return f"runuser -u {pwd.getpwuid(uid).pw_name} -- spool ..."
    except KeyError:
        return f"do it as uid {uid}"


def who_drops(root: str) -> str:
    """Who may drop into a spool of several users, and how this user may as well."""
    from spool.sysinit import found_users

    way = f"spool init --system {shlex.quote(root)} --writer {os.geteuid()}"
    group = group_name(found_users(root).submit)
    return f", group {group} may; or root makes you a box of your own: {way}"


def group_name(gid: int) -> str:
    """A group as commands and rules name it."""
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
