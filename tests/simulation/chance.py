"""Chance as a cast of actors: each move of a history is one word and a seed of its own."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from spool import layout
from tests.simulation.far import Far
from tests.simulation.faults import Crash, Dying, Failing, Hooked
from tests.simulation.host import QUICK
from tests.simulation.world import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.world import World

DAY = 86_400 * SECOND
TASKS = (
    "run.a",
    "run.a",
    "run.b",
    "solo",
    "order.a",
    "order.b",
    "urgent.a",
    "later.x",
    "py.a",
    "py.late",
    "py.quick",
    "py.quick",
)
OUTCOMES: tuple[tuple[str, float], ...] = (
    ("ok", 1), ("ok", 7), ("ok", 0), ("1", 2), ("1", 0), ("75", 1), ("65", 1), ("SIG9", 3),
    ("nostart", 0), ("full", 0), ("crash", 2), ("never", 0), ("bad-result", 1), ("snooze", 1),
)  # fmt: skip
BAD = (
    b"", b"[]", b"{", b'{"task": "run.a"', b'{"task": 7}', b'{"task": "run.a", "prio": "high"}',
    b"\xff\xfe", b"null", b'{"action": "dance"}', b'{"task": "run.a", "at": "soon"}',
    b'{"action": "cancel", "ids": ["01234567890171238000000000000000"]}', b'{"tasks": []}',
)  # fmt: skip
STRANGE = ("garbage", "x.json", "235959.000000,zz,run.a.json", "a,b,c.json", "-", "._x")


@dataclass(frozen=True, slots=True)
class Move:
    """One move of a history."""

    kind: str
    seed: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.seed}"


def moves(
    rng: Random, steps: int, cuts: int, nodes: int, lease: int = 0, *, far: bool = False
) -> list[Move]:
    """A history to be: mostly work, some trouble, and `cuts` power cuts."""
    kinds = [name for name, (weight, _) in ACTS.items() for _ in range(weight)]
    made = [Move(rng.choice(kinds), rng.getrandbits(32)) for _ in range(steps)]
    for _ in range(cuts):
        made.insert(rng.randrange(len(made) + 1), Move("cut", rng.getrandbits(32)))
    for _ in range(steps // 12):
        made.insert(rng.randrange(len(made) + 1), Move("press", rng.getrandbits(32)))
    for _ in range(steps // 10 if lease else 0):
        made.insert(rng.randrange(len(made) + 1), Move(rng.choice(CLUSTER), rng.getrandbits(32)))
    for _ in range(steps // 8 if far else 0):
        made.insert(rng.randrange(len(made) + 1), Move("lie", rng.getrandbits(32)))
    if nodes == 1:
        made = [m if m.kind != "beside" else Move("turn", m.seed) for m in made]
    return made


def act(world: World, move: Move) -> None:
    """Make one move; a daemon that dies of it is dead, and stays so until it is booted."""
    ACTS[move.kind][1](world, Random(move.seed))


# Writers.


def task(world: World, rng: Random) -> dict[str, Any]:
    """A task to submit, with anything a task may have."""
    doc: dict[str, Any] = {"task": rng.choice(TASKS)}
    if rng.random() < 0.8:
        doc["id"] = world.writers.new_id(rng)
    runs = [list(rng.choice(OUTCOMES)) for _ in range(rng.randrange(4))]
    doc["args"] = {"run": runs, "result": rng.random() < 0.2}
    for name, share, values in (
        ("at", 0.35, ("+5s", "+90s", "+3h", "+1d", "2026-11-22T00:00:00Z", "2026-01-01T00:00:00Z")),
        ("deadline", 0.25, ("+10s", "+2m", "+3h")),
        ("on_miss", 0.2, ("run", "drop", "fail")),
        ("lead", 0.1, (0, 5, "1m")),
        ("priority", 0.5, ("high", "medium", "low")),
        ("position", 0.15, ("front", "back")),
        ("retries", 0.3, (0, 1, 5)),
        ("backoff", 0.3, (0, 1, {"base": 2, "factor": 3, "max": "10m"})),
        ("timeout", 0.2, (3, "2m")),
    ):
        if rng.random() < share:
            doc[name] = rng.choice(values)
    if world.limited and rng.random() < world.limited:
        doc["task"] = rng.choice(("limit.a", "slow.a", "fair.a"))
        doc["args"]["who"] = rng.choice(("a", "a", "b", None))
    if world.keyed and rng.random() < world.keyed:
        doc["key"] = rng.choice("ABC")
        doc["on_duplicate"] = rng.choice(("keep", "replace", "replace", "reject", "extend"))
        if rng.random() < 0.3:
            doc["key_for"] = rng.choice((5, 90))
    return doc


def _apart(docs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A batch in which no key occurs twice."""
    seen: set[str] = set()
    for doc in docs:
        if doc.get("key") in seen:
            for name in ("key", "key_for", "on_duplicate"):
                doc.pop(name, None)
        seen.add(doc.get("key", ""))
    return docs


def _submit(world: World, rng: Random) -> None:
    world.writers.submit(task(world, rng), sure=rng.random() < 0.8)


def _batch(world: World, rng: Random) -> None:
    many = rng.choice((2, 3, 5, 5, 12, 40))
    docs = [task(world, rng) for _ in range(many)]
    if rng.random() < 0.4:  # what is handed on ahead of time
        name = rng.choice(QUICK)
        docs = [{**doc, "task": rng.choice((name, name, name, doc["task"]))} for doc in docs]
    docs, sure = _apart(docs), rng.random() < 0.8
    if world.linked and sure and rng.random() < world.linked:
        _link(world, rng, docs)
    world.writers.submit(*docs, sure=sure)


def _link(world: World, rng: Random, docs: list[dict[str, Any]]) -> None:
    """Tasks of a batch wait for some that stand before them."""
    for number, doc in enumerate(docs):
        doc.setdefault("id", world.writers.new_id(rng))
        if rng.random() < 0.3:
            doc["files"] = ["a", "b"]
        before = docs[max(0, number - 3) : number]
        if before and rng.random() < 0.7:
            doc["after"] = [d["id"] for d in rng.sample(before, rng.randint(1, len(before)))]
            doc["on_failure"] = rng.choice(("run", "cancel", "only"))
            path: dict[str, Any] = rng.choice(({}, {}, {"path": "of"}))
            doc["args"]["got"] = {i: {"$result": i, **path} for i in doc["after"][:2]}
    rng.shuffle(docs)


def _again(world: World, rng: Random) -> None:
    wishes = [w for w in world.writers.wishes.values() if w.id is not None]
    if not wishes:
        return
    wish = rng.choice(wishes[-20:])
    if rng.random() < 0.7:
        world.writers.again(wish, sure=rng.random() < 0.8)
    else:
        other = {k: v for k, v in wish.doc.items() if k != "args"}
        world.writers.submit({**other, "args": {"other": rng.random()}})


def _ids(world: World, rng: Random) -> list[str]:
    known = [w.id for w in world.writers.wishes.values() if w.id is not None]
    found = rng.sample(known[-30:], min(len(known[-30:]), rng.randint(1, 3)))
    if rng.random() < 0.1 or not found:
        found.append(world.writers.new_id(rng))
    return list(dict.fromkeys(found))


def _verb(world: World, rng: Random) -> None:
    kind = rng.choice(("cancel", "cancel", "retry", "retry", "hold", "release"))
    doc = {"action": kind, "ids": _ids(world, rng)}
    world.writers.drop(doc, sure=rng.random() < 0.8)
    if rng.random() < 0.3:
        world.writers.drop({**doc, "action": rng.choice(("cancel", "retry", "hold", "release"))})


def _shift(world: World, rng: Random) -> None:
    more = rng.choice((
        {"priority": "high"}, {"priority": "low"}, {"position": "front"}, {"at": "+20s"},
        {"deadline": "+30s"}, {"at": "+2d", "priority": "medium"}, {"position": "back"},
    ))  # fmt: skip
    world.writers.drop({"action": "move", "ids": _ids(world, rng), **more})


def _control(world: World, rng: Random) -> None:
    scope = rng.choice(({}, {"task": "run.*"}, {"task": "order.*"}, {"node": "n1"}, {"node": "n9"}))
    if rng.random() < 0.5:
        world.writers.drop({"action": "resume", **scope})
    else:
        until = rng.choice(({}, {"until": "+45s"}))
        world.writers.drop({"action": rng.choice(("pause", "drain")), **scope, **until})


def _bad(world: World, rng: Random) -> None:
    name = rng.choice((None, "bad.json", "BAD.JSON", "sp ace.json", "x" * 120 + ".json"))
    if name is None or world.disk.info(f"{layout.INCOMING}/{name}") is None:
        world.writers.put(rng.choice(BAD), name=name, sure=rng.random() < 0.5)


def _half(world: World, rng: Random) -> None:
    """A file written in place, in two goes; the second may never come."""
    path = f"{layout.INCOMING}/half{rng.randrange(1 << 30)}.json"
    world.disk.write(path, b'{"task": "run.a", "args": {"ha')
    world.ring()
    world.run(rng.randrange(3 * SECOND))
    if rng.random() < 0.7 and world.disk.info(path) is not None:
        world.disk.append(path, b'lf": 1}}')
        world.ring()


def _foreign(world: World, rng: Random) -> None:
    """Somebody puts something where only spoold should write."""
    places = ("incoming", "pending", "held", "running", "running/n1", "outbox", "ids", "corrupt")
    name = rng.choice(STRANGE) + str(rng.randrange(1000))
    path = f"{rng.choice(places)}/{name}"
    if world.disk.info(path.rpartition("/")[0]) is None:
        return
    kind = rng.choice((stat.S_IFREG | 0o600, stat.S_IFREG, stat.S_IFIFO | 0o600, stat.S_IFLNK))
    world.strangers += 1
    if rng.random() < 0.2 or (
        path.count("/") == 1 and path.split("/", maxsplit=1)[0] in ("pending", "running")
    ):
        world.disk.make_dir(path)
    else:
        world.disk.place(path, kind, rng.randbytes(rng.randrange(40)))
    world.ring()


def _take_back(world: World, rng: Random) -> None:
    wishes = list(world.writers.wishes.values())
    if wishes:
        world.writers.take_back(rng.choice(wishes[-3:]))


# Time and parents.


def _wait(world: World, rng: Random) -> None:
    world.run(int(rng.choice((0.1, 1, 5, 20, 70, 600)) * SECOND))


def _turn(world: World, rng: Random) -> None:
    for _ in range(rng.randint(1, 4)):
        world.turn()


def _step(world: World, rng: Random) -> None:
    world.step_clock(rng.choice((-DAY, -3600 * SECOND, -5 * SECOND, 5 * SECOND, DAY)))


def _press(world: World, rng: Random) -> None:
    """The machine gets busy, or has room again."""
    world.machine = rng.choice((
        {}, {}, {"load": 7.0}, {"load": 5.0}, {"memory_pressure": 30.0}, {"memory_pressure": 15.0},
        {"available": 1 << 30}, {"available": 1 << 19}, {"available": 0}, {"battery": 10.0},
        {"total": 1 << 19, "available": 1 << 18}, {"short": "logs: 0 MiB free"},
    ))  # fmt: skip


# Trouble.


def _kill(world: World, rng: Random) -> None:
    node = rng.choice(list(world.hosts))
    if world.hosts[node] is not None:
        world.crash(node)
        boot(world, node)


def _die(world: World, rng: Random) -> None:
    """A daemon dies in the middle of what it does next."""
    _faulty(world, rng, lambda disk: Dying(disk, rng.randrange(40)))


def _fail(world: World, rng: Random) -> None:
    """The disk says no for a while."""
    error = rng.choice((28, 28, 122, 5, 24))
    verbs = ("write", "append", "move", "link", "make_dir")
    n, times = rng.randrange(30), rng.randint(1, 3)
    _faulty(world, rng, lambda disk: Failing(disk, verbs, n, error, times))


def _beside(world: World, rng: Random) -> None:
    """Another daemon has its turn while this one is in the middle of something."""
    first, second = rng.sample(list(world.hosts), 2)
    if world.hosts[first] is None or world.hosts[second] is None:
        return
    other = world.hosts[second]

    def turn() -> None:
        if not other.stuck:
            other.step()

    _faulty(world, rng, lambda disk: Hooked(disk, rng.randrange(25), turn), first)


def _faulty(world: World, rng: Random, wrap: Callable[[Any], Any], node: str | None = None) -> None:
    name = node or rng.choice(list(world.hosts))
    host = world.hosts[name]
    if host is None:
        return
    inner = host.disk.disk
    host.disk.swap(wrap(inner))
    try:
        world.run(rng.choice((0, 2, 10)) * SECOND, turns=60)
        if world.hosts[name] is host:
            host.disk.swap(inner)
    except (Crash, OSError) as problem:
        world.deaths.append(repr(problem)[:100])
        world.crash(name)
        boot(world, name)


def _cut(world: World, rng: Random) -> None:
    if rng.random() < 0.5:
        world.parents.read(sure=rng.random() < 0.5)
    node = rng.choice(list(world.hosts))
    host = world.hosts[node]
    if host is not None and rng.random() < 0.7:  # in the middle of something
        host.disk.swap(Dying(host.disk.disk, rng.randrange(40)))
        try:
            world.run(2 * SECOND, turns=40)
        except Crash:
            pass
    world.power_cut(rng)
    for name in world.hosts:
        boot(world, name)


def _stop(world: World, rng: Random) -> None:
    node = rng.choice(list(world.hosts))
    world.stop(node, grace=rng.choice((0, 3, 30)) * SECOND)
    boot(world, node)


def _reload(world: World, rng: Random) -> None:
    if rng.random() < 0.5:
        world.learn()
    for host in world.up():
        host.reload()


def boot(world: World, node: str) -> None:
    """Start a daemon, as often as it takes."""
    world.boot(node)


# What befalls nodes.

CLUSTER = ("gone", "freeze", "freeze", "stall")


def _gone(world: World, rng: Random) -> None:
    """A node dies, and is not there for a while: others take its tasks up, or it is back before."""
    node = rng.choice(list(world.hosts))
    if world.hosts[node] is None or len(world.up()) < 2:
        return
    world.crash(node)
    world.run(int(world.lease * rng.choice((0.3, 0.9, 1.3, 3)) * SECOND))
    world.same_host = rng.random() < 0.5
    boot(world, node)
    world.same_host = True


def _frees_a_key(verb: str, path: object) -> bool:
    return verb == "remove" and str(path).rpartition("/")[0] == layout.KEYS


def _freeze(world: World, rng: Random) -> None:
    """A host stands still before a step of its disk, then does that step, however late.

    But for the removal of a key that is taken over: a late one frees the key of the next holder, as
    spool-cluster(7) says in its CAVEATS.
    """
    node = rng.choice(list(world.hosts))
    host = world.hosts[node]
    if host is None or len(world.up()) < 2:
        return
    span = int(world.lease * rng.choice((0.2, 0.8, 1.1, 1.5, 4)) * SECOND)

    def stand_still() -> None:
        world.frozen.add(node)
        for other in world.up():
            other.ring()
        begun = world.mono
        while world.mono - begun < span:
            for other in world.up():
                other.turn()
            world.pass_time(SECOND // 4)
        world.frozen.discard(node)

    inner = host.disk.disk
    host.disk.swap(Hooked(inner, rng.randrange(25), stand_still, _frees_a_key))
    world.run(int(rng.choice((1, 5)) * SECOND), turns=60)
    if world.hosts[node] is host:
        host.disk.swap(inner)


def _lie(world: World, rng: Random) -> None:
    """The file server has crashed: what a host has asked of it just before is done, and said not to be."""
    far = [h.disk.disk for h in world.up() if isinstance(h.disk.disk, Far)]
    if far:
        rng.choice(far).lie = rng.randrange(30)


def _stall(world: World, rng: Random) -> None:
    """The file server is away: nobody gets anything done, which is nobody's death."""
    world.pass_time(int(world.lease * rng.choice((0.3, 0.7, 2)) * SECOND))


ACTS: dict[str, tuple[int, Callable[[World, Random], None]]] = {
    "submit": (14, _submit),
    "batch": (4, _batch),
    "again": (3, _again),
    "verb": (8, _verb),
    "move": (3, _shift),
    "control": (2, _control),
    "bad": (2, _bad),
    "half": (1, _half),
    "foreign": (1, _foreign),
    "take back": (1, _take_back),
    "wait": (14, _wait),
    "turn": (12, _turn),
    "parents": (8, lambda world, rng: world.parents.dawdle(rng)),
    "step": (1, _step),
    "press": (0, _press),
    "kill": (2, _kill),
    "die": (4, _die),
    "fail": (3, _fail),
    "beside": (4, _beside),
    "cut": (0, _cut),
    "stop": (1, _stop),
    "reload": (1, _reload),
    "gone": (0, _gone),
    "freeze": (0, _freeze),
    "stall": (0, _stall),
    "lie": (0, _lie),
}
