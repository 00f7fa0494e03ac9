"""What a spool is like at one moment: the files of its daemons, its groups of errors, what runs take."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct, field

from spool import errorgroups, layout
from spool.daemons import last_seen, unread_by
from spool.errors import Invalid
from spool.times import DAY, WEEK, parse_utc

if TYPE_CHECKING:
    from spool.client import Spool
    from spool.failures import Group

USAGE_LIMIT = 64 << 20


class Moment(Struct, kw_only=True):
    """`now`: us UTC. `status`: as Spool.status gives it. `groups`: those that hurt most first.

    `usual`: task name -> median of its last run times, seconds.
    """

    now: int
    status: dict[str, Any]
    groups: list[Group] = field(default_factory=list)
    usual: dict[str, float] = field(default_factory=dict)

    @property
    def alive(self) -> list[dict[str, Any]]:
        """The status of each node whose daemon is alive."""
        return [node for node in self.status["nodes"].values() if node["alive"]]

    @property
    def untaken(self) -> int:
        """How many dropped files wait in incoming/ where no daemon takes them in."""
        return 0 if self.alive else int(self.status["counts"][layout.INCOMING])

    @property
    def next(self) -> list[dict[str, Any]] | None:
        """What comes next on each node, with its `node`; None where no daemon tells."""
        told = [node for node in self.alive if "next" in node]
        return [{**n["next"], "node": n["node"]} for n in told if n["next"]] if told else None

    @property
    def unread(self) -> bool:
        """Whether tasks wait until their parents have read."""
        return any(map(unread_by, self.alive))

    @property
    def last_seen(self) -> int | None:
        """When any daemon last said anything, us UTC; None: never."""
        return max(filter(None, map(last_seen, self.status["nodes"].values())), default=None)

    @property
    def running(self) -> list[dict[str, Any]]:
        """What runs, on all nodes that are alive, each with its `node`; longest first."""
        rows = [{**row, "node": n["node"]} for n in self.alive for row in n.get("running") or []]
        return sorted(rows, key=lambda row: str(row.get("started_at")))

    def run(self, row: dict[str, Any]) -> dict[str, Any]:
        """One that runs, with how far it is: `percent` by its own word, `guess` by what is usual."""
        spent = max(0.0, (self.now - parse_utc(row["started_at"])) / 1e6)
        usual = self.usual.get(str(row["task"]))
        progress = row.get("progress") or {}
        percent = progress.get("percent")
        percent = percent if isinstance(percent, int | float) else None
        guess = min(99.0, 100 * spent / usual) if usual and percent is None else None
        slow = usual is not None and spent > 2 * usual + 1
        return {**row, "spent": spent, "usual": usual, "percent": percent, "guess": guess, "slow": slow,
                "note": progress.get("note")}  # fmt: skip


class Gatherer:
    """Looks at a spool again and again; what has not changed is not read again."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self._groups: dict[str, tuple[int, Group]] = {}
        self._usual: dict[str, tuple[int, dict[str, float]]] = {}

    def look(self) -> Moment:
        """The spool as it is now."""
        now = time.time_ns() // 1000
        status = self.spool.status()
        usual: dict[str, float] = {}
        for node in status["nodes"]:
            usual |= self._usual_of(node)
        return Moment(now=now, status=status, groups=self._grouped(now), usual=usual)

    def _grouped(self, now: int) -> list[Group]:
        disk, found = self.spool.disk, {}
        for name in errorgroups.fingerprints(disk):
            info = disk.info(layout.error(name))
            known = self._groups.get(name)
            if info is None:
                continue
            if known is None or known[0] != info.ctime_us:
                try:
                    known = info.ctime_us, errorgroups.read(disk, name)
                except Invalid:
                    continue
            found[name] = known
        self._groups = found
        groups = [group.as_of(now) for _, group in found.values()]
        return sorted(groups, key=lambda g: (-g.within(DAY, now), -g.within(WEEK, now), -g.last))

    def _usual_of(self, node: str) -> dict[str, float]:
        path = layout.usage(node)
        info = self.spool.disk.info(path)
        if info is None:
            return {}
        known = self._usual.get(node)
        if known is None or known[0] != info.ctime_us:
            known = self._usual[node] = info.ctime_us, self._medians(path)
        return known[1]

    def _medians(self, path: str) -> dict[str, float]:
        try:
            tasks = orjson.loads(self.spool.disk.read(path, USAGE_LIMIT))["tasks"]
            took = {name: sorted(row["took"]) for name, row in tasks.items()}
            return {name: row[len(row) // 2] / 1e6 for name, row in took.items() if row}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # it only helps to guess
