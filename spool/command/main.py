"""The command spool: finds the verb, runs it, turns every error into one line and an exit status."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from spool import streams
from spool.command.verbs import SEVERAL, VERBS
from spool.errors import EX_IOERR, EX_NOPERM, EX_USAGE, NO_CWD, SpoolError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

INTERRUPTED = 130
BROKEN_PIPE = 141

USAGE = """usage: spool [--spool DIR] VERB ...

A task queue that is a directory.

"""
EPILOG = """
The spool is --spool DIR, else $SPOOL_DIR, else your own, which is made on first use; where several
are named, DIR:DIR, submit, ls, show, status, wait and watch are about all of them.
`spool VERB --help` tells more. A daemon runs the tasks: spoold(8).

  spool submit email.welcome to=zoe@example.org --at '+2h'
  spool run --wait -- make all
  spool ls failed --ids | spool retry -
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command spool; returns a sysexits(3) status."""
    streams.complete()
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(words)
        sys.stdout.flush()
    except SpoolError as problem:
        complain(problem)
        return problem.exit_code
    except BrokenPipeError:
        streams.give_up()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as leave:  # argparse: --help, and usage errors
        return leave.code if isinstance(leave.code, int) else 0
    except OSError as problem:
        gone = isinstance(problem, FileNotFoundError) and NO_CWD  # of getcwd(2): it alone names no file
        where = problem.filename or (not streams.settled() and "standard output")
        complain(f"{where}: {problem.strerror}" if where else gone or problem)
        return EX_NOPERM if isinstance(problem, PermissionError) else EX_IOERR
    return status


def _run(words: list[str]) -> int:
    head, verb, rest = _split(words)
    if verb is None:
        return _no_verb(head)
    if verb not in VERBS:
        return _no_such_verb(verb)
    from spool.command.parser import verb_parser

    module = import_module(f"spool.command.{VERBS[verb][0]}")
    parser = verb_parser(verb)
    module.options(parser)
    parse = getattr(module, "parse", None)
    args = parser.parse_intermixed_args(rest) if parse is None else parse(parser, rest)
    if args.spool is None:
        args.spool = _spool_in(head)
    if verb not in SEVERAL and ":" in (args.spool or os.environ.get("SPOOL_DIR", "")):
        _one_spool(verb, args)
    try:
        return int(module.run(args))
    except PermissionError as problem:
        raise _closed(args, problem) from None


def _closed(args: Namespace, problem: PermissionError) -> Exception:
    """Who may look, where a place of the spool is closed to this user; else the problem as it is."""
    from spool.closed import closed
    from spool.command.parser import places

    found = (closed(root, problem) for root in map(os.path.abspath, places(args)))
    return next(filter(None, found), problem)


def _one_spool(verb: str, args: Namespace) -> None:
    """Most verbs are about one spool: a usage error where more are named."""
    from spool.command.parser import places, usage
    from spool.safe import safe

    if verb == "init" and (args.dir or args.spool or args.user):
        return  # what is to be made may have any name
    if len(found := places(args)) > 1:
        usage(args, f"`{verb}` takes one spool, and {len(found)} are named: --spool {safe(found[0])}")


def _split(words: list[str]) -> tuple[list[str], str | None, list[str]]:
    """(options before the verb, the verb, the rest)."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] == "--spool" else 1
    if at >= len(words):
        return words, None, []
    return words[:at], words[at], words[at + 1 :]


def _spool_in(head: list[str]) -> str | None:
    from spool.command.parser import Parser

    parser = Parser(prog="spool", add_help=False, allow_abbrev=False)
    parser.add_argument("--spool")
    found: str | None = parser.parse_args(head).spool
    return found


def _no_verb(head: list[str]) -> int:
    if "--version" in head:
        from spool import __version__

        print(f"spool {__version__}")
        return 0
    if "-h" in head or "--help" in head:
        print(_help(), end="")
        return 0
    _spool_in(head)  # names an option that is none
    print(_help(), end="", file=sys.stderr)
    return EX_USAGE


def _no_such_verb(verb: str) -> int:
    from spool.fields import nearest
    from spool.safe import safe

    near = nearest(verb, VERBS)
    hint = f"; did you mean {near!r}?" if near else "; see `spool --help`"
    complain(f"`{safe(verb[:60])}` is no verb{hint}")
    return EX_USAGE


def _help() -> str:
    lines = [USAGE]
    for group in dict.fromkeys(group for _, group, _ in VERBS.values()):
        lines.append(f"{group}:\n")
        lines += [f"  {name:<13}{text}\n" for name, (_, of, text) in VERBS.items() if of == group]
    return "".join((*lines, EPILOG))


def complain(problem: object) -> None:
    """What went wrong, in a line on standard error."""
    from spool.safe import safe

    streams.settled()
    print(f"spool: {safe(problem)}", file=sys.stderr)
