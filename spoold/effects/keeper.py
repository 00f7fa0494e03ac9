"""The keeper: a small process of its own that starts the handlers and leaves nothing of them behind.

    python -I -S keeper.py FD [--keep FD]...

Stand-alone, standard library only. FD is a socket to spoold; JSON objects, one a line, go over it:

    hello    no_new_privs                                        first, options
    start    key argv env cwd stdin log log_limit                -> started | refused
    kill     key grace                                           -> the exit that follows
    quit                                                         -> end of file

    started  key pid
    exit     key exit signal rss cpu seconds logged truncated tail log_error
    refused  key errno error                                     it was never started
    protocol error                                               the line was not understood

Every orphan of a handler becomes a child of the keeper (a subreaper), so nothing escapes by setsid
or a double fork. When spoold dies in any way, everything below the keeper is killed at once.

A handler that leaves nothing costs five calls at its end beyond reading its output: read of the
signalfd, waitid (who), killpg while its number is still its own, wait4, waitid (is any other
child there?). With others alive: one more, a pread of /proc/loadavg for the last process number
given out, and one look at each number given out since its start that is not a handler's.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import sys
import time

PR_SET_NAME, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 15, 36, 38
MFD_CLOEXEC, MFD_NOEXEC_SEAL = 1, 8

NAME = "spool-keeper"
CHUNK = 1 << 16  # bytes read from a handler at a time: the size of its pipe
LINE_LIMIT = 1 << 26  # bytes of one message; the args of a task are 1 MiB at most
BACKLOG = 1 << 20  # bytes spoold has not read yet; above it nothing more is read from spoold
TAIL = 4096  # bytes of output kept in memory
PATIENCE = 5.0  # seconds for killed processes to go; one in state D may never
YOUNG = 1.0  # seconds in which process numbers cannot have gone round
WINDOW = 200  # numbers looked at one by one; above it a scan of /proc is cheaper
FREEZES = 8  # rounds of SIGSTOP before SIGKILL: a tree that forks faster is left to the sweep
SPARE_FDS = 4  # never used for logs: without them /proc could not be read

EVERY_SIGNAL = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
TICKS = os.sysconf("SC_CLK_TCK")


# --- processes, as /proc tells of them (runner.py uses these too) ---


class Proc:
    """What /proc/PID/stat says: comm, ppid, pgid, sid, start (clock ticks since boot)."""

    __slots__ = ("comm", "pgid", "ppid", "sid", "start")

    def __init__(self, stat: bytes) -> None:
        end = stat.rindex(b")")  # a name may hold brackets and blanks itself
        rest = stat[end + 2 :].split(b" ", 20)
        self.comm = stat[stat.index(b"(") + 1 : end]
        self.ppid, self.pgid, self.sid = int(rest[1]), int(rest[2]), int(rest[3])
        self.start = int(rest[19])


def _slurp(path: str, limit: int) -> bytes:
    """The start of a file in /proc; empty when the process is gone or another user's."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(fd, limit)
    except OSError:
        return b""
    finally:
        os.close(fd)


def look(pid: int) -> Proc | None:
    """The process (or thread) with this number, None when there is none."""
    stat = _slurp(f"/proc/{pid}/stat", 1024)
    return Proc(stat) if stat else None


def environ(pid: int) -> list[bytes]:
    """The environment a process was started with, as NAME=VALUE; empty for a dead one."""
    return _slurp(f"/proc/{pid}/environ", 1 << 21).split(b"\0")


def processes() -> dict[int, Proc]:
    """Every process there is, zombies included."""
    found = ((int(name), look(int(name))) for name in os.listdir("/proc") if name.isdecimal())
    return {pid: proc for pid, proc in found if proc is not None}


def trees(procs: dict[int, Proc], roots: list[int]) -> list[int]:
    """The roots and all their descendants, parents first."""
    children: dict[int, list[int]] = {}
    for pid, proc in procs.items():
        children.setdefault(proc.ppid, []).append(pid)
    found = list(dict.fromkeys(roots))
    known = set(found)
    for pid in found:  # grows while it is walked
        fresh = [child for child in children.get(pid, ()) if child not in known]
        found += fresh
        known.update(fresh)
    return found


def strike(pid: int, proc: Proc, number: int) -> None:
    """Signal this very process, never another one that got its number meanwhile."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError:  # no pidfd here: still safe for a child, whose number is held until it is reaped
        if proc.ppid == os.getpid():
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        return
    now = look(pid)  # after the pidfd: the same start time proves that both mean one process
    if now is not None and now.start == proc.start:
        with contextlib.suppress(OSError):  # gone, or another user's (a setuid program)
            signal.pidfd_send_signal(fd, number)
    os.close(fd)


def strike_group(leader: int, number: int) -> None:
    """Signal a group whose leader is our child and not reaped: until then the number is its own."""
    with contextlib.suppress(OSError):
        os.killpg(leader, number)


def prctl(option: int, value: object) -> None:
    """Set an attribute of this process, for what the standard library does not offer."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")


# --- one handler ---


class Log:
    """The output of a handler: a capped file made at the first byte, the last bytes in memory."""

    __slots__ = ("error", "fd", "limit", "logged", "newline", "path", "tail", "truncated")

    def __init__(self, path: str, limit: int) -> None:
        self.path, self.limit = path, limit
        self.fd, self.logged = -1, 0
        self.truncated, self.newline = False, True
        self.tail = b""
        self.error: str | None = None

    def take(self, data: bytes) -> None:
        """Keep what fits. An error of the disk ends the file, never the handler."""
        self.tail = data[-TAIL:] if len(data) >= TAIL else (self.tail + data)[-TAIL:]
        if self.truncated or self.error is not None:
            return
        room = self.limit - self.logged
        try:
            self._write(data[:room])
            if len(data) > room:
                self._truncate()
        except (OSError, ValueError) as error:
            self.error = str(error)
            self.close()

    def _truncate(self) -> None:
        self.truncated = True
        logged = self.logged
        start = "" if self.newline else "\n"
        try:
            self._write(f"{start}[spool: output truncated after {self.limit} bytes]\n".encode())
        finally:
            self.logged = logged  # counts output, not this line
            self.close()

    def _write(self, data: bytes) -> None:
        if self.fd < 0:
            self.fd = self._open()
        while data:  # a disk that fills up takes a part first, then says ENOSPC
            written = os.write(self.fd, data)
            self.logged += written
            self.newline = data[written - 1 : written] == b"\n"
            data = data[written:]

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            fd = os.open(self.path, flags, 0o600)
        if fd >= os.sysconf("SC_OPEN_MAX") - SPARE_FDS:
            os.close(fd)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), self.path)
        return fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Attempt:
    """A handler from its start to its exit report."""

    def __init__(self, message: dict[str, object], epoll: select.epoll) -> None:
        """Start it; its output wakes `epoll`.

        A message that is wrong raises ValueError, a start that fails OSError.
        """
        limit = message.get("log_limit")
        if not isinstance(limit, int) or limit < 0:
            raise ValueError("log_limit: must be a number of bytes")
        self.key = _text(message, "key")
        self.log = Log(_text(message, "log"), limit)
        self.due: float | None = None  # when patience with it ends: KILL, or report without waiting
        self.report: dict[str, object] = {}
        argv, env = _argv(message), _env(message)
        cwd = None if message.get("cwd") is None else _text(message, "cwd")
        self.mark = _mark([os.fsencode(f"{n}={env[n]}") for n in env if n.startswith("SPOOL_")])
        self.since, self.ticks = time.monotonic(), _boot_ticks()
        self.pid, self.pipe = _spawn(argv, env, cwd, _text(message, "stdin"))
        self.epoll = epoll
        epoll.register(self.pipe, select.EPOLLIN)

    def read(self) -> bool:
        """Take what the pipe holds, once; False when there is no more for now."""
        if self.pipe < 0:
            return False
        try:
            data = os.read(self.pipe, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.hang_up()
            return False
        self.log.take(data)
        return True

    def hang_up(self) -> None:
        if self.pipe >= 0:
            self.epoll.unregister(self.pipe)  # a child in the middle of exec may hold a copy still
            os.close(self.pipe)
            self.pipe = -1

    def reaped(self, status: int, usage: object) -> None:
        """Note how it ended. `usage` is the rusage of wait4."""
        code = os.waitstatus_to_exitcode(status)
        self.report = {
            "exit": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "rss": usage.ru_maxrss * 1024,  # type: ignore[attr-defined]
            "cpu": usage.ru_utime + usage.ru_stime,  # type: ignore[attr-defined]
            "seconds": time.monotonic() - self.since,
        }

    def finish(self) -> dict[str, object]:
        """Drain the output, close everything, say how it went."""
        for _ in range(64):  # what a pipe can hold, and an end where somebody beyond reach writes on
            if not self.read():
                break
        self.hang_up()
        self.log.close()
        return {
            "ev": "exit",
            "key": self.key,
            **self.report,
            "logged": self.log.logged,
            "truncated": self.log.truncated,
            "log_error": self.log.error,
            "tail": self.log.tail.decode("utf-8", "backslashreplace"),
        }


def _text(message: dict[str, object], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name}: must be a string")  # noqa: TRY004 - a wrong message, not our bug
    return value


def _argv(message: dict[str, object]) -> list[str]:
    argv = message.get("argv")
    if not isinstance(argv, list) or not argv or not all(isinstance(arg, str) for arg in argv):
        raise ValueError("argv: must be a list of strings, not empty")
    return argv


def _env(message: dict[str, object]) -> dict[str, str]:
    env = message.get("env")
    if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
        raise ValueError("env: must be an object of strings")
    if any(not name or "=" in name for name in env):
        raise ValueError("env: a name must not be empty or hold '='")
    return env


def _mark(env: list[bytes]) -> tuple[bytes, ...]:
    """What tells whose process it is: its SPOOL_ID and SPOOL_ATTEMPT; empty for a stranger."""
    return tuple(sorted(e for e in env if e.startswith((b"SPOOL_ID=", b"SPOOL_ATTEMPT="))))


def _boot_ticks() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS)


def _spawn(argv: list[str], env: dict[str, str], cwd: str | None, stdin: str) -> tuple[int, int]:
    """Start it: its process id and the reading end of its output. An error leaves nothing open."""
    reader, writer = os.pipe()
    spent = [writer]
    try:
        os.set_blocking(reader, False)
        source = _stdin(stdin.encode("utf-8", "surrogateescape"))
        spent.append(source)
        if cwd is not None:
            os.chdir(cwd)
        pid = os.posix_spawn(
            _program(argv[0], env),
            argv,
            env,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, source, 0),
                (os.POSIX_SPAWN_DUP2, writer, 1),
                (os.POSIX_SPAWN_DUP2, writer, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=EVERY_SIGNAL,
        )
    except BaseException:
        os.close(reader)
        raise
    finally:
        for fd in spent:
            os.close(fd)
        if cwd is not None:
            os.chdir("/")
    return pid, reader


def _stdin(data: bytes) -> int:
    """A file descriptor that reads as these bytes: a memfd, which takes any size at once."""
    for flags in (MFD_CLOEXEC | MFD_NOEXEC_SEAL, MFD_CLOEXEC):  # the first from Linux 6.3
        try:
            fd = os.memfd_create("stdin", flags)
        except (OSError, AttributeError):
            continue
        os.pwrite(fd, data, 0)  # the offset stays 0
        return fd
    return _piped(data)


def _piped(data: bytes) -> int:
    """The same where memfds are forbidden; up to /proc/sys/fs/pipe-max-size, by default 1 MiB."""
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, max(len(data), 4096))
        os.write(writer, data)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    return reader


def _program(name: str, env: dict[str, str]) -> str:
    """Where a program is: a name without a slash is looked up on the PATH of the task."""
    if "/" in name or not name:
        return name
    code = errno.ENOENT
    for folder in env.get("PATH", os.defpath).split(":"):
        path = os.path.join(folder or ".", name)
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            code = errno.EACCES
    raise OSError(code, f"{os.strerror(code)} on PATH", name)


def _why(error: Exception) -> str:
    """The error of a start in words."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    text = f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    if error.errno == errno.ENOEXEC:
        text += " (a script needs a first line such as #!/bin/sh)"
    if error.errno == errno.ENOENT and error.filename and os.path.isfile(error.filename):
        text += " (the file is there: its interpreter is not)"
    return text


# --- all of them ---


class Keeper:
    """The loop: orders from spoold, output, deaths and timers of handlers; sleeps in between."""

    def __init__(self, sock: int) -> None:
        self.sock, self.deaths = sock, _signalfd(signal.SIGCHLD)
        self.running: dict[str, Attempt] = {}  # by key: from start to exit report
        self.leaders: dict[int, Attempt] = {}  # by process id: until the handler itself is reaped
        self.pipes: dict[int, Attempt] = {}
        self.ending: list[Attempt] = []  # reaped, but something it left may be alive
        self.beyond: set[int] = set()  # children that a SIGKILL did not end in time
        self.doubtful = False  # a stray was seen that may be of a live handler, or not
        self.inbox, self.outbox = bytearray(), bytearray()
        self.skipping = False  # inside a line that is too long
        self.open = True
        self.pids = _last_pid_file()
        self.epoll = select.epoll()
        self.events = select.EPOLLIN
        self.epoll.register(sock, self.events)
        self.epoll.register(self.deaths, select.EPOLLIN)
        try:  # the socket alone would not tell if a child of spoold holds a copy of its end
            self.parent = os.pidfd_open(os.getppid())
            self.epoll.register(self.parent, select.EPOLLIN)
        except (OSError, AttributeError):
            self.parent = -1

    def run(self) -> None:
        """Work until spoold is gone; then end what is left."""
        try:
            while self.open:
                self.turn()
        finally:  # of our own bugs too
            self.end()

    def turn(self) -> None:
        """Wait for something and do all of it."""
        ready = self.epoll.poll(self.patience(), 64)
        for fd, events in ready:
            attempt = self.pipes.get(fd)
            if attempt is not None:
                self.listen(attempt)
            elif fd == self.sock:
                self.talk(events)
            elif fd == self.parent:
                self.open = False
        if any(fd == self.deaths for fd, _ in ready):
            self.bury()
        self.expire()
        self.send()

    # --- spoold ---

    def talk(self, events: int) -> None:
        """Read orders and carry them out."""
        if events & (select.EPOLLHUP | select.EPOLLERR):
            self.open = False
        if not self.open or not events & select.EPOLLIN:
            return
        try:
            data = os.read(self.sock, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.open = bool(data)
        seen = len(self.inbox)
        self.inbox += data
        if self.inbox.find(b"\n", seen) >= 0:
            *lines, rest = self.inbox.split(b"\n")
            self.inbox = rest
            for line in lines:
                if self.open and not self.skipping:
                    self.obey(line)
                self.skipping = False
        if len(self.inbox) > LINE_LIMIT:
            self.say({"ev": "protocol", "error": f"a line of more than {LINE_LIMIT} bytes"})
            self.skipping = True
        if self.skipping:
            self.inbox.clear()

    def obey(self, line: bytearray) -> None:
        """One order. Nothing in it can end the keeper."""
        try:
            message = json.loads(line)
            order = message["op"]
            if order == "start":
                self.start(message)
            elif order == "kill":
                self.kill(_text(message, "key"), _seconds(message.get("grace")))
            elif order == "quit":
                self.open = False
            elif order == "hello":
                if message.get("no_new_privs"):
                    prctl(PR_SET_NO_NEW_PRIVS, 1)
            else:
                self.say({"ev": "protocol", "error": f"op: unknown {order!r}"})
        except (ValueError, TypeError, LookupError, RecursionError, OSError) as error:
            self.say({"ev": "protocol", "error": f"{type(error).__name__}: {error}"})

    def say(self, message: dict[str, object]) -> None:
        self.outbox += json.dumps(message).encode() + b"\n"

    def send(self) -> None:
        """Hand over what spoold takes now; a spoold that does not read gets no more work done."""
        if self.outbox:
            try:
                del self.outbox[: os.write(self.sock, self.outbox)]
            except BlockingIOError:
                pass
            except OSError:
                self.open = False
        events = select.EPOLLIN if len(self.outbox) <= BACKLOG else 0
        if self.outbox:
            events |= select.EPOLLOUT
        if events != self.events:
            self.events = events
            self.epoll.modify(self.sock, events)

    # --- handlers ---

    def start(self, message: dict[str, object]) -> None:
        """Start a handler or say why not."""
        key = _text(message, "key")
        refused = {"ev": "refused", "key": key}
        try:
            if key in self.running:
                raise FileExistsError(errno.EEXIST, "this attempt runs already")
            attempt = Attempt(message, self.epoll)
        except OSError as error:
            self.say({**refused, "errno": error.errno, "error": _why(error)})
            return
        except (ValueError, TypeError) as error:  # a NUL, a lone surrogate, a wrong type
            self.say({**refused, "errno": None, "error": str(error)})
            return
        self.running[key] = self.leaders[attempt.pid] = self.pipes[attempt.pipe] = attempt
        self.say({"ev": "started", "key": key, "pid": attempt.pid})

    def listen(self, attempt: Attempt) -> None:
        pipe = attempt.pipe
        attempt.read()
        if attempt.pipe < 0:
            del self.pipes[pipe]

    def kill(self, key: str, grace: float) -> None:
        """End a handler: TERM now and KILL after `grace` seconds; an unknown key has just ended."""
        attempt = self.running.get(key)
        if attempt is None or attempt in self.ending:
            return
        if grace <= 0:
            self.destroy(attempt)
            return
        until = time.monotonic() + grace
        attempt.due = until if attempt.due is None else min(attempt.due, until)
        procs = processes()
        strike_group(attempt.pid, signal.SIGTERM)
        strike_group(attempt.pid, signal.SIGCONT)
        for pid in self.tree(procs, attempt):
            if procs[pid].pgid != attempt.pid:
                strike(pid, procs[pid], signal.SIGTERM)
                strike(pid, procs[pid], signal.SIGCONT)

    def destroy(self, attempt: Attempt) -> None:
        """SIGKILL the whole tree. It is frozen first, so that nobody forks out of sight."""
        attempt.due = None
        found: dict[int, Proc] = {}
        for _ in range(FREEZES):
            procs = processes()
            fresh = [pid for pid in self.tree(procs, attempt) if pid not in found]
            if not fresh:
                break
            for pid in fresh:
                found[pid] = procs[pid]
                strike(pid, procs[pid], signal.SIGSTOP)
        for pid, proc in found.items():
            strike(pid, proc, signal.SIGKILL)
        strike_group(attempt.pid, signal.SIGKILL)

    def tree(self, procs: dict[int, Proc], attempt: Attempt) -> list[int]:
        """All processes of a live handler: its descendants, and its strays with theirs."""
        strays = [pid for pid in self.strays(procs) if self.owner(pid, procs[pid]) is attempt]
        return [pid for pid in trees(procs, [attempt.pid, *strays]) if pid in procs]

    def strays(self, procs: dict[int, Proc]) -> list[int]:
        """Our children that are no handlers: orphans of handlers, alive or dead."""
        me = os.getpid()
        return [p for p, proc in procs.items() if proc.ppid == me and p not in self.leaders]

    def owner(self, pid: int, proc: Proc) -> Attempt | None:
        """The live handler a stray belongs to for sure: by its session, else by its environment."""
        if proc.sid in self.leaders:
            return self.leaders[proc.sid]
        mark = _mark(environ(pid))
        return next((a for a in self.leaders.values() if mark and a.mark == mark), None)

    def doubt(self, pid: int, proc: Proc) -> bool:
        """Say if a stray without marks (a daemon sets its title over them) may be a live handler's.

        It may if one was there before it: killed late rather than killed under its own handler.
        """
        if _mark(environ(pid)) or any(proc.sid == attempt.pid for attempt in self.ending):
            return False
        return any(attempt.ticks <= proc.start for attempt in self.leaders.values())

    def doomed(self, procs: dict[int, Proc]) -> list[int]:
        """The strays of handlers that have ended, but for those a SIGKILL did not end before."""
        lost = [p for p in self.strays(procs) if self.owner(p, procs[p]) is None]
        doubtful = {p for p in lost if self.doubt(p, procs[p])}
        self.doubtful = bool(doubtful)
        return [p for p in lost if p not in doubtful and p not in self.beyond]

    # --- deaths ---

    def bury(self) -> None:
        """Reap who has died; report handlers that left nothing, hunt what the others left."""
        os.read(self.deaths, 4096)
        alone = self.reap()
        if self.ending:
            self.settle(alone=alone)

    def reap(self) -> bool:
        """Reap every dead child. True: there is no child any more, dead or alive."""
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return True
            if dead is None:
                return False
            attempt = self.leaders.pop(dead.si_pid, None)
            if attempt is not None:  # not reaped yet: the number of the group is still its own
                strike_group(attempt.pid, signal.SIGKILL)
                attempt.due = None
                self.ending.append(attempt)
            _, status, usage = os.wait4(dead.si_pid, 0)
            self.beyond.discard(dead.si_pid)
            if attempt is not None:
                attempt.reaped(status, usage)

    def settle(self, *, alone: bool) -> None:
        """Report the ended handlers once nothing of them lives; until then kill what does."""
        if alone or not self.suspicious():
            self.report()
            return
        procs = processes()
        doomed = self.doomed(procs)
        for pid in trees(procs, doomed):
            strike(pid, procs[pid], signal.SIGKILL)
        if not doomed:
            self.report()
        for attempt in self.ending:  # the death of each of the doomed brings us back here
            attempt.due = attempt.due or time.monotonic() + PATIENCE

    def suspicious(self) -> bool:
        """False only if none of the ended handlers can have left a process behind."""
        now = time.monotonic()
        if self.doubtful or self.pids < 0 or any(a.due for a in self.ending):
            return True
        if any(now - attempt.since > YOUNG for attempt in self.ending):
            return True
        first = min(attempt.pid for attempt in self.ending)
        last = int(os.pread(self.pids, 128, 0).rsplit(b" ", 1)[1])
        if not 0 <= last - first <= WINDOW:
            return True
        return any(self.left_behind(pid) for pid in range(first + 1, last + 1))

    def left_behind(self, pid: int) -> bool:
        """Say if this is a child of ours outside live sessions (their threads have numbers too)."""
        if pid in self.leaders:
            return False
        proc = look(pid)
        return proc is not None and proc.ppid == os.getpid() and proc.sid not in self.leaders

    def report(self) -> None:
        """The last word on all that have ended."""
        for attempt in self.ending:
            self.pipes.pop(attempt.pipe, None)
            del self.running[attempt.key]
            self.say(attempt.finish())
        self.ending.clear()

    # --- time ---

    def patience(self) -> float | None:
        """Seconds until something is due, None: sleep until something happens."""
        due = min((a.due for a in self.running.values() if a.due is not None), default=None)
        return None if due is None else max(0.0, due - time.monotonic())

    def expire(self) -> None:
        """Do what is due: KILL after the grace, a report in spite of processes that do not die."""
        now = time.monotonic()
        due = [a for a in self.running.values() if a.due is not None and a.due <= now]
        for attempt in due:
            if attempt not in self.ending:
                self.destroy(attempt)
        if any(attempt in self.ending for attempt in due):
            self.beyond.update(self.doomed(processes()))
            self.report()

    # --- the end ---

    def end(self) -> None:
        """Kill everything below us and reap it; what does not die in time is left to init."""
        until = time.monotonic() + PATIENCE
        for pid in self.leaders:
            strike_group(pid, signal.SIGKILL)
        me = os.getpid()
        while True:
            procs = processes()
            for pid in trees(procs, [me])[1:]:
                strike(pid, procs[pid], signal.SIGKILL)
            if self.reap() or time.monotonic() > until:
                break
            if select.select([self.deaths], [], [], max(0.0, until - time.monotonic()))[0]:
                os.read(self.deaths, 4096)
        for attempt in self.running.values():
            attempt.finish()  # its last words into the log


def _seconds(value: object) -> float:
    if not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise ValueError("grace: must be a number of seconds")
    return float(value)


def _signalfd(number: int) -> int:
    """Deaths as a descriptor: also of strays, and one read for any number of them."""
    libc = ctypes.CDLL(None, use_errno=True)
    mask = ctypes.create_string_buffer(128)
    libc.sigemptyset(mask)
    libc.sigaddset(mask, number)
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    fd: int = libc.signalfd(-1, mask, os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "signalfd")
    return fd


def _last_pid_file() -> int:
    """/proc/loadavg, whose last word is the process number given out last; -1 if it is a fake (lxcfs)."""
    try:
        fd = os.open("/proc/loadavg", os.O_RDONLY)
        if os.fstat(fd).st_dev == os.stat("/proc").st_dev:
            return fd
        os.close(fd)
    except OSError:
        pass
    return -1


def _settle_in(kept: set[int]) -> None:
    """Cut all ties: descriptors, signals, directory; become the one orphans come to."""
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd in kept:
            os.set_inheritable(fd, False)  # noqa: FBT003 - takes no keyword
        elif fd > 2:
            with contextlib.suppress(OSError):  # the one that listed them
                os.close(fd)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd, inheritable=False)
    os.close(null)
    os.chdir("/")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if os.getsid(0) != os.getpid():
        os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_NAME, NAME.encode())


def main(args: list[str]) -> None:
    """FD [--keep FD]... : the socket to spoold, and descriptors (locks) held until the end."""
    sock, *kept = [int(arg) for arg in args if arg != "--keep"]
    _settle_in({sock, *kept})
    os.set_blocking(sock, False)
    Keeper(sock).run()


if __name__ == "__main__":
    main(sys.argv[1:])
