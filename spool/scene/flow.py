"""What happened when: lines of the journal counted in buckets of time. Pure."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from spool import layout
from spool.failures import FAILURES
from spool.journal import LOAD
from spool.names import BadName, parse_entry
from spool.times import DAY, HOUR, MINUTE, SECOND, parse_utc

if TYPE_CHECKING:
    from collections.abc import Mapping

# (width of a bucket, how many are kept): half an hour, a day, two weeks.
TIERS = ((10 * SECOND, 180), (MINUTE, 1440), (HOUR, 336))
BOUNDS = tuple((1 << k) / 1000 for k in range(28))  # seconds: 1 ms to 37 h, each twice the one before
STARTED = 100_000  # claims remembered until their attempt ends
ENDS = {layout.DONE: "done", layout.FAILED: "failed", layout.CANCELLED: "cancelled"}


class Bucket(Struct):
    """What happened in one stretch of time.

    `taken`, `started`, `done`, `failed` (for good), `cancelled`: tasks; `failures`: attempts.
    `met`, `late`: tasks with a deadline that have ended before and after it. `waits`: from a task's
    time to its start, `runs`: from start to end, `lates`: from a missed deadline to the end; counts by
    BOUNDS. `loads`: the highest load of each node.
    """

    counts: dict[str, int] = field(default_factory=dict)
    waits: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    runs: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    lates: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    loads: dict[str, float] = field(default_factory=dict)

    def add(self, what: str) -> None:
        """One more."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def merge(self, other: Bucket) -> None:
        """Take in what happened in another one."""
        for name, count in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        self.waits = [a + b for a, b in zip(self.waits, other.waits, strict=True)]
        self.runs = [a + b for a, b in zip(self.runs, other.runs, strict=True)]
        self.lates = [a + b for a, b in zip(self.lates, other.lates, strict=True)]
        for node, load in other.loads.items():
            self.load(node, load)

    def load(self, node: str, load: float) -> None:
        """What a node has measured."""
        self.loads[node] = max(load, self.loads.get(node, 0.0))


class Flow(Struct):
    """All buckets, by width and start (us UTC), and when which gate was shut."""

    tiers: dict[int, dict[int, Bucket]] = field(default_factory=lambda: {w: {} for w, _ in TIERS})
    gates: list[tuple[int, bool, str]] = field(default_factory=list)  # us, open, node
    newest: int = 0
    _started: dict[str, int] = field(default_factory=dict)

    def add(self, line: Mapping[str, Any]) -> None:
        """One line of the journal; what is not of its form counts as nothing."""
        try:
            at = parse_utc(line["at"])
        except (KeyError, ValueError, TypeError):
            return
        event = line.get("event")
        if event in ("gate", LOAD):
            self._machine(line, at)
            return
        self.newest = max(self.newest, at)
        whats, wait, run, late = self._told(line, event, at)
        if not whats and run is None:
            return
        for width, kept in TIERS:
            bucket = self._bucket(width, kept, at)
            if bucket is None:
                continue
            for what in whats:
                bucket.add(what)
            if wait is not None:
                bucket.waits[bisect_left(BOUNDS, wait)] += 1
            if run is not None:
                bucket.runs[bisect_left(BOUNDS, run)] += 1
            if late is not None:
                bucket.lates[bisect_left(BOUNDS, late)] += 1

    def _machine(self, line: Mapping[str, Any], at: int) -> None:
        """What a line says of the node it is from."""
        node, load = str(line.get("node")), line.get("load")
        if line.get("event") == "gate":
            self.gates = [*self.gates, (at, bool(line.get("open")), node)][-1000:]
        elif isinstance(load, int | float):
            self.load(at, node, load)

    def load(self, at: int, node: str, load: float) -> None:
        """The load of a node at an instant (us UTC)."""
        for width, kept in TIERS:
            bucket = self._bucket(width, kept, at)
            if bucket is not None:
                bucket.load(node, load)

    def _told(
        self, line: Mapping[str, Any], event: object, at: int
    ) -> tuple[list[str], float | None, float | None, float | None]:
        """What a line counts as; how long the task waited, ran, was late when it ended (seconds)."""
        whats: list[str] = []
        wait = run = late = None
        task_id, before, after = str(line.get("id")), line.get("from"), line.get("to")
        if before == "new":
            whats.append("taken")
        if event == "claim":
            whats.append("started")
            due, _ = _instants(line)
            wait = None if due is None else max(0, at - due) / 1e6
            if len(self._started) < STARTED:
                self._started[task_id] = at
        elif before == layout.RUNNING and after != layout.RUNNING:
            started = self._started.pop(task_id, None)
            run = None if started is None else max(0, at - started) / 1e6
        if event in FAILURES:
            whats.append("failures")
        if after in ENDS and before != after:
            whats.append(ENDS[str(after)])
            _, deadline = _instants(line)
            if deadline is not None:
                whats.append("met" if at <= deadline else "late")
                late = (at - deadline) / 1e6 if at > deadline else None
        return whats, wait, run, late

    def _bucket(self, width: int, kept: int, at: int) -> Bucket | None:
        tier = self.tiers[width]
        start = at // width * width
        found = tier.get(start)
        if found is None:
            if start <= self.newest - kept * width:
                return None  # from before what is kept
            found = tier[start] = Bucket()
            while len(tier) > kept:
                del tier[min(tier)]
        return found

    def last(self, width: int, many: int, now: int) -> list[Bucket]:
        """The newest buckets, oldest first, those in which nothing happened too."""
        tier, end = self.tiers[width], now // width * width
        return [tier.get(end - back * width) or Bucket() for back in range(many - 1, -1, -1)]

    def shut(self, since: int, now: int) -> list[tuple[int, int]]:
        """When the gate of any node was shut: (from, to), us UTC, oldest first."""
        found: list[tuple[str, int, int]] = []
        began: dict[str, int] = {}
        for at, is_open, node in sorted(self.gates):
            if node in began:
                found.append((node, began.pop(node), at))
            if not is_open:
                began[node] = at
        found += [(node, start, now) for node, start in began.items()]
        served = ((a, min(b, self._served(node, a, now))) for node, a, b in found if b > since)
        return sorted((max(a, since), b) for a, b in served if b > since)

    def _served(self, node: str, since: int, now: int) -> int:
        """Until when a node has served that shut its gate then, and tells its load each minute."""
        width = MINUTE if since > now - DAY else HOUR
        told = [start for start, bucket in sorted(self.tiers[width].items()) if node in bucket.loads]
        end = since + 2 * width if told else now
        for start in told:
            end = start + 2 * width if since < start <= end else end
        return end


def total(buckets: list[Bucket]) -> Bucket:
    """All of them as one."""
    found = Bucket()
    for bucket in buckets:
        found.merge(bucket)
    return found


def quantile(counts: list[int], share: float) -> float | None:
    """About how many seconds so many (0 to 1) of the values do not exceed; None where there are none."""
    many = sum(counts)
    if not many:
        return None
    want, seen = share * many, 0
    for at, count in enumerate(counts):
        if count and seen + count >= want:
            low: float = BOUNDS[at - 1] if at else 0.0
            high: float = BOUNDS[min(at, len(BOUNDS) - 1)]
            return low + (high - low) * max(0.0, (want - seen) / count)
        seen += count
    return BOUNDS[-1]


def _instants(line: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """The time and the deadline of a line's entry, us UTC, as its name tells them."""
    parts = str(line.get("entry") or "").split("/")
    dated = parts[0] == layout.PENDING and len(parts) == 4
    try:
        entry = parse_entry(parts[-1], date=parts[1] if dated else None)
    except BadName:
        return None, None
    return entry.time, entry.deadline
