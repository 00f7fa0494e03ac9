"""File names that carry state: an entry of a task, the name of an event, ids and dates."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

PRIORITIES = ("high", "medium", "low")
EVENTS = (
    "ready",
    "done",
    "failed",
    "retrying",
    "cancelled",
    "late",
    "rejected",
    "recurring-error",
    "progress",
)
NAME_MAX = 255
DAY_US = 86_400_000_000
EARLIEST = 946_684_800_000_000  # 2000-01-01, the first that an id may have
LATEST = 4_102_444_800_000_000  # 2100-01-01, which none has
_STEP = 1000 << 12  # by which a clock set back changes no order, in 4,096ths of a ms
_NEWEST = (LATEST // 1000 << 12) - 1  # that an id may have, in the same
_last = 0  # of the newest id of this process, in the same
MAX_US = 7_258_118_400_000_000  # 2200-01-01; what lies behind it is no date of ours

ID = "0[0-9a-f]{11}7[0-9a-f]{3}[89ab][0-9a-f]{15}"  # of a date before 2527, which has a name
TASK = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"  # and, by the same rule, a parent or a node
_ID = re.compile(ID)
_TASK = re.compile(TASK)
_EVENT = re.compile(rf"([0-9]{{8}}T[0-9]{{6}}\.[0-9]{{6}}Z),({ID}),({TASK}),({'|'.join(EVENTS)})\.json")
_TIME = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2})\.([0-9]{6})")
MARK = "g"  # the field of an entry's name that has the mark of a key
OWNER = "o"  # the one that has in whose quota it counts
OURS = (MARK, OWNER)  # of the fields that are kept as they were
# Of an entry's name unparsed, for who looks at many: what stands where, and which fields it has.
CLOCK, ID_AT = slice(13), slice(14, 46)
STAMP = slice(46)  # both of them: text that sorts as time and id do
REST = slice(47, -5)  # the task's name, and behind it the fields
TO_FRONT, HAS_DEADLINE, MAY_MISS, TOLD_LATE, MARKED = ",p=f", ",d=", ",m=", ",u=2", f",{MARK}="
_FIELD = re.compile(r"([a-z][a-z0-9]*)=([A-Za-z0-9:._+-]*)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BadName(ValueError):
    """A file name that is not an entry's; str() says which rule it breaks."""


class Entry(Struct, frozen=True, kw_only=True):
    """One task as its file name tells it; instants are microseconds since 1970, UTC.

    `time` is the next run (for what has ended, the last one). `prio` is the directory it stands
    in, `base` the priority it was given. `among`: of a coroutine that died with others, how many may
    share its worker next time; 0: as always. `extra` keeps fields of newer versions as they were.
    """

    time: int
    id: str
    task: str
    prio: str = "medium"
    base: str = "medium"
    deadline: int | None = None
    lead: int | None = None
    fails: int = 0
    lost: int = 0
    interrupted: int = 0
    among: int = 0
    front: bool = False
    why: str = ""
    miss: str = "run"
    timeout: int | None = None
    lifted: int = 0
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def attempt(self) -> int:
        """The number of the attempt that runs or comes next: the fencing token."""
        return self.fails + self.lost + self.interrupted + 1

    @property
    def mark(self) -> str:
        """The mark of the key by which its handler limits it; empty where there is none."""
        return dict(self.extra).get(MARK, "") if self.extra else ""


def new_id(now_us: int | None = None) -> str:
    """A UUIDv7 as 32 lower-case hex digits (RFC 9562): of now, or with chance within `now_us`.

    Each that one thread makes of now is greater than the one before, so that what it drops is taken
    in its order (6.2, method 3), but where the clock was set back by more than a second.
    """
    global _last  # noqa: PLW0603 - two threads at once have no order
    if now_us is not None:
        return id_from(now_us, os.urandom(10))
    ticks = (max(time.time_ns(), EARLIEST * 1000) << 12) // 1_000_000
    _last = ticks = min(_last + 1 if ticks <= _last < ticks + _STEP else ticks, _NEWEST)
    return _id(ticks >> 12, ticks & 0xFFF, int.from_bytes(os.urandom(8), "big"))


def id_from(us: int, chance: bytes) -> str:
    """A UUIDv7 from an instant, of a clock that may be wrong, and at least ten bytes of chance."""
    ms = min(max(us, EARLIEST), LATEST - 1) // 1000
    return _id(ms, int.from_bytes(chance[:2], "big") & 0xFFF, int.from_bytes(chance[2:10], "big"))


def _id(ms: int, a: int, b: int) -> str:
    return f"{ms:012x}7{a:03x}{b & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000:016x}"


def is_id(text: str) -> bool:
    """Whether text is a UUIDv7 as this format writes it, of a date that has a name."""
    return _ID.fullmatch(text) is not None


def are_ids(found: list[object]) -> bool:
    """Whether all of a list are ids; a thousand take a third of a millisecond."""
    try:
        return all(map(_ID.fullmatch, found))  # type: ignore[arg-type]
    except TypeError:
        return False


def id_time(task_id: str) -> int:
    """The instant inside an id."""
    return int(task_id[:12], 16) * 1000


def is_task(text: str) -> bool:
    """Whether text may name a task."""
    return _TASK.fullmatch(text) is not None


class _Dates(dict[int, str]):
    """Dates by the number of their day since 1970, each made once."""

    def __missing__(self, day: int) -> str:
        if len(self) > 4096:
            self.clear()
        found = self[day] = (_EPOCH + timedelta(days=day)).strftime("%Y-%m-%d")
        return found


_dates = _Dates()


def date_of(us: int) -> str:
    """The UTC date of an instant, YYYY-MM-DD."""
    return _dates[us // DAY_US]


@lru_cache(4096)
def id_date(task_id: str) -> str:
    """The UTC date of the instant inside an id: where its own copy and its records are."""
    return date_of(id_time(task_id))


@lru_cache(4096)
def day_start(date: str) -> int:
    """The first instant of a UTC date YYYY-MM-DD; ValueError where it is none."""
    parsed = datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC)
    if date != parsed.strftime("%Y-%m-%d"):
        msg = f"{date!r} is not a date YYYY-MM-DD"
        raise ValueError(msg)
    return int(parsed.timestamp()) * 1_000_000


@lru_cache(4096)
def clock_of(us: int) -> str:
    """The time of day of an instant, HHMMSS.uuuuuu, UTC."""
    seconds, micro = divmod(us % DAY_US, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}{minute:02d}{second:02d}.{micro:06d}"


def whole_second(us: int) -> int:
    """An instant as a name can tell it: rounded up to the second, so that nothing runs early."""
    return -(-us // 1_000_000) * 1_000_000


def _stamp(us: int) -> str:
    """An instant rounded up to the second, YYYYMMDDTHHMMSSZ."""
    us = whole_second(us)
    return f"{date_of(us).replace('-', '')}T{clock_of(us)[:6]}Z"


def _unstamp(text: str) -> int:
    digits = text[:8] + text[9:15]
    plain = digits.isascii() and digits.isdecimal()
    if not plain or len(text) != 16 or text[8] + text[15] != "TZ":
        msg = f"{text!r} is not an instant YYYYMMDDTHHMMSSZ"
        raise BadName(msg)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadName(str(error)) from None
    return int(parsed.timestamp()) * 1_000_000


def _span(us: int) -> str:
    seconds, micro = divmod(us, 1_000_000)
    return str(seconds) if not micro else f"{seconds}.{micro:06d}".rstrip("0")


def entry_name(entry: Entry, *, dated: bool) -> str:  # noqa: C901, PLR0912 - one arm a field
    """The file name of an entry.

    `dated` adds the date of its time and its class (`s=`, `c=`), for every directory that does not
    tell them: all but pending/DATE/PRIO/. Every version writes the same: each daemon mends what is not.
    """
    texts = [clock_of(entry.time), entry.id, entry.task]
    add = texts.append
    if entry.among:
        add(f"a={entry.among}")
    if entry.base != entry.prio or entry.lifted or entry.fails:
        add(f"b={entry.base}")
    if dated:
        add(f"c={entry.prio}")
    if entry.deadline is not None:
        add(f"d={_stamp(entry.deadline)}")
    if entry.interrupted:
        add(f"i={entry.interrupted}")
    if entry.lead is not None:
        add(f"l={_span(entry.lead)}")
    if entry.miss != "run":
        add(f"m={entry.miss}")
    if entry.fails:
        add(f"n={entry.fails}")
    if entry.front:
        add("p=f")
    if dated:
        add(f"s={date_of(entry.time).replace('-', '')}")
    if entry.timeout is not None:
        add(f"t={_stamp(entry.timeout)}")
    if entry.lifted:
        add(f"u={entry.lifted}")
    if entry.why:
        add(f"w={entry.why}")
    if entry.lost:
        add(f"x={entry.lost}")
    if entry.extra:
        texts[3:] = sorted([*texts[3:], *(f"{k}={v}" for k, v in entry.extra)])
    name = ",".join(texts) + ".json"
    if (
        len(name) > NAME_MAX
        and (known := tuple(row for row in entry.extra if row[0] in OURS)) != entry.extra
    ):
        return entry_name(replace(entry, extra=known), dated=dated)  # what is not known has no room
    return name


def id_and_task(name: str) -> tuple[str, str]:
    """What an entry's file name tells, unchecked, for who looks at many; empty where it is none."""
    parts = name.removesuffix(".json").split(",", 3)
    return (parts[1], parts[2]) if len(parts) > 2 and name[0] != "." else ("", "")


def parse_entry(name: str, *, date: str | None = None, prio: str | None = None) -> Entry:
    """The entry a file name tells; date and prio come from its directories where they tell them.

    Raises BadName with the rule that is broken.
    """
    if not name.endswith(".json") or len(name) > NAME_MAX:
        msg = "an entry is at most 255 bytes and ends in .json"
        raise BadName(msg)
    parts = name[:-5].split(",")
    if len(parts) < 3:
        msg = "an entry is HHMMSS.uuuuuu,ID,TASK[,k=v].json"
        raise BadName(msg)
    clock = _TIME.fullmatch(parts[0])
    if clock is None or not _ID.fullmatch(parts[1]) or not _TASK.fullmatch(parts[2]):
        msg = "an entry starts with HHMMSS.uuuuuu, a UUIDv7 and a task name"
        raise BadName(msg)
    hour, minute, second, micro = map(int, clock.groups())
    if hour > 23 or minute > 59 or second > 59:
        msg = f"{parts[0]} is no time of day"
        raise BadName(msg)
    fields = _fields(parts[3:])
    day = fields.pop("s", None)
    where = fields.pop("c", None)
    try:
        start = day_start(date if date is not None else _dashed(day))
    except ValueError as error:
        raise BadName(str(error)) from None
    us = start + ((hour * 60 + minute) * 60 + second) * 1_000_000 + micro
    if not fields and prio in PRIORITIES:  # most that wait
        return Entry(time=us, id=parts[1], task=parts[2], prio=prio, base=prio)
    return _build(us, parts[1], parts[2], prio or where or fields.get("b") or "medium", fields)


def _dashed(day: str | None) -> str:
    if day is None or len(day) != 8:
        msg = "an entry outside pending/ carries its date as s=YYYYMMDD"
        raise BadName(msg)
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"


def _fields(parts: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    last = ""
    for part in parts:
        match = _FIELD.fullmatch(part)
        if match is None or part <= last or match[1] in fields:
            msg = f"field {part!r} is not k=value in alphabetical order"
            raise BadName(msg)
        last = part
        fields[match[1]] = match[2]
    return fields


def _build(us: int, task_id: str, task: str, prio: str, fields: dict[str, str]) -> Entry:
    take = fields.pop
    base = take("b", prio)
    miss = take("m", "run")
    if prio not in PRIORITIES or base not in PRIORITIES or miss not in ("run", "drop", "fail"):
        msg = "a priority is high, medium or low; m= is drop or fail"
        raise BadName(msg)
    deadline, lead, timeout = take("d", None), take("l", None), take("t", None)
    return Entry(
        time=us,
        id=task_id,
        task=task,
        prio=prio,
        base=base,
        deadline=None if deadline is None else _unstamp(deadline),
        lead=None if lead is None else _micro(lead),
        fails=_count(take("n", "0")),
        lost=_count(take("x", "0")),
        interrupted=_count(take("i", "0")),
        among=_count(take("a", "0")),
        front=take("p", "") == "f",
        why=take("w", ""),
        miss=miss,
        timeout=None if timeout is None else _unstamp(timeout),
        lifted=_count(take("u", "0")),
        extra=tuple(fields.items()),
    )


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        msg = f"{text!r} is not a count"
        raise BadName(msg)
    return int(text)


def _micro(text: str) -> int:
    whole, _, part = text.partition(".")
    if len(part) > 6 or (part and not part.isdigit()):
        msg = f"{text!r} is not a number of seconds"
        raise BadName(msg)
    return _count(whole) * 1_000_000 + int(part.ljust(6, "0") or 0)


@lru_cache(1024)
def event_name(us: int, task_id: str, task: str, event: str) -> str:
    """The file name of an event: YYYYMMDDTHHMMSS.uuuuuuZ,ID,TASK,EVENT.json."""
    return f"{date_of(us).replace('-', '')}T{clock_of(us)}Z,{task_id},{task},{event}.json"


def parse_event(name: str) -> tuple[str, str, str, str] | None:
    """(instant as written, id, task, event) of an event's file name, None where it is none."""
    match = _EVENT.fullmatch(name)
    return None if match is None else (match[1], match[2], match[3], match[4])
