"""`spool run`: a command as a task of your own spool."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from spool.command import parser as options_of
from spool.command.submit import body, show, show_ids
from spool.command.wait import CANCELLED, FAILED, note_if_unserved, told
from spool.drop import is_shared
from spool.errors import EX_TEMPFAIL, Invalid, NotAllowed
from spool.runargs import RUN
from spool.streams import telling

if TYPE_CHECKING:
    import argparse

    from spool.client import Spool

EPILOG = """
The command runs in this directory, without a shell, in the clean environment of every program
(PATH, HOME, USER, LOGNAME, SHELL, LANG, TZ, SPOOL_...), to which --env adds. It is tried once,
unless --retries says more. Only a private spool (mode 0700) runs commands; one of several users
does so for whom a rule with `run` names. Prints the id; with --wait what the command prints, and
exits as it did: its exit status, 128 + N for signal N, 2 where it was cancelled, 75 where it took
longer than its --timeout or was lost.

examples:
  spool run -- make -j4 all
  spool run --at '2026-11-22 02:00' --priority low -- ./backup.sh
  spool run --wait -- sh -c 'make 2>&1 | tail'
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.usage = "spool run [options] [--] COMMAND [ARGUMENT ...]"
    parser.add_argument("--wait", action="store_true", help="print its output, exit with its status")
    parser.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]",
                        help="set a variable; without a value as it is here")  # fmt: skip
    parser.add_argument("--front", action="store_true", help="short for --position front")
    parser.add_argument("--dry-run", action="store_true", help="print the action, submit nothing")
    options_of.add_json(parser)
    options_of.add_fields(parser, "submit", ("task", "args", "files"))


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Our options end at `--`, or at the first word that is none."""
    import argparse

    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    if "--" not in words:
        return parser.parse_args(words)
    end = words.index("--")
    args = parser.parse_args(words[:end])
    if args.command:  # this `--` belongs to the command
        args = parser.parse_args(words)
    else:
        args.command = words[end + 1 :]
    return args


def run(args: argparse.Namespace) -> int:
    """Submit the command; with --wait see it through."""
    if not args.command:
        options_of.usage(args, "name the command to run")
    spool = options_of.open_spool(args)
    _private(spool)
    args.task = RUN
    doc = {"retries": 0, **body(args, _run_args(args))}
    if args.dry_run:
        show(spool, doc)
        return 0
    task_id = spool.submit_one(doc)
    if args.wait:
        return _see_through(spool, task_id, json=args.json)
    show_ids([task_id], json=args.json)
    return 0


def _run_args(args: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"argv": args.command, "cwd": os.getcwd()}
    env = {}
    for word in args.env:
        name, equals, value = word.partition("=")
        if not equals and name not in os.environ:
            raise Invalid("--env", name, "is not set here; give it a value: NAME=VALUE")
        env[name] = value if equals else os.environ[name]
    return found | ({"env": env} if env else {})


def _private(spool: Spool) -> None:
    info = spool.disk.info(".")
    if info is not None and info.mode & 0o077 and not is_shared(spool.disk):  # else a rule says who may
        raise NotAllowed(
            f"{spool.path}: others may enter it, so it runs no commands; bind a handler in spool.toml"
            f" and `spool submit`, or make it private: chmod 700 {spool.path}"
        )


def _see_through(spool: Spool, task_id: str, *, json: bool) -> int:
    from spool.command.log import follow
    from spool.command.render import json_line
    from spool.safe import safe

    note_if_unserved(spool)
    try:
        if not json:
            with telling(f"submitted {task_id}"):
                follow(spool, task_id, 1, raw=False, on=True)
        record = spool.wait(task_id)
    except KeyboardInterrupt:
        print(f"spool: {task_id} goes on; `spool cancel {task_id}` ends it", file=sys.stderr)
        raise
    if json:
        with telling(f"submitted {task_id}"):
            print(json_line(record))
    outcome = record.get("outcome")
    if outcome in ("ok", "error"):  # its own end; else whoever ended it decided that
        if isinstance(record.get("signal"), int):
            return 128 + int(record["signal"])
        if isinstance(record.get("exit"), int):
            return int(record["exit"])
    print(f"spool: {safe(told(record))}", file=sys.stderr)
    if record["event"] == "cancelled":
        return CANCELLED
    return FAILED if outcome == "error" else EX_TEMPFAIL
