"""Every setting of spool.toml, one row each: kind, default, bounds, text."""

from __future__ import annotations

import json
import re
from datetime import UTC
from typing import TYPE_CHECKING, Any

import orjson
from msgspec.structs import replace

from spool import limitkey, times
from spool.backoff import MAX_WAIT
from spool.errors import Invalid
from spool.fields import CARRIED, TAKES, VERBS, Field, nearest
from spool.kinds import Moment, read, wrong
from spool.limitkey import Rate
from spool.names import EVENTS, PRIORITIES
from spool.patterns import is_pattern
from spool.prune.retention import Keep
from spool.runargs import check_cwd, check_env_name, check_words
from spool.schedule import parse_every
from spool.strict import label
from spool.times import DAY, HOUR, MS, SECOND, YEAR

if TYPE_CHECKING:
    from collections.abc import Callable

    from spool.schedule import Every

KIB = 1024
MIB = 1024 * KIB
TIB = MIB * MIB

_SIZES = {"": 1, "KiB": KIB, "MiB": MIB, "GiB": KIB * MIB, "TiB": TIB}
_SIZE = re.compile(r"([0-9]{1,18}) ?(|KiB|MiB|GiB|TiB)")
_RATE = re.compile(r"([0-9]{1,9})/([^/]{1,30})")
_NO_MOMENT = Moment(now=0, dropped=0, zone=UTC)  # no setting is a point in time


def _row(  # noqa: PLR0913 (the columns of the table)
    name: str,
    kind: str,
    default: Any,
    bounds: tuple[int | None, int | None],
    text: str,
    choices: tuple[str, ...] = (),
) -> tuple[str, Field]:
    low, high = bounds
    row = Field(name=name, kind=kind, text=text, default=default, low=low, high=high, choices=choices)
    return name, row


_FREE = (None, None)
_YES, _NO = True, False
_RELAXED = ("durable", "relaxed")
# fmt: off
ROWS: dict[str, Field] = dict((
    _row("name", "title", "", _FREE, "what this spool is called; empty: its directory's name"),
    _row("timezone", "place", "", _FREE, "zone of local times; empty: the machine's"),
    _row("durability", "choice", "durable", _FREE, "or relaxed: the kernel decides when to write",
         _RELAXED),
    _row("concurrency", "count", 0, (0, 10_000), "handlers at once; 0: usable CPUs, at least 2"),
    _row("window", "count", 20_000, (100, 10**7), "waiting tasks held in memory"),
    _row("max_action_bytes", "size", "1MiB", (KIB, 64 * MIB), "largest action file"),
    _row("settle", "duration", "5s", (0, HOUR), "how long an incomplete file may take"),
    _row("retries", "count", 3, (0, 1000), "attempts after a failed one"),
    _row("backoff", "backoff", "10s", _FREE, "wait before a retry, doubled each time"),
    _row("timeout", "duration", "1h", (1, MAX_WAIT), "how long an attempt may take"),
    _row("grace", "duration", "10s", (0, HOUR), "from TERM to KILL"),
    _row("drain_grace", "duration", "30s", (0, DAY), "what runs may finish at a stop"),
    _row("poison_after", "count", 3, (1, 100), "lost attempts until a task is held"),
    _row("recurring_count", "count", 20, (2, 1000), "failures of one kind that are frequent"),
    _row("recurring_window", "duration", "10m", (SECOND, DAY), "within this time"),
    _row("outbox_limit", "count", 10_000, (1, 10**7), "unread events of a parent; then it waits"),
    _row("log_limit", "size", "10MiB", (0, TIB), "output kept of one attempt"),
    _row("result_limit", "size", "1MiB", (0, 64 * MIB), "largest result of a handler"),
    _row("housekeeping", "duration", "60s", (100 * MS, 60 * SECOND), "longest sleep"),
    _row("lease", "duration", 0, (0, DAY), "silence after which a node is dead; 0: 180s on NFS"),
    _row("allow_run", "flag", _YES, _FREE, "whether spool.run may start any command"),
    _row("shared", "flag", _NO, _FREE, "several users write: [policy] says who may do what"),
    _row("signatures", "choice", "optional", _FREE, "or required: who signs is believed, no uid is",
         ("optional", "required")),
    _row("no_new_privs", "flag", _YES, _FREE, "programs cannot gain rights by setuid, as sudo would"),
    _row("pack_after", "duration", "7d", (0, 10 * YEAR), "when what has ended goes into packs"),
    _row("keep_done", "keep", "14d", (0, 10 * YEAR), "how long, or also how many, done tasks"),
    _row("keep_failed", "keep", "90d", (0, 10 * YEAR), "how long, or also how many, failed tasks"),
    _row("keep_cancelled", "keep", "14d", (0, 10 * YEAR), "how long, or also how many, cancelled tasks"),
    _row("keep_ids", "duration", "30d", (0, 10 * YEAR), "how long ids of packed tasks are known"),
    _row("keep_logs", "duration", "14d", (0, 10 * YEAR), "how long logs of packed tasks are kept"),
    _row("keep_journal", "duration", "90d", (0, 10 * YEAR), "how long the journal is kept"),
    _row("keep_rejected", "duration", "30d", (0, 10 * YEAR), "how long refused actions are kept"),
    _row("keep_count", "count", 1_000_000, (0, 10**12), "packed tasks; the oldest go first"),
    _row("keep_bytes", "size", "4GiB", (0, KIB * TIB), "packs, logs, journal; the oldest go first"),
    _row("min_free_bytes", "size", "64MiB", (0, KIB * TIB), "free disk below which nothing starts"),
    _row("min_free_inodes", "count", 1000, (0, 10**12), "free inodes below which nothing starts"),
))
ALERT_ROWS: dict[str, Field] = dict((
    _row("exec", "words", None, _FREE, "program and arguments that tell somebody"),
    _row("events", "told", ["recurring-error", "late"], _FREE, "the events it is told of"),
    _row("task", "pattern", "*", _FREE, "of these task names; * for any characters"),
    _row("every", "duration", "1m", (0, DAY), "at most one for an event and task name in this time"),
    _row("timeout", "duration", "1m", (1, DAY), "how long it may take"),
    _row("env", "env", {}, _FREE, "environment variables"),
))
POLICY_ROWS: dict[str, Field] = dict((
    _row("tasks", "patterns", [], _FREE, "names of tasks it may submit"),
    _row("priority", "choice", "medium", _FREE, "the highest class of these", PRIORITIES),
    _row("front", "flag", _NO, _FREE, "whether they may go in front, or be due before they are dropped"),
    _row("ahead", "duration", "366d", (0, 10 * YEAR), "how far ahead they may be due"),
    _row("outboxes", "patterns", [], _FREE, "parents they may name in notify"),
    _row("parents", "patterns", [], _FREE, "parents whose work it does: ack, fail, extend, progress"),
    _row("verbs", "verbs", ["cancel", "hold", "release", "retry", "move"], _FREE,
         "what it may ask about its own tasks"),
    _row("admin", "flag", _NO, _FREE, "every verb about every task, pauses, replays, errors"),
    _row("run", "flag", _NO, _FREE, "whether spool.run may be one of its tasks"),
    _row("waiting", "count", 10_000, (1, 10**9), "its tasks that have not ended"),
    _row("rate", "count", 600, (1, 10**9), "its actions taken in within a minute"),
    _row("files", "count", 10_000, (1, 10**7), "its files in incoming/ at once; more are refused"),
    _row("bytes", "size", "64MiB", (KIB, KIB * TIB), "their bytes; more are refused"),
))
HANDLER_ROWS: dict[str, Field] = dict((
    _row("exec", "words", None, _FREE, "program and arguments; no shell, args as JSON on stdin"),
    _row("notify", "name", None, _FREE, "the parent that does the work itself"),
    _row("python", "module", None, _FREE, "module with functions marked @task"),
    _row("interpreter", "path", None, _FREE, "the Python that runs it; default: spoold's own"),
    _row("async_tasks", "count", 100, (1, 10_000), "async tasks one worker runs at once"),
    _row("recycle_tasks", "count", 10_000, (1, 10**9), "tasks after which a worker is replaced"),
    _row("recycle_age", "duration", "1d", (SECOND, 365 * DAY), "age at which a worker is replaced"),
    _row("recycle_rss", "size", "1GiB", (MIB, KIB * TIB), "memory at which a worker is replaced"),
    _row("idle", "duration", "1m", (SECOND, DAY), "how long a worker more than one waits for tasks"),
    _row("timeout", "duration", None, (1, MAX_WAIT), "how long an attempt may take"),
    _row("retries", "count", None, (0, 1000), "attempts after a failed one"),
    _row("backoff", "backoff", None, _FREE, "wait before a retry"),
    _row("concurrency", "count", None, (1, 10_000), "how many of these at once on a node"),
    _row("concurrency_total", "count", None, (1, 10_000), "how many of these at once on all nodes"),
    _row("concurrency_key", "key", None, _FREE, "by what they are told apart, such as args.customer"),
    _row("fair", "key", None, _FREE, "whose tasks take turns, such as writer or args.customer"),
    _row("rate", "rate", None, _FREE, "how many of these may start in a time, such as 100/1m"),
    _row("rate_per_key", "rate", None, _FREE, "how many of a key may start in a time"),
    _row("burst", "count", 1, (1, 10_000), "so many may start at once where none did for a while"),
    _row("concurrency_per_key", "count", None, (1, 10_000), "how many of a key at once on all nodes"),
    _row("priority", "choice", None, _FREE, "class of tasks that name none", PRIORITIES),
    _row("env", "env", {}, _FREE, "environment variables"),
    _row("cwd", "path", None, _FREE, "working directory"),
    _row("memory", "size", None, (MIB, KIB * TIB), "memory one attempt may use"),
    _row("cpu", "duration", None, (SECOND, MAX_WAIT), "CPU time each of its processes may use"),
    _row("nice", "count", None, (-20, 19), "its niceness; below 0 needs privileges"),
    _row("ionice", "choice", None, _FREE, "its class for disks", ("high", "low", "idle")),
    _row("oom_score_adj", "count", None, (-1000, 1000), "whom the kernel kills first: the highest"),
    _row("cgroup", "flag", _NO, _FREE, "whether memory holds for all processes of an attempt together"),
    _row("files", "count", None, (3, 10**6), "files each of its processes may have open"),
    _row("file_size", "size", None, (0, KIB * TIB), "largest file it may write"),
    _row("processes", "count", None, (1, 10**6), "processes its user may have, all in all"),
    _row("keep", "keep", None, (0, 10 * YEAR), "how long, or also how many, that have ended"),
    _row("replayable", "flag", _YES, _FREE, "whether what has ended may be replayed"),
    _row("versions", "versions", [], _FREE, "versions of tasks it takes; empty: all"),
))
RECURRING_ROWS: dict[str, Field] = dict((
    _row("every", "every", None, _FREE, "five fields of cron, @daily and the like, or a duration"),
    _row("task", "name", None, _FREE, "the task that is made"),
    _row("args", "json", {}, _FREE, "what its handler gets"),
    _row("timezone", "place", "", _FREE, "zone of its cron expression; empty: the spool's"),
    _row("overlap", "choice", "skip", _FREE, "what happens while the one before has not ended",
         ("skip", "queue", "replace")),
    _row("catch_up", "choice", "once", _FREE, "what is made of those that were missed",
         ("none", "once", "all")),
    _row("window", "duration", "1d", (0, 30 * DAY), "missed longer ago they are forgotten"),
    _row("most", "count", 100, (1, 10_000), "so many of them, the newest"),
    _row("spread", "duration", 0, (0, DAY), "they start later by a fixed part of this"),
    _row("deadline", "later", None, (1, MAX_WAIT), "so long after their time they should be done"),
)) | {name: TAKES["submit"][name] for name in CARRIED}
ADMISSION_ROWS: dict[str, Field] = dict((
    _row("enabled", "flag", _YES, _FREE, "whether the machine is asked before a process starts"),
    _row("floor", "count", 1, (0, 10_000), "so many processes may run whatever the machine says"),
    _row("load", "band", [2.5, 2.0], (0, 1000), "load for each CPU: closes above, opens below"),
    _row("memory", "band", [90, 85], (0, 100), "memory in use, %"),
    _row("cpu_pressure", "band", [100, 100], (0, 100), "share of time something waits for a CPU, %"),
    _row("memory_pressure", "band", [20, 10], (0, 100), "the same for memory, %"),
    _row("io_pressure", "band", [90, 70], (0, 100), "the same for disks, %"),
    _row("swap", "band", [64, 16], (0, MIB), "swapped in and out, MiB a second"),
    _row("heat", "band", [95, 90], (0, 200), "temperature, % of the critical one"),
    _row("battery", "band", [20, 25], (0, 100), "charge without mains, %: closes below, opens above"),
    _row("first_memory", "size", "128MiB", (0, KIB * TIB), "need of a task that has never run"),
))
# fmt: on


def read_knob(row: Field, value: object) -> Any:
    """The value a setting stands for; Invalid with its name where it breaks the rule."""
    own = _READ.get(row.kind)
    if own is None:
        return read(row, value, _NO_MOMENT)
    try:
        return own(row, value)
    except ValueError as error:
        raise Invalid(row.name, value, str(error)) from None


def sample(row: Field) -> str:
    """The default as spool.toml writes it."""
    return orjson.dumps(row.default).decode()


def parse_size(value: object) -> int:
    """Bytes: an integer, or text such as 64MiB. Raises ValueError whose text is the rule."""
    if type(value) is int:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise wrong("must be a number of bytes, or text such as 64MiB (KiB, MiB, GiB, TiB)")
    return int(match[1]) * _SIZES[match[2]]


def _size(row: Field, value: object) -> int:
    size = parse_size(value)
    if not (row.low or 0) <= size <= (row.high or 0):
        raise wrong(f"must be from {row.low} to {row.high} bytes")
    return size


def _place(_row: Field, value: object) -> str:
    return "" if value == "" else times.zone(value).key


def _title(row: Field, value: object) -> str:
    named = Field(name=row.name, kind="name", text=row.text)
    return "" if value == "" else str(read(named, value, _NO_MOMENT))


def _words(row: Field, value: object) -> tuple[str, ...]:
    return check_words(value, row.name)


def _path(row: Field, value: object) -> str:
    return check_cwd(value, row.name)


def _module(_row: Field, value: object) -> str:
    if not isinstance(value, str) or not all(part.isidentifier() for part in value.split(".")):
        raise wrong("must be the dotted name of a module, such as myapp.tasks")
    return value


def _env(row: Field, value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise wrong("must be a table of texts")
    for name, text in value.items():
        if check_env_name(name, row.name).startswith("SPOOL_"):
            raise Invalid(row.name, name, "must not set SPOOL_... variables: spool sets them")
        if not isinstance(text, str) or "\0" in text:
            raise Invalid(f"{row.name}.{name}", text, "must be text without NUL")
    return value


def _band(row: Field, value: object) -> tuple[float, float]:
    """Where a gate closes, then where it opens again."""
    low, high = row.low or 0, row.high or 0
    numbers = value if isinstance(value, list) else []
    good = [n for n in numbers if type(n) in (int, float) and low <= n <= high]
    if len(good) != 2 or len(numbers) != 2:
        raise wrong(f"must be two numbers from {low} to {high}: where it closes, where it opens")
    closes, opens = good
    falls = row.default[0] < row.default[1]
    if closes > opens if falls else closes < opens:
        raise wrong(f"must open {'above' if falls else 'below'} where it closes, or at the same value")
    return float(closes), float(opens)


def _keep(row: Field, value: object) -> Keep:
    """A duration, or a table of age, count and bytes; an age left out is the one of the default."""
    if not isinstance(value, dict):
        return Keep(
            read_knob(Field(name=row.name, kind="duration", text="", low=0, high=row.high), value)
        )
    for name in value:
        if name not in _KEEPS:
            near = nearest(name, _KEEPS)
            raise Invalid(f"{row.name}.{label(name)}", value[name], "is no part of it", near)
    table = {"age": row.default, **value}
    parts: dict[str, int | None] = {}
    for name, (kind, high) in _KEEPS.items():
        field = Field(name=f"{row.name}.{name}", kind=kind, text="", low=0, high=high)
        parts[name] = None if table.get(name) is None else read_knob(field, table[name])
    return Keep(**parts)


_KEEPS = {"age": ("duration", 10 * YEAR), "count": ("count", 10**12), "bytes": ("size", KIB * TIB)}


def _versions(row: Field, value: object) -> tuple[int | str, ...]:
    if not isinstance(value, list):
        raise wrong("must be a list of versions")
    one = Field(name=row.name, kind="version", text=row.text)
    return tuple(read(one, version, _NO_MOMENT) for version in value)


def _every(_row: Field, value: object) -> Every:
    return parse_every(value)


def _json(row: Field, value: object) -> Any:
    """What JSON can say: TOML also knows dates and numbers that are none."""
    try:
        data = orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_DATETIME)
        json.dumps(value, allow_nan=False)  # the other one writes null
        return orjson.loads(data)
    except (TypeError, ValueError):
        rule = "must be what JSON can say: dates as text, no nan or inf, no integer outside 64 bits"
        raise Invalid(row.name, None, rule) from None


def _meta(row: Field, value: object) -> Any:
    return read(row, _json(row, value), _NO_MOMENT)


def _later(row: Field, value: object) -> Any:
    try:
        return read(replace(row, kind="duration"), value, _NO_MOMENT)
    except Invalid as error:
        raise wrong(f"{error.rule}: in a schedule it counts from each of its times") from None


def _told(_row: Field, value: object) -> tuple[str, ...]:
    known = [event for event in EVENTS if event not in ("ready", "progress")]
    if not isinstance(value, list) or not value or not all(one in known for one in value):
        raise wrong(f"must be a list of some of {', '.join(known)}")
    return tuple(value)


def _patterns(_row: Field, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and is_pattern(v) for v in value):
        raise wrong("must be a list of names, or of patterns such as thumb.*")
    return tuple(value)


def _key(_row: Field, value: object) -> str:
    if not isinstance(value, str) or not limitkey.is_path(value):
        raise wrong(limitkey.RULE)
    return value


def _rate(row: Field, value: object) -> Rate:
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise wrong("must be a number of tasks and a duration, such as 100/1m")
    count = int(match[1])
    period = Field(name=row.name, kind="duration", text="", low=SECOND, high=DAY)
    try:
        span = int(read(period, match[2], _NO_MOMENT))
    except Invalid as error:
        raise wrong(f"has a duration that {error.rule}") from None
    if not 1 <= count <= 10_000 * span // SECOND:
        raise wrong("must be from 1 task in the time to 10000 a second")
    return Rate(f"{count}/{match[2]}", span // count)


def _verbs(_row: Field, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(one in VERBS for one in value):
        raise wrong(f"must be a list of some of {', '.join(VERBS)}")
    return tuple(value)


_READ: dict[str, Callable[[Field, Any], Any]] = {
    "patterns": _patterns,
    "verbs": _verbs,
    "told": _told,
    "band": _band,
    "env": _env,
    "every": _every,
    "json": _json,
    "key": _key,
    "rate": _rate,
    "keep": _keep,
    "later": _later,
    "meta": _meta,
    "module": _module,
    "path": _path,
    "place": _place,
    "size": _size,
    "title": _title,
    "versions": _versions,
    "words": _words,
}
