"""`spool cancel`, `retry`, `hold`, `release`, `move`: one action on some tasks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from spool import layout, look, packs
from spool.command import parser as options_of
from spool.command.asked import add_wait, see
from spool.errors import EX_DATAERR
from spool.names import is_id

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from spool.client import Spool

CHUNK = 1000  # ids in one action
EPILOG = """
Tasks are named by ids or by options such as --task. Without --state {states}.
Says how many tasks it was asked for. Where a daemon is alive it waits up to 2 s, so that a refusal
is seen: exit status 65, and the others were done. --wait waits longer: 75 where it was in vain.

examples:
  spool {verb} 0193a5b27c4d7e8f9a0b1c2d3e4f5a6b{more} --why 'asked for by Zoe'
  spool {verb} --task 'thumb.*' --since 2h{more} --dry-run
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verbs take."""
    from spool.match import STATES

    verb = parser.get_default("verb")
    more = " --priority high" if verb == "move" else ""
    states = f"it is about {' and '.join(STATES[verb])}"
    parser.epilog = EPILOG.format(verb=verb, states=states, more=more)
    options_of.add_match(parser)
    if verb == "move":
        parser.add_argument("--front", action="store_true", help="short for --position front")
        parser.add_argument("--back", action="store_true", help="short for --position back")
    leave = ("ids", "match", "meta", *("tz",) * (verb != "move"))
    options_of.add_fields(parser, verb, leave)
    add_wait(parser)
    options_of.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Ask, and see what comes of it."""
    fields = options_of.given_fields(args, args.verb)
    spool = options_of.open_spool(args)
    match = options_of.match_of(args, spool)
    untaken = 0 if match is None else look.incoming(spool.disk)  # before the look at what is there
    try:
        ids = _ids(spool, args, match)
    except PermissionError:
        if args.dry_run:
            raise
        return _blind(spool, args, {"action": args.verb, "match": match, **fields})
    denied = _past(spool, ids) if match is None else {}
    ids = [task_id for task_id in ids if task_id not in denied]
    if args.dry_run:
        if untaken:
            print(f"spool: what matches of {untaken} in incoming/ as well", file=sys.stderr)
        return show(spool, args, ids, match, {i: f"{i} {rule}" for i, rule in denied.items()})
    if match is None:
        chunks = [ids[at : at + CHUNK] for at in range(0, len(ids), CHUNK)]
        actions = [{"action": args.verb, "ids": chunk, **fields} for chunk in chunks]
    else:
        actions = [{"action": args.verb, "match": match, **fields}] if ids or untaken else []
    for action in actions:
        spool.preview(action)  # all of it is valid, or none
    stems = [spool.act(action) for action in actions]
    more = f", and for what matches of {untaken} in incoming/" if untaken else ""
    said = f"{args.verb}: asked for {counted(ids)}{more}"
    if args.verb == "retry" and match is not None and not ids and any(packs.packs(spool.disk)):
        print("spool: what is packed is not retried; `spool replay` finds it too", file=sys.stderr)
    facts = {"asked": len(ids)}
    return see(spool, stems, args, said, facts, denied, by_match=match is not None)


def _ids(spool: Spool, args: argparse.Namespace, match: dict[str, Any] | None) -> list[str]:
    if match is None:
        return options_of.ids_to_change(args.ids)
    return list(matching(spool, args.verb, match))


def _blind(spool: Spool, args: argparse.Namespace, action: dict[str, Any]) -> int:
    """Ask about what matches as one who may not look; how many that are is not known."""
    said = f"{args.verb}: asked for all of your tasks that match"
    return see(spool, [spool.act(action)], args, said, {"asked": None}, by_match=True)


def _past(spool: Spool, ids: list[str]) -> dict[str, str]:
    """Why some of these cannot be changed any more: they are packed. Nothing for who may not look."""
    try:
        gone = [i for i in ids if is_id(i) and spool.disk.info(layout.own_copy(i)) is None]
    except PermissionError:
        return {}
    rules = {task_id: packs.past(spool.disk, task_id) for task_id in gone}
    return {task_id: rule for task_id, rule in rules.items() if rule}


def matching(spool: Spool, verb: str, match: dict[str, Any]) -> Iterator[str]:
    """The ids of the tasks that an action with this `match` would be about now."""
    from spool.match import find

    for paths in find(spool.disk, verb, spool.match(verb, match)):
        yield from paths


def show(
    spool: Spool,
    args: argparse.Namespace,
    ids: list[str],
    match: dict[str, Any] | None,
    denied: dict[str, str] | None = None,
) -> int:
    """What --dry-run prints: ids, for another command, and how many for who looks on.

    Why the others are left out goes to standard error. `denied`: what is left out already.
    """
    from spool.command.submit import show_ids
    from spool.match import ALLOWED
    from spool.safe import safe

    verb = args.verb
    denied = dict(denied or {})
    if match is None:
        denied |= {task_id: why for task_id in ids if (why := _why_not(spool, verb, task_id))}
    elif match.get("state", ALLOWED[verb][0]) not in ALLOWED[verb]:
        denied |= dict.fromkeys(ids, f"a task that is {match['state']} takes no {verb}")
    ids = [task_id for task_id in ids if task_id not in denied]
    show_ids(ids, json=args.json)
    for why in dict.fromkeys(denied.values()):
        print(f"spool: refused: {safe(why)}", file=sys.stderr)
    if sys.stdout.isatty():
        print(counted(ids), file=sys.stderr)
    return EX_DATAERR if denied else 0


def _why_not(spool: Spool, verb: str, task_id: str) -> str | None:
    """Why a verb cannot be carried out on a task, as far as the files tell."""
    from spool.command.why import OF_ONE, known
    from spool.match import ALLOWED

    try:
        task = known(spool, task_id)
    except OF_ONE as problem:
        rule = packs.past(spool.disk, task_id)
        return f"{task_id} {rule}" if rule else str(problem)
    if task.state not in ALLOWED[verb]:
        return f"{task_id} is {task.state} and takes no {verb}"
    if verb == "retry" and task.duplicate_of is not None:
        return f"{task_id} was a duplicate of {task.duplicate_of}: submit or replay it"
    return None


def counted(ids: list[str]) -> str:
    """How many tasks, in words."""
    return f"{len(ids)} task{'s' * (len(ids) != 1)}"
