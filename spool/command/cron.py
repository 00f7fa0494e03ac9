"""`spool cron`: what recurs, when it comes next, and what an expression means."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

from spool.command import parser as options_of
from spool.command.asked import add_wait, see
from spool.command.submit import show_ids
from spool.errors import EX_DATAERR, Invalid

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from datetime import tzinfo

    from spool.client import Spool
    from spool.schedule import Every
    from spool.settings import Recurring, Settings

WHAT = ("ls", "next", "run", "set", "rm", "pause", "resume", "explain", "import")
COUNT = 5
EPILOG = """
ls lists the schedules; next prints when one comes; run makes a task of one now; set makes one,
or another of that name, beside those of spool.toml, and rm removes it; pause and resume say whether
any are made; explain tells what an expression means, in a zone, and at the changes of its clock;
import reads a crontab file and prints tables for spool.toml, and on standard error what it did not
understand: exit status 65 then.

examples:
  spool cron ls
  spool cron next nightly -n 10
  spool cron set report every='30 6 * * MON' task=report.weekly
  spool cron explain '30 2 * * MON-FRI' --timezone Europe/Rome
  crontab -l | spool cron import - >> ~/.local/state/spool/spool.toml
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.add_argument("what", nargs="?", choices=WHAT, default="ls", help="what to do (default: ls)")
    parser.add_argument("names", nargs="*", metavar="SCHEDULE", help="or an expression; a file, or -")
    parser.add_argument("-n", "--count", metavar="N", type=int, default=COUNT, help="so many times")
    parser.add_argument("--timezone", metavar="ZONE", help="of explain: where the clock stands")
    parser.add_argument("--system", action="store_true", help="of import: with a column for the user")
    parser.add_argument(
        "--until", type=options_of.number, metavar="TIME", help="when a pause ends by itself"
    )
    parser.add_argument("--why", metavar="TEXT", help="the reason of a pause")
    add_wait(parser)
    options_of.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Do one of these."""
    if args.what == "import":
        return _import(args)
    if args.what == "explain":
        return _explain(args)
    from spool.scene import recurring

    spool = options_of.open_spool(args)
    known = recurring.settings_of(spool.disk)
    if args.what == "ls":
        return _list(spool, known, args)
    if not args.names:
        options_of.usage(args, f"{args.what} takes names; `spool cron ls` lists them")
    if args.what in ("set", "rm"):
        return _set(spool, args)
    if args.what in ("pause", "resume"):
        return _pause(spool, known, args)
    for schedule in [_named(spool, known, name) for name in args.names]:
        if args.what == "run":
            show_ids([_submit(spool, schedule)], json=args.json)
        else:
            _print_next(schedule.name, schedule.every, _zone(schedule, known), args)
    return 0


def _named(spool: Spool, known: Settings, name: str) -> Recurring:
    from spool.fields import nearest
    from spool.scene import recurring

    for schedule in known.recurring:
        if schedule.name == name:
            return schedule
    if (why := recurring.broken(spool.disk, known).get(name)) is not None:
        raise Invalid("NAME", name, f"is broken: {why}")
    near = nearest(name, [schedule.name for schedule in known.recurring])
    raise Invalid("NAME", name, "is no schedule: `spool cron ls` lists them", near)


def _zone(schedule: Recurring, known: Settings) -> tzinfo:
    from spool.occurrences import zone

    return zone(schedule, known)


def _list(spool: Spool, known: Settings, args: argparse.Namespace) -> int:
    from spool.command import render
    from spool.scene import recurring
    from spool.times import maybe_utc

    now = _now()
    found = {row["name"]: row for row in recurring.rows(spool.disk, known, now)}
    names = [name if name in found else _named(spool, known, name).name for name in args.names]
    rows = [found[name] for name in names or found]
    if args.json:
        for row in rows:
            times = {k: maybe_utc(row[k]) for k in ("next", "last", "paused_until")}
            print(render.json_line({**row, **times}))
        return 0
    table = []
    for row in rows:
        told = [None if row[k] is None else render.when(row[k], now) for k in ("next", "last")]
        said = "paused" if row["paused"] else row["state"] or ""
        said = f"broken: {row['problem']}" if row["problem"] else said
        table.append((row["name"], row["every"], row["task"], told[0] or "never", told[1] or "", said))
    if table:
        render.table(("NAME", "EVERY", "TASK", "NEXT", "LAST", "STATE"), table)
    elif sys.stdout.isatty():
        print("nothing recurs: there is no table [recurring.NAME] in spool.toml")
    return 0


def _submit(spool: Spool, schedule: Recurring) -> str:
    """A task as the schedule makes it, but of its own time and id."""
    import orjson
    from msgspec.structs import replace

    from spool.fields import TAKES
    from spool.occurrences import made
    from spool.owncopy import encode_task

    now = _now()
    task = made(replace(schedule, spread=0), now, now, "", None)
    known = TAKES["submit"].keys() - {"id", "at"} | task.extra.keys()
    doc = {name: value for name, value in orjson.loads(encode_task(task)).items() if name in known}
    if schedule.deadline is not None:
        doc["deadline"] = f"+{schedule.deadline / 1e6:f}s"
    return spool.submit_one({**doc, "meta": {**task.meta, "recurring": schedule.name}})


def _pause(spool: Spool, known: Settings, args: argparse.Namespace) -> int:
    from spool.body import fields
    from spool.scene import recurring

    if args.until is not None and args.what == "resume":
        options_of.usage(args, "--until goes with pause")
    more = fields(until=args.until, why=args.why)
    broken = recurring.broken(spool.disk, known)
    for name in args.names:
        if "*" not in name and name not in broken:
            _named(spool, known, name)
    scopes = [f"@{name}" for name in args.names]
    stems = [spool.control(args.what, task=scope, **more) for scope in scopes]
    args.verb = args.what
    return see(spool, stems, args, f"{args.what}: asked for {' '.join(scopes)}", {"name": args.names})


def _set(spool: Spool, args: argparse.Namespace) -> int:
    names = args.names[:1] if args.what == "set" else args.names
    more: dict[str, Any] = {} if args.why is None else {"why": args.why}
    if args.what == "set":
        more["table"] = options_of.pairs(args.names[1:], "key")
    stems = [spool.act({"action": "schedule", "name": name, **more}) for name in names]
    args.verb = args.what
    return see(spool, stems, args, f"{args.what}: asked for {' '.join(names)}", {"name": names})


def _explain(args: argparse.Namespace) -> int:
    from spool.machine import zone_of
    from spool.schedule import parse_every

    text = " ".join(args.names)
    try:
        rule = parse_every(text)
    except ValueError as problem:
        raise Invalid("every", text, str(problem)) from None
    try:
        zone = zone_of(args.timezone or "")
    except ValueError as problem:
        raise Invalid("--timezone", args.timezone, str(problem)) from None
    if args.json:
        from spool.command.render import json_line
        from spool.times import format_utc

        times = [format_utc(at) for at in _next(rule, zone, _now(), args.count)]
        print(json_line({"every": text, "means": " ".join(_words(rule)), "next": times}))
        return 0
    for line in _words(rule):
        print(line)
    _print_next(text, rule, zone, args)
    return 0


def _words(rule: Every) -> Iterator[str]:
    from spool.times import format_span

    if rule.span:
        yield f"Every {format_span(rule.span)}, counted from 1970-01-01 00:00 UTC."
        return
    yield _sentence(rule.cron)
    if rule.wild:
        yield "Where the clock is set forward, times that are skipped do not occur; set back, both do."
    else:
        yield "Where the clock is set forward, at the first instant after; set back, the first time."


def _sentence(cron: str) -> str:
    """What an expression means: of two fields of days that both begin without a star, either suffices."""
    from datetime import datetime

    from cronsim import CronSim

    epoch = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock
    found = CronSim(cron, epoch)
    if found.day_and:
        return f"{found.explain()}."
    week = {day % 7 for day in found.weekdays if isinstance(day, int)}
    if len(week) < 7 and not found.days.issuperset(range(1, 32)):
        return f"{found.explain()}; either suffices."
    minute, hour, _, month, _ = cron.split()
    return f"{CronSim(f'{minute} {hour} * {month} *', epoch).explain()}."


def _print_next(name: str, rule: Every, zone: tzinfo, args: argparse.Namespace) -> None:
    from spool.command import render
    from spool.times import format_span, format_utc, moment

    now = _now()
    for at in _next(rule, zone, now, args.count):
        if args.json:
            print(render.json_line({"name": name, "at": format_utc(at)}))
        else:
            local = moment(at, zone).strftime("%a %Y-%m-%d %H:%M:%S %Z")
            print(f"{local}  {format_utc(at)[:19]}Z  in {format_span(at - now)}")


def _next(rule: Every, zone: tzinfo, now: int, count: int) -> Iterator[int]:
    from spool.schedule import occurrences

    if not 1 <= count <= 10_000:
        raise Invalid("--count", count, "must be from 1 to 10000")
    return islice(occurrences(rule, zone, now), count)


def _import(args: argparse.Namespace) -> int:
    from spool import crontab
    from spool.safe import safe

    if len(args.names) != 1:
        options_of.usage(args, "import takes one file, or - for standard input")
    path = args.names[0]
    from_stdin = path == "-"
    with open(0 if from_stdin else path, "rb", closefd=not from_stdin) as file:
        text = file.read().decode("utf-8", "surrogateescape")
    found = crontab.read(text, system=args.system)
    if args.json:
        import tomllib

        from spool.command.render import json_line

        said = {"notes": found.notes, "problems": found.problems}
        told = {what: [{"line": n, "why": why} for n, why in rows] for what, rows in said.items()}
        print(json_line({"recurring": {}, **tomllib.loads(crontab.toml(found)), **told}))
    else:
        print(crontab.toml(found), end="")
    for line, why in sorted([*found.notes, *found.problems]):
        print(f"spool: line {line}: {safe(why)}", file=sys.stderr)
    total = len(found.jobs) + len(found.problems)
    print(f"spool: {len(found.jobs)} of {total} lines understood", file=sys.stderr)
    return EX_DATAERR if found.problems else 0


def _now() -> int:
    import time

    return time.time_ns() // 1000
