"""The keeper at work: orders, output, deaths and timers of handlers, and sleep in between."""

from __future__ import annotations

import _thread  # without the Python around it, which takes long to import
import errno
import json
import os
import resource  # here and not late: without descriptors nothing can be imported
import select
import signal
import time

from .attempt import Attempt
from .family import Family
from .lanes import Lanes
from .libc import PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, prctl, signalfd
from .orders import StartOrder, is_over, seconds, text
from .proc import PATIENCE, Proc, kill_below, processes, strike, strike_group, trees
from .spawn import prepare, why
from .wire import Wire

SOON = 0.003  # seconds that a report waits for others while there is enough to do
RESERVE = 16  # descriptors that nothing is made ahead with
AGAIN = 0.2  # seconds
ORPHANED = signal.SIGRTMAX  # one that nobody sends
FREEZES = 8  # rounds of SIGSTOP before SIGKILL: a tree that forks faster is left to the sweep


class Keeper:
    """Everything the process does. One thread, and one for when that is stuck."""

    def __init__(self, sock: int, lease: int | None = None, begun: int | None = None) -> None:
        self.lease = lease
        self.begun = begun
        self.deaths = signalfd(signal.SIGCHLD)  # strays' too
        self.epoll = select.epoll()
        self.epoll.register(self.deaths, select.EPOLLIN)
        self.wire = Wire(sock, self.epoll)
        self.family = Family()
        self.lanes = Lanes()
        self.running: dict[str, Attempt] = {}  # by key: from start to exit report
        self.pipes: dict[int, Attempt] = {}
        # The socket alone would not tell if a child of spoold holds a copy of its end; a pidfd, not while
        # one of its threads waits for a file system. This comes when the thread that started us is dead.
        self.orphaned = signalfd(ORPHANED)
        prctl(PR_SET_PDEATHSIG, ORPHANED)
        self.epoll.register(self.orphaned, select.EPOLLIN)
        try:
            _thread.start_new_thread(self.mourn, ())
        except RuntimeError:  # there are as many threads as may be: the one does it all
            pass

    def run(self) -> None:
        """Work until spoold is gone; then end what is left."""
        try:
            while self.wire.open:
                self.turn()
        finally:  # of our own bugs too
            self.end()

    def turn(self) -> None:
        """Wait for something and do all of it."""
        deaths = False
        for fd, events in self.epoll.poll(self.patience(), 64):
            if fd == self.deaths:
                deaths = True  # what came with it is heard first
            elif fd in self.pipes:
                self.listen(self.pipes[fd])
            elif fd == self.wire.sock:
                for line in self.wire.receive(events):
                    self.obey(line)
            elif fd == self.orphaned:
                self.wire.open = False
        if deaths:
            self.bury()
        self.expire()
        self.wire.send()
        if self.lanes.waiting:
            self.tell(self.follow())
            self.wire.send()
            self.prepare()

    # --- orders ---

    def obey(self, line: bytearray) -> None:
        """One order. Nothing in it can end the keeper, but the order to."""
        if not self.wire.open:
            return
        try:
            message = json.loads(line)
            match message["op"]:
                case "start":
                    self.start(message)
                case "recall":
                    self.give_back(text(message, "lane"))
                case "kill":
                    self.kill(text(message, "key"), seconds(message, "grace"))
                case "quit":
                    self.wire.open = False
                case "hello":
                    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
                    resource.setrlimit(resource.RLIMIT_CORE, (0, most))  # a core holds secrets
                    if message.get("no_new_privs"):
                        prctl(PR_SET_NO_NEW_PRIVS, 1)
                case order:
                    self.wire.say({"ev": "protocol", "error": f"op: unknown {order!r}"})
        except (ValueError, TypeError, LookupError, RecursionError, OSError) as error:
            self.wire.say({"ev": "protocol", "error": f"{type(error).__name__}: {error}"})

    def start(self, message: dict[str, object]) -> None:
        """Start a handler or say why not."""
        fd = self.wire.fds.popleft() if message.get("socket") else None
        try:
            order = StartOrder(message, fd)
            if order.ahead or order.lane in self.lanes.waiting:
                self.lanes.add(order)
            else:
                self.tell([self.spawn(order)])
        except (ValueError, TypeError) as error:  # a wrong type
            self.tell([_refused(text(message, "key"), None, str(error))])
        finally:
            if fd is not None:
                os.close(fd)

    def prepare(self) -> None:
        """What the next ones need is made while others run, where there are descriptors to spare."""
        for order in self.lanes.first():
            try:
                prepare(order, RESERVE)
            except (OSError, ValueError):
                pass  # it is told when it is to start

    def follow(self) -> list[dict[str, object]]:
        """Start what waits for one of its lane to end, where one has; what there is to tell of it."""
        words: list[dict[str, object]] = []
        while self.lanes.waiting and (order := self.lanes.next(self.running.values())) is not None:
            words.append(self.spawn(order))
        return words

    def tell(self, words: list[dict[str, object]]) -> None:
        """That handlers have started can wait, that they have not cannot."""
        for word in words:
            if word["ev"] == "started":
                self.wire.remark(word)
            else:
                self.wire.say(word)

    def give_back(self, lane: str) -> None:
        """What waits in a lane does not begin."""
        for key in self.lanes.clear(lane):
            self.wire.say({"ev": "returned", "key": key})

    def spawn(self, order: StartOrder) -> dict[str, object]:
        """Start a handler that reads the `input`, or the `stdin` of the order; what there is to tell."""
        key = order.key
        try:
            if key in self.running:
                return _refused(key, errno.EEXIST, "this attempt runs already")
            if self.lease is not None and is_over(self.lease):  # the host was frozen since it was ordered
                return _refused(key, errno.ETIME, "the lease of this node is over")
            self.note(key)
            attempt = Attempt(order)
        except OSError as error:
            if error.errno == errno.EMFILE and self.lanes.close():
                return self.spawn(order)  # others had descriptors that wait
            return _refused(key, error.errno, why(error))
        except (ValueError, TypeError) as error:  # a NUL, a lone surrogate
            return _refused(key, None, str(error))
        finally:
            order.close()
        self.running[key] = self.family.leaders[attempt.pid] = attempt
        begun = {"pid": attempt.pid, "since": attempt.since, "ahead": order.ahead > 0}
        return {"ev": "started", "key": key, **begun}

    def note(self, key: str) -> None:
        """It begins, for whoever comes after all of us."""
        if self.begun is None:
            return
        line = key.encode("utf-8", "replace") + b"\n"
        try:
            if os.write(self.begun, line) == len(line):
                return
        except OSError:
            pass
        try:  # no room: then all have begun, for all they know
            os.ftruncate(self.begun, 0)
        except OSError:
            pass

    def listen(self, attempt: Attempt) -> None:
        """Take output; forget a pipe that has ended."""
        pipe = attempt.pipe
        attempt.read()
        if attempt.pipe < 0:
            del self.pipes[pipe]

    # --- killing ---

    def kill(self, key: str, grace: float) -> None:
        """End a handler: TERM now and KILL after `grace` seconds; an unknown key has just ended."""
        if self.lanes.take(key):
            self.wire.say({"ev": "returned", "key": key})
            return
        attempt = self.running.get(key)
        if attempt is None or attempt in self.family.ending:
            return
        if grace <= 0:
            self.destroy(attempt)
            return
        until = time.monotonic() + grace
        attempt.due = until if attempt.due is None else min(attempt.due, until)
        procs = processes()
        strike_group(attempt.pid, signal.SIGTERM, signal.SIGCONT)
        for pid in self.family.tree(procs, attempt):
            if procs[pid].pgid != attempt.pid:
                strike(pid, procs[pid], signal.SIGTERM, signal.SIGCONT)

    def destroy(self, attempt: Attempt) -> None:
        """SIGKILL the whole tree. It is frozen first, so that nobody forks out of sight."""
        attempt.due = None
        found: dict[int, Proc] = {}
        for _ in range(FREEZES):
            procs = processes()
            fresh = [pid for pid in self.family.tree(procs, attempt) if pid not in found]
            if not fresh:
                break
            for pid in fresh:
                found[pid] = procs[pid]
                strike(pid, procs[pid], signal.SIGSTOP)
        for pid, proc in found.items():
            strike(pid, proc, signal.SIGKILL)
        strike_group(attempt.pid, signal.SIGKILL)

    # --- deaths ---

    def bury(self) -> None:
        """Reap who has died; report handlers that left nothing, hunt what the others left."""
        os.read(self.deaths, 4096)
        alone = self.family.reap()
        if not self.family.ending:
            return
        if alone or not self.family.suspicious():
            self.report()
        else:
            self.hunt()

    def hunt(self) -> None:
        """Kill what ended handlers left; report them if that is nothing."""
        procs = processes()
        doomed = self.family.doomed(procs)
        for pid in trees(procs, doomed):
            strike(pid, procs[pid], signal.SIGKILL)
        if not doomed:
            self.report()
        for attempt in self.family.ending:  # the death of each of the doomed brings us back here
            attempt.due = attempt.due or time.monotonic() + PATIENCE

    def report(self) -> None:
        """The last word on all that have ended: several at once, where spoold need not know at once.

        The next of their lanes begin before it is written.
        """
        ended = self.family.ending.copy()
        self.family.ending.clear()
        for attempt in ended:
            self.pipes.pop(attempt.pipe, None)
            del self.running[attempt.key]
        words = self.follow()
        for attempt in ended:
            word = attempt.finish()
            if self.lanes.has_enough(attempt.lane):
                self.wire.remark(word, SOON)
            else:
                self.wire.say(word)
        self.tell(words)

    # --- time ---

    def patience(self) -> float | None:
        """Seconds until something is due, None: sleep until something happens."""
        due = [at for a in self.running.values() for at in (a.due, a.quiet) if at is not None]
        due += [] if self.wire.due is None else [self.wire.due]
        due += self.lanes.due(self.running.values()).values()
        return max(0.0, min(due) - time.monotonic()) if due else None

    def expire(self) -> None:
        """Do what is due: KILL after the grace, a report in spite of processes that do not die.

        What waits behind a handler that is slow goes back, and what it says is listened to.
        """
        now = time.monotonic()
        for attempt in self.running.values():
            if attempt.quiet is not None and attempt.quiet <= now and attempt.listen(self.epoll):
                self.pipes[attempt.pipe] = attempt
        for lane, at in self.lanes.due(self.running.values()).items():
            if at <= now:
                self.give_back(lane)
        due = [a for a in self.running.values() if a.due is not None and a.due <= now]
        for attempt in due:
            if attempt not in self.family.ending:
                self.destroy(attempt)
        if any(attempt in self.family.ending for attempt in due):
            self.family.beyond.update(self.family.doomed(processes()))
            self.report()

    # --- the end ---

    def mourn(self) -> None:
        """When spoold is dead kill all below us, though the other thread may wait for a file server."""
        dead = select.poll()
        dead.register(self.orphaned, select.POLLIN)
        dead.poll()
        while True:  # what it is about to start as well
            kill_below(os.getpid())
            time.sleep(AGAIN)

    def end(self) -> None:
        """Kill everything below us and reap it; what does not die in time is left to init."""
        until = time.monotonic() + PATIENCE
        for pid in self.family.leaders:
            strike_group(pid, signal.SIGKILL)
        me = os.getpid()
        while True:
            kill_below(me)
            if self.family.reap() or time.monotonic() > until:
                break
            if select.select([self.deaths], [], [], max(0.0, until - time.monotonic()))[0]:
                os.read(self.deaths, 4096)
        for attempt in self.running.values():
            attempt.finish()  # its last words into the log


def _refused(key: str, number: int | None, why: str) -> dict[str, object]:
    """It is not started."""
    return {"ev": "refused", "key": key, "errno": number, "error": why}
