"""Those who use a simulated spool: writers that drop files, parents that read their events."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from spool import layout
from spool.disk import Missing
from spool.names import id_from

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.world import World


@dataclass(slots=True)
class Wish:
    """A task that somebody wants done: what was dropped for it, and how sure its writer may be.

    `sure`: file and directory were synced. `path` and `key` name the drop and its inode.
    """

    mark: str
    doc: dict[str, Any]
    path: str
    key: int
    sure: bool
    id: str | None
    taken_back: bool = False
    rival: bool = False  # the same id was dropped with other content: one of them is refused
    spoilt: bool = False  # not valid, or made so: it is refused
    picky: bool = False  # dropped together with one that is refused where its key is taken


class Writers:
    """Drops files as clients do, careful and careless ones, and remembers what was promised."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.wishes: dict[str, Wish] = {}
        self.asked: dict[str, set[str]] = {}  # id: verbs that were dropped about it
        self.verbs: dict[str, tuple[dict[str, Any], bool]] = {}  # mark: verb, and whether it was synced
        self.drops = 0
        self.unsure: set[str] = set()  # drops that a power cut may take back

    def new_id(self, rng: Random) -> str:
        """An id as a client makes it."""
        return id_from(self.world.wall, rng.randbytes(10))

    def put(self, data: bytes, *, sure: bool = True, name: str | None = None) -> tuple[str, int]:
        """Data as a file in incoming/: its path and inode key."""
        disk = self.world.disk
        self.drops += 1
        target = f"{layout.INCOMING}/{name or f'd{self.drops:05d}.json'}"
        if not sure:
            self.unsure.add(target)
        staged = f"{layout.TMP}/.w{self.drops}"
        disk.write(staged, data)
        if sure:
            disk.sync([staged])
        disk.move(staged, target)
        if sure:
            disk.sync_dirs([layout.INCOMING])
        self.world.ring()
        return target, disk._file(target).key

    def drop(self, doc: dict[str, Any], *, sure: bool = True, name: str | None = None) -> str:
        """An action that is no submission."""
        for task_id in doc.get("ids", [doc["id"]] if "id" in doc else []):
            self.asked.setdefault(task_id, set()).add(doc["action"])
        if "ids" in doc:
            mark = f"v{self.drops}"  # by which the journal says who asked for a transition
            doc = {**doc, "why": mark}
            self.verbs[mark] = doc, sure
        return self.put(orjson.dumps(doc), sure=sure, name=name)[0]

    def submit(self, *docs: dict[str, Any], sure: bool = True, batch: bool | None = None) -> str:
        """One task, or several as a batch; args get a mark by which the task is known again."""
        for doc in docs:
            args = doc.setdefault("args", {})
            args.setdefault("mark", f"m{len(self.wishes) + docs.index(doc)}")
            for name in doc.get("files", ()):
                self._give(doc["id"], name, sure=sure)
        many = len(docs) > 1 if batch is None else batch
        path, key = self.put(orjson.dumps({"tasks": list(docs)} if many else docs[0]), sure=sure)
        picky = any(doc.get("on_duplicate") == "reject" for doc in docs)
        for doc in docs:
            self._wish(doc, path, key, sure=sure)
            self.wishes[doc["args"]["mark"]].picky = picky
        return path

    def _give(self, task_id: str, name: str, *, sure: bool) -> None:
        """A file that comes with a task; it says whose it is."""
        disk, staged = self.world.disk, f"{layout.TMP}/.{task_id}.{name}"
        disk.write(staged, f"{task_id} {name}".encode())
        if sure:
            disk.sync([staged])
        disk.move(staged, layout.given(task_id, name))
        if sure:
            disk.sync_dirs([layout.TMP])

    def again(self, wish: Wish, *, sure: bool = True) -> None:
        """The same task once more, as a client does that is not sure."""
        path, key = self.put(orjson.dumps(wish.doc), sure=sure)
        if sure or not wish.sure:
            wish.path, wish.key = path, key
            wish.sure = wish.sure or sure

    def take_back(self, wish: Wish) -> bool:
        """A writer removes its own drop, if it is still there."""
        disk = self.world.disk
        if disk.info(wish.path) is None or disk._file(wish.path).key != wish.key:
            return False
        disk.remove(wish.path)
        for other in self.wishes.values():
            if other.path == wish.path:
                other.taken_back = True
        gone = {other.id for other in self.wishes.values() if other.taken_back}
        for other in self.wishes.values():  # one that was sent again, and waits for what is gone
            other.spoilt |= not gone.isdisjoint(other.doc.get("after", ()))
        return True

    def _wish(self, doc: dict[str, Any], path: str, key: int, *, sure: bool) -> None:
        task_id = doc.get("id")
        rivals = [w for w in self.wishes.values() if task_id is not None and w.id == task_id]
        mark = doc["args"]["mark"]
        self.wishes[mark] = Wish(mark, doc, path, key, sure, task_id, rival=bool(rivals))
        for rival in rivals:
            rival.rival = True
        paths = {w.path for w in self.wishes.values() if w.rival}
        for wish in self.wishes.values():
            wish.rival |= wish.path in paths  # a batch is refused as one


class Parents:
    """Read every outbox, note what they are told, and answer what is ready."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ready: dict[str, tuple[str, int]] = {}  # id: parent, attempt
        self.words: list[dict[str, Any]] = []

    def read(self, *, sure: bool = True) -> list[dict[str, Any]]:
        """Everything that is in the outboxes, which is then deleted."""
        disk, found = self.world.disk, []
        for parent in disk.names(layout.OUTBOX):
            folder = f"{layout.OUTBOX}/{parent}"
            if not stat.S_ISDIR(disk._file(folder).mode):
                continue
            names = disk.names(folder)
            for name in sorted(names):
                try:
                    content = orjson.loads(disk.read(f"{folder}/{name}", 1 << 24))
                except orjson.JSONDecodeError:
                    if self.world.durable:
                        raise
                    disk.remove(f"{folder}/{name}")  # torn: the power failed, nothing was synced
                    continue
                self.world.watch.tell(parent, name, content)
                found.append(content)
                disk.remove(f"{folder}/{name}")
                if content["event"] == "ready":
                    self.ready[content["id"]] = parent, content["attempt"]
            if sure and names:
                disk.sync_dirs([folder])
        return found

    def serve(self) -> None:
        """Read, and do all that is ready at once and well."""
        self.read()
        for task_id, (_, attempt) in self.ready.items():
            self.say({"action": "ack", "id": task_id, "attempt": attempt, "result": attempt})
        self.ready.clear()

    def say(self, doc: dict[str, Any], *, sure: bool = True) -> None:
        """A word about an attempt."""
        self.words.append(doc)
        self.world.writers.drop(doc, sure=sure)

    def dawdle(self, rng: Random) -> None:
        """Read, and answer what is ready in any way, or not at all."""
        self.read(sure=rng.random() < 0.7)
        for task_id, (_, attempt) in list(self.ready.items()):
            word: dict[str, Any] = {"id": task_id, "attempt": attempt}
            choice = rng.random()
            if choice < 0.45:
                self._end({"action": "ack", **word, "result": attempt}, task_id)
            elif choice < 0.65:
                more = rng.choice(({}, {"retry": False}, {"delay": 0}, {"delay": 7}))
                self._end({"action": "fail", **word, "error": "no stock", **more}, task_id)
            elif choice < 0.75:
                self.say({"action": "extend", **word, "by": 90})
            elif choice < 0.85:
                self.say({"action": "progress", **word, "percent": 50})
            elif choice < 0.9:
                self.say({"action": "ack", "id": task_id, "attempt": attempt + 1})
        if self.words and rng.random() < 0.2:
            self.say(rng.choice(self.words[-10:]))

    def _end(self, doc: dict[str, Any], task_id: str) -> None:
        self.say(doc)
        del self.ready[task_id]


def exists(world: World, path: str) -> bool:
    """Whether something is at a path."""
    try:
        return world.disk.info(path) is not None
    except (Missing, NotADirectoryError):
        return False
