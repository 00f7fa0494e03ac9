"""One life of a daemon: its parts made and put together, served with until it ends."""

from __future__ import annotations

import gc
import logging
import math
import os
from typing import TYPE_CHECKING

from spool import daemons, layout, machine, mounts
from spool.disk import RealDisk
from spool.errors import ConfigError, Elsewhere, SpoolError
from spool.times import format_span
from spoold import away, locks
from spoold.core.state import State
from spoold.core.trust import LEAP
from spoold.effects import begun
from spoold.effects.census import Census
from spoold.effects.errorfiles import ErrorFiles
from spoold.effects.fenced import FencedDisk
from spoold.effects.handlers import Handlers
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
from spoold.guard import read_settings, settings_mark
from spoold.loop import KEPT, Core, Loop, clock
from spoold.reclaim import reclaim
from spoold.recovery import start_up
from spoold.sources import cgroups, claims
from spoold.sources.backlog import Backlog
from spoold.sources.crowd import Crowd, boxes
from spoold.sources.intake import Intake
from spoold.sources.lookout import Lookout
from spoold.sources.machine import Gauge
from spoold.sources.pauses import read_pauses
from spoold.sources.people import People
from spoold.sources.pulse import Pulse
from spoold.sources.recurring import Recurring
from spoold.sources.takeins import TakeIns
from spoold.sources.timer import Timer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spool.settings import Settings
    from spoold.core.values import Event
    from spoold.effects.runner import Runner
    from spoold.sources.doorbell import Doorbell
    from spoold.sources.pulse import Circle
    from spoold.sources.signals import Signals

log = logging.getLogger("spoold")
SETTLING = 60.0  # seconds for a node that was alone to see another one, and to end its log
AT_START = ("lease", "no_new_privs")  # settings that count when a daemon is started


def run(  # noqa: PLR0913, PLR0915 - what it was started with; all its parts
    disk: FencedDisk,
    root: str,
    node: str,
    found: Settings,
    runner: Runner,
    circle: Circle,
    signals: Signals,
    mark: tuple[int, int] | None,
    *,
    until_idle: bool,
) -> None:
    """Serve until told to stop, or (`until_idle`) until there is nothing left to do.

    `mark`: of the settings that were found; they may have changed since.
    """
    now = clock()
    state = State(node, found, machine.usable_cpus())
    pulse = circle if isinstance(circle, Pulse) else None
    if pulse is not None:  # the others are waiting for a beat
        pulse.start(bringer(disk, node, state), lookout(root))
    state.pauses = read_pauses(disk)
    known = daemons.known_time(disk, now.wall)
    if known is not None and now.wall > known + LEAP:
        state.trust.doubt(known, now)
        ahead = format_span(now.wall - known)
        log.warning("the clock is %s ahead of what was last known here; %s", ahead, KEPT)
    usage = UsageFile(disk, node, state.history)
    usage.load()
    store = Store(disk, node, durable=found.durability == "durable")
    disk.make_dir(store.stage_dir)
    events, redo = _begin(disk, root, store, found, circle)
    if runner.begun is not None:
        runner.begun.renew(begun.keys(events))
    if pulse is None:
        circle.start(bringer(disk, node, state), lookout(root))
    state.peers, state.lease = circle.neighbours.live, circle.neighbours.lease
    state.others = daemons.takes(disk) if len(state.peers) > 1 else {}
    state.reread = pulse is not None or len(state.peers) > 1
    claims.recall(disk, state, now)  # the journal is whole by now
    own = cgroups.groups("")
    groups = OwnGroups(f"{os.path.realpath(root)}/{node}", own.memory, own.unified)
    handlers = Handlers(disk, root, node, found, runner, groups)
    backlog = Backlog(disk, lambda: len(state.future.gathered or ()) > state.future.limit)
    gauge = Gauge(state, os.path.join(root, layout.LOGS), handlers.pids)
    core = Core(state, disk, store, handlers, backlog, OutboxLimits(disk, state), gauge)
    core.came = TakeIns(root, node).find
    intake = Intake(disk, found, machine.zone_of(found.timezone), _crowd(disk, root, found))
    intake.node = node
    if pulse is not None:
        intake.behind_server = lambda: pulse.offset or 0
    _warn(disk, found)

    def apply(new: Settings) -> None:
        manager.reloading(clock())
        store.become(durable=new.durability == "durable")
        crowd = _crowd(disk, root, new, intake.crowd)
        intake.configure(new, machine.zone_of(new.timezone), crowd)
        handlers.configure(new)
        manager.ready()

    manager = Manager(state, os.environ)
    status = Status(disk, state, now)
    status.workers = handlers.workers.content
    status.groups = groups
    status.left_alone = lambda: intake.crowd.told if intake.crowd is not None else {}
    packer = Packer(disk, state, root)
    packer.packed = intake.named.packed
    census = Census(disk, state)
    metrics = Metrics(disk, state, census, now.wall)
    error_files = ErrorFiles(disk, state, root)
    error_files.load(now.wall)
    loop = Loop(
        core,
        intake,
        lambda: _doorbell(disk, root),
        Timer(),
        signals,
        status,
        _reloader(disk, root, apply, status, mark, found),
        usage,
        Recurring(disk, state),
        manager,
        circle,
        lambda: away.is_elsewhere(root, disk.fd),
        (
            error_files,
            packer,
            census,
            metrics,
            Writers(disk, state),
            *((redo,) if redo is not None else ()),
        ),
        until_idle=until_idle,
    )
    if pulse is not None:
        core.check = pulse.check
    status.others = circle.plain
    log.info("serving %s as node %s, pid %d", root, node, os.getpid())
    manager.ready()
    gc.freeze()
    gc.enable()
    try:
        loop.run(events)
    finally:
        handlers.close()
        error_files.close(clock().wall)
        metrics.write(clock())
        if loop.doorbell is not None:
            loop.doorbell.close()
    store.settle()
    usage.save()
    status.extra["state"] = "stopped"
    status.write(clock(), always=True)
    circle.close()
    if loop.elsewhere:
        raise Elsewhere(root)
    log.info("stopped")


def _warn(disk: RealDisk, found: Settings) -> None:
    """A TZ that means nothing is told, and a box that nobody looks at."""
    if os.environ.get("TZ") or (not found.guarded and disk.info(layout.WRITERS) is not None):
        from spool import probes  # 5 ms, that most starts need not take

        for check in (*probes.zone(found), *probes.boxes(disk, found)):
            log.warning("%s; %s", check.what, check.remedy)


def _crowd(disk: RealDisk, root: str, found: Settings, old: Crowd | None = None) -> Crowd | None:
    """Who is asked whose turn it is; None where nobody but the owner writes."""
    if not found.guarded:
        return None
    if old is not None:
        old.settings = found
        return old
    return Crowd(disk, People(root_counts=not mounts.is_network(root)), found)


def bringer(disk: FencedDisk, node: str, state: State) -> Callable[[str], Iterator[Event]]:
    """What brings back the tasks of a dead node, and tells of those that this one has to look after.

    In a thread, over a disk of its own: the first rename of a dead host's file may take minutes. Of the
    state it takes the settings, as they are then.
    """

    def bring_back(dead: str) -> Iterator[Event]:
        own = FencedDisk(disk.root)
        own.check, own.file_mode, own.dir_mode = disk.check, disk.file_mode, disk.dir_mode
        try:
            kill_leftovers(disk.root, dead)  # where it was on this host
            yield from reclaim(own, dead, node, state.settings, clock(), begun.read(disk.root, dead))
        finally:
            own.close()

    return bring_back


def _reloader(  # noqa: PLR0913 - what it works with
    disk: RealDisk,
    root: str,
    apply: Callable[[Settings], None],
    status: Status,
    seen: tuple[int, int] | None,
    first: Settings,
) -> Callable[[], Settings | None]:
    """A function that reads spool.toml again when it has changed; None where it has not.

    `first`: the settings this daemon was started with.
    """

    def reload() -> Settings | None:
        nonlocal seen
        mark = settings_mark(disk)
        if mark == seen:
            return None
        seen = mark
        try:
            new = read_settings(disk, root)
            if new.shared != first.shared:
                raise ConfigError(root, "shared", new.shared, "changes when spoold is started again")
        except SpoolError as problem:
            log.error("kept the old settings: %s", problem)  # noqa: TRY400 - no bug of ours
            status.extra["settings_error"] = str(problem)
            status.change()
            return None
        status.extra.pop("settings_error", None)
        apply(new)
        late = [name for name in AT_START if getattr(new, name) != getattr(first, name)]
        more = f"; spoold has to be started again for {' and '.join(late)}" if late else ""
        log.info("read %s again%s", layout.SETTINGS, more)
        return new

    return reload


def lookout(root: str) -> Lookout:
    """For a thread of its own, over a disk of its own: any call may hang."""
    disk = RealDisk(root)

    def places() -> list[str]:
        return [layout.INCOMING, *(f"{layout.WRITERS}/{name}" for name in boxes(disk))]

    return Lookout(
        disk, places, lambda: read_pauses(disk), lambda: daemons.takes(disk), lambda: clock().wall
    )


def _begin(
    disk: RealDisk, root: str, store: Store, settings: Settings, circle: Circle
) -> tuple[list[Event], Redo | None]:
    """Put in order what an earlier life has left; one daemon after the other.

    Until the log is replayed nobody looks at what is there. One that begins beside others has no log,
    and waits until none of them has: after a power cut it would be replayed over what this one did.
    """
    lock = locks.take(os.path.join(root, layout.REDO_START), math.inf)
    try:
        alone = circle.is_alone()
        redo = _redo(disk, root, make=store.durable and alone)
        known = begun.read(root, store.node)
        found = start_up(disk, store, redo, settings, alone=alone, begun=known)
        if not alone:
            store.end_log()
        return found, store.redo
    finally:
        locks.give(lock)


def _redo(disk: RealDisk, root: str, *, make: bool) -> Redo | None:
    """The log, where this daemon may have it: no other one has it, and no other machine needs it."""
    mount = mounts.mount_of(root)
    if mount is None or mount.network or mount.in_memory:
        return None
    if not make and disk.info(layout.REDO) is None:
        return None
    try:
        lock = locks.take(os.path.join(root, layout.REDO_OWNER), SETTLING)
    except TimeoutError:
        log.warning(
            "another daemon of this spool keeps its redo log: a power cut may undo what others do"
        )
        return None
    redo = Redo(disk, machine.life(root), lock)
    if (make or disk.info(layout.REDO) is not None) and redo.open():
        return redo
    locks.give(lock)
    return None


def _doorbell(disk: RealDisk, root: str) -> Doorbell | None:
    from spoold.sources.doorbell import BOXES, Doorbell  # 10 ms, of watchdog

    places = {"incoming": os.path.join(root, layout.INCOMING), "root": root}

    def more() -> dict[str, str]:
        place = os.path.join(root, layout.WRITERS)
        found = {BOXES: place, **{f"incoming {n}": os.path.join(place, n) for n in boxes(disk)}}
        return {name: path for name, path in found.items() if os.access(path, os.R_OK)}

    try:
        return Doorbell(places, more)
    except OSError as problem:
        log.warning("cannot watch incoming/ (%s): looking once a second", problem)
        return None
