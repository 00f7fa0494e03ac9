"""A spool for several users is made, or completed, by root: whose each place is, and what others may.

Everything is done by descriptors that follow no link: some of the directories belong to spoold's user,
who could put a link there for root to follow.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat

from msgspec import Struct

from spool import acl, layout, modes
from spool.closed import group_name
from spool.errors import Invalid, NotAllowed, NotASpool
from spool.init import check_format, make_dir, making, refuse_place, sync_dir, write_new
from spool.names import is_task

OWNER, SUBMIT, READ = "spool", "spool-submit", "spool-read"


class Users(Struct, frozen=True, kw_only=True):
    """Who serves the spool (`uid`, `gid`), which group may drop, which may look."""

    uid: int
    gid: int
    submit: int
    read: int


def user(name: str) -> tuple[int, int]:
    """(uid, gid) of USER or USER:GROUP, names or numbers; Invalid with the command that makes one."""
    who, _, group = name.partition(":")
    try:
        found = pwd.getpwuid(int(who)) if who.isdecimal() else pwd.getpwnam(who)
        uid, gid = found.pw_uid, found.pw_gid
    except KeyError:
        if not who.isdecimal():
            remedy = f"useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {who}"
            raise Invalid("user", who, f"is no user here: {remedy}") from None
        uid = gid = int(who)
    return uid, group_id(group) if group else gid


def group_id(name: str) -> int:
    """The number of a group, by name or number; Invalid with the command that makes one."""
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise Invalid("group", name, f"is no group here: groupadd --system {name}") from None


def found_users(path: str) -> Users:
    """Whose a shared spool is that was made before; `uid` is 0 where root has all of it."""
    check_format(path)
    box = os.path.join(path, layout.INCOMING)
    named = [row.number for row in acl.read(box) if row.tag == acl.GROUP and row.may & acl.WRITE]
    return Users(
        uid=modes.serving(path, is_shared=True),
        gid=os.lstat(os.path.join(path, layout.SETTINGS)).st_gid,
        submit=named[0] if named else os.lstat(box).st_gid,
        read=modes.readers(path) or 0,
    )


def init_system(path: str, users: Users) -> bool:
    """Make a shared spool, or set right what is there; False where all of it was there."""
    if os.geteuid() != 0:
        what = "only root can make a spool for several users: it gives each place its owner"
        raise NotAllowed(f"{what}; sudo spool init --system, or spool init for one of your own")
    if users.uid == 0:
        raise Invalid("--owner", users.uid, "must not be root: spoold needs no rights but its own")
    marker = os.path.join(path, layout.FORMAT)
    if os.path.exists(marker):
        check_format(path)
        if os.stat(path).st_uid != 0:
            raise NotASpool(path, f"is the own spool of uid {os.stat(path).st_uid}; name another place")
        if not modes.serving(path, is_shared=True) and not _is_shared(path):
            raise NotASpool(path, "is root's own spool; name another place")
    else:
        refuse_place(path, {*_folders(), layout.SETTINGS})
    with making(path):
        make_dir(os.path.dirname(path), 0o755)
        make_dir(path)  # closed until all is in place
        wanted = modes.shared(users.uid)
        for name in _folders():
            make_dir(os.path.join(path, name))
            gid = users.read if wanted[name].uid else users.gid
            if name in modes.BOXES:
                _box(os.path.join(path, name), users)
            else:
                settle(os.path.join(path, name), wanted[name].uid or 0, gid, wanted[name].mode)
        write_new(os.path.join(path, layout.SETTINGS), _settings(users))
        made = write_new(marker, layout.FORMAT_LINE)
        for name in (layout.SETTINGS, layout.FORMAT):
            settle(os.path.join(path, name), 0, users.gid, wanted[name].mode)
        settle(path, 0, 0, wanted[""].mode)
        sync_dir(path)
    return made


def add_writer(path: str, name: str) -> str:
    """A box for one user, incoming.d/UID/; returns its path."""
    uid, _ = user(name)
    box = os.path.join(path, layout.WRITERS, str(uid))
    make_dir(box)
    acl.remove(box)
    gid = os.lstat(os.path.join(path, layout.SETTINGS)).st_gid
    settle(box, uid, gid, 0o2770)
    rows = [acl.Row(acl.OWNER, 6), acl.Row(acl.GROUP_OWNER, 4), acl.Row(acl.OTHER, 0)]
    acl.write(box, rows, acl.DEFAULT)  # where there are ACLs a tight umask keeps nothing from spoold
    return box


def outbox(text: str) -> tuple[str, int]:
    """Parent and group of PARENT=GROUP; Invalid where there is no such group."""
    parent, equals, group = text.partition("=")
    if not equals or not is_task(parent):
        raise Invalid("--outbox", text, "must be PARENT=GROUP")
    return parent, group_id(group)


def add_outbox(path: str, text: str) -> str:
    """An outbox PARENT=GROUP, which this group may read and empty; returns its path."""
    parent, gid = outbox(text)
    box = os.path.join(path, layout.OUTBOX, parent)
    try:
        os.mkdir(box, 0o700)  # and nothing more by its name: the directory above is spoold's
    except FileExistsError:
        pass  # to be set right
    settle(box, modes.serving(path, is_shared=True), gid, 0o2770)
    return box


def settle(path: str, uid: int, gid: int, mode: int) -> None:
    """Owner, group and mode of a file or directory that no link stands in for."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISDIR(found.st_mode) and found.st_nlink > 1:
            raise NotAllowed(f"{path} has a second name somewhere: who owns that one? rm {path}")
        os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _folders() -> tuple[str, ...]:
    return (*layout.TREE, *layout.MADE_WHEN_NEEDED, layout.WRITERS)


def _box(path: str, users: Users) -> None:
    """A blind box: the group may create, not list; what is dropped only spoold and its writer read."""
    settle(path, users.uid, users.gid, 0o3770)
    may = [
        acl.Row(acl.OWNER, 7),
        acl.Row(acl.GROUP_OWNER, 7),
        acl.Row(acl.GROUP, acl.WRITE | acl.ENTER, users.submit),
        acl.Row(acl.MASK, 7),
        acl.Row(acl.OTHER, 0),
    ]
    files = [acl.Row(acl.OWNER, 6), acl.Row(acl.GROUP_OWNER, 4), acl.Row(acl.OTHER, 0)]
    if not (acl.write(path, may) and acl.write(path, files, acl.DEFAULT)):
        settle(path, users.uid, users.submit, 0o3730)


def _is_shared(path: str) -> bool:
    from spool.settings import load

    place = os.path.join(path, layout.SETTINGS)
    try:
        with open(place, encoding="utf-8") as file:
            return load(file.read(), path=place).shared
    except FileNotFoundError:
        return False


def _settings(users: Users) -> str:
    from spool.settings import DEFAULT_TOML

    line = "# shared = false"
    start, _, rest = DEFAULT_TOML.partition(line)
    rest = rest.partition("\n")[2]
    rules = (
        "\n# What members of a group may submit; without a rule nobody may anything.\n"
        f'# [policy."group:{group_name(users.submit)}"]\n# tasks = ["thumb.*"]\n'
        "\n# Who may change what others have submitted.\n"
        '# [policy."user:root"]\n# admin = true\n'
    )
    return f"{start}shared = true\n{rest}{rules}"
