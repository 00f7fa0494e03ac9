"""The program spoold: options, one daemon per node, the parts put together, an orderly end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import filelock
from msgspec.structs import replace

from spool import daemons, layout, machine, modes, mounts, probes, settings
from spool.command.parser import Parser
from spool.disk import Missing, NotRegular, RealDisk, TooLarge
from spool.errors import Busy, ConfigError, NotAllowed, NotASpool, NotServed, SpoolError
from spool.init import check_format, default_dir, init, is_own, make_dir
from spool.names import is_task
from spool.probes import BAD
from spool.quarantine import quarantine
from spool.times import SECOND
from spoold import away
from spoold.core.state import State
from spoold.effects.census import Census
from spoold.effects.errorfiles import ErrorFiles
from spoold.effects.fenced import FencedDisk
from spoold.effects.handlers import RUN, Handlers
from spoold.effects.leftovers import kill_leftovers
from spoold.effects.manager import Manager
from spoold.effects.memory import UsageFile
from spoold.effects.metrics import Metrics
from spoold.effects.outboxes import OutboxLimits
from spoold.effects.owngroups import OwnGroups
from spoold.effects.packer import Packer
from spoold.effects.redo import Redo
from spoold.effects.status import Status
from spoold.effects.store import Store
from spoold.effects.writers import Writers
from spoold.loop import Core, Loop, clock
from spoold.reclaim import reclaim
from spoold.recovery import start_up
from spoold.sources import cgroups, claims
from spoold.sources.backlog import Backlog
from spoold.sources.crowd import Crowd, boxes
from spoold.sources.doorbell import Doorbell
from spoold.sources.intake import Intake
from spoold.sources.lookout import Lookout
from spoold.sources.machine import Gauge
from spoold.sources.neighbours import Fenced
from spoold.sources.people import People
from spoold.sources.pulse import Pulse
from spoold.sources.recurring import Recurring
from spoold.sources.signals import Signals
from spoold.sources.timer import Timer

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from spool.settings import Settings
    from spoold.core.values import Event

log = logging.getLogger("spoold")
NETWORK_LEASE = 180 * SECOND  # the reboot of a file server alone may stall everybody for two minutes
LOCK_PATIENCE = 6.0  # seconds; a keeper that outlives a killed daemon needs up to 5 to clean up


def parser() -> Parser:
    """The options of spoold(8)."""
    found = Parser(
        prog="spoold",
        description="Serve a spool: take in what is dropped, run what is due, tell what happened.",
        epilog="Signals: TERM or INT stop in good order (twice: at once), HUP reads spool.toml again.",
    )
    found.add_argument("--spool", metavar="DIR", help="the spool (default: $SPOOL_DIR, else your own)")
    found.add_argument("--node", metavar="NAME", help="name of this node (default: the host's name)")
    found.add_argument(
        "--until-idle",
        action="store_true",
        help="run what is ready, wait for what was started, and exit: for cron and tests",
    )
    found.add_argument(
        "--reload", action="store_true", help="have the daemon that serves read settings and code again"
    )
    found.add_argument("--check", action="store_true", help="check spool.toml and exit")
    found.add_argument("-v", "--verbose", action="store_true", help="say more on standard error")
    found.add_argument("-q", "--quiet", action="store_true", help="say only what is wrong")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command spoold; returns a sysexits(3) status."""
    args = parser().parse_args(argv)
    level = logging.DEBUG if args.verbose else logging.WARNING if args.quiet else logging.INFO
    logging.basicConfig(level=level, format="spoold: %(message)s", stream=sys.stderr)
    os.umask(0o077)
    try:
        return _serve(args)
    except SpoolError as problem:
        print(f"spoold: {problem}", file=sys.stderr)
        return problem.exit_code


def _serve(args: argparse.Namespace) -> int:
    root = os.path.abspath(args.spool or default_dir(os.environ))
    if is_own(root, os.environ):
        init(root)
    node = _checked(args.node or _host())
    if not (args.check or args.reload):
        away.wait(root)
    check_format(root)
    disk = FencedDisk(root)
    found = read_settings(disk, root)
    if args.check:
        log.info("%s: %d handlers, all well", layout.SETTINGS, len(found.handlers))
        return 0
    if args.reload:
        return _have_reloaded(disk, root, node)
    guard(root, found)
    if found.shared:  # readers look, and parents read events: the directories say who gets there
        os.umask(0o022)
        disk.file_mode, disk.dir_mode = 0o644, 0o750
    lease = lease_of(found, root)
    pulse = Pulse(root, node, lease, lambda: kill_leftovers(root, node)) if lease else None
    lock = _lock(root, node, pulse)
    try:
        killed = kill_leftovers(root, node)
        if killed:
            log.warning("killed %d processes that an earlier spoold had left", killed)
        if pulse is not None:
            pulse.join()
            disk.check = pulse.check
            pulse.start(lambda dead: _bring_back(disk, dead, node, found), _lookout(root))
        _run(disk, root, node, found, _fd_of(lock), pulse, until_idle=args.until_idle)
    except (Fenced, OSError) as problem:
        if pulse is None or not _is_to_begin_anew(root, pulse, problem):
            raise
        log.warning("beginning anew")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves
    finally:
        lock.release()
    return 0


def _is_to_begin_anew(root: str, pulse: Pulse, problem: Fenced | OSError) -> bool:
    """Whether this life of a node is over, and no bug or broken disk is the reason."""
    if away.is_away(root, problem):
        log.error("%s: killed %d processes of handlers", problem, pulse.kill())
        time.sleep(away.AGAIN)
        return True
    return pulse.is_over(problem)


def lease_of(found: Settings, root: str) -> int:
    """Us after which a silent node is dead; 0 where a local disk and locks make that plain."""
    if found.lease:
        return found.lease
    mount = mounts.mount_of(root)
    return NETWORK_LEASE if mount is not None and mount.network else 0


def _have_reloaded(disk: RealDisk, root: str, node: str) -> int:
    """HUP to the daemon of a node, which its status and its lock tell of."""
    status = daemons.nodes(disk, root).get(node, {})
    pid = int(status.get("pid") or 0)
    if not status.get("alive") or not any(b"spoold" in word for word in _command_of(pid)):
        raise NotServed(root, node)
    os.kill(pid, signal.SIGHUP)
    return 0


def _command_of(pid: int) -> list[bytes]:
    """The words a process was started with; none where there is no such process."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(1 << 16).split(b"\0")
    except OSError:
        return []


def _run(  # noqa: PLR0913, PLR0915 - what it was started with; all its parts
    disk: RealDisk,
    root: str,
    node: str,
    found: Settings,
    lock: int,
    pulse: Pulse | None,
    *,
    until_idle: bool,
) -> None:
    signals = Signals()  # first: a signal during start-up must not be lost
    now = clock()
    state = State(node, found, machine.usable_cpus())
    state.pauses = _pauses(disk)
    if pulse is not None:
        state.peers, state.lease = pulse.neighbours.live, pulse.neighbours.lease
    usage = UsageFile(disk, node, state.history)
    usage.load()
    store = Store(disk, node, durable=found.durability == "durable")
    disk.make_dir(store.stage_dir)
    doorbell = _doorbell(disk, root)
    events, redo = _begin(disk, root, store, alone=pulse is None)
    claims.recall(disk, state, now)  # the journal is whole by now
    own = cgroups.groups("")
    groups = OwnGroups(f"{os.path.realpath(root)}/{node}", own.memory, own.unified)
    lease = None if pulse is None else pulse.lease_fd
    handlers = Handlers(disk, root, node, found, lock, groups, lease)
    backlog = Backlog(disk, lambda: len(state.future.gathered or ()) > state.future.limit)
    backlog.start("held")
    gauge = Gauge(state, os.path.join(root, layout.LOGS), handlers.pids)
    core = Core(state, disk, store, handlers, backlog, OutboxLimits(disk, state), gauge)
    intake = Intake(disk, found, machine.zone_of(found.timezone), _crowd(disk, root, found))
    intake.node = node

    def apply(new: Settings) -> None:
        manager.reloading(clock())
        store.become(durable=new.durability == "durable")
        crowd = _crowd(disk, root, new, intake.crowd)
        intake.configure(new, machine.zone_of(new.timezone), crowd)
        handlers.configure(new)
        manager.ready()

    manager = Manager(state, os.environ)
    status = Status(disk, state, now.wall)
    status.workers = handlers.workers.content
    status.groups = groups
    packer = Packer(disk, state, root)
    packer.packed = intake.packed
    census = Census(disk, state)
    metrics = Metrics(disk, state, census, now.wall)
    error_files = ErrorFiles(disk, state, root)
    error_files.load(now.wall)
    loop = Loop(
        core,
        intake,
        doorbell,
        Timer(),
        signals,
        status,
        _reloader(disk, root, apply, status, shared=found.shared),
        usage,
        Recurring(disk, state),
        manager,
        (
            error_files,
            packer,
            census,
            metrics,
            Writers(disk, state),
            *((redo,) if redo is not None else ()),
        ),
        until_idle=until_idle,
        pulse=pulse,
    )
    if pulse is not None:
        status.others = pulse.plain
    log.info("serving %s as node %s, pid %d", root, node, os.getpid())
    manager.ready()
    try:
        loop.run(events)
    finally:
        handlers.close()
        error_files.close()
        metrics.write(clock())
        if doorbell is not None:
            doorbell.close()
    store.settle()
    usage.save()
    status.extra["state"] = "stopped"
    status.write(clock(), always=True)
    if pulse is not None:
        pulse.close()
    log.info("stopped")


def _crowd(disk: RealDisk, root: str, found: Settings, old: Crowd | None = None) -> Crowd | None:
    """Who is asked whose turn it is; None where nobody but the owner writes."""
    if not found.guarded:
        return None
    if old is not None:
        old.settings = found
        return old
    mount = mounts.mount_of(root)
    local = mount is None or not mount.network
    return Crowd(disk, People(root_counts=local), found)


def _bring_back(disk: FencedDisk, dead: str, node: str, found: Settings) -> list[Event]:
    """In a thread, over a disk of its own: the first rename of a dead host's file may take minutes."""
    own = FencedDisk(disk.root)
    own.check, own.file_mode, own.dir_mode = disk.check, disk.file_mode, disk.dir_mode
    try:
        return [*reclaim(own, dead, node, found, clock())]
    finally:
        own.close()


def read_settings(disk: RealDisk, root: str) -> Settings:
    """spool.toml with the built-in handler added; ConfigError, NotAllowed."""
    path = os.path.join(root, layout.SETTINGS)
    info = disk.info(layout.SETTINGS)
    if info is not None and (info.mode & 0o022 or info.uid not in (0, os.getuid())):
        who = "others may write it" if info.mode & 0o022 else f"it belongs to uid {info.uid}"
        raise NotAllowed(f"{path}: {who}, and it says what is run; chmod 600 or chown it")
    try:
        text = disk.read(layout.SETTINGS, 1 << 20).decode()
    except Missing:
        text = ""
    except UnicodeDecodeError as problem:
        raise ConfigError(path, "", None, f"must be UTF-8: {problem}") from None
    except PermissionError:
        raise NotAllowed(f"{path} cannot be read by uid {os.getuid()}; chmod or chown it") from None
    found = settings.load(text, path=path)
    may = any(rule.run for rule in found.policy) if found.guarded else _is_private(disk)
    if not found.allow_run or not may:
        return found
    return replace(found, handlers={**found.handlers, RUN: _run_handler()})


def guard(root: str, found: Settings) -> None:
    """NotAllowed where others could get at what they must not, or this is the wrong user to serve it."""
    is_shared = found.shared
    if os.path.islink(root):
        raise NotAllowed(
            f"{root} is a symbolic link: --spool {os.path.realpath(root)}, where it leads now"
        )
    place = os.path.join(root, layout.PENDING) if is_shared else root
    if not os.path.isdir(place):
        raise NotASpool(root, f"has no {layout.PENDING}/; complete it with `spool init`")
    serving = os.stat(place).st_uid
    for check in modes.check(root, is_shared=is_shared):
        if check.level == BAD:
            raise NotAllowed(f"{check.what}; {check.remedy}")
    for check in (*probes.kernel(), *probes.claims(root, found.signatures)) if is_shared else ():
        if check.level == BAD:
            raise NotAllowed(f"{check.what}; {check.remedy}")
        log.warning("%s; %s", check.what, check.remedy)
    if is_shared and os.geteuid() == 0:
        raise NotAllowed(f"{root} is shared: spoold does not serve it as root; run it as uid {serving}")
    if os.geteuid() != serving:
        raise NotAllowed(
            f"{root} is served by uid {serving}, not by uid {os.geteuid()}; run spoold as that user"
        )
    for name in () if is_shared else layout.TREE:
        make_dir(
            os.path.join(root, name)
        )  # an empty one may have got lost on the way, in a copy or a backup


def _is_private(disk: RealDisk) -> bool:
    """Whether nobody but its user can drop anything here: only then may a task name a command."""
    info = disk.info(".")
    return info is not None and info.uid == os.getuid() and not info.mode & 0o077


def _run_handler() -> settings.Handler:
    return settings.Handler(
        pattern=RUN,
        exec=(RUN,),
        notify=None,
        timeout=None,
        retries=None,
        backoff=None,
        concurrency=None,
        priority=None,
        env={},
        cwd=None,
        memory=None,
        cpu=None,
        nice=None,
        ionice=None,
        oom_score_adj=None,
        keep=None,
        replayable=True,
        versions=(),
    )


def _reloader(
    disk: RealDisk, root: str, apply: Callable[[Settings], None], status: Status, *, shared: bool
) -> Callable[[], Settings | None]:
    """A function that reads spool.toml again when it has changed; None where it has not."""

    def mark() -> tuple[int, int] | None:
        found = disk.info(layout.SETTINGS)
        return None if found is None else (found.ino, found.ctime_us)

    seen = mark()

    def reload() -> Settings | None:
        nonlocal seen
        if mark() == seen:
            return None
        seen = mark()
        try:
            new = read_settings(disk, root)
            if new.shared != shared:
                raise ConfigError(root, "shared", new.shared, "changes when spoold is started again")
        except SpoolError as problem:
            log.error("kept the old settings: %s", problem)  # noqa: TRY400 - no bug of ours
            status.extra["settings_error"] = str(problem)
            status.change()
            return None
        status.extra.pop("settings_error", None)
        apply(new)
        log.info("read %s again", layout.SETTINGS)
        return new

    return reload


def _lock(root: str, node: str, pulse: Pulse | None) -> filelock.FileLock:
    """One daemon for a node of a spool. The keeper holds it too, until the last handler is gone.

    On a network file system a dead host may hold it for minutes, or until it is back: beats decide.
    """
    path = os.path.join(root, layout.NODES, f"{node}.lock")
    lock = filelock.FileLock(path, mode=0o600, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log.info("waiting for the lock of node %s", node)
        try:
            lock.acquire(timeout=LOCK_PATIENCE)
        except filelock.Timeout:
            if pulse is None or pulse.is_here():
                raise Busy(root, node) from None
    return lock


def _fd_of(lock: filelock.FileLock) -> int:
    held: int | None = lock._context.lock_file_fd  # noqa: SLF001 - filelock has no public way
    return os.memfd_create("no lock") if held is None else held


def _lookout(root: str) -> Lookout:
    """For a thread of its own, over a disk of its own: any call may hang."""
    disk = RealDisk(root)

    def places() -> list[str]:
        return [layout.INCOMING, *(f"{layout.WRITERS}/{name}" for name in boxes(disk))]

    return Lookout(disk, places, lambda: _pauses(disk), lambda: clock().wall)


def _begin(disk: RealDisk, root: str, store: Store, *, alone: bool) -> tuple[list[Event], Redo | None]:
    """Put in order what an earlier life has left; one daemon after the other.

    Until the log is replayed nobody looks at what is there.
    """
    with filelock.FileLock(os.path.join(root, layout.NODES, "redo.start"), mode=0o600):
        redo = _redo(disk, root, make=store.durable and alone)
        return start_up(disk, store, redo, alone=alone), store.redo


def _redo(disk: RealDisk, root: str, *, make: bool) -> Redo | None:
    """The log, where this daemon may have it: no other one has it, and no other machine needs it."""
    mount = mounts.mount_of(root)
    if mount is None or mount.network or mount.in_memory:
        return None
    if not make and disk.info(layout.REDO) is None:
        return None
    lock = filelock.FileLock(os.path.join(root, layout.NODES, "redo.owner"), mode=0o600)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return None  # another daemon of this spool has it
    redo = Redo(disk, machine.life(root))
    redo.lock = lock
    return redo if redo.open() else None


def _doorbell(disk: RealDisk, root: str) -> Doorbell | None:
    places = {"incoming": os.path.join(root, layout.INCOMING), "root": root}
    for name in boxes(disk):
        place = os.path.join(root, layout.WRITERS, name)
        if os.access(place, os.R_OK):
            places[f"incoming {name}"] = place
    try:
        return Doorbell(places)
    except OSError as problem:
        log.warning("cannot watch incoming/ (%s): looking once a second", problem)
        return None


def _pauses(disk: RealDisk) -> list[dict[str, object]]:
    """What is paused; a file that is damaged is put aside and said so, and pauses nothing."""
    try:
        return daemons.read_pauses(disk)
    except Missing:
        return []
    except (ValueError, TypeError, NotRegular, TooLarge) as problem:
        log.error("nothing is paused: %s is damaged, and in corrupt/ now: %s", layout.PAUSES, problem)  # noqa: TRY400 - no bug of ours
        quarantine(disk, layout.PAUSES, str(problem))
        return []


def _checked(node: str) -> str:
    if not is_task(node):
        raise ConfigError("--node", "", node, f"{node!r} must be [A-Za-z0-9][A-Za-z0-9._-]{{0,63}}")
    if layout.status(node) == layout.PAUSES:
        raise ConfigError(
            "--node", "", node, f"{node!r} would write over {layout.PAUSES}; take another name"
        )
    return node


def _host() -> str:
    name = socket.gethostname().split(".")[0]
    return name if is_task(name) else "node"


__all__ = ["main", "parser", "read_settings"]
