"""What runs before what: keys, lift, demotion, backoff. Pure arithmetic over entries."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from msgspec.structs import replace

from spool.names import PRIORITIES, STAMP, clock_of, date_of
from spool.times import SECOND

if TYPE_CHECKING:
    from spool.actions import Backoff
    from spool.names import Entry

LEAD_FLOOR = 5 * SECOND

INSTANT = 25  # characters of a stamp before the id

_INVERT = str.maketrans("0123456789abcdef", "fedcba9876543210")


def stamp(us: int, task_id: str = "") -> str:
    """An instant (and id) as text that sorts as time does: DATE/HHMMSS.uuuuuu,ID."""
    return f"{date_of(us)}/{clock_of(us)},{task_id}"


def stamp_of_name(date: str, name: str) -> str:
    """The same, cut out of a file name in pending/DATE/ without parsing it."""
    return f"{date}/{name[STAMP]}"


def key_of_stamp(text: str, *, front: bool) -> str:
    """The place of a task in its class: front before back, latest front first, then time, then id."""
    return "0" + text.translate(_INVERT) if front else "1" + text


def coming_of_stamp(text: str, prio: str, *, front: bool) -> str:
    """The place of a task among all that wait for their time: that, then as they will start then."""
    return f"{text[:INSTANT]}{PRIORITIES.index(prio)}{key_of_stamp(text[INSTANT:], front=front)}"


def coming(entry: Entry) -> str:
    """The place of an entry among all that wait for their time."""
    return coming_of_stamp(stamp(entry.time, entry.id), entry.prio, front=entry.front)


def key(entry: Entry) -> str:
    """The place of an entry in its class."""
    return key_of_stamp(stamp(entry.time, entry.id), front=entry.front)


def rank(entry: Entry) -> tuple[int, str]:
    """The place of an entry among all that is ready: class first."""
    return PRIORITIES.index(entry.prio), key(entry)


def lead(entry: Entry, p95: int) -> int:
    """How long before its deadline an entry is lifted; `p95` is the usual run time of its name."""
    return entry.lead if entry.lead is not None else max(p95, LEAD_FLOOR)


def moment(entry: Entry, p95: int) -> int | None:
    """When the deadline next changes something: the lift, then the deadline itself, then never."""
    if entry.deadline is None or decided(entry):
        return None
    if entry.lifted == 0 and entry.prio != PRIORITIES[0]:
        return entry.deadline - lead(entry, p95)
    return entry.deadline


def decided(entry: Entry) -> bool:
    """Whether the deadline of a task that waits was told, and changes nothing any more.

    One that was told while it ran is yet to be dropped, or to fail, when it waits again.
    """
    return entry.lifted > 1 and entry.miss == "run"


def has_missed(entry: Entry, now: int) -> bool:
    """Whether a task that waits is to be dropped, or to fail, for its deadline."""
    return entry.deadline is not None and entry.deadline <= now and entry.miss != "run"


def lifted(entry: Entry) -> Entry:
    """The entry in the high class, its base remembered, and never lifted again."""
    return replace(entry, prio=PRIORITIES[0], lifted=1)


def unlifted(entry: Entry) -> Entry:
    """The entry before another deadline: what the last one has lifted is in its base class again."""
    raised = entry.lifted > 0 and entry.prio == PRIORITIES[0]  # else it has failed since
    return replace(entry, prio=entry.base if raised else entry.prio, lifted=0)


def demoted(prio: str) -> str:
    """One class lower, the lowest stays."""
    return PRIORITIES[min(PRIORITIES.index(prio) + 1, len(PRIORITIES) - 1)]


def backoff(policy: Backoff, task_id: str, failures: int) -> int:
    """How long to wait after the n-th failed attempt: base * factor^(n-1), capped, full jitter.

    The jitter comes from the id, so it is the same wherever and whenever it is computed.
    """
    try:
        span = min(policy.base * policy.factor ** (failures - 1), float(policy.max))
    except OverflowError:
        span = float(policy.max)
    seed = hashlib.sha256(f"{task_id}.{failures}".encode()).digest()
    share = int.from_bytes(seed[:8], "big") / (1 << 64)
    return int(span * share)
