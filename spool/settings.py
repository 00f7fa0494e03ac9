"""spool.toml as typed values; every setting is one row of a table."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field
from msgspec.structs import force_setattr

from spool import patterns
from spool.errors import ConfigError, Invalid
from spool.fields import NOT_CARRIED, Field, nearest
from spool.kinds import NAME_RULE, free
from spool.knobs import (
    ADMISSION_ROWS,
    ALERT_ROWS,
    HANDLER_ROWS,
    POLICY_ROWS,
    RECURRING_ROWS,
    ROWS,
    read_knob,
    sample,
)
from spool.names import is_task
from spool.runargs import ALERT, RESERVED, RUN, check_run_args
from spool.strict import label
from spool.times import SECOND

if TYPE_CHECKING:
    from spool.backoff import Backoff
    from spool.limitkey import Rate
    from spool.prune.retention import Keep
    from spool.schedule import Every

FILE = "spool.toml"
PYTHON_ONLY = (
    "interpreter", "async_tasks", "recycle_tasks", "recycle_age", "recycle_rss", "idle"
)  # fmt: skip
EXEC_ONLY = ("cpu", "nice", "ionice", "oom_score_adj", "files", "file_size", "processes", "cgroup")
_CACHED = 4096
TABLES = {
    "handlers": 'tables such as [handlers."thumb.*"]',
    "admission": "a table: [admission]",
    "alerts": "a table: [alerts]",
    "policy": 'tables such as [policy."user:zoe"]',
    "recurring": "tables such as [recurring.nightly]",
}
_TABLES = (("handlers.", " of a handler"), ("policy.", " of a rule"), ("recurring.", " of a schedule"))
_WHO = re.compile(r"""\*|(user|group|key):[^\s\x00-\x1f*?,!"']{1,256}""")


class Handler(Struct, frozen=True, kw_only=True):
    """What runs the tasks a pattern names; durations are us, None means the spool's setting."""

    pattern: str
    exec: tuple[str, ...] | None
    notify: str | None
    timeout: int | None
    retries: int | None
    backoff: Backoff | None
    concurrency: int | None
    priority: str | None
    env: dict[str, str]
    cwd: str | None
    memory: int | None
    cpu: int | None
    nice: int | None
    ionice: str | None
    oom_score_adj: int | None
    keep: Keep | None
    replayable: bool
    versions: tuple[int | str, ...]
    python: str | None
    interpreter: str | None
    async_tasks: int
    recycle_tasks: int
    recycle_age: int
    recycle_rss: int
    idle: int
    files: int | None
    file_size: int | None
    processes: int | None
    cgroup: bool
    concurrency_total: int | None
    concurrency_key: str | None
    concurrency_per_key: int | None
    rate: Rate | None
    rate_per_key: Rate | None
    burst: int
    fair: str | None

    @property
    def by(self) -> str | None:
        """By what its tasks are told apart."""
        return self.concurrency_key or self.fair

    def leaves_out(self, version: int | str | None) -> bool:
        """Whether `versions`, which are those of all nodes, leave out a version."""
        return version is not None and bool(self.versions) and version not in self.versions


Band = tuple[float, float]  # where a gate closes, where it opens again


class Admission(Struct, frozen=True, kw_only=True):
    """The table [admission]: what the machine must have left before a process starts."""

    enabled: bool
    floor: int
    load: Band
    memory: Band
    cpu_pressure: Band
    memory_pressure: Band
    io_pressure: Band
    swap: Band
    heat: Band
    battery: Band
    first_memory: int


class Alerts(Struct, frozen=True, kw_only=True):
    """The table [alerts]: which events a program tells somebody of; without `exec` none."""

    exec: tuple[str, ...] | None
    events: tuple[str, ...]
    task: str
    every: int
    timeout: int
    env: dict[str, str]


class Rule(Struct, frozen=True, kw_only=True):
    """One table of [policy]: what `who` (user:NAME, group:NAME, key:NAME or *) may do."""

    who: str
    tasks: tuple[str, ...]
    priority: str
    front: bool
    ahead: int
    outboxes: tuple[str, ...]
    parents: tuple[str, ...]
    verbs: tuple[str, ...]
    admin: bool
    run: bool
    waiting: int
    rate: int
    files: int
    bytes: int


class Recurring(Struct, frozen=True, kw_only=True):
    """One table of [recurring]: what a schedule makes, and when; durations are us."""

    name: str
    every: Every
    task: str
    args: Any
    timezone: str
    overlap: str
    catch_up: str
    window: int
    most: int
    spread: int
    deadline: int | None
    priority: str | None
    position: str | None
    lead: int | None
    retries: int | None
    backoff: Backoff | None
    timeout: int | None
    version: int | str | None
    notify: str | None
    on_miss: str
    trace: str | None
    meta: dict[str, Any]
    extra: dict[str, Any]  # the x-... fields


class Settings(Struct, frozen=True, kw_only=True):
    """The spool's settings; durations are us, sizes bytes. The rows say what each one means."""

    name: str
    timezone: str
    durability: str
    concurrency: int
    window: int
    max_action_bytes: int
    settle: int
    retries: int
    backoff: Backoff
    timeout: int
    grace: int
    drain_grace: int
    poison_after: int
    recurring_count: int
    recurring_window: int
    outbox_limit: int
    log_limit: int
    result_limit: int
    housekeeping: int
    lease: int
    allow_run: bool
    shared: bool
    signatures: str
    no_new_privs: bool
    pack_after: int
    keep_done: Keep
    keep_failed: Keep
    keep_cancelled: Keep
    keep_ids: int
    keep_logs: int
    keep_journal: int
    keep_rejected: int
    keep_count: int
    keep_bytes: int
    min_free_bytes: int
    min_free_inodes: int
    admission: Admission
    alerts: Alerts
    handlers: dict[str, Handler]
    policy: tuple[Rule, ...] = ()
    recurring: tuple[Recurring, ...] = ()
    _found: dict[str, Handler | None] = field(default_factory=dict)  # what handler_for has found

    def __post_init__(self) -> None:
        """Nothing is found yet, also where these are others with a few changes (`replace`)."""
        force_setattr(self, "_found", {})

    @property
    def guarded(self) -> bool:
        """Whether [policy] decides: always in a shared spool, else where something is said of writers."""
        return self.shared or bool(self.policy) or self.signatures == "required"

    @property
    def runs(self) -> bool:
        """Whether somebody's task may be any command."""
        return self.allow_run and (not self.guarded or any(rule.run for rule in self.policy))

    def handler_for(self, task: str) -> Handler | None:
        """The handler of a task name: the exact name, else the pattern with most literal text."""
        try:
            return self._found[task]
        except KeyError:
            pass
        if len(self._found) >= _CACHED:
            self._found.clear()
        own = task.startswith(RESERVED)  # a pattern is about names that people give
        known = (p for p in self.handlers if p == task or (not own and patterns.matches(p, task)))
        best = min(known, key=patterns.rank, default=None)
        found = self._found[task] = None if best is None else self.handlers[best]
        return found


def load(text: str, *, path: str = FILE) -> Settings:
    """The settings a spool.toml says, defaults for the rest; ConfigError names key and rule."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(path, "", None, f"must be TOML: {error}") from None
    for name, shape in TABLES.items():
        if not isinstance(table.setdefault(name, {}), dict):
            raise ConfigError(path, name, table[name], f"must be {shape}")
    handlers, admission, alerts, rules, recurring = (table.pop(name) for name in TABLES)
    values = _read(ROWS, table, path, "")
    if RUN in handlers:
        raise ConfigError(path, "handlers", RUN, "needs none: its args say what runs, see allow_run")
    told = Alerts(**_read(ALERT_ROWS, alerts, path, "alerts."))
    if told.exec is not None:
        if ALERT in handlers:
            raise ConfigError(path, "handlers", ALERT, "is what [alerts] runs; say there what it is")
        body = {name: alerts[name] for name in ("exec", "env") if name in alerts}
        more = {"timeout": told.timeout / SECOND, "concurrency": 1, "replayable": False}
        handlers = {**handlers, ALERT: {**body, **more}}
    return Settings(
        **values,
        alerts=told,
        admission=Admission(**_read(ADMISSION_ROWS, admission, path, "admission.")),
        handlers={name: _handler(name, body, path) for name, body in handlers.items()},
        policy=tuple(_rule(who, body, path) for who, body in rules.items()),
        recurring=tuple(recurring_of(name, body, path) for name, body in recurring.items()),
    )


def _read(rows: dict[str, Field], table: dict[str, Any], path: str, prefix: str) -> dict[str, Any]:
    """Every row's value: what the table says, else the default; unknown keys are refused."""
    for key, value in table.items():
        if key not in rows:
            of = next((text for start, text in _TABLES if prefix.startswith(start)), "")
            rule = NOT_CARRIED.get(key) if rows is RECURRING_ROWS else None
            known = rows if prefix else (*rows, *TABLES)
            near = None if rule else nearest(key, known)
            raise ConfigError(path, f"{prefix}{label(key)}", value, rule or f"is no setting{of}", near)
    values = {}
    for key, row in rows.items():
        try:
            if key in table or row.default is not None:
                values[key] = read_knob(row, table.get(key, row.default))
            else:
                values[key] = None
        except Invalid as error:
            raise ConfigError(
                path, f"{prefix}{error.field}", error.value, error.rule, error.near
            ) from None
    return values


def _handler(pattern: str, body: object, path: str) -> Handler:
    if not patterns.is_pattern(pattern):
        raise ConfigError(
            path, "handlers", pattern, "must be a task name, or one with * for any characters"
        )
    prefix = f'handlers."{pattern}"'
    if not isinstance(body, dict):
        raise ConfigError(path, prefix, body, f"must be a table: [{prefix}]")
    values = _read(HANDLER_ROWS, body, path, f"{prefix}.")
    ways = [way for way in ("exec", "notify", "python") if way in body]
    if len(ways) != 1:
        raise ConfigError(path, prefix, None, "must have exactly one of exec, notify and python")
    for way, names in (("python", PYTHON_ONLY), ("exec", EXEC_ONLY)):
        for name in names:
            if name in body and way not in body:
                rule = f"goes with {way} and nothing else"
                raise ConfigError(path, f"{prefix}.{name}", body[name], rule)
    if values["cgroup"] and values["memory"] is None:
        raise ConfigError(path, f"{prefix}.cgroup", value=True, rule="goes with memory, which it limits")
    _check_limits(body, path, prefix)
    return Handler(pattern=pattern, **values)


def _check_limits(body: dict[str, Any], path: str, prefix: str) -> None:
    key, keyed = "concurrency_key", ("concurrency_per_key", "rate_per_key")
    given = [name for name in keyed if name in body]
    if (key in body) != bool(given):
        name, missing = (key, " or ".join(keyed)) if key in body else (given[0], key)
        raise ConfigError(path, f"{prefix}.{name}", body[name], f"goes with {missing}")
    if key in body and "fair" in body and body["fair"] != body[key]:
        raise ConfigError(path, f"{prefix}.fair", body["fair"], f"must be the same as {key}")
    if "burst" in body and not {"rate", "rate_per_key"} & body.keys():
        raise ConfigError(path, f"{prefix}.burst", body["burst"], "goes with rate or rate_per_key")


BUILT_IN = _handler(RUN, {"exec": [RUN]}, "")  # the command is in the args of the task


def _rule(who: str, body: object, path: str) -> Rule:
    if _WHO.fullmatch(who) is None:
        rule = 'must be "*", or user:, group: or key: and a name'
        raise ConfigError(path, "policy", who, rule)
    prefix = f'policy."{who}"'
    if not isinstance(body, dict):
        raise ConfigError(path, prefix, body, f"must be a table: [{prefix}]")
    for name in ("rate", "files", "bytes"):
        if who.startswith("key:") and name in body:
            rule = (
                "goes by who drops the file, before its signature is read: in a rule for user: or group:"
            )
            raise ConfigError(path, f"{prefix}.{name}", body[name], rule)
    return Rule(who=who, **_read(POLICY_ROWS, body, path, f"{prefix}."))


def recurring_of(name: str, body: object, path: str) -> Recurring:
    """One table of [recurring]; ConfigError."""
    prefix = f"recurring.{label(name)}"
    if not is_task(name):
        raise ConfigError(path, "recurring", name, NAME_RULE)
    if not isinstance(body, dict):
        raise ConfigError(path, prefix, body, f"must be a table: [{prefix}]")
    table = {key: value for key, value in body.items() if key[:2] != "x-"}
    values = _read(RECURRING_ROWS, table, path, f"{prefix}.")
    extra = {key: _free(key, value, path, prefix) for key, value in body.items() if key not in table}
    found = Recurring(name=name, extra=extra, **values)
    for key in ("every", "task"):
        if getattr(found, key) is None:
            raise ConfigError(path, f"{prefix}.{key}", None, "is required")
    if found.task == RUN:
        try:
            check_run_args(found.args)
        except Invalid as error:
            raise ConfigError(
                path, f"{prefix}.{error.field}", error.value, error.rule, error.near
            ) from None
    elif found.task.startswith(RESERVED):
        rule = f"must not begin with {RESERVED}, but for {RUN}"
        raise ConfigError(path, f"{prefix}.task", found.task, rule)
    return found


def _free(key: str, value: object, path: str, prefix: str) -> Any:
    try:
        return free(key, read_knob(Field(name=label(key), kind="json", text=""), value))
    except Invalid as error:
        raise ConfigError(path, f"{prefix}.{error.field}", error.value, error.rule) from None


def schedule_of(name: str, table: dict[str, Any]) -> Recurring:
    """The same, from an action; Invalid names the key."""
    try:
        return recurring_of(name, table, "")
    except ConfigError as problem:
        key = problem.key.removeprefix(f"recurring.{name}.")
        raise Invalid(key, problem.value, problem.rule, problem.near) from None


def _sample_line(row: Field) -> str:
    return f"# {row.name} = {sample(row)}".ljust(32) + f"# {row.text}"


DEFAULT_TOML = "\n".join(
    [
        "# Settings of this spool. What is commented out shows the default.",
        "# Durations: seconds as a number, or 90s, 2h30m, 3d. Sizes: bytes as a number, or 64MiB.",
        *map(_sample_line, ROWS.values()),
        "",
        "# What the machine must have left before a process starts.",
        "# [admission]",
        *map(_sample_line, ADMISSION_ROWS.values()),
        "",
        "# Which events a program tells somebody of; the event is in its args.",
        "# [alerts]",
        '# exec = ["/usr/local/bin/tell-me"]',
        *(_sample_line(row) for row in ALERT_ROWS.values() if row.default is not None),
        "",
        "# Who may do what where several users write; what no rule allows is refused.",
        '# [policy."group:staff"]',
        *map(_sample_line, POLICY_ROWS.values()),
        "",
        "# What recurs: a task is made at each time; `spool cron explain` says what an expression means.",
        "# [recurring.nightly]",
        '# every = "30 2 * * *"',
        '# task = "report.daily"',
        *(_sample_line(row) for row in RECURRING_ROWS.values() if row.default is not None),
        "",
        "# What runs a task is bound to its name, exact or with *; the most specific wins.",
        '# [handlers."thumb.*"]',
        '# exec = ["/usr/local/bin/thumb", "--fast"]   # no shell; args arrive as JSON on stdin',
        '# timeout = "30s"',
        "# concurrency = 2",
        "",
    ]
)
