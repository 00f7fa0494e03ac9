"""`spool replay`: what has ended once more, here or in another spool."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from spool.command import parser as options_of
from spool.command.asked import add_wait, complain, refusal, see
from spool.command.bar import Bar
from spool.command.change import counted, show
from spool.errors import EX_DATAERR, Invalid
from spool.runargs import RESERVED, RUN

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from spool.client import Spool
    from spool.owncopy import Task

CHUNK = 10_000  # ids in one action
EPILOG = """
New tasks with ids of their own, `replay_of` the old one, and everything else as it was: a deadline
is as far ahead as it was. Tasks in packs are found as well. What a handler says is not `replayable`
is refused, and the others are done. More than one asks first, or needs --yes. A replay that was
interrupted is gone on with by its --id: what it has submitted already is not submitted again.

examples:
  spool replay --task 'mail.*' --state failed --since 2h --dry-run
  spool replay --task 'thumb.*' --since 1d --into /tmp/scratch --yes
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    options_of.add_match(parser)
    parser.add_argument("--into", metavar="DIR", help="submit to this spool, to try code with the past")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--force", action="store_true", help="also what is not replayable")
    parser.add_argument("--id", metavar="ID", help="the replay to go on with")
    parser.add_argument("--why", metavar="TEXT", help="the reason, for whoever asks later")
    add_wait(parser)
    options_of.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Ask for it, or do it in another spool."""
    from spool.names import is_id, new_id

    spool = options_of.open_spool(args)
    if args.id is not None and not is_id(args.id):
        raise Invalid("--id", args.id, "must be the id of a replay")
    match = options_of.match_of(args, spool)
    with Bar("replay", of="names") as bar:
        ids = options_of.ids_to_change(args.ids) if match is None else list(_matching(spool, match, bar))
    if args.dry_run:
        return show(spool, args, ids, match, dict(_refusals(spool, args, ids)))
    if len(ids) > 1 and not args.yes and not _sure(args, ids):
        return EX_DATAERR
    key = args.id or new_id()
    if args.into is not None:
        return _into(spool, args, ids, key)
    fields: dict[str, Any] = {"action": "replay", **({"why": args.why} if args.why else {})}
    fields |= {"force": True} if args.force else {}
    if match is not None:
        actions = [{**fields, "match": match, "id": key}] if ids else []
    else:
        chunks = [ids[at : at + CHUNK] for at in range(0, len(ids), CHUNK)]
        actions = [{**fields, "ids": chunk, "id": key} for chunk in chunks]
    for action in actions:
        spool.preview(action)
    if len(ids) > 1:
        print(f"spool: replay {key}", file=sys.stderr)
    stems = [spool.act(action) for action in actions]
    said, facts = f"replay: asked for {counted(ids)}", {"asked": len(ids), "id": key}
    return see(spool, stems, args, said, facts, by_match=True)


def _matching(spool: Spool, match: dict[str, Any], bar: Bar) -> Iterator[str]:
    """The ids of what has ended and matches, in directories and in packs."""
    from spool import packs
    from spool.match import find, packed

    wanted = spool.match("replay", match)
    for paths in find(bar.names(spool.disk), "replay", wanted):
        yield from paths
    for path in packs.packs(spool.disk):
        for one in packs.read(spool.disk, path):
            if packed(wanted, one) and not packs.lives(spool.disk, one.entry.id):
                yield one.entry.id


def _sure(args: argparse.Namespace, ids: list[str]) -> bool:
    if not sys.stdin.isatty():
        options_of.usage(
            args, f"{counted(ids)} would run once more: say --yes, or --dry-run to list them"
        )
    return input(f"Replay {counted(ids)}? [y/N] ").strip().lower() in ("y", "yes")


def _into(spool: Spool, args: argparse.Namespace, ids: list[str], key: str) -> int:
    """Submit them to another spool; the same replay into the same spool submits nothing twice."""
    from spool.client import Spool
    from spool.safe import safe
    from spool.streams import telling

    if os.path.realpath(args.into) == os.path.realpath(spool.path):
        options_of.usage(args, "--into names this spool: leave it out")
    target = Spool(args.into)
    refused_by = _refusing(spool, args)
    old: dict[str, Task] = {}
    denied: dict[str, int] = {}
    with Bar("replay", len(ids)) as bar:
        for task in _tasks(spool, ids):
            bar.step()
            pattern = refused_by(task.task)
            if task.task.startswith(RESERVED) and task.task != RUN:
                pattern = task.task  # with --force too: nobody may submit it
            if pattern is not None:
                denied[pattern] = denied.get(pattern, 0) + 1
            else:
                old[str(task.id)] = task
    docs = _docs(spool, old, key)
    if len(docs) > 1:
        print(f"spool: replay {key}", file=sys.stderr)
    keys = [doc["key"] for doc in docs if "key" in doc]
    if shared := len(keys) - len(set(keys)):
        said = "with the key of a later one: duplicates of it until it has ended"
        print(f"spool: {counted(['x'] * shared)} {said}", file=sys.stderr)
    there = _there(target, {doc["id"] for doc in docs}) if args.id is not None else set()
    ids = []
    for some in _rounds(docs):
        target.submit_many([doc for doc in some if doc["id"] not in there])
        ids += [doc["id"] for doc in some]
    refused = [refusal(_why(pattern), tasks=count) for pattern, count in denied.items()]
    complain(refused)
    said = f"replay: submitted {counted(ids[len(there) :])} to {safe(target.path)}"
    said += f", {counted([*there])} there already" if there else ""
    with telling(said):
        if args.json:
            from spool.command.render import json_line

            row = {"action": "replay", "id": key, "into": target.path, "ids": ids, "refused": refused}
            print(json_line({**row, "there": sorted(there)}))
        else:
            print(said)
    return EX_DATAERR if refused else 0


def _there(target: Spool, ids: set[str]) -> set[str]:
    """Those that a spool has already, as far as this user may see it."""
    from spool import dropped, packs

    try:
        lie = dropped.ids(target.disk)
        return {i for i in ids if i in lie or packs.is_taken(target.disk, i)}
    except PermissionError:
        return set()


def _tasks(spool: Spool, ids: list[str]) -> Iterator[Task]:
    from spool import layout, look, packs

    for task_id in ids:
        place = look.find(spool.disk, task_id)
        if place is not None and place.state not in layout.ENDED:
            raise Invalid("id", task_id, f"is {place.state}: only what has ended is replayed")
        packed = packs.find(spool.disk, task_id) if place is None else None
        if place is None and packed is None:
            raise packs.missing(spool.disk, task_id)
        if place is not None:
            yield place.task
        elif packed is not None:
            yield packed.task


def _docs(spool: Spool, old: dict[str, Task], key: str) -> list[dict[str, Any]]:
    """The tasks as submissions, first what others wait for; other results are values there."""
    from graphlib import TopologicalSorter

    import orjson

    from spool import layout
    from spool.command.edit import OURS
    from spool.names import id_time
    from spool.owncopy import encode_task
    from spool.replay import again, new_id
    from spool.results import NONE, RESULT, at, swapped
    from spool.waiting import end_of

    base = id_time(key)
    before = {one: new_id(key, base, one) for one in old}

    def value(reference: dict[str, Any], where: str) -> Any:
        if reference[RESULT] in before:
            return reference
        end = end_of(spool.disk, reference[RESULT]) or {}
        try:
            return at(end.get("result") if end.get("event") == "done" else NONE, reference.get("path"))
        except LookupError:
            raise Invalid(where, reference[RESULT], "has no such result") from None

    docs = []
    keyed = sorted((one for one in old if old[one].key is not None), reverse=True)  # the latest has it
    every = [*(one for one in old if old[one].key is None), *keyed]
    order = TopologicalSorter({one: [p for p in old[one].after if p in old] for one in every})
    for one in order.static_order():
        task = old[one]
        task = replace(task, args=swapped(task.args, value, "args")) if task.results else task
        doc = orjson.loads(encode_task(again(task, key, base, None, before)))
        doc = {name: value for name, value in doc.items() if name not in OURS} | {"id": before[one]}
        if "files" in doc:
            place = f"{spool.path}/{layout.files(one)}"
            doc["files"] = {name: f"{place}/{name}" for name in doc["files"]}
        docs.append({n: v for n, v in doc.items() if n != "on_failure" or "after" in doc})
    return docs


def _rounds(docs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The same, a key once in each, and what others wait for not after them.

    A key comes again once the task before has ended; many at once are to have it once.
    """
    rounds: list[list[dict[str, Any]]] = []
    of_task: dict[str, int] = {}
    of_key: dict[str, int] = {}
    for doc in docs:
        at = max((of_task.get(one, 0) for one in doc.get("after", ())), default=0)
        if (key := doc.get("key")) is not None:
            at = of_key[key] = max(at, of_key.get(key, -1) + 1)
        of_task[doc["id"]] = at
        rounds += [[] for _ in range(at + 1 - len(rounds))]
        rounds[at].append(doc)
    return rounds


def _refusals(spool: Spool, args: argparse.Namespace, ids: list[str]) -> Iterator[tuple[str, str]]:
    """The ids of tasks that spoold would leave out, and why."""
    from spool import look, packs

    refused_by = _refusing(spool, args)
    for task_id in ids if refused_by is not _nobody else ():
        found = look.find(spool.disk, task_id) or packs.find(spool.disk, task_id)
        pattern = refused_by(found.task.task) if found is not None else None
        if pattern is not None:
            yield task_id, _why(pattern)


def _why(pattern: str) -> str:
    if pattern.startswith(RESERVED):
        return f"{pattern} is spool's own task, which nobody submits"
    return f"handler {pattern} is not replayable; --force replays it all the same"


def _refusing(spool: Spool, args: argparse.Namespace) -> Callable[[str], str | None]:
    """A function that tells, by the name of a task, the handler that does not want it once more."""
    from spool import settingsfile

    found = settingsfile.read(spool.disk)

    def refused_by(task: str) -> str | None:
        handler = found.handler_for(task)
        return handler.pattern if handler is not None and not handler.replayable else None

    all_are = args.force or all(handler.replayable for handler in found.handlers.values())
    return _nobody if all_are else refused_by


def _nobody(_: str) -> str | None:
    return None
