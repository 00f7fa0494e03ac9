"""Can a spool work here? Each check is a finding: what was seen, and the remedy where it is not well."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import TYPE_CHECKING

from spool import daemons, folders, layout, look, modes, probes, settingsfile, strays
from spool.disk import RealDisk
from spool.errors import NotAllowed, SpoolError
from spool.folders import Folder
from spool.init import check_format, outer
from spool.probes import BAD, OK, WARN, Check

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from spool.settings import Handler, Settings

NEWEST, SLICE = 10_000, 1000  # own copies that are looked at, at once
WITHOUT_PROC = "mount -t proc proc /proc, on Linux"
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"  # what handlers get


def examine(root: str, *, fix: bool = False) -> Iterator[Check]:
    """Every check on the spool at `root` (absolute). With `fix` wrong modes are mended."""
    try:
        check_format(root)
        disk = RealDisk(root)
    except (SpoolError, OSError) as problem:
        around = outer(root)
        remedy = f"spool doctor --spool {around}" if around else f"spool init {shlex.quote(root)}"
        if isinstance(problem, NotAllowed | PermissionError) and os.path.isdir(root):
            remedy = f"as uid {os.stat(root).st_uid}, whose it is, or root; or another --spool"
        yield Check(BAD, str(problem), remedy)
        return
    yield Check(OK, f"{root} is a spool of format 1")
    if not os.path.isdir(folders.OPEN):
        yield Check(BAD, f"{folders.OPEN} is not there, without which no spool is served", WITHOUT_PROC)
        return
    top = Folder(root, disk.fd)  # who owns the spool may put another directory in its place meanwhile
    is_shared = _is_shared(disk, top)
    mended = set()
    for check in _tree(top, is_shared=is_shared, fix=fix):
        mended.add(check.mended)
        yield check
    yield from probes.file_system(root)
    if os.geteuid() not in (0, serving := modes.serving(top.by, is_shared=is_shared)):
        what = f"uid {os.geteuid()} may not try it out nor read all of it: the rest is left out"
        yield Check(WARN, what, f"run it as root, or as uid {serving}")
        return
    if serving or not is_shared:
        yield from strays.check(top, serving, is_shared=is_shared, fix=fix)
    yield from probes.tried(disk, top)
    settings = yield from _settings(disk, root)
    if is_shared and settings is not None:
        yield from probes.claims(root, settings.signatures)
    if settings is not None:
        yield from probes.rules(settings)
        yield from probes.boxes(disk, settings)
        yield from probes.audience(disk, settings)
    yield from _room(disk, settings)
    yield from _daemon(disk, root, mended)
    yield from _trouble(disk)
    disk.close()


def _tree(top: Folder, *, is_shared: bool, fix: bool) -> Iterator[Check]:
    """Directories, their modes and owners, and that one rename can reach all of them."""
    absent = list(modes.missing(top.path, is_shared=is_shared))
    yield from absent
    well = not absent
    if absent and is_shared:
        return  # who may do what is told when all of it is there
    for check in modes.check(top, is_shared=is_shared, fix=fix, deep=True):
        well = well and check.level == OK
        yield check
    if is_shared:
        yield from probes.kernel()
    if well:
        whose = (
            "shared, each place as it should be" if is_shared else f"private to uid {top.info('').st_uid}"
        )
        yield Check(OK, f"directories are there, {whose}, on one file system")


def _is_shared(disk: RealDisk, top: Folder) -> bool:
    """What spool.toml says; where that is not known, what its owners tell."""
    try:
        if disk.info(layout.SETTINGS) is not None:
            return settingsfile.read(disk).shared
    except (SpoolError, OSError):
        pass
    return modes.seems_shared(top.by)


def _settings(disk: RealDisk, root: str) -> Generator[Check, None, Settings | None]:
    """spool.toml, and that what its handlers run is there; returns the settings or None."""
    path = os.path.join(root, layout.SETTINGS)
    try:
        found = settingsfile.read(disk, path=path)
    except (SpoolError, OSError) as problem:
        yield Check(BAD, str(problem), "mend it; `spoold --check` reads it again")
        return None
    if disk.info(layout.SETTINGS) is not None:
        count = len(found.handlers)
        yield Check(OK, f"{layout.SETTINGS} is valid, {count} handler{'s' * (count != 1)}")
    for handler in found.handlers.values():
        where = f'handlers."{handler.pattern}"'
        if handler.exec and not _can_run(handler.exec[0], handler):
            what = f"{where}: {handler.exec[0]} is no program that can be run"
            yield Check(BAD, what, "name an executable file by its whole path, and chmod +x it")
        if handler.cwd and not os.path.isdir(handler.cwd):
            yield Check(BAD, f"{where}: cwd {handler.cwd} is no directory", "make it, or name another")
    return found


def _can_run(program: str, handler: Handler) -> bool:
    """Whether a handler would find its program, as spoold looks for it."""
    if "/" in program:
        path = os.path.join(handler.cwd or os.path.expanduser("~"), program)
        return os.path.isfile(path) and os.access(path, os.X_OK)
    return shutil.which(program, path=handler.env.get("PATH", PATH)) is not None


def _room(disk: RealDisk, settings: Settings | None) -> Iterator[Check]:
    free = disk.free()
    shown = "no limit of" if free.inodes >= 1 << 40 else str(free.inodes)
    what = f"{free.bytes / (1 << 20):,.0f} MiB and {shown} inodes free"
    short = settings is not None and (
        free.bytes < settings.min_free_bytes or free.inodes < settings.min_free_inodes
    )
    remedy = "make room, or lower min_free_bytes and min_free_inodes: nothing starts until then"
    yield Check(BAD, what, remedy) if short else Check(OK, what)


def _daemon(disk: RealDisk, root: str, mended: set[str]) -> Iterator[Check]:
    """The daemons; what they left alone, but for what has been mended since."""
    nodes = daemons.nodes(disk, root)
    alive = {name: node for name, node in nodes.items() if node["alive"]}
    if not alive:
        yield Check(WARN, "no spoold serves this spool: nothing runs", daemons.start_hint(root))
    for name, node in alive.items():
        what = f"spoold is alive (node {name}, pid {node.get('pid')})"
        if daemons.is_silent(node):
            remedy = f"it hangs, or its disk does: kill {node.get('pid')} and start it again"
            yield Check(BAD, f"{what}, but {node['state']}", remedy)
        else:
            yield Check(OK, what)
        if apart := daemons.clock_apart(node):
            yield Check(WARN, f"node {name}: {apart}", "let NTP set the clock of both hosts")
        if node.get("no_cgroup"):
            what = f"handlers with cgroup have none: {node['no_cgroup']}"
            remedy = "memory holds for each of their processes; spool.toml(5) says what a group needs"
            yield Check(WARN, what, remedy)
        for place, why in (node.get("left_alone") or {}).items():
            if f"{root}/{place}" not in mended:
                yield Check(WARN, f"{place} {why}", f"see to it in {root}")
        for problem in daemons.broken(node):
            remedy = "mend it, then `spoold --reload`; `spool check-deploy` tells beforehand"
            yield Check(BAD, f"{problem} (node {name})", remedy)
        if node.get("settings_error"):
            yield Check(BAD, f"it runs with old settings: {node['settings_error']}", "mend spool.toml")


def _trouble(disk: RealDisk) -> Iterator[Check]:
    """What was put aside, and who does not read."""
    kept = [name for name in look.names(disk, layout.CORRUPT) if not name.endswith(layout.REASON)]
    if kept:
        what = f"{len(kept)} damaged files were put aside in {layout.CORRUPT}/"
        yield Check(WARN, what, "see the .reason.json beside each; remove them when you are done")
    if count := _alone(disk):
        what = (
            f"{count} of the newest tasks in {layout.IDS}/ stand nowhere else, or a copy lost hard links"
        )
        yield Check(WARN, what, "stop spoold, then spool fsck --repair")
    for parent, count in daemons.unread(disk).items():
        if count >= 1000 and parent != layout.DEFAULT_PARENT:
            what = f"{count} events for {parent} are unread"
            yield Check(WARN, what, f"start {parent}, or read them: spool watch {parent} --once --ack")


def _alone(disk: RealDisk) -> int:
    """How many of the newest own copies have no second name, as after a copy of a spool at work."""
    left, found = NEWEST, 0
    for date in sorted(look.names(disk, layout.IDS), reverse=True):
        for names in disk.slices(f"{layout.IDS}/{date}", SLICE):
            paths = [f"{layout.IDS}/{date}/{name}" for name in names if not name.startswith(".")]
            found += sum((info := disk.info(path)) is not None and info.nlink == 1 for path in paths)
            left -= len(paths)
            if left <= 0:
                return found
    return found
