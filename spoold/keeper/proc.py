"""Processes never mistaken for each other: seen in /proc, struck by descriptor."""

from __future__ import annotations

import _thread  # without the Python around it, which takes long to import
import errno
import os
import signal

TYPE_CHECKING = False  # typing takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 5.0  # seconds for killed processes to go; one in state D may never
WAIT = 1.0  # seconds for a process to tell its environment, and less while others do not tell theirs
SPARE = 4  # descriptors that are for those who kill: two each
CHUNK = 1 << 16  # bytes read at a time: room for what is rarely there costs more than to read it


class Proc:
    """What /proc/PID/stat says: comm, state (one letter), ppid, pgid, sid, start (ticks since boot)."""

    __slots__ = ("comm", "pgid", "ppid", "sid", "start", "state")

    def __init__(self, stat: bytes) -> None:
        end = stat.rindex(b")")  # a name may hold brackets and blanks itself
        rest = stat[end + 2 :].split(b" ", 20)
        self.comm = stat[stat.index(b"(") + 1 : end]
        self.state = rest[0]
        self.ppid, self.pgid, self.sid = int(rest[1]), int(rest[2]), int(rest[3])
        self.start = int(rest[19])


def _slurp(path: str, limit: int) -> bytes:
    """The start of a file in /proc; empty when the process is gone or another user's."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        data = part = os.read(fd, min(CHUNK, limit))
        while len(part) == CHUNK and len(data) < limit:
            part = os.read(fd, min(CHUNK, limit - len(data)))
            data += part
    except OSError:
        return b""
    else:
        return data
    finally:
        os.close(fd)


def look(pid: int) -> Proc | None:
    """The process (or thread) with this number, None when there is none."""
    stat = _slurp(f"/proc/{pid}/stat", 1024)
    return Proc(stat) if stat else None


def environ(pid: int) -> list[bytes] | None:
    """The environment a process was started with, as NAME=VALUE; empty for a dead one.

    None: it cannot be had, as of one that waits for a file server in an mmap before the server answers.
    A thread waits for it then, and nobody else does.
    """
    if pid in _awaited:
        return None
    found: list[bytes] = []
    done = _thread.allocate_lock()
    done.acquire()

    def ask() -> None:
        found.append(_slurp(f"/proc/{pid}/environ", 1 << 21))
        _awaited.discard(pid)
        done.release()

    _awaited.add(pid)
    try:
        _thread.start_new_thread(ask, ())
    except RuntimeError:  # there are as many threads as may be
        ask()
    return found[0].split(b"\0") if done.acquire(timeout=WAIT / max(1, len(_awaited))) else None


_awaited: set[int] = set()  # processes whose environment a thread waits for


def mark(env: list[bytes] | None) -> tuple[bytes, ...]:
    """What tells whose process it is: its SPOOL_ID and SPOOL_ATTEMPT; empty for a stranger."""
    return tuple(sorted(e for e in env or () if e.startswith((b"SPOOL_ID=", b"SPOOL_ATTEMPT="))))


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


def spare(fd: int, least: int = SPARE) -> None:
    """OSError where fewer descriptors are left than that."""
    if fd >= os.sysconf("SC_OPEN_MAX") - least:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def strike(pid: int, proc: Proc, *numbers: int) -> None:
    """Signal this very process, never another one that got its number meanwhile."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError:  # no pidfd here: still safe for a child, whose number is held until it is reaped
        if proc.ppid == os.getpid():
            _send(os.kill, pid, numbers)
        return
    now = look(pid)  # after the pidfd: the same start time proves that both mean one process
    if now is not None and now.start == proc.start:
        _send(signal.pidfd_send_signal, fd, numbers)
    os.close(fd)


def strike_group(leader: int, *numbers: int) -> None:
    """Signal a group whose leader is our child and not reaped: until then the number is its own."""
    _send(os.killpg, leader, numbers)


def kill_below(root: int, spared: bytes = b"") -> None:
    """SIGKILL all that is below a process, but a child of it of the spared name, and wait for nothing.

    It reads no environment, which may take long to be had. What was begun meanwhile is for the next call,
    and so are all where the machine has no descriptor or no memory left to see them with.
    """
    try:
        procs = processes()
    except OSError:
        return
    for pid in trees(procs, [root])[1:]:
        proc = procs[pid]
        if proc.ppid != root or proc.comm != spared:
            strike(pid, proc, signal.SIGKILL)


def _send(how: Callable[[int, int], None], target: int, numbers: tuple[int, ...]) -> None:
    try:
        for number in numbers:
            how(target, number)
    except OSError:
        pass  # gone, or another user's (a setuid program)
