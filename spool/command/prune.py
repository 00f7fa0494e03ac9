"""`spool prune`: look after old history now, or say what there is to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool.command import parser as options_of
from spool.command.asked import add_wait, see

if TYPE_CHECKING:
    import argparse

    from spool.client import Spool

EPILOG = """
spoold does it by itself, every ten minutes and a little at a time; this asks it to begin now. How
long what is kept say the settings pack_after and keep_... in spool.toml(5), for whole days.

With --dry-run: pack, what gets into a pack; thin, packs that are made anew with less in them; drop,
what goes. How large packs will be is a guess. Not shown: nodes long gone, keys that are free.
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.add_argument("--dry-run", action="store_true", help="print what would be done to which days")
    options_of.add_fields(parser, "prune", ("meta",))
    add_wait(parser)
    options_of.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Ask, or tell."""
    spool = options_of.open_spool(args)
    if args.dry_run:
        return _tell(spool, json=args.json)
    stem = spool.act({"action": "prune", **options_of.given_fields(args, "prune")})
    return see(spool, [stem], args, "prune: asked for what is old", {})


def _tell(spool: Spool, *, json: bool) -> int:
    import time

    from spool import settingsfile
    from spool.command import render
    from spool.command.bar import Bar
    from spool.prune.planned import planned

    found = settingsfile.read(spool.disk)
    with Bar("prune", of="names") as bar:
        rows = planned(bar.names(spool.disk), str(spool.path), found, time.time_ns() // 1000)
    shown = [(what, folder, n) for (what, folder), n in sorted(rows.items())]
    if json:
        for what, folder, n in shown:
            print(render.json_line({"what": what, "folder": folder, "files": n}))
    elif shown:
        render.table(("WHAT", "WHERE", "FILES"), shown)
    return 0
