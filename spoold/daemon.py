"""The program spoold: options, one daemon per node, the parts put together, an orderly end."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, TextIO

from spool import layout, mounts
from spool.closed import kept_out
from spool.command.parser import Parser
from spool.disk import FAILING, DiskFull, Missing, RealDisk, Unreadable
from spool.errors import EX_IOERR, EX_TEMPFAIL, NO_CWD, Busy, ConfigError, Elsewhere, SpoolError
from spool.init import check_format, default_dir, init, is_own
from spool.names import is_task
from spool.runargs import RUN
from spool.safe import safe
from spool.times import SECOND
from spoold import away, keeper, locks
from spoold.effects.begun import Begun
from spoold.effects.fenced import FencedDisk
from spoold.effects.leftovers import kill_keeper, kill_leftovers, owners
from spoold.effects.runner import Runner
from spoold.guard import guard, read_settings, settings_mark
from spoold.keeper.proc import kill_below
from spoold.reload import have_reloaded
from spoold.sources.housemates import Housemates, is_buried
from spoold.sources.neighbours import Fenced
from spoold.sources.pulse import Circle, Pulse, ticks
from spoold.sources.signals import STOPS, Signals

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from spool.settings import Settings

log = logging.getLogger("spoold")
NETWORK_LEASE = 180 * SECOND  # the reboot of a file server alone may stall everybody for two minutes
LOOK = {
    errno.EROFS: "it is mounted read-only; dmesg may tell why",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "see ulimit -n, LimitNOFILE= in its unit"),
    errno.EFBIG: "see ulimit -f, LimitFSIZE= in its unit",
}
LOCK_PATIENCE = 6.0  # seconds; a keeper that outlives a killed daemon needs up to 5 to clean up


def parser() -> Parser:
    """The options of spoold(8)."""
    found = Parser(
        prog="spoold",
        description="Serve a spool: take in what is dropped, run what is due, tell what happened.",
        epilog="Signals: TERM or INT stop in good order (twice: at once), HUP reads spool.toml again.",
    )
    found.add_argument("--spool", metavar="DIR", help="the spool (default: $SPOOL_DIR, else your own)")
    found.add_argument(
        "--node", metavar="NAME", help="name of this node (default: the host's, up to its first dot)"
    )
    found.add_argument(
        "--until-idle",
        action="store_true",
        help="run what is ready, wait for what was started, and exit: for cron and tests",
    )
    found.add_argument(
        "--reload", action="store_true", help="have the daemon that serves read settings and code again"
    )
    found.add_argument("--check", action="store_true", help="check spool.toml and exit")
    found.add_argument("--version", action="store_true", help="print the version and exit")
    found.add_argument("-v", "--verbose", action="store_true", help="say more on standard error")
    found.add_argument("-q", "--quiet", action="store_true", help="say only what is wrong")
    return found


class _OneLine(logging.Formatter):
    """What is said takes one line, whatever names are in it; a traceback of ours those it needs.

    To the journal of systemd each line tells its level first, as sd-daemon(3) has it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.levels = _is_journal(sys.stderr)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - of the library
        return safe(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self.levels:
            return text
        level = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4}.get(record.levelno, 3)
        return "\n".join(f"<{level}>{line}" for line in text.splitlines())


def _is_journal(stream: TextIO) -> bool:
    """Whether a stream is the one that systemd has connected with its journal."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command spoold; returns a sysexits(3) status."""
    args = parser().parse_args(argv)
    if args.version:
        from spool import __version__

        print(f"spoold {__version__}")
        return 0
    level = logging.DEBUG if args.verbose else logging.WARNING if args.quiet else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("spoold: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # until there is somebody to hear it
    try:
        return _serve(args)
    except (SpoolError, OSError, MemoryError, RuntimeError) as problem:
        if (told := _told(args, problem)) is None:
            raise
    level, text, code = told
    log.log(level, "%s", text)
    return code


def _told(args: argparse.Namespace, problem: Exception) -> tuple[int, str, int] | None:
    """What to say of an end that is no bug: level, text, exit status; None of a bug."""
    if isinstance(problem, PermissionError):
        closed = kept_out(_root(args.spool), problem)
        return None if closed is None else (logging.ERROR, str(closed), closed.exit_code)
    if isinstance(problem, DiskFull):
        said = "the disk is full: what ended meanwhile may not be on record, and would run again"
        return logging.ERROR, f"stopped while {said} ({problem})", EX_TEMPFAIL
    if not isinstance(problem, SpoolError):
        why = _failing(args, problem)
        return None if why is None else (logging.ERROR, why, EX_IOERR)
    if isinstance(problem, Busy) and args.until_idle:  # from cron: the run before takes longer
        who = f" (pid {problem.pid})" if problem.pid else ""
        text = f"{problem.path}: served as node {problem.node!r} already{who}, which does what there is"
        return logging.INFO, text, problem.exit_code
    return logging.ERROR, str(problem), problem.exit_code


def _failing(args: argparse.Namespace, problem: Exception) -> str | None:
    """What the disk or the system has refused, where, and where to look; None where neither has."""
    if isinstance(problem, MemoryError) or str(problem) == "can't start new thread":
        return f"the system has no memory or no thread for it ({problem or 'no memory'}): see ulimit -a"
    if not isinstance(problem, OSError) or problem.errno not in {*FAILING, *away.AWAY}:
        return None
    path = os.path.normpath(os.path.join(_root(args.spool), str(problem.filename or "")))
    if isinstance(problem, Unreadable):
        return f"{path} {problem.strerror}"
    return f"{path}: {problem.strerror}: {LOOK.get(problem.errno, 'dmesg may tell why')}"


def _root(named: str | None) -> str:
    try:
        return os.path.abspath(named or default_dir(os.environ))
    except FileNotFoundError:
        raise SpoolError(NO_CWD) from None


def _serve(args: argparse.Namespace) -> int:
    root = _root(args.spool)
    if is_own(root, os.environ):
        init(root)
    node = _checked(_host() if args.node is None else args.node)
    if not (args.check or args.reload):
        away.wait(root)
    check_format(root)
    disk = FencedDisk(root)
    mark = settings_mark(disk)
    found = read_settings(disk, root)
    if args.check:
        return _tell(found)
    if args.reload:
        return have_reloaded(disk, root, node)
    guard(root, found)
    if found.shared:  # readers look, and parents read events: the directories say who gets there
        os.umask(0o022)
        disk.file_mode, disk.dir_mode = 0o644, 0o750
    lease = lease_of(found, root)
    pulse = Pulse(root, node, lease, _kill_handlers) if lease else None
    lock = _lock(root, node, pulse)
    signals: Signals | None = None
    try:
        killed = kill_leftovers(root, node)
        if killed:
            log.warning("killed %d processes that an earlier spoold had left", killed)
        fd = None if pulse is None else pulse.lease_fd
        begun = Begun(root, node)
        runner = Runner(keep_fds=[lock], no_new_privs=found.no_new_privs, lease=fd, begun=begun)
        with contextlib.closing(runner):
            runner.start_keeper()
            from spoold import service  # much is to be imported, while the keeper starts

            if pulse is not None:
                pulse.join()
                disk.check = pulse.check
            circle = pulse or _circle(root, node)
            signals = Signals()  # before the start-up: what is said meanwhile must not be lost
            service.run(
                disk, root, node, found, runner, circle, signals, mark, until_idle=args.until_idle
            )
    except (Fenced, OSError) as problem:
        if not _is_to_begin_anew(disk, pulse, problem):
            raise
        _begin_anew(signals)
    finally:
        locks.give(lock)
    return 0


def _kill_handlers() -> None:
    kill_below(os.getpid(), keeper.NAME.encode())


def _tell(found: Settings) -> int:
    """Of settings that can be read: what there is to say."""
    from spool import probes
    from spoold.effects.handlers import PATH

    strange = [*probes.rules(found), *probes.programs(found, PATH)]
    for check in strange:
        log.warning("%s; %s", check.what, check.remedy)
    count = len(found.handlers.keys() - {RUN})
    log.info(
        "%s: %d handler%s%s", layout.SETTINGS, count, "s" * (count != 1), ", all well" * (not strange)
    )
    return 0


def _is_to_begin_anew(disk: FencedDisk, pulse: Pulse | None, problem: Fenced | OSError) -> bool:
    """Whether this life of a node is over, and no bug or broken disk is the reason; Elsewhere."""
    if away.is_elsewhere(disk.root, disk.fd):
        raise Elsewhere(disk.root) from problem
    if isinstance(problem, Missing) and disk.info(layout.INCOMING) is None:  # or all is
        raise Elsewhere(os.path.join(disk.root, layout.INCOMING)) from problem
    if pulse is None:
        return False
    if away.is_away(disk.root, problem):
        pulse.kill()
        log.error("%s: its handlers are killed", problem)
        time.sleep(away.AGAIN)
        return True
    return pulse.is_over(problem)


def _begin_anew(signals: Signals | None) -> None:
    """Another life of this node, unless somebody wants it to stop."""
    for number in STOPS:
        signal.signal(number, signal.SIG_DFL)  # what comes from here on ends this life, or the next
    if signals is not None and signals.stop:
        return
    log.warning("beginning anew")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves


def lease_of(found: Settings, root: str) -> int:
    """Us after which a silent node is dead; 0 where a local disk and locks make that plain."""
    if found.lease:
        return found.lease
    return NETWORK_LEASE if mounts.is_network(root) else 0


def _circle(root: str, node: str) -> Circle:
    """Those that serve the same spool on a local disk."""
    mates = Housemates(RealDisk(root), root, node, ticks)
    while not mates.join():
        time.sleep(0.2)
    return Circle(mates)


def _lock(root: str, node: str, pulse: Pulse | None) -> int:
    """One daemon for a node of a spool. The keeper holds it too, until the last handler is gone.

    On a network file system a dead host may hold it for minutes, or until it is back: beats decide.
    """
    path = os.path.join(root, layout.lock(node))
    try:
        lock = _taken(path, node)
    except TimeoutError:
        if pulse is None or pulse.is_here() or not mounts.is_network(root):
            raise Busy(root, node, next(iter(owners(path)), 0)) from None
        return os.memfd_create("no lock")
    os.ftruncate(lock, 0)  # who brought something back may have died with its name in it
    return lock


def _taken(path: str, node: str) -> int:
    with contextlib.suppress(TimeoutError):
        return locks.take(path)
    log.info("waiting for the lock of node %s", node)
    end = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            return locks.take(path, max(0.0, end - time.monotonic()))
        except TimeoutError:
            if not is_buried(path):  # else it is not for long
                break
            end = time.monotonic() + 1
    if killed := kill_keeper(path):
        log.warning("killed a keeper that an earlier spoold had left, %d processes in all", killed)
    return locks.take(path, 1 if killed else 0)


def _checked(node: str) -> str:
    if not is_task(node):
        raise ConfigError("--node", "", node, f"{node!r} must be [A-Za-z0-9][A-Za-z0-9._-]{{0,63}}")
    if (path := layout.status(node)) in (layout.PAUSES, layout.SCHEDULES):
        raise ConfigError("--node", "", node, f"{node!r} would write over {path}; take another name")
    return node


def _host() -> str:
    name = socket.gethostname().split(".")[0]
    return name if is_task(name) else "node"
