"""A crontab file as schedules of spool.toml, with a word on every line that is not understood."""

from __future__ import annotations

import re

import orjson
from msgspec import Struct, field

from spool import times
from spool.errors import Invalid
from spool.names import is_task
from spool.runargs import check_run_args
from spool.safe import safe_json
from spool.schedule import NAMED, parse_every

_SET = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_NOT_OURS = {
    "MAILTO": "nobody is mailed: bind a parent with notify, or use [alerts]",
    "MAILFROM": "nobody is mailed",
    "RANDOM_DELAY": "use spread",
    "LOGNAME": "is the user that spoold runs as",
    "USER": "is the user that spoold runs as",
}
_FIELDS = 5
_QUOTED = 2


class Job(Struct, frozen=True):
    """One line of the file: its schedule, and the shell with its command as args of `spool.run`."""

    name: str
    every: str
    args: dict[str, object]
    zone: str
    line: int


class Found(Struct):
    """What was understood, and what was not: (line, why) each."""

    jobs: list[Job] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)


def read(text: str, *, system: bool = False) -> Found:
    """The jobs of a crontab; `system`: with a column for the user, as /etc/crontab has it."""
    found = Found()
    shell, zone = "/bin/sh", ""
    env: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if not _is_utf8(line):
            found.problems.append((number, "is not UTF-8"))
            continue
        setting = _SET.fullmatch(line)
        if setting is None:
            _job(found, line, number, system=system, shell=shell, zone=zone, env=dict(env))
            continue
        name, value = setting[1], _unquoted(setting[2])
        if name == "SHELL":
            shell = value
        elif name in ("CRON_TZ", "TZ"):
            zone = _zone(found, value, number) or zone
        elif name in _NOT_OURS:
            found.notes.append((number, f"{name}: {_NOT_OURS[name]}"))
        else:
            env[name] = value
    return found


def toml(found: Found) -> str:
    """The jobs as tables of spool.toml that do as cron does; its defaults would do more."""
    out = []
    for job in found.jobs:
        lines = [f"# line {job.line}", f"[recurring.{job.name}]", f"every = {_text(job.every)}"]
        lines += [f"timezone = {_text(job.zone)}"] if job.zone else []
        lines += [
            'task = "spool.run"',
            f"args = {_inline(job.args)}",
            "retries = 0",
            'catch_up = "none"',
            'overlap = "queue"',
        ]
        out.append("\n".join([*lines, ""]))
    return "\n".join(out)


def _job(  # noqa: PLR0913 - what the lines before have set
    found: Found, line: str, number: int, *, system: bool, shell: str, zone: str, env: dict[str, str]
) -> None:
    count = (1 if line.startswith("@") else _FIELDS) + system
    words = line.split(None, count)
    if len(words) <= count:
        found.problems.append((number, "has no command"))
        return
    every = " ".join(words[: count - system])
    try:
        if not line.startswith("@") or every.lower() not in NAMED:
            parse_every(every)
    except ValueError as problem:
        found.problems.append((number, f"{every}: {problem}"))
        return
    if system:
        found.notes.append((number, f"user {words[count - 1]}: it runs as the user of spoold"))
    command, *rest = re.split(r"(?<!\\)%", words[count], maxsplit=1)
    if rest:
        found.problems.append((number, "has a %, which gives the command its input: use a pipe"))
        return
    command = command.replace("\\%", "%")
    args: dict[str, object] = {"argv": [shell, "-c", command], **({"env": env} if env else {})}
    try:
        check_run_args(args)
    except Invalid as problem:
        found.problems.append((number, str(problem)))
        return
    name = _name(command, {job.name for job in found.jobs})
    found.jobs.append(Job(name, every, args, zone, number))


def _name(command: str, taken: set[str]) -> str:
    word = re.split(r"[^A-Za-z0-9._/-]", command.strip(), maxsplit=1)[0].rpartition("/")[2]
    stem = re.sub(r"^[^A-Za-z0-9]+", "", word)[:50]
    stem = re.sub(r"[^A-Za-z0-9_-]", "-", stem)
    stem = stem if is_task(stem) else "job"
    names = [stem, *(f"{stem}-{n}" for n in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


def _zone(found: Found, value: str, number: int) -> str | None:
    try:
        return times.zone(value).key
    except ValueError as problem:
        found.problems.append((number, f"CRON_TZ {value}: {problem}"))
        return None


def _is_utf8(line: str) -> bool:
    """Whether it was read whole: what is not UTF-8 comes as surrogates, which TOML has not."""
    return not any("\ud800" <= c <= "\udfff" for c in line)


def _unquoted(value: str) -> str:
    value = value.strip()
    quoted = len(value) >= _QUOTED and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value


def _text(value: str) -> str:
    """A basic string of TOML: JSON writes the same, but for DEL."""
    return safe_json(orjson.dumps(value).decode())


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_text(k)} = {_inline(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return _text(str(value))
