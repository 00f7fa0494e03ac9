"""Which of the processes below the keeper belongs to which handler."""

from __future__ import annotations

import os
import signal
import time

from .proc import environ, look, mark, strike_group, trees

TYPE_CHECKING = False  # typing takes long to import
if TYPE_CHECKING:
    from .attempt import Attempt
    from .proc import Proc

YOUNG = 1.0  # seconds in which process numbers cannot have gone round
WINDOW = 200  # numbers looked at one by one; above it a scan of /proc is cheaper


class Family:
    """All that lives below the keeper: handlers, their descendants, and strays.

    A stray is a child of the keeper that is no handler: an orphan of one, alive or dead.
    """

    def __init__(self) -> None:
        self.leaders: dict[int, Attempt] = {}  # by process id: until the handler itself is reaped
        self.ending: list[Attempt] = []  # reaped, but something it left may be alive
        self.beyond: set[int] = set()  # children that a SIGKILL did not end in time
        self._doubtful = False  # a stray was seen that may be of a live handler, or not
        self._pids = _last_pid_file()

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

    def tree(self, procs: dict[int, Proc], attempt: Attempt) -> list[int]:
        """All processes of a live handler: its descendants, and its strays with theirs."""
        strays = [pid for pid in self._strays(procs) if self._owner(pid, procs[pid]) is attempt]
        return [pid for pid in trees(procs, [attempt.pid, *strays]) if pid in procs]

    def doomed(self, procs: dict[int, Proc]) -> list[int]:
        """The strays of handlers that have ended, but for those a SIGKILL did not end before."""
        lost = [p for p in self._strays(procs) if self._owner(p, procs[p]) is None]
        doubtful = {p for p in lost if self._doubt(p, procs[p])}
        self._doubtful = bool(doubtful)
        return [p for p in lost if p not in doubtful and p not in self.beyond]

    def _strays(self, procs: dict[int, Proc]) -> list[int]:
        me = os.getpid()
        return [p for p, proc in procs.items() if proc.ppid == me and p not in self.leaders]

    def _owner(self, pid: int, proc: Proc) -> Attempt | None:
        """The live handler a stray belongs to for sure: by its session, else by its environment."""
        if proc.sid in self.leaders:
            return self.leaders[proc.sid]
        whose = mark(environ(pid))
        return next((a for a in self.leaders.values() if whose and a.mark == whose), None)

    def _doubt(self, pid: int, proc: Proc) -> bool:
        """Say if a stray without marks (a daemon sets its title over them) may be a live handler's.

        It may if one was there before it: killed late rather than killed under its own handler.
        """
        if mark(environ(pid)) or any(proc.sid == attempt.pid for attempt in self.ending):
            return False
        return any(attempt.ticks <= proc.start for attempt in self.leaders.values())

    def suspicious(self) -> bool:
        """False only if none of the ended handlers can have left a process behind."""
        now = time.monotonic()
        if self._doubtful or self._pids < 0:
            return True
        if any(attempt.due or now - attempt.since > YOUNG for attempt in self.ending):
            return True
        first = min(attempt.pid for attempt in self.ending)
        last = int(os.pread(self._pids, 128, 0).rsplit(b" ", 1)[1])
        if not 0 <= last - first <= WINDOW:
            return True
        return any(self._left_behind(pid) for pid in range(first + 1, last + 1))

    def _left_behind(self, pid: int) -> bool:
        """Say if this is a child of ours outside live sessions (their threads have numbers too)."""
        if pid in self.leaders:
            return False
        proc = look(pid)
        return proc is not None and proc.ppid == os.getpid() and proc.sid not in self.leaders


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
