"""The daemon's side of the keeper: handlers started, killed and heard of without ever blocking.

    runner = Runner(keep_fds=[lock], no_new_privs=True)
    runner.start_keeper()
    selector.register(runner.fileno(), EVENT_READ)      # stays valid when a keeper is replaced
    runner.start("ID.1", argv, env, cwd, stdin, log, log_limit)
    runner.flush()
    for event in runner.events(): ...                   # whenever fileno() is readable

Every start is answered by one of NotStarted, Exited, Returned or KeeperLost, whatever happens. Call all
of it from one thread: the keeper ends with it. The messages are described in spoold/keeper/__init__.py.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from spoold import keeper
from spoold.effects.leftovers import kill_all
from spoold.effects.reports import Exited, KeeperLost, NotStarted, Returned, Started
from spoold.keeper.libc import PR_SET_CHILD_SUBREAPER, prctl
from spoold.keeper.proc import PATIENCE, environ, look

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from spoold.effects.begun import Begun
    from spoold.effects.reports import Event
    from spoold.keeper.proc import Proc

log = logging.getLogger("spoold")
CLOSING = 2 * PATIENCE  # seconds for the keeper to kill everything and go
HASTE = 1.0  # a keeper that dies sooner than this many seconds after its start
DEATHS = 5  # in a row: is not worth starting again
CHUNK = 1 << 16
ENDS: dict[str, type[Exited | NotStarted | Returned]] = {
    "exit": Exited,
    "refused": NotStarted,
    "returned": Returned,
}
# `-c`, and a folder where only the keeper finds its modules: `-m` costs milliseconds at each start
ENTRY = (
    "import sys; sys.path.append(sys.argv.pop(1)); from keeper.__main__ import main; main(sys.argv[1:])"
)


class Place(NamedTuple):
    """Where an order waits: `ahead` 0 for not at all, else until fewer than so many of its lane run."""

    lane: str
    ahead: int = 0
    rank: tuple[int, str] = (0, "")


class RunnerError(RuntimeError):
    """A bug of ours or a broken Python: the keeper did not understand us, or does not stay up."""


class Runner:
    """Starts handlers through a keeper, tells what became of them, replaces a keeper that died."""

    def __init__(
        self,
        *,
        keep_fds: Sequence[int] = (),
        no_new_privs: bool = False,
        lease: int | None = None,
        begun: Begun | None = None,
    ) -> None:
        """`keep_fds` (locks) stay open in the keeper until it has killed what it must.

        `lease`: a file that says when nothing may start any more; spoold.keeper.orders.is_over reads it.
        `begun`: where each attempt is noted before it begins.
        """
        self.lease = lease
        self.begun = begun
        self._keep_fds = tuple(keep_fds)
        self._no_new_privs = no_new_privs
        # As many descriptors as there may be are for us alone: a worker takes three.
        self._files = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._files[1], self._files[1]))
        self._epoll = select.epoll()
        self._sock: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._inbox, self._outbox = bytearray(), bytearray()
        self._passing: deque[tuple[int, socket.socket]] = deque()  # place in the outbox, descriptor
        self._armed = False  # does the epoll tell us when the keeper takes more?
        self._live: dict[str, int] = {}  # key -> process id, 0 until it is known
        self._overdue: dict[str, float] = {}  # those to be killed: when to look what keeps the keeper
        self._born, self._deaths = 0.0, 0

    # --- the keeper ---

    def start_keeper(self) -> None:
        """Start the keeper. Orders may be given at once; it reads them some 20 ms later."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)  # if it is killed, its handlers come to us
        ours, theirs = socket.socketpair()
        with theirs:
            begun = None if self.begun is None else self.begun.fd
            options = [
                ("--lease", self.lease),
                ("--begun", begun),
                *(("--keep", fd) for fd in self._keep_fds),
            ]
            given = [(name, fd) for name, fd in options if fd is not None]
            self._process = subprocess.Popen(
                _command(theirs.fileno(), given),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *(fd for _, fd in given)),
                start_new_session=True,
                cwd="/",
                env={k: v for k, v in os.environ.items() if not k.startswith("SPOOL_")},
            )
        resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, self._files)
        ours.setblocking(False)  # noqa: FBT003 - takes no keyword
        self._sock, self._born = ours, time.monotonic()
        self._epoll.register(ours, select.EPOLLIN)
        self._send({"op": "hello", "no_new_privs": self._no_new_privs})

    @property
    def keeper_pid(self) -> int:
        """The process id of the keeper, for status; 0 when there is none."""
        return 0 if self._process is None else self._process.pid

    def close(self) -> None:
        """Kill every handler, end the keeper. At most CLOSING seconds, usually a few ms."""
        resource.setrlimit(resource.RLIMIT_NOFILE, self._files)
        if self._process is None:
            return
        with contextlib.suppress(RunnerError):
            self._send({"op": "quit"})
        self._hang_up()  # end of file says the same to a keeper that cannot read for a full backlog
        try:
            self._process.wait(CLOSING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self._kill_orphans()
        self._process = None
        self._epoll.close()

    def _hang_up(self) -> None:
        if self._sock is not None:
            self._epoll.unregister(self._sock)  # a child in the middle of exec may hold a copy still
            self._sock.close()
            self._sock = None
        self._inbox.clear()
        self._forget_orders()
        self._armed = False

    def _replace(self) -> KeeperLost:
        """The keeper is gone: end its handlers, which are ours now, and start another one."""
        process = self._process
        if process is None:
            raise RunnerError("the keeper was never started")
        process.kill()
        process.wait()  # only now have its children come to us
        self._hang_up()
        self._kill_orphans()
        lost = KeeperLost(keys=tuple(self._live))
        self._live.clear()
        self._overdue.clear()
        self._deaths = self._deaths + 1 if time.monotonic() - self._born < HASTE else 0
        if self._deaths > DEATHS:
            raise RunnerError(f"the keeper died {DEATHS} times at once (status {process.returncode})")
        self.start_keeper()
        return lost

    def _kill_orphans(self) -> None:
        """Kill and reap every child of ours that is a handler, or the rest of one."""
        me, leaders = os.getpid(), set(self._live.values())

        def is_orphan(pid: int, proc: Proc) -> bool:
            if proc.ppid != me:
                return False
            if pid in leaders or proc.sid in leaders or proc.comm == keeper.NAME.encode():
                return True  # the last: between fork and exec
            env = environ(pid)  # who cannot tell it has more likely come to us than been there before
            return env is None or any(entry.startswith(b"SPOOL_ID=") for entry in env)

        kill_all(is_orphan)

    # --- orders ---

    def start(  # noqa: PLR0913 - all that a process is made of
        self,
        key: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str | None,
        stdin: str,
        log: str,
        log_limit: int,
        sock: socket.socket | None = None,
        niceness: Mapping[str, int | str] | None = None,
        place: Place | None = None,
    ) -> None:
        """Start a handler, with the next flush(). `key` names the attempt (ID.N) and must not be in use.

        argv: argv[0] without a slash is looked up on env's PATH. env: the whole environment; give
        it SPOOL_ID and SPOOL_ATTEMPT, by which what it leaves behind is recognised. cwd: None for "/".
        `sock` is what it reads in place of `stdin`; it is ours no more, whatever happens.
        niceness: cgroup (directory), nice, ionice (high, low, idle), oom_score_adj, cpu (seconds) ...
        place: among the others of its lane; one that is ahead may have to wait there.
        log: absolute path, made at the first byte of output, at most `log_limit` bytes of it.
        """
        if key in self._live:
            raise RunnerError(f"attempt {key} runs already")
        self._live[key] = 0
        order: dict[str, Any] = {"op": "start", "key": key, "argv": argv, "env": dict(env), "cwd": cwd}
        if niceness:
            order["niceness"] = dict(niceness)
        if place is not None:
            order |= place._asdict()
        if sock is not None:
            order["socket"] = True
            self._passing.append((len(self._outbox), sock))
        self._say({**order, "stdin": stdin, "log": log, "log_limit": log_limit})

    def recall(self, lane: str) -> None:
        """What waits in a lane goes back: Returned follows for each, but for what has begun."""
        self._send({"op": "recall", "lane": lane})

    def kill(self, key: str, grace: float) -> None:
        """End a handler: TERM to its tree, KILL after `grace` seconds (0: at once).

        Exited follows, or Returned where it had not begun.
        """
        if key in self._live:
            at = time.monotonic() + grace + PATIENCE
            self._overdue[key] = min(at, self._overdue.get(key, at))
        self._send({"op": "kill", "key": key, "grace": grace})

    def _say(self, message: dict[str, Any]) -> None:
        if self._sock is None:
            raise RunnerError("the keeper was never started")
        self._outbox += _line(message)

    def _send(self, message: dict[str, Any]) -> None:
        self._say(message)
        self.flush()

    def flush(self) -> None:
        """Hand over what the keeper takes now."""
        if self._sock is None:
            return
        try:
            while self._outbox:
                self._hand_over(self._sock)
        except BlockingIOError:
            pass
        except OSError:
            self._forget_orders()  # it is dead: events() will find the end of file and say so
        if bool(self._outbox) != self._armed:
            self._armed = not self._armed
            wanted = select.EPOLLIN | (select.EPOLLOUT if self._armed else 0)
            self._epoll.modify(self._sock, wanted)

    def _hand_over(self, keeper: socket.socket) -> None:
        """Some of the outbox; a descriptor goes with the first byte of its message."""
        if not self._passing:
            del self._outbox[: keeper.send(self._outbox)]
            return
        place, sock = self._passing[0]
        if place:
            sent = keeper.send(memoryview(self._outbox)[:place])
        else:
            end = self._passing[1][0] if len(self._passing) > 1 else len(self._outbox)
            sent = socket.send_fds(keeper, [self._outbox[:end]], [sock.fileno()])
            self._passing.popleft()
            sock.close()
        del self._outbox[:sent]
        self._passing = deque((at - sent, one) for at, one in self._passing)

    def _forget_orders(self) -> None:
        self._outbox.clear()
        while self._passing:
            self._passing.popleft()[1].close()

    # --- events ---

    def pids(self) -> dict[str, int]:
        """The process id of every handler that runs, 0 where it is not known yet, by its key."""
        return dict(self._live)

    def fileno(self) -> int:
        """Readable when there is something for events() to do; the same number for ever."""
        return self._epoll.fileno()

    def events(self) -> list[Event]:
        """What has happened since; empty if nothing did. Never blocks, but for a lost keeper."""
        self.flush()
        gone = self._receive()
        *lines, rest = self._inbox.split(b"\n")
        self._inbox = rest
        found: list[Event] = [self._event(_message(line)) for line in lines]
        if gone or self._stands_still():
            found.append(self._replace())
        return found

    def due(self) -> int | None:
        """In how many us events() has something to do though fileno() is not readable; None: never."""
        at = min(self._overdue.values(), default=None)
        return None if at is None else max(0, int((at - time.monotonic()) * 1e6))

    def _stands_still(self) -> bool:
        """Whether the keeper is stopped while somebody should be dead: SIGSTOP, a debugger."""
        now = time.monotonic()
        late = [key for key, at in self._overdue.items() if at <= now]
        self._overdue |= dict.fromkeys(late, now + PATIENCE)  # in state D they may never die
        proc = look(self.keeper_pid) if late else None
        if proc is None or proc.state not in b"Tt":
            return False
        log.error("the keeper of the handlers, pid %d, stands still: it is killed", self.keeper_pid)
        return True

    def _receive(self) -> bool:
        """Read what is there. True: the keeper is gone."""
        if self._sock is None:
            raise RunnerError("the keeper was never started")
        while True:
            try:
                data = self._sock.recv(CHUNK)
            except BlockingIOError:
                return False
            except ConnectionError:
                return True
            if not data:
                return True
            self._inbox += data
            if len(data) < CHUNK:
                return False

    def _event(self, message: dict[str, Any]) -> Event:
        kind = message.pop("ev")
        if kind == "started":
            started = Started(**message)
            self._live[started.key] = started.pid
            return started
        if kind == "protocol":
            raise RunnerError(f"the keeper did not understand: {message['error']}")
        del self._live[message["key"]]
        self._overdue.pop(message["key"], None)
        return ENDS[kind](**message)


def _line(message: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # an environment that is not UTF-8
        return json.dumps(message).encode() + b"\n"


def _message(line: bytearray) -> dict[str, Any]:
    try:
        found: dict[str, Any] = orjson.loads(line)
    except ValueError:  # the name of a program that is not UTF-8
        found = json.loads(line)
    return found


def _command(sock: int, given: Iterable[tuple[str, int]]) -> list[str]:
    words = [word for name, fd in given for word in (name, str(fd))]
    folder = os.path.dirname(os.path.dirname(os.path.abspath(keeper.__file__)))
    return [sys.executable, "-I", "-S", "-X", "utf8", "-c", ENTRY, folder, str(sock), *words]
