"""`spool status`: what runs, what comes next, what holds the queue, who listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool.command import parser as options_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from spool.client import Spool
    from spool.why import Why

SHOWN = 20  # running tasks
UNCOUNTED = "at least so many: it is a long queue, and spoold has not counted it yet"
WORDS = {"taken": "taken in", "failures": "failed attempts"}
EPILOG = "Exit status: 0 whatever there is to tell; `spool doctor` says whether it is well."


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    options_of.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Show."""
    for number, spool in enumerate(options_of.open_spools(args).spools):
        if number and not args.json:
            print()
        _show(spool, json=args.json)
    return 0


def _show(spool: Spool, *, json: bool) -> None:
    from spool.command import render
    from spool.command.why import explainer

    found = spool.status()
    if json:
        from spool.times import maybe_utc

        for row in found["pauses"]:
            row |= {name: maybe_utc(row[name]) for name in ("since", "until")}
        print(render.json_line(found))
        return
    reasons = explainer(spool)
    render.facts(_facts(found, reasons))
    alive = [node for node in found["nodes"].values() if node["alive"]]
    rows = [row for node in alive for row in _running(node, reasons.now)]
    if rows:
        print()
        head = ("RUNNING", "TASK", "ATTEMPT", "FOR", "CLASS", "BY", "PROGRESS")
        render.table(head, rows[:SHOWN])
        if len(rows) > SHOWN:
            print(f"{len(rows) - SHOWN} more; `spool ls running` lists them")


def _facts(found: dict[str, Any], reasons: Why) -> Iterator[tuple[str, Any]]:
    from spool import daemons
    from spool.command import render
    from spool.times import parse_utc

    counts = found["counts"]
    yield "spool", found["spool"]
    yield from _nodes(found, reasons.now)
    classes = {k.partition("/")[2]: n for k, n in counts.items() if k.startswith("pending/")}
    waiting = ", ".join(f"{n} {prio}" for prio, n in classes.items() if n)
    yield "pending", f"{sum(classes.values())}{f' ({waiting})' if waiting else ''}"
    if (oldest := found["oldest"]) is not None:
        due = render.until(parse_utc(oldest["at"]), reasons.now)
        yield "oldest", f"{oldest['id']} {oldest['task']} {due}"
    for state in ("running", "held", "done", "failed", "cancelled"):
        yield state, counts[state]
    yield "counted", found["counted_at"] if found["complete"] else UNCOUNTED
    yield "incoming", counts["incoming"] or None
    yield "disk", daemons.full(reasons.disk)
    alive = [(name, node) for name, node in found["nodes"].items() if node["alive"]]
    for name, node in alive:
        if len(alive) > 1:
            yield "on node", name
        yield from _queue(node, reasons.now)
    for row in found["pauses"]:
        yield "pauses", reasons.pause(row)
    unread = ", ".join(f"{parent} {n}" for parent, n in found["outboxes"].items() if n)
    yield "unread", unread


def _nodes(found: dict[str, Any], now: int) -> Iterator[tuple[str, str]]:
    from spool import daemons
    from spool.command import render
    from spool.times import format_span

    if not found["alive"]:
        hint = f"start it with `{daemons.start_hint(found['spool'])}`"
        yield "daemon", f"no spoold serves this spool; {hint}"
    for name, node in found["nodes"].items():
        if node["alive"]:
            up = daemons.up(node, now)
            since = "" if up is None else f", up {format_span(up)}"
            yield "daemon", f"node {name}: alive, {node.get('state')}, pid {node.get('pid')}{since}"
            yield from _troubles(node, now)
        elif (seen := daemons.last_seen(node)) is not None:
            yield "daemon", f"node {name}: gone, last seen {render.until(seen, now)}"


def _troubles(node: dict[str, Any], now: int) -> Iterator[tuple[str, str]]:
    """What a daemon says that is not as it should be."""
    from spool import daemons

    if node.get("settings_error"):
        yield "settings", f"not read again: {node['settings_error']}"
    for problem in daemons.broken(node):
        yield "python", problem
    if node.get("no_cgroup"):
        yield "cgroups", f"none, memory holds for each process: {node['no_cgroup']}"
    if apart := daemons.clock_apart(node):
        yield "clock", apart
    if doubt := node.get("clock_doubted"):
        yield "clock", _doubted(doubt, now)
    for place, why in (node.get("left_alone") or {}).items():
        yield "incoming", f"{place} {why}"


def _doubted(doubt: dict[str, str], now: int) -> str:
    from spool.command import render
    from spool.times import parse_utc

    known, until = (render.clock(parse_utc(doubt[name]), now) for name in ("known", "until"))
    return f"is ahead of {known}, as far as is known: nothing is removed for its age until {until}"


def _queue(node: dict[str, Any], now: int) -> Iterator[tuple[str, str]]:
    from spool.command import render
    from spool.gated import sentence
    from spool.heldback import brief, outboxes
    from spool.times import parse_utc

    lately = node.get("lately") or {}
    if any(lately.values()):
        words = ", ".join(f"{n} {WORDS.get(name, name)}" for name, n in lately.items())
        ended = lately.get("done", 0) + lately.get("failures", 0)
        rate = f" ({100 * lately.get('failures', 0) / ended:.0f} % of attempts)" if ended else ""
        yield "5 minutes", f"{words}{rate}"
    following = node.get("next")
    if following:
        due = render.until(parse_utc(following["at"]), now)
        yield "next", f"{following['id']} {following['task']} ({following['class']}) {due}"
    shut = sentence(node, now, lambda us: render.clock(us, now))
    if shut:
        yield "gate", shut
    held = brief(node, lambda us: render.clock(us, now))
    for ready, classes, why in held:
        if not shut or why != node["gate"].get("why"):
            yield "held back", f"{ready} {classes}: {why}"
    for full in outboxes([node], lambda us: render.clock(us, now)):
        yield "held back", full


def _running(node: dict[str, Any], now: int) -> Iterator[tuple[Any, ...]]:
    from spool.command import render

    for row in node.get("running") or []:
        how_far = render.progress(row.get("progress") or {})
        yield (
            row["id"],
            row["task"],
            row.get("attempt"),
            _span(row, "started_at", now),
            row.get("class"),
            row.get("handler") or row.get("parent"),
            " ".join(filter(None, (how_far, row.get("ending") and f"ending: {row['ending']}"))),
        )


def _span(row: dict[str, Any], name: str, now: int) -> str:
    from spool.times import format_span, parse_utc

    try:
        return format_span(max(0, now - parse_utc(row[name])))
    except (KeyError, ValueError, TypeError):
        return ""
