"""`spool watch`: the events of a parent as they come; a consumer for shell scripts."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from spool.command import parser as options_of
from spool.command.wait import seconds
from spool.layout import DEFAULT_PARENT
from spool.safe import safe

if TYPE_CHECKING:
    import argparse

    from spool.views import Event

EPILOG = """
To watch is only to look: every event stays for whoever is to read it. With --ack each is deleted
once it is printed, with --exec once the command has exited with 0: then this is the parent. The
command gets the event as JSON on standard input, and SPOOL_EVENT, SPOOL_ID, SPOOL_TASK and
SPOOL_ATTEMPT. An event whose command fails stays, and comes again when this is started again.

examples:
  spool watch
  spool watch shop --json --ack | ./bookkeeping
  spool watch mail --exec './notify-user --quiet'
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.add_argument("parent", nargs="?", default=DEFAULT_PARENT, metavar="PARENT",
                        help=f"whose outbox (default: {DEFAULT_PARENT})")  # fmt: skip
    parser.add_argument("--exec", dest="command", metavar="CMD", help="run this for each, no shell")
    parser.add_argument("--ack", action="store_true", help="delete each event once it is printed")
    parser.add_argument("--keep", action="store_true", help="delete none, after --exec neither")
    parser.add_argument("--once", action="store_true", help="only what is there now")
    parser.add_argument("--timeout", metavar="DURATION", help="end when none came for this time")
    options_of.add_json(parser, "print one JSON object a line")


def run(args: argparse.Namespace) -> int:
    """Print events until told to stop."""
    from spool.outbox import Outbox, each

    if args.keep and args.ack:
        options_of.usage(args, "--keep and --ack do not go together")
    words = None if args.command is None else _words(args)
    spools = options_of.open_spools(args).spools
    boxes = [Outbox(spool.disk, spool.path, args.parent) for spool in spools]
    timeout = None if args.timeout is None else seconds(args.timeout, "--timeout")
    failed = 0
    for box, event in each(boxes, follow=not args.once, timeout=timeout, keep=True):
        if words is None or args.json:
            _show(event, json=args.json)
        good = words is None or _handled(box.root, words, event)
        failed += not good
        if good and not args.keep and (args.ack or words is not None):
            box.acknowledge(event)
    return 1 if failed else 0


def _words(args: argparse.Namespace) -> list[str]:
    """The command and its arguments; a usage error where they cannot be told apart."""
    import shlex

    try:
        words = shlex.split(args.command)
    except ValueError as problem:
        options_of.usage(args, f"--exec `{safe(args.command)}`: {str(problem).lower()}")
    if not words:
        options_of.usage(args, "--exec takes a command")
    return words


def _show(event: Event, *, json: bool) -> None:
    from spool.command import render

    if json:
        print(render.json_line(event.record), flush=True)
        return
    attempt = "" if event.attempt is None else f" attempt {event.attempt}"
    error = event.error or {}
    result = "" if event.result is None else render.json_line(event.result)
    said = error.get("message") or result or render.progress(event.record)
    word = render.paint(event.event, event.event)
    more = f": {safe(said)}" if said else ""
    clock = event.name.partition(",")[0]
    print(f"{clock} {word} {event.id} {safe(event.task)}{attempt}{more}", flush=True)


def _handled(root: str, words: list[str], event: Event) -> bool:
    """Whether the command has dealt with the event."""
    import os
    import shlex

    from spool.records import encode

    env = {
        **os.environ,
        "SPOOL_DIR": root,
        "SPOOL_EVENT": event.event,
        "SPOOL_ID": event.id,
        "SPOOL_TASK": event.task,
        "SPOOL_ATTEMPT": str(event.attempt or ""),
    }
    done = subprocess.run(words, input=encode(event.record), env=env, check=False)
    if done.returncode:
        told = f"{safe(shlex.join(words))} exited with {done.returncode}: {event.name} stays"
        print(f"spool: {told}", file=sys.stderr)
    return done.returncode == 0
