"""`spool pause`, `resume`, `drain`: whether anything starts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from spool import layout
from spool.command import parser as options_of
from spool.command.asked import add_wait, see
from spool.errors import SpoolError
from spool.safe import safe

if TYPE_CHECKING:
    import argparse

    from spool.client import Spool

EPILOG = """
What runs goes on. Without --task and --node it is about the whole spool; `resume` takes back
exactly what was paused with the same --task or --node. It survives restarts.

examples:
  spool pause --task 'mail.*' --why 'relay is down' --until +2h
  spool resume --task 'mail.*'
  spool drain --node host-a
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verbs take."""
    parser.epilog = EPILOG
    options_of.add_fields(parser, parser.get_default("verb"), ("who", "meta"))
    add_wait(parser)
    options_of.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Ask, and see what comes of it."""
    fields = options_of.given_fields(args, args.verb)
    spool = options_of.open_spool(args)
    stem = spool.control(args.verb, **fields)
    what = [f"{name} {fields[name]}" for name in ("task", "node") if name in fields]
    if "node" in fields and not _is_node(spool, fields["node"]):
        print(f"spool: no node {safe(fields['node'])} is known here", file=sys.stderr)
    scope = str(fields.get("task", ""))
    if scope.startswith("@") and not _is_schedule(spool, scope[1:]):
        print(f"spool: no schedule {safe(scope[1:])} is known here", file=sys.stderr)
    said = f"{args.verb}: asked for {' '.join(what) or 'the whole spool'}"
    return see(spool, [stem], args, said, {k: fields.get(k) for k in ("task", "node")})


def _is_schedule(spool: Spool, pattern: str) -> bool:
    """Whether a schedule has such a name, or that cannot be known."""
    from spool.patterns import matches
    from spool.scene import recurring

    try:
        known = recurring.settings_of(spool.disk)
        names = [*(one.name for one in known.recurring), *recurring.broken(spool.disk, known)]
    except (PermissionError, SpoolError):
        return True
    return any(matches(pattern, name) for name in names)


def _is_node(spool: Spool, node: str) -> bool:
    """Whether a node of this name has served the spool, or who asks may not look."""
    try:
        return spool.disk.info(layout.lock(node)) is not None
    except PermissionError:
        return True
