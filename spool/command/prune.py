"""`spool prune`: look after old history now, or say what there is to do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from spool.command import parser as options_of
from spool.command.asked import add_wait, see

if TYPE_CHECKING:
    import argparse

    from spool.client import Spool
    from spool.disk import Disk
    from spool.retention import Excess
    from spool.settings import Settings

EPILOG = """
spoold does it by itself, every ten minutes and a little at a time; this asks it to begin now. How
long what is kept say the settings pack_after and keep_... in spool.toml(5), for whole days.
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.add_argument("--dry-run", action="store_true", help="print what would be done to which days")
    options_of.add_fields(parser, "prune", ())
    add_wait(parser)
    options_of.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Ask, or tell."""
    spool = options_of.open_spool(args)
    if args.dry_run:
        return _tell(spool, json=args.json)
    stem = spool.act({"action": "prune", **options_of.given_fields(args, "prune")})
    return see(spool, [stem], args, "prune: asked for", {})


def _tell(spool: Spool, *, json: bool) -> int:
    import time

    from spool import layout, packs, retention, settings
    from spool.command import render
    from spool.command.bar import Bar
    from spool.disk import Missing
    from spool.weigh import expired, weigh

    try:
        found = settings.load(spool.disk.read(layout.SETTINGS, 1 << 20).decode())
    except Missing:
        found = settings.load("")
    now = time.time_ns() // 1000
    excess = retention.Excess(found)
    with Bar("prune", of="names") as bar:
        disk = bar.names(spool.disk)
        for _ in weigh(disk, found, excess, now) if excess.wanted else ():
            pass
        rows = _ended(disk, found, excess, now)
    for path in packs.packs(spool.disk):
        if expired(path, now):
            rows[retention.DROP, layout.parent_of(path)] += 1
        elif excess.left:
            held = filter(None, map(packs.entry_of, packs.lines(spool.disk, path)))
            goes = sum(excess.takes(state, entry.task, entry.time) for state, entry in held)
            rows["thin", layout.parent_of(path)] += goes > 0
    shown = [(what, folder, n) for (what, folder), n in sorted(rows.items()) if n]
    if json:
        for what, folder, n in shown:
            print(render.json_line({"what": what, "folder": folder, "files": n}))
    elif shown:
        render.table(("WHAT", "WHERE", "FILES"), shown)
    return 0


def _ended(disk: Disk, found: Settings, excess: Excess, now: int) -> Counter[tuple[str, str]]:
    """What is to be done with what is not packed: (what, directory) -> how many."""
    from spool import layout, look, retention
    from spool.names import BadName

    rows: Counter[tuple[str, str]] = Counter()
    for folder in look.folders(disk, layout.ENDED):
        state, date = folder.split("/")
        if not retention.is_date(date) or retention.age(date, now) < 0:
            continue
        for names in disk.slices(folder, look.SLICE):
            for name in names:
                try:
                    entry = look.entry_at(f"{folder}/{name}")
                except BadName:
                    continue
                what, _ = retention.fate(found, state, date, entry.task, now)
                if what != retention.DROP and excess.takes(state, entry.task, entry.time):
                    what = retention.DROP
                rows[what, folder] += what != retention.KEEP
    return rows
