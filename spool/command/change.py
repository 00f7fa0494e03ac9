"""`spool cancel`, `retry`, `hold`, `release`, `move`: one action on some tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool.command import parser as options_of
from spool.command.asked import add_wait, see

if TYPE_CHECKING:
    import argparse

CHUNK = 1000  # ids in one action
EPILOG = """
Says how many tasks it was asked for. Where a daemon is alive it waits up to 2 s, so that a refusal
is seen: exit status 65, and the others were done. --wait waits longer: 75 where it was in vain.

examples:
  spool {verb} 0193a5b27c4d7e8f9a0b1c2d3e4f5a6b{more} --why 'asked for by Zoe'
  spool ls {state} --task 'thumb.*' --ids | spool {verb} -{more}
"""
STATES = {"cancel": "pending", "retry": "failed", "hold": "pending", "release": "held", "move": "pending"}


def options(parser: argparse.ArgumentParser) -> None:
    """What the verbs take."""
    verb = parser.get_default("verb")
    more = " --priority high" if verb == "move" else ""
    parser.epilog = EPILOG.format(verb=verb, state=STATES[verb], more=more)
    options_of.add_ids(parser)
    if verb == "move":
        parser.add_argument("--front", action="store_true", help="short for --position front")
        parser.add_argument("--back", action="store_true", help="short for --position back")
    options_of.add_fields(parser, verb, ("ids",))
    add_wait(parser)
    options_of.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Ask, and see what comes of it."""
    fields = options_of.given_fields(args, args.verb)
    if args.verb == "move":
        if args.front and args.back:
            options_of.usage(args, "--front and --back do not go together")
        if args.front or args.back:
            fields["position"] = "front" if args.front else "back"
    spool = options_of.open_spool(args)
    ids = options_of.ids_of(args.ids)
    chunks = [ids[at : at + CHUNK] for at in range(0, len(ids), CHUNK)]
    for chunk in chunks:
        spool.preview({"action": args.verb, "ids": chunk, **fields})  # all of it is valid, or none
    stems = [spool.act({"action": args.verb, "ids": chunk, **fields}) for chunk in chunks]
    count = f"{len(ids)} task{'s' * (len(ids) != 1)}"
    return see(spool, stems, args, f"{args.verb}: asked for {count}", {"asked": len(ids)})
