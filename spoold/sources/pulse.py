"""A node's life among others: threads that look who lives, and bring back what the dead have left.

A call to a network file system may hang for minutes, so none of it is done in the loop. There a node
has a pulse: it beats, and the thread that fences it touches no file and waits for nobody: it kills the
handlers, whatever else hangs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from spool import daemons, layout
from spool.beats import Beat
from spool.disk import RealDisk
from spool.errors import Busy
from spool.mounts import is_network
from spool.times import SECOND
from spoold.core.values import Brought, Peers
from spoold.sources.neighbours import Fenced, Neighbours, Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from spoold.core.values import Event
    from spoold.sources.housemates import Housemates
    from spoold.sources.lookout import Lookout, Rung

log = logging.getLogger("spoold")
MEASURED = 10  # beats from one look at the file server's clock to the next
SILENT = 5 * SECOND  # a beat that has waited for so long is told of
GRACE = "a file server that was rebooted lets nobody write for its grace time (NFSv4: 90 s by default)"
STILL = "this process, the machine or its disk stood still"
AGAIN = 2.0  # seconds between tries to bring something back
BOOT = "/proc/sys/kernel/random/boot_id"


def ticks() -> int:
    """Us that go on while a machine sleeps, or a clock is set."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class Circle:
    """One life of this daemon among the nodes of a spool. `fd`: readable when `events` says something."""

    retreats = True  # where it cannot bring something back now, that is somebody's later on

    def __init__(self, neighbours: Neighbours | Housemates) -> None:
        self.neighbours = neighbours
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._news: queue.SimpleQueue[Event | Rung | BaseException] = queue.SimpleQueue()
        self._buried: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._burying: set[str] = set()
        self._over = threading.Event()
        self._told = neighbours.live
        self._looks = False  # at what the others do, while there are any
        self._bring_back: Callable[[str], Iterable[Event]]  # both from `start` on
        self._lookout: Lookout

    def start(self, bring_back: Callable[[str], Iterable[Event]], lookout: Lookout) -> None:
        """Begin the threads. `bring_back` does it for a dead node; returns what the loop is to hear."""
        self._bring_back = bring_back
        self._lookout = lookout
        self._begin(self._live)

    def _begin(self, work: Callable[[], None]) -> None:
        threading.Thread(target=work, name=work.__name__, daemon=True).start()

    def is_alone(self) -> bool:
        """Whether nobody else serves the spool, as it stands now."""
        self.neighbours.look()
        return len(self.neighbours.live) < 2

    def plain(self) -> dict[str, Any]:
        """For the status, where there are others."""
        return {"peers": sorted(self.neighbours.live)} if len(self.neighbours.live) > 1 else {}

    def events(self) -> list[Event | Rung]:
        """What has happened among the nodes; whatever went wrong in a thread."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        found: list[Event | Rung] = []
        while not self._news.empty():
            news = self._news.get()
            if isinstance(news, BaseException):
                raise news
            found.append(news)
        return found

    def close(self) -> None:
        """A clean end."""
        self._over.set()

    # The threads.

    def _tell(self, news: Event | Rung | BaseException) -> None:
        self._news.put(news)
        os.eventfd_write(self.fd, 1)

    def _live(self) -> None:
        try:
            while not self._over.wait(self.neighbours.due() / SECOND):
                self._step()
        except Fenced:
            os.eventfd_write(self.fd, 1)
        except Exception as problem:  # noqa: BLE001 - raised again in the loop
            self._tell(problem)

    def _step(self) -> None:
        known = self.neighbours
        known.step()
        while not self._buried.empty():
            node = self._buried.get()
            known.buried(node)
            self._burying.discard(node)
        if not self._looks and len(known.live) > 1:
            self._looks = True
            self._begin(self._look)
        if known.live != self._told:
            self._told = known.live
            self._lookout.hurry()
            self._tell(Peers(known.live))
        for node in known.deaths.keys() - self._burying:
            self._burying.add(node)
            threading.Thread(target=self._bury, args=(node,), name="bury", daemon=True).start()

    def _bury(self, node: str) -> None:
        log.warning("node %s is dead: bringing back what it left", node)
        while not self._over.is_set():
            try:
                for event in self._bring_back(node):
                    self._tell(event)
                self._tell(Brought())
            except Fenced:
                return
            except OSError as problem:
                log.warning("cannot bring back what node %s left, yet: %s", node, problem)
                if self.retreats:
                    break
                self._over.wait(AGAIN)
            except Exception as problem:  # noqa: BLE001 - raised again in the loop
                self._tell(problem)
                return
            else:
                break
        self._buried.put(node)

    def _look(self) -> None:
        look = self._lookout
        while not self._over.wait(look.wait):
            if self.retreats and len(self.neighbours.live) < 2:
                self._looks = False
                return
            try:
                for event in look.look():
                    self._tell(event)
            except OSError as problem:
                log.debug("cannot look at what others do: %s", problem)
            except Exception as problem:  # noqa: BLE001 - raised again in the loop
                self._tell(problem)
                return


class Pulse(Circle):
    """The same where a node may be cut off: it lives as long as its beats are confirmed."""

    neighbours: Neighbours
    retreats = False

    def __init__(self, root: str, node: str, lease: int, kill: Callable[[], object]) -> None:
        """`lease` in us. `kill` ends all handlers of this node at once."""
        self.root = root
        self.kill = kill
        self.node = node
        self.offset: int | None = None  # the file server's clock minus ours, us
        seconds = max(1, -(-lease // SECOND))
        beat = Beat(node, os.urandom(6).hex(), 0, seconds)
        super().__init__(Neighbours(RealDisk(root), beat, ticks, _facts(), _is_ours, _serves_at(root)))
        self._told = frozenset()
        self.lease_fd = os.memfd_create("spool-lease")  # what is asked before anything begins
        self._silent = self._apart = self._killed = False
        self._why = f"waiting; {GRACE}" if is_network(root) else STILL

    def join(self) -> None:
        """Begin to live; waits until an earlier life of this node is over for sure. Busy."""
        said = False
        try:
            while not self.neighbours.join():
                if not said:
                    words = "waiting until the earlier node %s is known to be dead (lease %d s)"
                    log.info(words, self.node, self.neighbours.beat.lease)
                    said = True
                time.sleep(0.2)
        except Taken:
            raise Busy(self.root, self.node) from None
        self._publish()

    def _publish(self) -> None:
        """Until when handlers may start."""
        if (until := self.neighbours.fence_at) is not None:
            os.pwrite(self.lease_fd, until.to_bytes(8, "little"), 0)

    def is_here(self) -> bool:
        """Whether a node of this name has been alive in this very kernel, and may be yet."""
        return self.neighbours.was_ours()

    def start(self, bring_back: Callable[[str], Iterable[Event]], lookout: Lookout) -> None:
        """The same, with the thread that fences; others may be there before they are seen."""
        self._looks = True
        super().start(bring_back, lookout)
        for work in (self._look, self._watch, self._say):
            self._begin(work)

    def check(self) -> None:
        """Fenced where nothing may be written any more."""
        self.neighbours.check()

    def is_alone(self) -> bool:
        """No: others may be about to bring back what this one has."""
        return False

    def is_over(self, problem: BaseException) -> bool:
        """Whether what went wrong comes of having been declared dead, or shows it."""
        try:
            self.check()
        except Fenced:
            return True
        return isinstance(problem, Fenced)

    def plain(self) -> dict[str, Any]:
        """For the status: `clock_offset` in seconds."""
        return {
            "lease": self.neighbours.beat.lease,
            "incarnation": self.neighbours.beat.incarnation,
            "clock_offset": None if self.offset is None else round(self.offset / SECOND, 3),
            "peers": sorted(self.neighbours.live),
        }

    def events(self) -> list[Event | Rung]:
        """The same; Fenced."""
        self.check()
        return super().events()

    def close(self) -> None:
        """A clean end; the beat goes, and with it any doubt."""
        super().close()
        with contextlib.suppress(OSError):
            self.neighbours.leave()

    # The threads.

    def _step(self) -> None:
        count, before = self.neighbours.beat.count, time.time_ns() // 1000
        super()._step()
        self._publish()
        if self.neighbours.beat.count != count and self.neighbours.beat.count % MEASURED == 1:
            self._measure(before, time.time_ns() // 1000)

    def _measure(self, before: int, after: int) -> None:
        """How far our clock is from the file server's, at least, by a beat made between these."""
        with contextlib.suppress(OSError):
            info = self.neighbours.disk.info(f"{layout.ALIVE}/{self.neighbours.beat.name}")
            if info is not None:
                self.offset = info.ctime_us - min(max(info.ctime_us, before), after)
                self._tell_clock(self.offset)

    def _tell_clock(self, offset: int) -> None:
        said = daemons.clock_apart({"clock_offset": offset / SECOND})
        if said and not self._apart:
            log.warning("%s; see spool-cluster(7)", said)
        elif self._apart and not said:
            log.warning("the clock agrees with that of the file server again")
        self._apart = bool(said)

    def _watch(self) -> None:
        """Fence in time, whatever hangs: no handler outlives the right to write what became of it.

        It says nothing: where that goes may be the file that hangs.
        """
        while not self._over.wait(self._left()):
            try:
                self.neighbours.check()
            except Fenced:
                self.kill()  # and again: what was about to start when it came to this
                self._killed = True

    def _say(self) -> None:
        """What there is to say of that."""
        while not self._over.wait(self._left()):
            self._tell_silence()
            if self._killed:
                log.error("%s: its handlers are killed", self.neighbours.why_fenced)
                os.eventfd_write(self.fd, 1)
                return

    def _tell_silence(self) -> None:
        """What the loop may hang in says nothing: say for it why nothing goes on, and when it ends."""
        late = self.neighbours.overdue()
        if late > SILENT and not self._silent:
            log.warning("%s has not answered for %d s: %s", self.root, late // SECOND, self._why)
            self._silent = True
        elif not late and self._silent:
            log.warning("%s answers again", self.root)
            self._silent = False

    def _left(self) -> float:
        """Seconds until it is worth a look."""
        until = self.neighbours.fence_at
        if self.neighbours.why_fenced or until is None:
            return 0.2
        return max(0.001, min((until - ticks()) / SECOND, 0.25 * self.neighbours.beat.lease / 2))


def _facts() -> dict[str, object]:
    return {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "at": time.time()}


def _serves_at(root: str) -> Callable[[str], bool]:
    """Whether a node serves without a lease, as those may that were started before there was one."""
    if is_network(root):
        return lambda _: False  # its locks may be those of hosts that are dead
    return lambda node: daemons.alive(root, node)


def _is_ours(facts: Mapping[str, object]) -> bool:
    """Of this boot of this kernel: its daemon is dead, for we hold the lock of the node."""
    return bool(facts.get("boot")) and facts.get("boot") == _boot()


def _boot() -> str:
    try:
        with open(BOOT, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
