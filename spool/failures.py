"""Failures with one fingerprint: counts, examples, and their file errors/FINGERPRINT.json."""

from __future__ import annotations

from typing import Any

import orjson
from msgspec import Struct, field
from msgspec.structs import replace

from spool import records
from spool.errors import Invalid
from spool.times import DAY, HOUR, MINUTE, format_utc, maybe_utc, parse_utc

VERSION = 1
FAILURES = ("fail", "give_up", "poison", "expire")  # transitions: failures of the task itself
STATES = ("open", "resolved", "muted")
KEPT = 1000  # groups; the one that failed longest ago makes room
MESSAGE = 500  # characters
SAID = {"resolve": "resolved", "mute": "muted", "reopen": "open"}  # what people say -> the state it gets
EXAMPLES = 5
NAMED = 20  # versions, and nodes, counted by name; what comes after them is "other"
# (field of the file, width of a bucket, how many are kept)
SPANS = (("minutes", 5 * MINUTE, 24), ("hours", HOUR, 48), ("days", DAY, 60))
WIDTHS = {HOUR: "minutes", DAY: "hours"}  # of what the counts of this span are made
OTHER = "other"


class Group(Struct, kw_only=True):
    """Failures of one kind. Instants are us UTC; a histogram maps the start of a bucket to a count.

    `count`: failed attempts, `failed`: those after which the task failed for good. `state` is open,
    resolved or muted, `by` who said so, when and why; `until` is when a mute ends. `frequent`: when it
    was so last.
    """

    fingerprint: str
    task: str
    type: str
    message: str
    place: tuple[str, ...]
    first: int
    last: int
    count: int = 0
    failed: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    histogram: dict[str, dict[int, int]] = field(default_factory=dict)
    state: str = "open"
    until: int | None = None
    by: dict[str, Any] | None = None
    frequent: int | None = None

    def add(self, at: int, *, final: bool, version: object, node: str, example: dict[str, Any]) -> None:
        """One more failure at an instant."""
        self.count += 1
        self.failed += final
        self.first, self.last = min(self.first, at), max(self.last, at)
        _named(self.versions, "none" if version is None else str(version))
        _named(self.nodes, node)
        self.examples = [example, *self.examples][:EXAMPLES]
        for name, width, kept in SPANS:
            buckets = self.histogram.setdefault(name, {})
            start = at // width * width
            buckets[start] = buckets.get(start, 0) + 1
            while len(buckets) > kept:
                del buckets[min(buckets)]

    def blank(self) -> Group:
        """The same kind of failures, and none of them counted."""
        return Group(
            fingerprint=self.fingerprint,
            task=self.task,
            type=self.type,
            message=self.message,
            place=self.place,
            first=self.first,
            last=self.last,
        )

    def joined(self, theirs: Group, fresh: Group, node: str) -> Group:
        """What the file of a group says (`theirs`), and what this node knows besides.

        `fresh`: what it has counted that no file tells yet. Its own number in `nodes` is its own word,
        so a file that another node wrote at the same moment takes none of `count` along for good.
        """
        nodes = _sum(theirs.nodes, fresh.nodes)
        if node in self.nodes and (node in nodes or len(nodes) < NAMED):
            nodes[node] = max(nodes.get(node, 0), self.nodes[node])
        both = (*theirs.examples, *self.examples)
        examples = {(one.get("id"), one.get("attempt")): one for one in both}
        newest = sorted(examples.values(), key=lambda one: str(one.get("at")), reverse=True)
        return replace(
            theirs,
            first=min(self.first, theirs.first),
            last=max(self.last, theirs.last),
            frequent=fresh.frequent or theirs.frequent or self.frequent,
            count=sum(nodes.values()),
            failed=theirs.failed + fresh.failed,
            versions=_sum(theirs.versions, fresh.versions),
            nodes=nodes,
            examples=newest[:EXAMPLES],
            histogram={
                name: _newest(theirs.histogram.get(name, {}), fresh.histogram.get(name, {}), kept)
                for name, _, kept in SPANS
            },
        )

    def within(self, span: int, now: int) -> int:
        """How many failures the last `span` us saw; an hour to 5 minutes, a day to an hour, else days."""
        name = WIDTHS.get(span, "days")
        width = next(w for n, w, _ in SPANS if n == name)
        return sum(n for start, n in self.histogram.get(name, {}).items() if start + width > now - span)

    def muted(self, now: int) -> bool:
        """Whether nobody wants to hear of it now."""
        return self.state == "muted" and (self.until is None or now < self.until)

    def as_of(self, now: int) -> Group:
        """The same; open again, and on nobody's word, where its mute has ended by itself."""
        ended = self.state == "muted" and not self.muted(now)
        return replace(self, state="open", until=None, by=None) if ended else self

    def plain(self) -> dict[str, Any]:
        """The file as a value."""
        return {
            "v": VERSION,
            "fingerprint": self.fingerprint,
            "task": self.task,
            "type": self.type,
            "message": self.message,
            "place": list(self.place),
            "state": self.state,
            "until": maybe_utc(self.until),
            "by": self.by,
            "count": self.count,
            "failed": self.failed,
            "first": format_utc(self.first),
            "last": format_utc(self.last),
            "frequent": maybe_utc(self.frequent),
            "versions": self.versions,
            "nodes": self.nodes,
            "examples": self.examples,
            **{
                name: {format_utc(start): n for start, n in self.histogram.get(name, {}).items()}
                for name, _, _ in SPANS
            },
        }


def encode(group: Group) -> bytes:
    """The bytes of errors/FINGERPRINT.json."""
    return records.encode(group.plain())


def decode(data: bytes) -> Group:
    """A group from its file; Invalid where it is damaged."""
    try:
        doc = orjson.loads(data)
        until, frequent = doc["until"], doc.get("frequent")
        return Group(
            fingerprint=str(doc["fingerprint"]),
            task=str(doc["task"]),
            type=str(doc["type"]),
            message=str(doc["message"]),
            place=tuple(map(str, doc["place"])),
            first=parse_utc(doc["first"]),
            last=parse_utc(doc["last"]),
            count=int(doc["count"]),
            failed=int(doc["failed"]),
            versions={str(k): int(n) for k, n in doc["versions"].items()},
            nodes={str(k): int(n) for k, n in doc["nodes"].items()},
            examples=[dict(one) for one in doc["examples"]],
            histogram={
                name: {parse_utc(start): int(n) for start, n in doc[name].items()} for name, _, _ in SPANS
            },
            state=doc["state"] if doc["state"] in STATES else "open",
            until=None if until is None else parse_utc(until),
            by=doc["by"],
            frequent=None if frequent is None else parse_utc(frequent),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as problem:
        raise Invalid("error group", None, f"is damaged: {problem!r}") from None


def _named(counts: dict[str, int], name: str, many: int = 1) -> None:
    name = name if name in counts or len(counts) < NAMED else OTHER
    counts[name] = counts.get(name, 0) + many


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    found = dict(one)
    for name, many in other.items():
        _named(found, name, many)
    return found


def _newest(one: dict[int, int], other: dict[int, int], kept: int) -> dict[int, int]:
    """The newest buckets of both."""
    starts = sorted(one.keys() | other.keys())[-kept:]
    return {start: one.get(start, 0) + other.get(start, 0) for start in starts}
