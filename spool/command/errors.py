"""`spool errors`: what fails again and again, by how much it hurts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool.command import parser as options_of
from spool.command.asked import add_wait, see
from spool.fields import CARES

if TYPE_CHECKING:
    import argparse

    from spool.client import Spool
    from spool.failures import Group

SHOW = "show"
HEAD = "ERROR", "TASK", "TYPE", "1H", "24H", "7D", "ALL", "FAILED", "LAST", "STATE", "MESSAGE"
EPILOG = """
Failures are the same where task, type of error and place are: numbers, ids, paths and times do
not count. FP is a fingerprint or the beginning of one. `resolve`: it is mended, and is told again
when it comes back. `mute`: nobody wants to hear of it. `reopen` takes both back.

examples:
  spool errors
  spool errors show 3f2a
  spool retry --error 3f2a && spool errors resolve 3f2a --why 'relay is back'
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.add_argument("what", nargs="?", choices=(SHOW, *CARES), help="what to do; left out: list")
    parser.add_argument("errors", nargs="*", metavar="FP", help="fingerprints")
    parser.add_argument("--all", action="store_true", help="list what is resolved or muted as well")
    parser.add_argument(
        "--until", type=options_of.number, metavar="TIME", help="when a mute ends by itself"
    )
    parser.add_argument("--why", metavar="TEXT", help="the reason, for whoever asks later")
    add_wait(parser)
    options_of.add_json(parser, "print one JSON object a group")


def run(args: argparse.Namespace) -> int:
    """List, show, or say something about groups."""
    spool = options_of.open_spool(args)
    if args.what is None:
        return _list(spool, args)
    if not args.errors:
        options_of.usage(args, f"{args.what} takes fingerprints; `spool errors` lists them")
    from spool.errorgroups import expand

    found = list(dict.fromkeys(expand(spool.disk, start) for start in args.errors))
    return _show(spool, found, args) if args.what == SHOW else _say(spool, found, args)


def _say(spool: Spool, found: list[str], args: argparse.Namespace) -> int:
    from spool.body import fields

    if args.until is not None and args.what != "mute":
        options_of.usage(args, "--until goes with mute")
    stem = spool.act({"action": args.what, "errors": found, **fields(until=args.until, why=args.why)})
    said = f"{args.what}: asked for {len(found)} group{'s' * (len(found) != 1)}"
    args.verb = args.what
    return see(spool, [stem], args, said, {"errors": found})


def _list(spool: Spool, args: argparse.Namespace) -> int:
    import time

    from spool.command import render
    from spool.errorgroups import groups
    from spool.times import DAY, HOUR, WEEK

    now = time.time_ns() // 1000
    known = (g.as_of(now) for g in groups(spool.disk))
    shown = [g for g in known if args.all or g.state == "open"]
    shown.sort(key=lambda g: (-g.within(DAY, now), -g.within(WEEK, now), -g.last))
    if args.json:
        for one in shown:
            print(render.json_line(one.plain()))
        return 0
    if shown:
        rows = [
            (
                g.fingerprint,
                g.task,
                g.type,
                *(g.within(span, now) for span in (HOUR, DAY, WEEK)),
                g.count,
                g.failed,
                render.when(g.last, now),
                g.state,
                g.message,
            )
            for g in shown
        ]
        render.table(HEAD, rows)
    return 0


def _show(spool: Spool, found: list[str], args: argparse.Namespace) -> int:
    import time

    from spool.command import render
    from spool.errorgroups import read

    now = time.time_ns() // 1000
    for number, name in enumerate(found):
        group = read(spool.disk, name).as_of(now)
        if args.json:
            print(render.json_line(group.plain()))
            continue
        if number:
            print()
        render.facts(_facts(group, now))
        print()
        head = ("EXAMPLE", "ATTEMPT", "WHEN")
        render.table(head, [(e.get("id"), e.get("attempt"), _when(e, now)) for e in group.examples])
        print()
        render.table(("HOUR", "FAILURES"), _hours(group, now))
    return 0


def _facts(group: Group, now: int) -> list[tuple[str, Any]]:
    from spool.command import render

    by = group.by or {}
    counts = {"versions": group.versions, "nodes": group.nodes}
    more = {name: ", ".join(f"{k} {n}" for k, n in rows.items()) for name, rows in counts.items()}
    return [
        ("error", group.fingerprint),
        ("task", group.task),
        ("type", group.type),
        ("message", group.message),
        *(("place", line) for line in group.place),
        ("state", group.state),
        ("until", None if group.until is None else render.until(group.until, now)),
        ("by", f"uid {by.get('uid')}, {by.get('why') or 'no reason given'}" if by else None),
        ("failures", f"{group.count}, {group.failed} of them for good"),
        ("first", render.until(group.first, now)),
        ("last", render.until(group.last, now)),
        *more.items(),
    ]


def _when(example: dict[str, Any], now: int) -> str:
    from spool.command import render
    from spool.times import parse_utc

    try:
        return render.until(parse_utc(str(example.get("at"))), now)
    except ValueError:
        return ""


def _hours(group: Group, now: int) -> list[tuple[str, str]]:
    """The last day, hour by hour, as bars; hours without any are left out."""
    from spool.command import render
    from spool.times import DAY

    hours = {us: n for us, n in sorted(group.histogram.get("hours", {}).items()) if us > now - DAY}
    most = max(hours.values(), default=1)
    return [(render.clock(us, now), f"{n:>6} {'#' * max(1, 40 * n // most)}") for us, n in hours.items()]
