"""Who may do what in the tree of a spool: owner and mode of every place, held against what is there.

Two kinds: a user's own spool, closed to everybody else, and a shared one (`shared = true`), where root
owns what says who may do what, spoold's own user owns the state, and writers have a blind box.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from spool import acl, layout
from spool.closed import group_name
from spool.probes import BAD, OK, WARN, Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.folders import Folder, Held

FIX = "spool doctor --fix, as root"
BOXES = (layout.INCOMING, layout.TMP)
STATE = tuple(name for name in (*layout.TREE, *layout.MADE_WHEN_NEEDED) if name not in BOXES)
OF_NODES = (layout.RUNNING, layout.JOURNAL, layout.NODES)  # a directory for each node, or a few
OF_DAYS = (
    layout.PENDING, *layout.ENDED, layout.ATTEMPTS, layout.IDS, layout.LOGS, layout.REJECTED,
    layout.CHECKPOINTS, layout.FILES,
)  # fmt: skip


class Want(Struct, frozen=True, kw_only=True):
    """A place: its mode, the most and the least that will do, who must own it (None: anybody).

    `gid`: the group that may look, where any may.
    """

    mode: int
    most: int
    least: int
    uid: int | None
    gid: int | None = None


def private(uid: int) -> dict[str, Want]:
    """A user's own spool: nobody else gets in."""
    folder = Want(mode=0o700, most=0o700, least=0o700, uid=uid)
    file = Want(mode=0o600, most=0o600, least=0o400, uid=uid)
    files = (layout.FORMAT, layout.SETTINGS, layout.SIGNERS, layout.REVOKED)
    folders = ("", *layout.TREE, *layout.MADE_WHEN_NEEDED)
    return {**dict.fromkeys(folders, folder), **dict.fromkeys(files, file)}


def shared(uid: int | None, gid: int | None = None) -> dict[str, Want]:
    """A spool of several writers, served by `uid` and read by the group `gid`."""
    state = Want(mode=0o2750, most=0o2750, least=0o700, uid=uid, gid=gid)
    box = Want(mode=0o3770, most=0o3770, least=0o1730, uid=uid)
    return {
        "": Want(mode=0o755, most=0o755, least=0o711, uid=0),
        **dict.fromkeys(STATE, state),
        **dict.fromkeys(BOXES, box),
        layout.OUTBOX: Want(mode=0o2751, most=0o2755, least=0o711, uid=uid, gid=gid),
        layout.WRITERS: Want(mode=0o751, most=0o755, least=0o751, uid=0),
        layout.FORMAT: Want(mode=0o644, most=0o644, least=0o444, uid=0),
        layout.SETTINGS: Want(mode=0o640, most=0o644, least=0o440, uid=0),
        layout.SIGNERS: Want(mode=0o644, most=0o644, least=0o444, uid=0),
        layout.REVOKED: Want(mode=0o644, most=0o644, least=0o444, uid=0),
    }


def serving(root: str, *, is_shared: bool) -> int:
    """Whose the state is, as most of its directories say; 0 of a shared spool: root has all of them.

    Root serves none but its own: what it has in that of a user is of a restore, say.
    """
    owners: dict[str, int] = {}
    for name in ("", *layout.TREE):
        with suppress(OSError):
            owners[name] = os.lstat(os.path.join(root, name)).st_uid
    known = Counter(owners.values())
    if is_shared or owners.get(""):
        del known[0]
    return max(known, key=known.__getitem__, default=0)


def seems_shared(root: str) -> bool:
    """Whether root owns a spool and another user serves it, where its settings do not tell."""
    return os.stat(root).st_uid == 0 != serving(root, is_shared=True)


def readers(root: str) -> int | None:
    """The group that may look at a shared spool, as most of its directories say."""
    known: Counter[int] = Counter()
    for name in STATE:
        with suppress(OSError):
            known[os.lstat(os.path.join(root, name)).st_gid] += 1
    return max(known, key=known.__getitem__, default=None)


def check(top: Folder, *, is_shared: bool, fix: bool = False, deep: bool = False) -> Iterator[Check]:
    """What is not as it should be; with `fix` it is mended where this process may.

    `deep`: of a shared spool also the directories of each day.
    """
    root, whose = top.path, serving(top.by, is_shared=is_shared)
    if is_shared and whose == 0:
        what = f"all of {root} belongs to root: spoold must have a user of its own"
        remedy = f"spool init --system --owner USER {shlex.quote(root)}, then spool doctor --fix"
        yield Check(BAD, what, remedy)
    wanted = shared(whose or None, readers(top.by)) if is_shared else private(whose)
    if is_shared and (gid := _group_of(whose)) is not None and not _reads(top, whose):
        wanted[layout.SETTINGS] = replace(wanted[layout.SETTINGS], gid=gid)
    for name in BOXES if is_shared else ():
        with suppress(FileNotFoundError):
            ours = wanted[layout.SETTINGS].gid or top.info(layout.SETTINGS).st_gid
            if ours and top.info(name).st_gid != ours:  # it is the writers' group
                wanted[name] = replace(wanted[name], mode=0o3730, most=0o3730)
    device = top.info("").st_dev
    for name, want in wanted.items():
        try:
            found = top.info(name)
        except FileNotFoundError:
            continue  # `missing` names it
        is_dir = stat.S_ISDIR(found.st_mode)
        yield from _place(top, name, want, grave=is_shared or is_dir, fix=fix)
        if found.st_dev != device and is_dir:  # a file on overlayfs has its own
            what = f"{top.at(name)} is on another file system: a task cannot be renamed into it"
            yield Check(BAD, what, "keep the whole spool on one file system")
    if is_shared:
        for place, name in _below(top, deep=deep):
            yield from _place(place, name, wanted[layout.PENDING], grave=True, fix=fix)
        yield from _boxes(top, whose)
        yield from _writers(top, whose, fix=fix)
        yield from _outboxes(top, whose, fix=fix)
    yield from ancestors(root, is_shared=is_shared)


def missing(root: str, *, is_shared: bool) -> Iterator[Check]:
    """What a spool has and this one has not."""
    for name in (*layout.TREE, layout.SETTINGS, layout.FORMAT):
        if not os.path.lexists(os.path.join(root, name)):
            level = WARN if name == layout.SETTINGS else BAD
            yield Check(level, f"{root}/{name} is missing", _again(root, is_shared=is_shared))


def _again(root: str, *, is_shared: bool = True) -> str:
    return f"spool init{' --system' * is_shared} {shlex.quote(root)}"


def _place(at: Folder, name: str, want: Want, *, grave: bool, fix: bool) -> Iterator[Check]:
    """One place, if it is still there: what it is, whose it is, what it lets others do."""
    with suppress(FileNotFoundError), at.held(name) as held:
        left = fix and os.geteuid() == 0 and held.has_second_name
        for one in _seen(held, want, grave=grave, fix=fix and not left):
            what = f"{one.what}; it has a second name somewhere, and is left as it is"
            yield replace(one, what=what) if left else one


def _seen(held: Held, want: Want, *, grave: bool, fix: bool) -> Iterator[Check]:
    path, here, found = held
    if stat.S_ISLNK(found.st_mode):
        what = f"{path} is a symbolic link: whoever owns it decides where it leads"
        remedy = f"rm {shlex.quote(path)}"
        if not want.mode & 0o111:
            copy = shlex.join(["cp", "--remove-destination", os.path.realpath(path), path])
            remedy = f"put the file itself there: {copy}"
        yield Check(BAD, what, remedy)
        return
    if want.mode & 0o111 and not stat.S_ISDIR(found.st_mode):
        yield Check(BAD, f"{path} is no directory", "move it elsewhere, and run spool doctor again")
        return
    if want.uid is not None and found.st_uid != want.uid:
        if fix and os.geteuid() == 0:
            os.chown(here, want.uid, -1)
            yield Check(OK, f"{path} belonged to uid {found.st_uid}, now to uid {want.uid}", mended=path)
        else:
            what = f"{path} belongs to uid {found.st_uid}, not to uid {want.uid}"
            yield Check(BAD, what, f"chown {want.uid} {shlex.quote(path)}, or {FIX}")
    mode = stat.S_IMODE(found.st_mode)
    if want.gid not in (None, found.st_gid) and (mode | want.least) & 0o070:
        group = group_name(found.st_gid)
        if fix and os.geteuid() == 0:
            os.chown(here, -1, want.gid or 0)
            what = f"{path} had group {group}, now {group_name(want.gid or 0)}"
            yield Check(OK, what, mended=path)
        else:
            what = f"{path} has group {group}, not {group_name(want.gid or 0)}, which may look"
            yield Check(BAD, what, f"chgrp {want.gid} {shlex.quote(path)}, or {FIX}")
    if not mode & ~want.most and not want.least & ~mode:
        return
    if fix and _may_set(want.mode, found):
        os.chmod(here, want.mode)
        yield Check(OK, f"{path} had mode {mode:04o}, now {want.mode:04o}", mended=path)
        return
    bad = grave or bool(mode & 0o022) or bool(want.least & ~mode)
    way = FIX if want.mode & stat.S_ISGID else "spool doctor --fix"
    remedy = f"chmod {want.mode:04o} {shlex.quote(path)}  (or {way})"
    yield Check(BAD if bad else WARN, f"{path} has mode {mode:04o}, not {want.mode:04o}", remedy)


def _may_set(mode: int, found: os.stat_result) -> bool:
    """Whether the kernel lets this process give a place this mode; setgid only a member of its group."""
    me = os.geteuid()
    return me == 0 or (me == found.st_uid and (not mode & stat.S_ISGID or _member(me, found.st_gid)))


def _below(top: Folder, *, deep: bool) -> Iterator[tuple[Folder, str]]:
    """The directories in those of the state."""
    for name in (*OF_NODES, *(OF_DAYS if deep else ())):
        for place, one in _folders(top, name):
            yield place, one
            if name == layout.PENDING:
                yield from _folders(place, one)


def _folders(at: Folder, name: str) -> Iterator[tuple[Folder, str]]:
    for place, one in at.within(name):
        with suppress(FileNotFoundError, PermissionError):
            if stat.S_ISDIR(place.info(one).st_mode):
                yield place, one


def _boxes(top: Folder, whose: int) -> Iterator[Check]:
    """Writers may drop, and neither list nor read what others have dropped."""
    ours = top.info(layout.SETTINGS).st_gid
    for name in BOXES:
        path, found = top.at(name), top.info(name)
        rows = acl.read(f"{top.by}/{name}")
        lists = [row for row in rows if row.tag in (acl.USER, acl.GROUP) and row.may & acl.READ]
        if lists:
            what = f"{path} can be listed by those who drop into it"
            yield Check(BAD, what, _again(top.path))
        elif not rows and found.st_gid != ours:
            what = f"{path} has no access control list: who guesses the name of a file can read it"
            yield Check(WARN, what, "a file system with ACLs, or spool init --system --writer USER")
            if not _member(whose, found.st_gid):
                what = f"uid {whose} is not in group {found.st_gid}: spoold cannot read what is in {path}"
                yield Check(
                    BAD, what, f"add it to {group_name(found.st_gid)} with usermod -aG, start it again"
                )


def _reads(top: Folder, uid: int) -> bool:
    """Whether spool.toml is for a user to read, by its group or because all may."""
    with suppress(FileNotFoundError):
        found = top.info(layout.SETTINGS)
        return bool(found.st_mode & stat.S_IROTH) or _member(uid, found.st_gid)
    return True


def _group_of(uid: int) -> int | None:
    """The group of a user, as far as is known here."""
    with suppress(KeyError):
        return os.getegid() if os.geteuid() == uid else pwd.getpwuid(uid).pw_gid
    return None


def _member(uid: int, gid: int) -> bool:
    """Whether a user is in a group, as far as is known here."""
    if os.geteuid() == uid:
        return gid in (os.getegid(), *os.getgroups())
    try:
        found = pwd.getpwuid(uid)
    except KeyError:
        return True
    return gid in os.getgrouplist(found.pw_name, found.pw_gid)


def _writers(top: Folder, whose: int, *, fix: bool) -> Iterator[Check]:
    """A box for each writer: his, and nobody else's."""
    ours = top.info(layout.SETTINGS).st_gid
    gid = ours if ours and _member(whose, ours) else None
    for place, name in top.within(layout.WRITERS):
        path, found = place.at(name), _still(place, name)
        if found is None:
            continue
        if not name.isdecimal() or not stat.S_ISDIR(found.st_mode):
            yield Check(WARN, f"{path} is no directory named by a user id", f"rm -r {shlex.quote(path)}")
            continue
        want = Want(mode=0o2770, most=0o2770, least=0o2770, uid=int(name), gid=gid)
        for one in _place(place, name, want, grave=False, fix=fix):
            yield one if one.level == OK else replace(one, level=WARN)  # a user harms himself alone


def _outboxes(top: Folder, whose: int, *, fix: bool) -> Iterator[Check]:
    looks = readers(top.by)
    for place, name in top.within(layout.OUTBOX):
        found = _still(place, name)
        mode = 0o2750 if found and found.st_gid == looks else 0o2770  # who looks acknowledges nothing
        want = Want(mode=mode, most=0o2770, least=0o700, uid=whose or None)
        yield from _place(place, name, want, grave=True, fix=fix)


def _still(place: Folder, name: str) -> os.stat_result | None:
    """What is there, None where it has gone since it was listed."""
    with suppress(FileNotFoundError):
        return place.info(name)
    return None


def ancestors(root: str, *, is_shared: bool) -> Iterator[Check]:
    """Whoever may rename a directory on the way to the spool can put another one in its place."""
    level = BAD if is_shared else WARN
    owner = os.stat(root).st_uid
    path = os.path.dirname(os.path.realpath(root))
    while True:
        found = os.stat(path)
        if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
            mode = stat.S_IMODE(found.st_mode)
            what = f"{path}, on the way to the spool, has mode {mode:04o}: others can replace it"
            yield Check(level, what, f"chmod go-w {shlex.quote(path)}, or keep the spool elsewhere")
        if found.st_uid not in (0, owner):
            what = f"{path}, on the way to the spool, belongs to uid {found.st_uid}"
            yield Check(level, what, f"chown root {shlex.quote(path)}, or keep the spool elsewhere")
        if path == "/":
            return
        path = os.path.dirname(path)
