"""Whether a spool may be served as it is: its settings, its owner, its modes."""

from __future__ import annotations

import logging
import os
import shlex
from typing import TYPE_CHECKING

from msgspec.structs import replace

from spool import folders, layout, modes, probes, settings, settingsfile
from spool.errors import NotAllowed, NotASpool
from spool.init import make_dir
from spool.probes import BAD
from spool.runargs import RUN

if TYPE_CHECKING:
    from spool.disk import RealDisk
    from spool.settings import Settings

log = logging.getLogger("spoold")


def settings_mark(disk: RealDisk) -> tuple[int, int] | None:
    """What is another one when spool.toml has changed; to be asked before it is read."""
    found = disk.info(layout.SETTINGS)
    return None if found is None else (found.ino, found.ctime_us)


def read_settings(disk: RealDisk, root: str) -> Settings:
    """spool.toml with the built-in handler added; ConfigError, NotAllowed."""
    info = disk.info(layout.SETTINGS)
    if info is not None and (info.mode & 0o022 or info.uid not in (0, os.getuid())):
        who = "others may write it" if info.mode & 0o022 else f"it belongs to uid {info.uid}"
        raise _unfit(root, f"{who}, and it says what is run")
    try:
        found = settingsfile.read(disk, path=os.path.join(root, layout.SETTINGS))
    except PermissionError:
        raise _unfit(root, f"uid {os.getuid()} cannot read it") from None
    if not found.runs or not (found.guarded or _is_private(disk)):
        return found
    return replace(found, handlers={**found.handlers, RUN: settings.BUILT_IN})


def _unfit(root: str, why: str) -> NotAllowed:
    """What to say of a spool.toml that will not do, to who serves the spool: no other can mend it."""
    is_shared = modes.seems_shared(root)
    serving = modes.serving(root, is_shared=is_shared)
    if os.geteuid() != serving:
        return _not_by(root, serving)
    wanted = modes.shared(serving) if is_shared else modes.private(serving)
    want, path = wanted[layout.SETTINGS], os.path.join(root, layout.SETTINGS)
    place = shlex.quote(path)
    owner = f"{want.uid}:{os.getegid()}" if is_shared else want.uid  # the group, to be read by it
    way = f"chown {owner} {place}; chmod {want.mode:04o} {place}, or {modes.FIX}"
    return NotAllowed(f"{path}: {why}; {way}")


def _not_by(root: str, serving: int) -> NotAllowed:
    me = os.geteuid()
    return NotAllowed(f"{root} is served by uid {serving}, not by uid {me}; run spoold as that user")


def guard(root: str, found: Settings) -> None:
    """NotAllowed where others could get at what they must not, or this is the wrong user to serve it."""
    is_shared = found.shared
    _can_be_served(root)
    place = os.path.join(root, layout.PENDING) if is_shared else root
    if not os.path.isdir(place):
        raise NotASpool(root, f"has no {layout.PENDING}/; complete it with `spool init`")
    serving = modes.serving(root, is_shared=is_shared)
    with folders.opened(root) as top:
        for check in modes.check(top, is_shared=is_shared):
            if check.level == BAD:
                raise NotAllowed(f"{check.what}; {check.remedy}")
    for check in (*probes.kernel(), *probes.claims(root, found.signatures)) if is_shared else ():
        if check.level == BAD:
            raise NotAllowed(f"{check.what}; {check.remedy}")
        log.warning("%s; %s", check.what, check.remedy)
    if is_shared and os.geteuid() == 0:
        raise NotAllowed(f"{root} is shared: spoold does not serve it as root; run it as uid {serving}")
    if os.geteuid() != serving:
        raise _not_by(root, serving)
    for name in () if is_shared else layout.TREE:
        make_dir(
            os.path.join(root, name)
        )  # an empty one may have got lost on the way, in a copy or a backup


def _can_be_served(root: str) -> None:
    """NotAllowed where the directory itself will not do."""
    if os.path.islink(root):
        raise NotAllowed(
            f"{root} is a symbolic link: --spool {os.path.realpath(root)}, where it leads now"
        )
    if os.statvfs(root).f_flag & os.ST_RDONLY:
        raise NotAllowed(f"{root}: the file system is read-only; mount it with -o remount,rw")


def _is_private(disk: RealDisk) -> bool:
    """Whether nobody but its user can drop anything here: only then may a task name a command."""
    info = disk.info(".")
    return info is not None and info.uid == os.getuid() and not info.mode & 0o077
