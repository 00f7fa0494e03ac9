"""Who else serves this spool: beats of one's own, deaths of others, by nobody's clock but one's own.

A node is dead when its beat has not changed for a whole lease (the longer of its own and ours) by the
monotonic clock of who looks. Whoever renames its beat has declared it dead, and brings its tasks back:

    step                        a crash after it leaves             who goes on
    1 beat renamed to a death   the death, by a node that is dead   whoever renames the death
    2 running/NODE/ in order    the same                            the same, from the start
    3 death removed             nothing                             -

A node whose own beat is not confirmed for three quarters of its lease writes nothing more (`check`), and
begins anew under another incarnation. It does not begin while there is a death of its name: that is the
only time when somebody else works in running/NODE/. Every step of that work may meet a late step of
the dead node, frozen in the middle of one and thawed: the record of an attempt, linked once, decides.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import orjson
from msgspec import Struct

from spool import layout, look
from spool.beats import ORPHAN, Beat, Death, parse
from spool.disk import Exists, Missing
from spool.names import is_task
from spool.times import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spool.disk import Disk

FENCE = 0.75  # of the lease: what is left is for killing handlers, and for clocks that differ
STALL = 0.25  # of the lease: a look that takes longer, or comes later, tells of us and of nobody else
CARD_LIMIT = 1 << 16
FAR = 1 << 62


class Fenced(Exception):
    """This incarnation writes nothing more. str() says why."""


class Taken(Exception):
    """A node of this name lives on another host. Fields: node."""

    def __init__(self, node: str) -> None:
        super().__init__(node)
        self.node = node


class Seen(Struct):
    """A beat as it was last seen to change: its count, and when, by our monotonic clock (us)."""

    beat: Beat
    since: int
    changed: bool = False


class Neighbours:
    """One incarnation of a node among the others. Not for several threads at the same time.

    `clock` gives monotonic us. `facts` tell who this is; `is_ours(facts)` says whether the facts of an
    earlier incarnation are those of a process of this very host that is known to be dead. `serves(node)`
    says whether a node without beats is known to be alive all the same.
    """

    def __init__(  # noqa: PLR0913 - what it knows of itself, and asks
        self,
        disk: Disk,
        beat: Beat,
        clock: Callable[[], int],
        facts: Mapping[str, object],
        is_ours: Callable[[Mapping[str, object]], bool],
        serves: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.disk = disk
        self.beat = beat
        self.lease = beat.lease * SECOND
        self.clock = clock
        self.facts = facts
        self.is_ours = is_ours
        self.serves = serves
        self.every_beat = max(SECOND // 4, self.lease // 10)
        self.every_look = max(SECOND // 4, min(2 * SECOND, self.lease // 10))
        self.fence_at: int | None = None  # None: not begun yet, or over
        self.why_fenced = ""
        self.live = frozenset({beat.node})
        self.deaths: dict[str, Death] = {}  # nodes whose tasks this one has to bring back
        self._seen: dict[tuple[str, str], Seen] = {}
        self._absent: dict[str, int] = {}  # nodes with tasks and without a beat, since when
        self._looked: int | None = None
        self._next_beat = self._next_look = self._next_orphans = 0

    # One's own life.

    def join(self) -> bool:
        """Begin to live; False where that has to wait: call it again. Taken where it cannot be."""
        self.disk.make_dir(layout.ALIVE)
        self.look()
        mine = {n: known for n, known in self._names().items() if known.node == self.beat.node}
        beats = [self._out_of_the_way(n, known) for n, known in mine.items() if isinstance(known, Beat)]
        deaths = [self._taken_over(n, known) for n, known in mine.items() if isinstance(known, Death)]
        if not all((*beats, *deaths)):
            return False
        began = self.clock()
        self.disk.write(f"{layout.ALIVE}/{self.beat.name}", orjson.dumps(dict(self.facts)))
        others = [n for n, k in self._names().items() if k.node == self.beat.node and n != self.beat.name]
        if others:  # somebody was as quick
            self._gone(self.beat.name)
            return False
        self._confirmed(began)
        return True

    def was_ours(self) -> bool:
        """Whether the last that was heard of this name came from where we are."""
        with contextlib.suppress(OSError):
            mine = [n for n, known in self._names().items() if known.node == self.beat.node]
            return any(self.is_ours(self._facts(name)) for name in mine)
        return False

    def step(self) -> None:
        """Beat and look, whatever is due; OSErrors are for the next time. Fenced where it is over."""
        with contextlib.suppress(OSError):
            if self.clock() >= self._next_beat:
                self._beat()
        with contextlib.suppress(OSError):
            if self.clock() >= self._next_look:
                self.look()
                self._orphans()
        self.check()

    def due(self) -> int:
        """In how many us the next step is."""
        return max(0, min(self._next_beat, self._next_look) - self.clock())

    def check(self) -> None:
        """Fenced where this incarnation must not write any more."""
        if self.why_fenced:
            raise Fenced(self.why_fenced)
        if self.fence_at is not None and self.clock() >= self.fence_at:
            self.why_fenced = f"no heartbeat could be confirmed for {FENCE * self.lease / SECOND:g} s"
            raise Fenced(self.why_fenced)

    def overdue(self) -> int:
        """For how many us a beat that was due has not been confirmed."""
        if self.fence_at is None:
            return 0
        return max(0, self.clock() - self.fence_at + int(FENCE * self.lease) - self.every_beat)

    def leave(self) -> None:
        """A clean end: no beat any more."""
        self.fence_at = None
        self._gone(self.beat.name)

    def _beat(self) -> None:
        began = self.clock()
        self._next_beat = began + SECOND // 4  # should it fail
        beat = Beat(self.beat.node, self.beat.incarnation, self.beat.count + 1, self.beat.lease)
        try:
            self.disk.move(f"{layout.ALIVE}/{self.beat.name}", f"{layout.ALIVE}/{beat.name}")
        except OSError:  # the effect tells, not the error
            names = self.disk.names(layout.ALIVE)
            if beat.name not in names:
                if self.beat.name not in names:
                    self.why_fenced = "another node has declared this one dead"
                return
        self.beat = beat
        self._confirmed(began)

    def _confirmed(self, began: int) -> None:
        self._next_beat = began + self.every_beat
        self.fence_at = began + int(FENCE * self.lease)

    def _out_of_the_way(self, name: str, known: Beat) -> bool:
        """Whether an earlier incarnation of this node is known to be dead, and its beat gone."""
        seen = self._seen.get((known.node, known.incarnation))
        if known.incarnation != ORPHAN and not self.is_ours(self._facts(name)):
            if seen is not None and seen.changed:
                raise Taken(known.node)
            if seen is None or self.clock() - seen.since < self._patience(known):
                return False
        self._seen.pop((known.node, known.incarnation), None)
        return self._gone(name)

    def _taken_over(self, name: str, known: Death) -> bool:
        """Whether a death of this node is ours to see to, because who saw to it is dead itself."""
        return not self._lives(known.by, known.by_incarnation) and self._gone(name)

    def _facts(self, name: str) -> dict[str, object]:
        try:
            found = orjson.loads(self.disk.read(f"{layout.ALIVE}/{name}", CARD_LIMIT))
        except (OSError, orjson.JSONDecodeError):
            return {}
        return found if isinstance(found, dict) else {}

    def _gone(self, name: str) -> bool:
        try:
            self.disk.remove(f"{layout.ALIVE}/{name}")
        except Missing:
            return False
        return True

    # The others.

    def _names(self) -> dict[str, Beat | Death]:
        found = {name: parse(name) for name in self.disk.names(layout.ALIVE)}
        return {name: known for name, known in found.items() if known is not None}

    def look(self) -> None:
        """Who has shown a sign of life, and who has been silent for too long."""
        began = self.clock()
        self._next_look = began + self.every_look
        names = self._names()
        now = self.clock()
        late = self._looked is not None and now - self._looked > self.every_look + STALL * self.lease
        if late or now - began > STALL * self.lease:
            for old in self._seen.values():
                old.since = now  # we were away: no death of others
        self._looked = now
        dead = {(k.node, k.incarnation) for k in names.values() if isinstance(k, Death)}
        for known in names.values():
            if isinstance(known, Beat):
                key = known.node, known.incarnation
                seen = self._seen.get(key)
                if seen is None or seen.beat.count != known.count:
                    self._seen[key] = Seen(known, now, changed=seen is not None)
        here = {(k.node, k.incarnation) for k in names.values() if isinstance(k, Beat)}
        for key, known_as in list(self._seen.items()):
            # A listing may miss a name that changes meanwhile: one that is not there has a while to show.
            late = now - known_as.since > self._patience(known_as.beat)
            if key in dead or (key not in here and late):
                del self._seen[key]
        if self.fence_at is not None:
            self._judge(names, now)
        ends = [known_as.since + self._patience(known_as.beat) for known_as in self._seen.values()]
        self._next_look = min(began + self.every_look, max(now + SECOND // 4, min(ends, default=FAR)))
        orphans = {node for node, incarnation in self._seen if incarnation == ORPHAN}
        self.live = frozenset({node for node, _ in self._seen} - orphans | {self.beat.node})

    def _judge(self, names: dict[str, Beat | Death], now: int) -> None:
        for name, known in names.items():
            if known.node == self.beat.node and known.incarnation == self.beat.incarnation:
                continue
            if known.node == self.beat.node and known.incarnation == ORPHAN and isinstance(known, Beat):
                self._gone(name)  # whoever wrote it did not know of us yet
                continue
            if isinstance(known, Beat):
                if known.incarnation == ORPHAN and self.serves(known.node):
                    self._gone(name)  # it is back, without a lease
                    continue
                seen = self._seen.get((known.node, known.incarnation))
                if seen is not None and now - seen.since >= self._patience(known):
                    self._declare(name, known)
            elif (known.by, known.by_incarnation) == (self.beat.node, self.beat.incarnation):
                self.deaths.setdefault(known.node, known)
            elif not self._lives(known.by, known.by_incarnation):
                self._declare(name, known)

    def _lives(self, node: str, incarnation: str) -> bool:
        """Whether its beat has changed within a lease; maybe nobody is there to declare it dead."""
        seen = self._seen.get((node, incarnation))
        return seen is not None and self.clock() - seen.since < self._patience(seen.beat)

    def _patience(self, known: Beat) -> int:
        return max(self.lease, known.lease * SECOND)

    def _declare(self, name: str, known: Beat | Death) -> None:
        """It is dead, and ours to bury, if the rename says so: its target is a name nobody else makes."""
        self.check()
        death = Death(known.node, known.incarnation, self.beat.node, self.beat.incarnation)
        try:
            self.disk.move(f"{layout.ALIVE}/{name}", f"{layout.ALIVE}/{death.name}")
        except OSError:
            if death.name not in self.disk.names(layout.ALIVE):
                return
        self._seen.pop((known.node, known.incarnation), None)
        self.deaths[known.node] = death

    def buried(self, node: str) -> None:
        """What a dead node left is in order."""
        death = self.deaths.pop(node)
        self._gone(death.name)

    def _orphans(self) -> None:
        """Tasks of a node that has no beat at all get one that nobody renews."""
        now = self.clock()
        if now < self._next_orphans:
            return
        self._next_orphans = now + self.lease // 4
        found: dict[str, int] = {}
        strangers = [n for n in self.disk.names(layout.RUNNING) if n not in self.live and is_task(n)]
        named = {known.node for known in self._names().values()} if strangers else set()
        for node in strangers:
            if node not in named and look.has_claims(self.disk, node) and not self.serves(node):
                found[node] = self._absent.get(node, now)
                if now - found[node] >= self.lease // 2:
                    self.check()
                    orphan = Beat(node, ORPHAN, 0, self.beat.lease)
                    with contextlib.suppress(Exists):
                        self.disk.write(f"{layout.ALIVE}/{orphan.name}", b"{}")
        self._absent = found
