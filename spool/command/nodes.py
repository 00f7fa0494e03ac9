"""`spool nodes`: which daemons serve a spool, and how each of them is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool.command import parser as options_of

if TYPE_CHECKING:
    import argparse

EPILOG = """
BEAT is the age of the last heartbeat, CLOCK how far the clock of a node is from that of the file
server; both are there on a network file system only, or where `lease` is set. Exit status: 0, or
1 where none is alive.
"""
NODE_GONE = 1


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    options_of.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Show them, one a line; status 1 where none is alive."""
    import time

    from spool import daemons
    from spool.command import render
    from spool.times import format_utc

    spool = options_of.open_spool(args)
    found = daemons.nodes(spool.disk, spool.path)
    for row in found.values() if args.json else ():
        if "beat_at" in row:
            row["beat_at"] = format_utc(row["beat_at"])
        print(render.json_line(row))
    if found and not args.json:
        now = time.time_ns() // 1000
        head = ("NODE", "ALIVE", "STATE", "PID", "RUNS", "LIMIT", "LOAD", "BEAT", "CLOCK", "TASKS")
        render.table(head, [_row(name, row, now) for name, row in found.items()])
    return 0 if any(row["alive"] for row in found.values()) else NODE_GONE


def _row(name: str, row: dict[str, Any], now: int) -> tuple[Any, ...]:
    from spool.times import format_span

    beat, offset = row.get("beat_at"), row.get("clock_offset")
    tasks = sorted({str(run.get("task")) for run in row.get("running") or []})
    alive = bool(row["alive"])
    return (
        name,
        "yes" if alive else "no",
        row.get("state") if alive else "gone",
        row.get("pid"),
        row.get("running_total") if alive else "",
        row.get("limit") if alive else "",
        row.get("load") if alive else "",
        "" if beat is None else format_span(max(0, now - beat)),
        "" if offset is None else f"{offset:+.3f} s",
        " ".join(tasks) if alive else "",
    )
