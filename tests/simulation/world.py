"""A simulated host: one disk, two clocks, daemons that die and come back, writers and parents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool import layout
from spool.look import entry_at
from spool.names import BadName
from spoold.core.values import Now
from spoold.sources.neighbours import Fenced
from tests.simulation.actors import Parents, Writers
from tests.simulation.faults import Crash
from tests.simulation.host import LATE_HANDLER, Host
from tests.simulation.model import ModelDisk
from tests.simulation.watch import Broken, Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from spoold.effects.store import Store

SECOND = 1_000_000
START = 1_795_305_540_000_000  # 2026-11-21 23:59:00 UTC: midnight is near
PERIOD = 301 * SECOND
LIMITS = """|
[handlers."limit.*"]
exec = ["/bin/true"]
concurrency_total = 2
concurrency_key = "args.who"
concurrency_per_key = 1
[handlers."slow.*"]
exec = ["/bin/true"]
rate = "1/3s"
burst = 2
concurrency_key = "args.who"
rate_per_key = "2/30s"
[handlers."fair.*"]
exec = ["/bin/true"]
fair = "args.who"
"""
RECURRING = """[recurring.tick]
every = "301s"
task = "run.tick"
catch_up = "all"
window = "30d"
most = 10000
overlap = "{overlap}"
"""
PATIENCE = 4000  # turns in which a drained world must come to rest


class World:
    """Everything outside the daemons, and the daemons."""

    def __init__(
        self,
        *,
        window: int = 400,
        durability: str = "durable",
        nodes: int = 1,
        tiny: bool = False,
        more: str = "",
        lease: int = 0,
        far: float = 0,
        recurring: str = "",
        redo: bool = True,
    ) -> None:
        self.wall = START
        self.mono = 5_000 * SECOND
        self.disk = ModelDisk(lambda: self.wall)
        for name in layout.TREE:
            self.disk.make_dir(name)
        self.disk.write(layout.FORMAT, layout.FORMAT_LINE.encode())
        self.disk.settle()
        self.durable = durability == "durable"
        self.recurring = recurring
        more = f"{more}\n{RECURRING.format(overlap=recurring)}" if recurring else more
        self.redo = redo  # else each file and directory is synced
        self.settings = (f'durability = "{durability}"\n{more}', window)
        self.forgetful = "outbox_limit" in more  # the default outbox keeps the newest events only
        self.tiny = tiny
        self.nodes = nodes
        self.far = far  # s that what a daemon sees of the disk may be old; 0: it is its own
        self.lease = lease  # s; 0: the daemons know nothing of each other
        self.same_host = True  # whether a daemon that starts knows that its predecessor is dead
        self.frozen: set[str] = set()
        self.skipped = 0  # us of which the daemons' watch over each other knows nothing
        self.deaths_of_nodes = 0
        self.cuts = 0
        self.keyed = 0.0  # the share of tasks that have a key
        self.linked = 0.0  # the share of batches whose tasks wait for each other
        self.limited = 0.0  # the share of tasks whose handler has LIMITS
        self.machine: dict[str, Any] = {}  # how the machine differs from one with room
        self.drained = 0  # when what recurs ended
        self.stepped = False  # the clock was set: dates say nothing of what came first
        self.crashes = 0
        self.keep_log = False  # the power may fail before the kernel has written anything
        self.deaths: list[str] = []  # what daemons died of
        self.strangers = 0  # files put where only spoold should write
        self.store_hook: Callable[[Store], None] | None = None
        self.known: tuple[int, list[str]] = (-1, [])  # pending/ as of so many changes of the disk
        self.watch = Watch(self)
        self.writers = Writers(self)
        self.parents = Parents(self)
        self.hosts: dict[str, Host | None] = {f"n{i + 1}": None for i in range(nodes)}

    # Time.

    def now(self) -> Now:
        """Both clocks. No two readings are the same, as on a real machine."""
        self.wall += 1
        self.mono += 1
        return Now(self.wall, self.mono)

    def pass_time(self, us: int) -> None:
        """Time goes by."""
        self.wall += us
        self.mono += us

    def step_clock(self, us: int) -> None:
        """Somebody sets the wall clock."""
        self.wall += us
        self.stepped = True

    # Daemons.

    def boot(self, node: str = "n1", wrap: Callable[[Any], Any] | None = None) -> Host:
        """Start the daemon of a node, over a disk with faults where `wrap` says so."""
        self.pass_time(1000)  # at the least: no event of this life has an instant of the one before
        host = Host(self, node, wrap(self.disk) if wrap else None)
        self.hosts[node] = host
        return host

    def up(self) -> list[Host]:
        """The daemons that serve."""
        return [h for h in self.hosts.values() if h is not None and h.node not in self.frozen]

    def fenced(self, node: str) -> None:
        """A daemon has found that it must not go on: its handlers are gone, and it begins anew."""
        self.hosts[node] = None
        self.deaths_of_nodes += 1
        self.boot(node)

    def crash(self, node: str = "n1") -> None:
        """The process dies, and its handlers with it; the disk stays as it is."""
        self.hosts[node] = None
        self.crashes += 1

    def power_cut(self, rng: Random) -> None:
        """The machine stops: what was not synced may be gone."""
        for node in self.hosts:
            self.hosts[node] = None
        self.cuts += 1
        self.parents.ready.clear()
        self.disk.cut(rng)

    def ring(self) -> None:
        """Something was dropped: the daemons' doorbells ring."""
        for host in self.up():
            host.ring()

    def turn(self) -> bool:
        """One turn of every daemon; False where all of them only wait."""
        done = False
        if not self.durable and not self.keep_log and len(self.disk.log) > 200:
            self.disk.settle()  # nothing is synced: the kernel writes it, some time later
        for host in self.up():
            if self.hosts[host.node] is not host:
                continue  # fenced meanwhile
            done |= host.turn()
        return done or any(h.busy for h in self.up())

    def run(self, us: int = 0, turns: int = PATIENCE) -> None:
        """Turns until nothing is due within so many us, time passing where all wait."""
        until = self.mono + us
        for _ in range(turns):
            self.turn()
            if any(h.busy for h in self.up()):
                continue
            wait = max(1, min((h.wake() for h in self.up()), default=us))
            if self.mono + wait > until:
                wait = max(0, until - self.mono)
            self._idle(wait, skip=us > 6 * self.lease * SECOND)
            if self.mono >= until:
                return

    def _idle(self, us: int, *, skip: bool) -> None:
        """So long nothing is due but beats: one of them, and with `skip` the rest in one go."""
        beat = min((h.neighbours.due() for h in self.up() if h.neighbours is not None), default=us)
        if us > beat and skip:
            self.skipped += us - beat
            beat = us
        self.pass_time(max(1, min(us, beat)))

    def stop(self, node: str = "n1", grace: int = 5 * SECOND) -> None:
        """TERM, and what follows from it."""
        host = self.hosts[node]
        if host is None:
            return
        host.stop()
        end = self.mono + grace
        for _ in range(PATIENCE):
            try:
                host.step()
            except Fenced:
                break
            if host.over:
                break
            if self.mono >= end:
                host.cut_off()
                end += 2 * SECOND
            if not host.busy:
                self.pass_time(max(1, min(host.wake(), max(1, end - self.mono))))
        if host.neighbours is not None and not host.neighbours.why_fenced:
            host.neighbours.leave()
        if host.redo is not None:
            host.redo.settle()
        self.hosts[node] = None

    # The end of the story.

    def drain(self) -> None:
        """Everything goes on until every task has ended; what recurs does no more."""
        if self.recurring:
            self._catch_up()
        self.learn()
        top, _, rest = self.settings[0].partition("[recurring")
        self.settings = (top + rest[rest.find("|") :] if rest else top, self.settings[1])
        self.machine = {}
        for node, host in self.hosts.items():
            if host is None:
                self.boot(node)
            else:
                host.reload()
        self._resume()
        quiet, before = 1, [""]
        for turn in range(5 * PATIENCE * self.nodes):
            busy = self.turn()
            self.parents.serve()
            if busy or any(h.busy for h in self.up()):
                continue
            if not (left := self._waiting()):
                return
            if turn % 3 == 0:
                self._release()
                self._resume()  # what was dropped together may be carried out in another order
                self._resume()  # where the clock was set back, a pause may come after the first of these
            if not any(h.busy for h in self.up()):
                # Several nodes look round twice a second: hours would never pass.
                quiet, before = min(2 * quiet, 300 * SECOND) if left == before else 1, left
                self._idle(max(quiet, min(h.wake() for h in self.up())), skip=True)
        raise Broken(f"does not come to rest: {self._waiting()[:5]}")

    def _catch_up(self) -> None:
        """All times of the schedule up to now have their tasks."""
        self.drained = self.wall
        self.machine = {}
        for node, host in self.hosts.items():
            if host is None:
                self.boot(node)
        for _ in range(PATIENCE):
            marks = [host.recurring._marks.get("tick") for host in self.up()]
            if any(mark is not None and mark.until >= self.drained for mark in marks):
                return
            if not self.turn():
                self._idle(max(1, min(h.wake() for h in self.up())), skip=True)
        raise Broken(f"the schedule does not come to {self.drained}: {marks}")

    def learn(self) -> None:
        """spool.toml gets the handler for later.* that was missing."""
        top, _, handlers = self.settings[0].partition("|")
        if LATE_HANDLER not in handlers:
            self.settings = (f"{top}|{handlers}{LATE_HANDLER}", self.settings[1])

    def _resume(self) -> None:
        rows = {(r.get("node"), r.get("task")) for h in self.up() for r in h.state.pauses}
        for name in self.disk.names(layout.INCOMING):
            rows |= _scopes(self.disk, f"{layout.INCOMING}/{name}")
        for node, task in rows:
            scope = {k: v for k, v in (("node", node), ("task", task)) if v}
            self.writers.drop({"action": "resume", **scope})

    def _release(self) -> None:
        names = [n for n in self.disk.names(layout.HELD) if _is_entry(f"{layout.HELD}/{n}")]
        ids = [n.split(",")[1] for n in names if ",w=after" not in n]
        if ids:
            self.writers.drop({"action": "release", "ids": ids})

    def _waiting(self) -> list[str]:
        """What stands between this world and rest."""
        from tests.simulation.watch import pending, running

        left = pending(self) + [f"{layout.HELD}/{n}" for n in self.disk.names(layout.HELD)]
        for node in self.hosts:
            left += [f"{layout.RUNNING}/{node}/{n}" for n in running(self, node)]
        left = [path for path in left if _is_entry(path)]
        drops = [n for n in self.disk.names(layout.INCOMING) if n.endswith(".json")]
        return left + [f"{layout.INCOMING}/{n}" for n in drops if not n.startswith(".")]


def _is_entry(path: str) -> bool:
    try:
        entry_at(path)
    except BadName:
        return False
    return True


def _scopes(disk: ModelDisk, path: str) -> set[tuple[str | None, str | None]]:
    import orjson

    try:
        doc = orjson.loads(disk.read(path, 1 << 20))
    except (OSError, orjson.JSONDecodeError):
        return set()
    if not isinstance(doc, dict) or doc.get("action") not in ("pause", "drain"):
        return set()
    return {(doc.get("node"), doc.get("task"))}


__all__ = ["START", "Crash", "World"]
