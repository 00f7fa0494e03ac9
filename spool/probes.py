"""What the machine under a spool can do: its file system, its syncs, inotify, its clock; tried out."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import shutil
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from spool import layout, look, machine
from spool.disk import DiskFull, Exists
from spool.mounts import mount_of
from spool.names import new_id
from spool.prune.retention import age, is_date
from spool.runargs import ALERT, RESERVED, RUN
from spool.times import DAY, SECOND, format_local, format_span
from spool.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk
    from spool.folders import Folder
    from spool.mounts import Mount
    from spool.settings import Settings

OK, WARN, BAD = "ok", "warn", "bad"
SLOW_SYNC = 0.05  # seconds; every durable submission waits for two of them
LONG_CACHE = 60  # seconds, the longest that a mount without options keeps attributes
RING = 2.0  # seconds; inotify takes microseconds


class Check(Struct, frozen=True):
    """`level`: ok, warn or bad. `remedy` is a command or a sentence; empty where all is well.

    `mended`: the path that was put right.
    """

    level: str
    what: str
    remedy: str = ""
    mended: str = ""


def file_system(root: str) -> Iterator[Check]:
    """What kind it is, and whether a spool can trust it."""
    mount = mount_of(root)
    if mount is None:
        yield Check(WARN, "the kernel does not say what file system this is")
        return
    kind = f"file system {mount.type} at {mount.place}"
    if "ro" in mount.options:
        yield Check(BAD, f"{kind} is read-only", f"mount -o remount,rw {shlex.quote(mount.place)}")
    elif mount.network:
        soft = bool(mount.options & {"soft", "softerr"})
        longer = "set `lease` to 180s or more where nodes share it"
        grace = "; after a reboot a server lets nobody write for its grace time, 90 s by default"
        remedy = "mount it with `hard`" if soft else longer + grace * (mount.type == "nfs4")
        what = f"{kind} is a network file system{', mounted soft: writes may be lost' * soft}"
        yield Check(BAD if soft else WARN, what, remedy)
        yield from mount_options(mount)
    elif mount.in_memory:
        yield Check(WARN, f"{kind} is in memory: a reboot takes all tasks", "keep it on a disk")
    elif mount.options & {"nobarrier", "barrier=0"}:
        yield Check(BAD, f"{kind} is mounted without barriers: fsync does not hold", "mount it with them")
    else:
        yield Check(OK, kind)


def mount_options(mount: Mount) -> Iterator[Check]:
    """Options of a network file system that nodes of a spool suffer from; nfs(5) has them all."""
    values = dict(option.partition("=")[::2] for option in mount.options)
    version, place = values.get("vers", values.get("nfsvers", "")), shlex.quote(mount.place)
    if mount.type.startswith("nfs") and version:
        yield Check(OK, f"NFS version {version}, sec={values.get('sec', '?')}")
    if version.startswith("3"):
        what = "NFS version 3 may show a change in a directory only with the next one"
        yield Check(WARN, what, f"mount {place} with vers=4.2")
    if "nocto" in mount.options:
        what = "mounted with nocto: what other hosts do is seen 20 s late and more"
        yield Check(BAD, what, f"mount {place} without it")
    if "nolock" in mount.options or values.get("local_lock", "none") != "none":
        what = "locks hold on this host alone: the same node name on two hosts is found out by heartbeats"
        yield Check(WARN, what, "give every host a name of its own")
    cached = [values.get(name, "") for name in ("actimeo", "acregmax", "acdirmax")]
    longest = max((int(value) for value in cached if value.isdigit()), default=0)
    if longest > LONG_CACHE:
        what = f"attributes are kept for {longest} s: status and handlers see what others did as late"
        yield Check(WARN, what, f"mount {place} without actimeo, acregmax, acdirmax")


def tried(disk: Disk, top: Folder) -> Iterator[Check]:
    """What a spool rests on, tried out; where it works, inotify and the clock as well.

    By descriptors: who owns the spool may lead tmp/ anywhere meanwhile, and this be root.
    """
    try:
        with top.inner(layout.TMP) as tmp, top.inner(layout.INCOMING) as incoming:
            found = list(steps(disk, tmp.by, incoming.by))
            yield from found
            if all(check.level != BAD for check in found):
                yield from inotify(disk, tmp)
                yield from clock(disk, tmp)
    except (FileNotFoundError, NotADirectoryError):
        what = f"nothing is tried out: {layout.TMP}/ or {layout.INCOMING}/ is no directory"
        yield Check(BAD, what, "put it right first")
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        yield Check(BAD, f"it cannot be tried out: {where}{problem.strerror}", "put it right first")


def steps(disk: Disk, tmp: str, incoming: str) -> Iterator[Check]:
    """The calls everything rests on, done once, and how long a sync takes."""
    path = f"{tmp}/.doctor-{new_id()}"
    other = f"{incoming}/.doctor-{new_id()}"
    took: list[float] = []
    try:
        disk.write(path, b"x" * 512)
        try:
            disk.write(path, b"")
            yield Check(BAD, "O_EXCL does not hold: two writers can make one file", "use another disk")
        except Exists:
            pass  # as it should
        info, uid = disk.info(path), os.geteuid()
        if info is not None and info.uid != uid:
            what = f"what uid {uid} makes here belongs to uid {info.uid}: the file server squashes users"
            yield Check(BAD, what, "export it with no_root_squash, or serve it as a user it lets be")
        for _ in range(5):
            start = time.perf_counter()
            disk.sync([path])
            disk.sync_dirs([tmp])
            took.append((time.perf_counter() - start) / 2)
        disk.link(path, other)
        disk.remove(other)
        disk.move(path, other)
        disk.remove(other)
    except OSError as problem:
        if isinstance(problem, DiskFull):
            yield Check(BAD, f"the disk is full: {problem.strerror}", "make room, or raise the quota")
        else:
            what = f"the file system cannot do what a spool needs: {problem.strerror}"
            yield Check(BAD, what, "use another one")
        for leftover in (path, other):
            if disk.info(leftover) is not None:
                disk.remove(leftover)
        return
    middle = sorted(took)[len(took) // 2]
    what = f"create, link, rename and sync work; a sync takes {middle * 1000:.2g} ms"
    slow = 'durability = "relaxed" in spool.toml, or a faster disk'
    yield Check(WARN, what, slow) if middle > SLOW_SYNC else Check(OK, what)


def inotify(disk: Disk, tmp: Folder) -> Iterator[Check]:
    """Whether a new file rings."""
    path = f"{tmp.by}/.doctor-{new_id()}"
    with Watch([tmp.path]) as watch:
        remedy = "sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=65536"
        if watch.polls:
            what = f"inotify is not available ({_limits()}): looking again and again"
            yield Check(WARN, what, remedy)
            return
        watch.wait(0)
        disk.write(path, b"")
        start = time.perf_counter()
        rung = watch.wait(RING)
        took = time.perf_counter() - start
        disk.remove(path)
    if rung:
        yield Check(OK, f"inotify works, in {took * 1000:.2g} ms ({_limits()})")
    else:
        what = f"inotify says nothing of a new file ({_limits()})"
        yield Check(WARN, what, "spoold looks once a second or so; a local disk is quicker")


def _limits() -> str:
    found = []
    for name in ("instances", "watches"):
        try:
            with open(f"/proc/sys/fs/inotify/max_user_{name}", encoding="ascii") as file:
                found.append(f"{file.read().strip()} {name} a user")
        except OSError:
            continue
    return ", ".join(found) or "limits unknown"


def clock(disk: Disk, tmp: Folder) -> Iterator[Check]:
    """Whether the time is one of this century, and the file system agrees."""
    now = time.time_ns() // 1000
    path = f"{tmp.by}/.doctor-{new_id()}"
    disk.write(path, b"")
    info = disk.info(path)
    disk.remove(path)
    skew = 0 if info is None else info.ctime_us - now
    shown = f"the clock says {format_local(now)}"
    if not 2025 <= time.gmtime(now / SECOND).tm_year < 2100:
        yield Check(BAD, shown, "set it: `timedatectl set-ntp true`")
    elif abs(skew) > SECOND:
        what = f"{shown}, the file system's differs by {format_span(abs(skew))}"
        yield Check(WARN, what, "let NTP set the clock of both hosts")
    else:
        yield Check(OK, shown)
    if any(is_date(date) and age(date, now) < -DAY for date in look.names(disk, layout.IDS)):
        what = "there are tasks that are dated ahead of the clock, which may wait until then"
        yield Check(WARN, what, "`spool ls pending` shows them, `spool move ID --at +0s` has one run now")


def claims(root: str, signatures: str) -> Iterator[Check]:
    """Whether a shared spool can tell its writers apart; `signatures` as in spool.toml."""
    mount = mount_of(root)
    if mount is not None and mount.network and signatures != "required":
        what = f"{root} is on {mount.type}, where a uid is what each client says"
        remedy = f'set signatures = "required" in {layout.SETTINGS}, see spool-security(7)'
        yield Check(BAD, what, remedy)


def zone(settings: Settings) -> Iterator[Check]:
    """Whether this machine knows the time zone of TZ, where that is what counts."""
    if (text := os.environ.get("TZ")) and not settings.timezone and machine.zone_of_tz() is None:
        used = machine.zone_of("").key
        what = f"TZ={text} is no time zone that is known here: the clock is that of {used}"
        yield Check(WARN, what, f"set TZ, or timezone in {layout.SETTINGS}, to one such as Europe/Rome")


def boxes(disk: Disk, settings: Settings) -> Iterator[Check]:
    """Whether there are boxes of single writers in a spool where nobody looks at them."""
    if not settings.guarded and look.names(disk, layout.WRITERS):
        what = f"{layout.WRITERS}/ is not looked at: that is for a spool of several users"
        yield Check(WARN, what, f"move what lies there to {layout.INCOMING}/, and remove it")


def audience(disk: Disk, settings: Settings) -> Iterator[Check]:
    """Whether what is signed for this spool would count in any other of the same directory name."""
    if not settings.name and disk.info(layout.SIGNERS) is not None:
        what = "what is signed for this spool counts in any other whose directory is called so"
        yield Check(WARN, what, f"give it a name of its own: name in {layout.SETTINGS}")


def rules(settings: Settings) -> Iterator[Check]:
    """What will not work: a schedule of what may not run, and names that this machine does not know."""
    yield from zone(settings)
    for made in settings.recurring if not settings.runs else ():
        if made.task == RUN:
            what = f"[recurring.{made.name}] makes tasks that nothing runs: {RUN} is not allowed here"
            yield Check(WARN, what, "see allow_run in spool.toml(5)")
    built_in = (RUN, ALERT) if settings.alerts.exec else (RUN,)
    for pattern in settings.handlers:
        if pattern.startswith(RESERVED) and pattern not in built_in:
            what = f'[handlers."{pattern}"] is for nothing: no task of yours has a name with {RESERVED}'
            yield Check(WARN, what, f"remove it; {RUN} needs no handler, see allow_run in spool.toml(5)")
    for rule in settings.policy:
        kind, _, name = rule.who.partition(":")
        try:
            if kind == "user" and not name.isdigit():
                pwd.getpwnam(name)
            if kind == "group" and not name.isdigit():
                grp.getgrnam(name)
        except KeyError:
            what = f'[policy."{rule.who}"] is for nobody: this machine knows no {kind} {name}'
            yield Check(WARN, what, f"correct it in {layout.SETTINGS}, or make the {kind}")


def programs(settings: Settings, path: str) -> Iterator[Check]:
    """Programs that are not there, as spoold would look for them from here: with this PATH."""
    for handler in settings.handlers.values():
        for name in (handler.exec or ())[: handler.pattern != RUN]:
            where = os.path.join(handler.cwd or os.path.expanduser("~"), name) if "/" in name else name
            within = handler.env.get("PATH", path)
            if shutil.which(where, path=within) is None:
                what = f'[handlers."{handler.pattern}"] runs {name}, which is no program'
                yield Check(WARN, what + f" on PATH {within}" * ("/" not in name), "name it by its path")


def kernel(place: str = "/proc/sys/fs") -> Iterator[Check]:
    """What the kernel refuses to do for one user in a directory of many."""
    for name, least, level in _PROTECTED:
        try:
            with open(f"{place}/{name}", encoding="ascii") as file:
                value = int(file.read())
        except (OSError, ValueError):
            continue
        if value < least:
            what = f"fs.{name} is {value}: {_WHY[name]}"
            yield Check(level, what, f"sysctl -w fs.{name}={least}, and into /etc/sysctl.d/")


_PROTECTED = (
    ("protected_hardlinks", 1, BAD),
    ("protected_symlinks", 1, WARN),
    ("protected_fifos", 1, WARN),
    ("protected_regular", 1, WARN),
)
_WHY = {
    "protected_hardlinks": "a writer can give a file of another user a name in incoming/",
    "protected_symlinks": "programs that are less careful than spoold follow links in boxes of many",
    "protected_fifos": "programs that are less careful than spoold write into FIFOs of others",
    "protected_regular": "programs that are less careful than spoold write into files of others",
}
