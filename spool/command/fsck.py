"""`spool fsck`: whether everything is where it belongs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from spool.command import parser as options_of
from spool.errors import EX_TEMPFAIL, NotAllowed

if TYPE_CHECKING:
    import argparse

    from spool.client import Spool
    from spool.disk import Disk

DAMAGED = 1
EPILOG = """
Run it while no daemon serves the spool: it takes what it sees for the truth. Exit status: 0 where
all is well or was mended, 1 where something is not.
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.add_argument("--repair", action="store_true", help="mend what can be mended")
    parser.add_argument("--force", action="store_true", help="look although a daemon is alive")
    options_of.add_json(parser, "print one JSON object a finding")


def run(args: argparse.Namespace) -> int:
    """Check, and mend where asked to."""
    from spool import modes
    from spool.closed import as_user
    from spool.command import render
    from spool.command.bar import Bar
    from spool.drop import is_shared
    from spool.fsck import check
    from spool.safe import safe

    spool = options_of.open_spool(args)
    why = None if args.force and not args.repair else _not_now(spool)
    if args.repair and not os.geteuid() and (serves := modes.serving(spool.path, is_shared=False)):
        way = f"what root would make, uid {serves} could not read: {as_user(serves)}"
        raise NotAllowed(f"{spool.path}: {way}")
    if why:
        print(f"spool: {safe(spool.path)}: {why}", file=sys.stderr)
        return EX_TEMPFAIL
    if args.repair and is_shared(spool.disk):  # as spoold makes what readers look at
        os.umask(0o022)
        spool.disk.file_mode, spool.disk.dir_mode = 0o644, 0o750
    bad = total = 0
    with Bar("fsck", of="files") as bar:
        bar.total = _files(spool.disk) if bar.shown else None
        for found in check(bar.reads(spool.disk), repair=args.repair):
            total += 1
            bad += found.mended is None and found.grave
            bar.clear()
            if args.json:
                row = {"path": found.path, "what": found.what, "mended": found.mended}
                print(render.json_line({**row, "grave": found.grave}))
            else:
                mended = f": {found.mended}" if found.mended else ""
                print(safe(f"{found.path}: {found.what}{mended}"))
    if not args.json and sys.stdout.isatty():
        print(f"{total} findings" if total else "all is well")
    return DAMAGED if bad else 0


def _files(disk: Disk) -> int:
    """About how many it will read: the tasks and the records of their attempts."""
    from spool import layout, look

    records = sum(len(disk.names(f"{layout.ATTEMPTS}/{date}")) for date in disk.names(layout.ATTEMPTS))
    return records + sum(look.count(disk, limit=sys.maxsize)[0].values())


def _not_now(spool: Spool) -> str | None:
    """Why what is there now is not what it will be."""
    from spool import daemons, machine, redolog

    alive = [
        name
        for name, node in daemons.nodes(spool.disk, spool.path).items()
        if node["alive"] or daemons.alive(spool.path, name)  # frozen, it may go on at any moment
    ]
    if alive:  # what it is changing would look damaged
        return f"spoold is alive (node {', '.join(alive)}); stop it first, or look only, with --force"
    log = redolog.read(spool.disk)
    if log and log.undone(machine.life(spool.path), redolog.seen(spool.disk)):
        return "the power failed: start spoold, which replays its redo log, or look only, with --force"
    return None
