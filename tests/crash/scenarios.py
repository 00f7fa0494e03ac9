"""Short stories that take a spool through every sequence of steps its daemon knows."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import orjson

from spool import layout
from tests.simulation.world import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.world import World

    Step = Callable[[World], None]

MINUTE = 60 * SECOND


def ident(number: int) -> str:
    """The id of a story's n-th task."""
    return f"019aa8f5a0007000800000000000000{number:1x}"


def submit(*docs: dict[str, Any], batch: bool | None = None) -> Step:
    """Tasks dropped; `n` in a doc is its number, from which its id is made."""

    def step(world: World) -> None:
        made = []
        for doc in docs:
            fields = {k: v for k, v in doc.items() if k not in ("n", "run", "got")}
            if "n" in doc:
                fields["id"] = ident(doc["n"])
            args = {"mark": f"s{len(world.writers.wishes) + len(made)}"}
            made.append({**fields, "args": args | {k: doc[k] for k in ("run", "got") if k in doc}})
        world.writers.submit(*made, batch=batch)

    return step


def again(number: int, **changes: Any) -> Step:
    """The same task sent once more, or (changes) another one under its id."""

    def step(world: World) -> None:
        wish = next(w for w in world.writers.wishes.values() if w.id == ident(number))
        if changes:
            args = {"mark": f"s{len(world.writers.wishes)}"}
            world.writers.submit({**wish.doc, **changes, "args": args})
        else:
            world.writers.again(wish)

    return step


def act(kind: str, *numbers: int, **more: Any) -> Step:
    """A verb about tasks, or (no numbers) about the spool."""
    ids = {"ids": [ident(n) for n in numbers]} if numbers else {}
    return lambda world: _dropped(world, {"action": kind, **ids, **more})


def say(kind: str, number: int, attempt: int, **more: Any) -> Step:
    """A parent's word about an attempt."""
    word = {"action": kind, "id": ident(number), "attempt": attempt, **more}
    return lambda world: _dropped(world, word)


def _dropped(world: World, doc: dict[str, Any]) -> None:
    world.writers.drop(doc)


def wait(seconds: float) -> Step:
    """Turns for so long."""
    return lambda world: world.run(int(seconds * SECOND))


def turn(count: int = 1) -> Step:
    """So many turns, and no time between them."""

    def step(world: World) -> None:
        for _ in range(count):
            world.turn()

    return step


def read(world: World) -> None:
    """The parents read, and answer nothing."""
    world.parents.read()


def serve(world: World) -> None:
    """The parents read, and do what is ready."""
    world.parents.serve()


def bad(data: bytes, name: str = "bad.json") -> Step:
    """A file that is no valid action."""

    def step(world: World) -> None:
        world.writers.put(data, name=name)

    return step


def restart(world: World) -> None:
    """An orderly stop whose grace is too short, and a start."""
    world.stop(grace=SECOND)
    world.boot()


def tear_down(world: World) -> None:
    """The daemon is killed and comes back, as often as it takes."""
    world.crash()
    world.boot()


def new_settings(world: World) -> None:
    """spool.toml gets a handler for later.*"""
    world.learn()
    for host in world.up():
        host.reload()


def take_back(number: int) -> Step:
    """A writer removes its drop before it is taken."""

    def step(world: World) -> None:
        for wish in list(world.writers.wishes.values()):
            if wish.id == ident(number):
                world.writers.take_back(wish)

    return step


def steal(number: int) -> Step:
    """Somebody removes a task's entry by hand."""

    def step(world: World) -> None:
        from tests.simulation.watch import pending

        world.strangers += 1
        for path in pending(world):
            if ident(number) in path:
                world.disk.remove(path)
        for wish in world.writers.wishes.values():
            wish.taken_back |= wish.id == ident(number)

    return step


ERR, OK, NEVER = ["1", 2], ["ok", 2], ["never", 0]
RUN = {"task": "run.a"}
YEARLY = {"every": "@yearly", "task": "run.a"}

STORIES: dict[str, list[Step]] = {
    "take in": [
        submit({**RUN, "n": 1}), turn(), submit({"task": "run.b", "priority": "high"}),
        submit({**RUN, "n": 2, "at": "+30s"}), wait(3),
    ],
    "take in and claim at once": [
        wait(1), submit({**RUN, "n": 1, "run": [ERR]}), submit({"task": "order.a", "n": 2}),
        wait(0), read, wait(3),
    ],
    "batch": [
        submit({**RUN, "n": 1}, {**RUN}, {"task": "order.a", "n": 2}, {"task": "later.x", "n": 3},
               {**RUN, "n": 4, "at": "+2m"}),
        turn(), submit({**RUN, "n": 1}, {**RUN, "n": 5}), wait(2), serve, wait(2),
    ],
    "fail and try again": [
        submit({**RUN, "n": 1, "run": [ERR, ERR, OK], "priority": "high"}), wait(60),
    ],
    "give up": [
        submit({**RUN, "n": 1, "run": [ERR, ["65", 1]]}, {**RUN, "n": 2, "run": [["nostart", 1]],
               "retries": 0}),
        wait(60), act("retry", 1, 2), wait(60),
    ],
    "time out": [submit({**RUN, "n": 1, "run": [NEVER, OK], "timeout": 3}), wait(40)],
    "cancel": [
        submit({**RUN, "n": 1, "at": "+1h"}, {"task": "later.x", "n": 2}, {**RUN, "n": 3,
               "run": [NEVER]}, {"task": "order.a", "n": 4}, {**RUN, "n": 5}),
        wait(4), act("cancel", 1, 2, 3, 4, 5), wait(3), act("cancel", 1), wait(1),
        act("retry", 1, 3), wait(5),
    ],
    "cancel a process": [
        submit({**RUN, "n": 1, "run": [NEVER] * 9}, {**RUN, "n": 2, "run": [["nostart", 0.5]] * 9}),
        wait(0), act("cancel", 1, 2), turn(), tear_down, wait(3),
    ],
    "cancel twice in one turn": [
        submit({**RUN, "n": 1, "at": "+1h"}), wait(1), act("cancel", 1), act("cancel", 1),
        wait(1),
    ],
    "a word before the end": [
        submit({**RUN, "n": 1, "at": "+1h"}, {"task": "order.a", "n": 2}), wait(1), read,
        act("hold", 1), say("ack", 2, 1, result=1), wait(1), act("cancel", 1), wait(1),
    ],
    "submit and cancel in one turn": [
        submit({**RUN, "n": 1}), submit({"task": "order.a", "n": 2}), act("cancel", 1, 2), wait(2),
    ],
    "hold and release": [
        submit({**RUN, "n": 1, "at": "+10s"}, {**RUN, "n": 2, "at": "+1h"}), wait(1),
        act("hold", 1, 2), wait(20), act("move", 1, priority="high"), wait(1),
        act("release", 1), wait(5), act("hold", 2), act("release", 2), wait(1),
    ],
    "move": [
        submit({**RUN, "n": 1, "at": "+1h"}, {**RUN, "n": 2, "at": "+2h"}), wait(1),
        act("move", 1, priority="high", at="+30s"), wait(1), act("move", 2, position="front"),
        act("move", 1, at="+3s"), wait(8),
    ],
    "lift": [
        submit({"task": "solo", "n": 1, "run": [["ok", 40]]}), turn(3),
        submit({"task": "solo", "n": 2, "priority": "low", "deadline": "+20s", "lead": 10}),
        wait(15), wait(30),
    ],
    "late": [
        submit({"task": "solo", "n": 1, "run": [["ok", 40]]}), turn(3),
        submit({"task": "solo", "n": 2, "deadline": "+10s"}),
        submit({"task": "solo", "n": 3, "deadline": "+10s", "on_miss": "fail"}),
        submit({"task": "solo", "n": 4, "deadline": "+10s", "on_miss": "drop"}),
        submit({**RUN, "n": 5, "deadline": "+3s", "run": [["ok", 8]]}),
        submit({"task": "order.a", "n": 6, "deadline": "+3s"}), wait(12), read, wait(1), serve,
        wait(40),
    ],
    "a parent does the work": [
        submit({"task": "order.a", "n": 1}, {"task": "order.b", "n": 2}), wait(1), read,
        say("progress", 1, 1, percent=10), wait(1), say("extend", 1, 1, by=100), wait(50),
        say("ack", 1, 1, result=[1]), say("fail", 2, 2, error="no", delay=1), wait(5), read,
        say("ack", 2, 1), say("ack", 1, 1), wait(3),
    ],
    "two words in one turn": [
        submit({"task": "order.a", "n": 1}), wait(1), read, say("progress", 1, 1, percent=10),
        say("progress", 1, 1, percent=20), wait(1), say("ack", 1, 1), say("ack", 1, 1), wait(1),
    ],
    "poison": [
        submit({**RUN, "n": 1, "run": [["crash", 1]] * 3}), wait(20), act("release", 1), wait(5),
    ],
    "killed while it runs": [
        submit({**RUN, "n": 1, "run": [NEVER] * 3}, {"task": "order.a", "n": 2}), wait(2),
        tear_down, wait(2), tear_down, wait(2),
    ],
    "interrupt": [
        submit({**RUN, "n": 1, "run": [NEVER, OK]}, {"task": "order.a", "n": 2}), wait(2), restart,
        wait(4),
    ],
    "a worker answers": [
        wait(2), submit({"task": "py.a", "n": 1, "run": [["snooze", 1], ["crash", 1], OK]},
                        {"task": "py.a", "n": 2, "run": [ERR, NEVER], "timeout": 3, "retries": 1}),
        wait(40),
    ],
    "handed ahead, and back": [
        wait(2), submit({"task": "py.quick", "n": 1}), wait(1), act("pause"), turn(2),
        submit(*({"task": "py.quick", "n": n, "run": [["ok", 4]]} for n in range(2, 7))), turn(2),
        act("resume"), turn(4), submit({**RUN, "n": 7, "priority": "high"}), turn(2), wait(5),
    ],
    "programs ordered ahead, and back": [
        submit({"task": "run.quick", "n": 1}), wait(1), act("pause"), turn(2),
        submit(*({"task": "run.quick", "n": n, "run": [["ok", 4]]} for n in range(2, 9))), turn(2),
        act("resume"), turn(4), submit({"task": "urgent.a", "n": 9}), turn(2), act("cancel", 8), wait(5),
    ],
    "no code yet": [
        submit({"task": "py.late", "n": 1}), turn(4), submit({"task": "py.late", "n": 2}), wait(3),
        new_settings, wait(4),
    ],
    "pause": [
        act("pause", why="deploy"), submit({**RUN, "n": 1}), wait(2), act("pause", task="solo"),
        act("pause", task="order.*", until="+30s"), wait(2), act("resume"), wait(35),
        act("resume", task="solo"), wait(1),
    ],
    "schedules": [
        act("schedule", name="a", table=YEARLY), act("pause", task="x"), turn(), act("schedule", name="b",
        table=YEARLY), turn(), act("schedule", name="a"), act("schedule", name="c"), wait(2),
    ],
    "refusal": [
        bad(b'{"task": "run.a", "prio": 1}'), bad(b"[1]", "a b.json"), turn(2),
        bad(b'{"task": "run.a", "prio": 2}'), bad(b'{"task": "x"', "half.json"), wait(8),
        act("cancel", 9), wait(3), submit({**RUN, "n": 1}), again(1), again(1, task="run.b"),
        wait(2), say("ack", 1, 1), say("ack", 1, 1), wait(3),
    ],
    "no handler": [
        submit({"task": "later.x", "n": 1}, {"task": "later.y", "n": 2}), wait(1),
        act("cancel", 2), wait(1), new_settings, wait(3),
    ],
    "a handler comes and a cancel": [
        submit({"task": "later.x", "n": 1}, {"task": "later.y", "n": 2, "at": "+1h"}), wait(1),
        act("cancel", 1), act("hold", 2), new_settings, turn(2), act("cancel", 2), wait(3),
    ],
    "the same id again": [
        submit({**RUN, "n": 1}), again(1), turn(), again(1), turn(), again(1), wait(3), again(1),
        wait(1), again(1, task="run.c"), wait(1),
    ],
    "taken back": [
        submit({**RUN, "n": 1}), take_back(1), wait(1), submit({**RUN, "n": 2, "at": "+1h"}),
        wait(1), steal(2), wait(1), act("cancel", 2), wait(1),
    ],
    "a key": [
        submit({**RUN, "n": 1, "key": "k", "at": "+4s"}), turn(), submit({**RUN, "n": 2, "key": "k"}),
        submit({**RUN, "n": 3, "key": "k", "on_duplicate": "reject"}), wait(10),
        submit({**RUN, "n": 4, "key": "k", "key_for": 60}), wait(4), act("retry", 2),
        submit({**RUN, "n": 5, "key": "k"}), wait(90), submit({**RUN, "n": 6, "key": "k"}), wait(3),
    ],
    "after": [
        submit({**RUN, "n": 1, "run": [["ok", 2]]}, {**RUN, "n": 2, "after": [ident(1)]},
               {**RUN, "n": 3, "after": [ident(2), ident(1)]}), turn(2),
        submit({**RUN, "n": 4, "run": [["65", 1]]},
               {**RUN, "n": 5, "after": [ident(4)], "on_failure": "cancel"},
               {**RUN, "n": 6, "after": [ident(4), ident(5)], "on_failure": "run"}), wait(20),
    ],
    "then": [
        submit({**RUN, "n": 1}, {**RUN, "n": 2, "run": [["65", 1]] * 4}, {**RUN, "n": 3, "run": [["ok", 4]]},
               {**RUN, "n": 4, "after": [ident(n) for n in (1, 2, 3)], "on_failure": "run"},
               {**RUN, "n": 5, "after": [ident(n) for n in (1, 2, 3)], "on_failure": "only"},
               {**RUN, "n": 6, "after": [ident(n) for n in (1, 3)], "on_failure": "only"}), wait(20),
    ],
    "results": [
        submit({**RUN, "n": 1}, {**RUN, "n": 2, "got": {ident(1): {"$result": ident(1), "path": "of"}}},
               {**RUN, "n": 3, "got": {ident(2): {"$result": ident(2), "path": "x"}}},
               {"task": "order.a", "n": 4, "got": {ident(3): {"$result": ident(3)}}, "after": [ident(3)],
                "on_failure": "run"}), wait(20),
    ],
    "files": [
        submit({**RUN, "n": 1, "files": ["a", "b"]}), turn(), submit({**RUN, "n": 2, "files": ["a"]},
               {**RUN, "n": 3}, {**RUN, "n": 4, "files": ["a"], "at": "+1h"}), turn(), again(4), wait(3),
        act("replay", 1, id=ident(9)), wait(12), act("cancel", 4), wait(1),
    ],
    "keys in one turn": [
        submit({**RUN, "n": 1, "key": "k"}), submit({**RUN, "n": 2, "key": "k"}),
        submit({**RUN, "n": 3, "key": "k", "on_duplicate": "replace"},
               {"task": "order.a", "n": 4, "key": "l"}, {**RUN, "n": 5}), wait(4),
    ],
    "replace": [
        submit(*[{**doc, "n": n, "key": k, "key_for": 60} for doc, n, k in (
            ({**RUN, "at": "+1h"}, 1, "k"), ({**RUN, "run": [NEVER]}, 2, "l"),
            ({"task": "order.a"}, 3, "m"), ({"task": "later.x"}, 4, "o"))]),
        wait(1), submit(*[{**RUN, "n": n, "key": k, "key_for": 60, "on_duplicate": "replace"}
                          for n, k in ((5, "k"), (6, "l"), (7, "m"), (8, "o"))]), wait(6),
    ],
    "extend": [
        submit({**RUN, "n": 1, "key": "k", "at": "+10s"}, {**RUN, "n": 2, "key": "l", "run": [["ok", 5]]},
               {**RUN, "n": 3, "key": "m", "at": "+1h"}), wait(2), act("hold", 3), wait(1),
        submit(*[{**RUN, "n": n, "key": k, "at": "+20s", "on_duplicate": "extend"}
                 for n, k in ((4, "k"), (5, "l"), (6, "m"))]), wait(12), wait(15),
    ],
    "a key comes back": [
        submit({**RUN, "n": 1, "key": "k", "run": [["65", 1]]}), wait(3),
        submit({**RUN, "n": 2, "key": "k", "at": "+10s"}), wait(1), act("retry", 1), wait(15),
        act("retry", 1), submit({**RUN, "n": 3, "key": "k"}), wait(4), act("replay", 1, 2, id=ident(9)),
        wait(4),
    ],
    "midnight": [
        submit({**RUN, "n": 1, "at": "2026-11-22T00:00:00Z"}, {"task": "solo", "n": 2,
               "at": "2026-11-21T23:59:59.999999Z", "run": [ERR]}),
        wait(57), submit({**RUN, "n": 3, "run": [["ok", 6]]}), wait(10),
    ],
}  # fmt: skip


# Where the tasks of a story end, wherever it is interrupted: what somebody asked for is done.
ENDS: dict[str, dict[int, str]] = {
    "then": {1: "done", 2: "failed", 3: "done", 4: "done", 5: "done", 6: "cancelled"},
    "results": {1: "done", 2: "done", 3: "failed", 4: "done"},
    "replace": {n: "cancelled" if n < 5 else "done" for n in range(1, 9)},
    "cancel a process": {1: "cancelled", 2: "cancelled"},
    "a handler comes and a cancel": {1: "cancelled", 2: "cancelled"},
    "cancel twice in one turn": {1: "cancelled"},
    "a word before the end": {1: "cancelled", 2: "done"},
}


def rng_of(*parts: object) -> Random:
    """Chance that is the same for the same words."""
    return Random(orjson.dumps([str(p) for p in parts]).decode())


def boxes(world: World) -> list[str]:
    """What stands in incoming/."""
    return sorted(world.disk.names(layout.INCOMING))
