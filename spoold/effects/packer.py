"""Old history: what has ended goes into packs, or goes; a little at a time, and a crash loses nothing.

A batch of tasks takes these steps; after a crash between two of them, `resume` does what is said here:

    step            what is on disk if we die after it         who cleans up, and how
    1 stage         dot files in packed/                       resume removes them
    2 promise       packed/packing.json: which files go        resume goes on with step 3
                    where, which are to be removed
    3 place         packs and lists of ids in packed/DATE/     the same
    4 remove        entries, records, names in ids/ are gone   the same
    5 done          packing.json is gone                       nothing to do

Each step is synced before the next. A task whose entry somebody else moved meanwhile (a retry) keeps
all it has, and its line in the pack counts for nothing. A task that was packed is found by its id in the
list beside its pack, and so is not taken in again. The journal of a day goes into a gzip file of its own.
"""

from __future__ import annotations

import logging
import zlib
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec
import orjson

from spool import layout, look, packs
from spool.disk import Missing, NotRegular, TooLarge, Unreadable, write_anew
from spool.look import DAMAGED
from spool.names import date_of, id_date
from spool.prune import oldfiles, retention
from spool.prune.due import Dues, awaited
from spool.prune.weigh import expired, weigh
from spool.quarantine import quarantine
from spoold.effects import oldnodes
from spoold.effects.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spool.disk import Disk
    from spool.prune.retention import Excess
    from spoold.core.state import State
    from spoold.core.values import Now

log = logging.getLogger("spoold")
PAUSE = 20_000  # us between two steps where nothing else is to be done
BUSY = 500_000  # the same while tasks are ready to start
EVERY = 600_000_000  # us between two passes
HANDOVER = 60_000_000  # us after another node did it
PROMISE = f"{layout.PACKED}/packing.json"


class Promise(TypedDict):
    """What packing.json holds: staged files and their places, and all that goes after that."""

    moves: list[tuple[str, str]]
    remove: list[str]


class Packer:
    """Looks after old history; a chore of the loop."""

    def __init__(self, disk: Disk, state: State, root: str) -> None:
        self.disk = disk
        self.state = state
        self.root = root
        self.packed: Callable[[], None] = lambda: None  # told when a day has got its pack
        self._next = 0
        self._leads = len(state.peers) == 1  # one node does it for all
        self._pass: Iterator[None] | None = None
        self._time = 0  # of the pass, us UTC; 0: it has not begun, and nobody has asked for it
        self._settings = state.settings  # those of the pass
        self._awaited: set[str] = set()  # by tasks that wait for others
        self.keys = Keys(disk, state.node)
        self.counts = {"packed": 0, "dropped": 0, "beyond": 0}
        self.resumed = False

    def resume(self) -> None:
        """What an earlier daemon has promised is done, what it has only begun is forgotten."""
        self.disk.make_dir(layout.PACKED)
        try:
            promise = msgspec.json.decode(self.disk.read(PROMISE, 64 << 20), type=Promise)
        except Missing:
            pass
        except (msgspec.MsgspecError, NotRegular, TooLarge) as problem:
            # Nothing is lost with it: what is removed stood in its pack before, or is not removed.
            log.warning("%s is damaged: %s", PROMISE, problem)
            quarantine(self.disk, PROMISE, str(problem))
        else:
            self._keep(promise)
        for name in look.names(self.disk, layout.PACKED):
            if name.startswith("."):
                self.disk.remove(f"{layout.PACKED}/{name}")
        self.resumed = True

    def due(self, now: Now) -> int | None:
        """In how many us there is something to look after."""
        if not self.state.leads:
            return None
        return 0 if self.state.prune_asked else max(0, self._next - now.mono)

    def step(self, now: Now) -> None:
        """One batch, or one slice of names."""
        if not self._led(now) or self.state.relinking:
            return
        trust = self.state.trust
        if self.state.prune_asked:
            self._end(now, 0)
            self._time, self.state.prune_asked = self.state.prune_asked, 0  # he knows what time it is
            if self._time > trust.time(now):
                log.warning("asked to prune: by the clock as it is, though it is ahead of what was known")
        if now.mono < self._next:
            return
        try:
            if not self.resumed:
                self.resume()
            if self._pass is None or self._settings is not self.state.settings:
                self._settings = self.state.settings
                self._time = self._time or trust.time(now)
                self._pass = self._all(self._time)
            next(self._pass)
            self._next = now.mono + (BUSY if self.state.head() is not None else PAUSE)
        except StopIteration:
            self._end(now)
        except OSError as problem:  # no room, or a directory that is not ours: work goes on
            log.warning("old tasks stay as they are for now: %s", problem)
            self._end(now)
            self.resumed = False

    def _end(self, now: Now, rest: int = EVERY) -> None:
        self._pass, self._time, self._next = None, 0, now.mono + rest

    def _led(self, now: Now) -> bool:
        """Whether it is for this node to do; who did it before has had the time to notice."""
        led, self._leads = self._leads, self.state.leads
        if self._leads and not led:
            self._pass, self._next = None, now.mono + HANDOVER  # what was asked for is done then
            self.resumed = False
        return self._leads

    def _all(self, now: int) -> Iterator[None]:
        self.counts = {"packed": 0, "dropped": 0, "beyond": 0}
        excess = retention.Excess(self.state.settings)
        if excess.wanted:
            yield from weigh(self.disk, self.state.settings, excess, now)
        self._awaited = set()
        yield from awaited(self.disk, self._awaited)
        yield from self._ended(excess, now)
        yield from self._thinned(excess, now)
        yield from oldfiles.expired(self.disk, self.state.settings, now, self._awaited)
        yield from oldfiles.journals(self.disk, self.root, self.state.settings, now)
        yield from oldnodes.nodes(self.disk, self.root, self.state.peers, now)
        self.counts["beyond"] = yield from oldfiles.limits(self.disk, self.state.settings, now)
        yield from self.keys.sweep(now)
        if self.counts["packed"] or self.counts["dropped"]:
            log.info("%(packed)d old tasks packed, %(dropped)d dropped", self.counts)
        if self.counts["beyond"]:
            log.info("%(beyond)d packs, logs and days of the journal removed by limits", self.counts)

    # Tasks that have ended.

    def _ended(self, excess: Excess, now: int) -> Iterator[None]:
        settings = self.state.settings
        for state in layout.ENDED:
            for date in look.names(self.disk, state):
                if not retention.is_date(date) or retention.age(date, now) < 0:
                    continue
                if not excess.left and not retention.stirs(settings, date, now):
                    continue
                folder = f"{state}/{date}"
                for names in self.disk.slices(folder, packs.BATCH):
                    yield from self._batch(folder, names, excess, now)
                self.disk.remove_dir(folder)

    def _batch(self, folder: str, names: list[str], excess: Excess, now: int) -> Iterator[None]:
        """Some tasks of one directory: into packs, or away, in one promise unless they are large."""
        lines: dict[tuple[str, str], list[tuple[str, str, bytes]]] = {}
        remove: list[str] = []
        size = 0
        dues = Dues(self.disk, self.state.settings, excess, now, self._awaited)
        for path in (f"{folder}/{name}" for name in names):
            try:
                due = dues.of(path)
                if due is None:
                    continue
                entry = due.entry
                records, found = self._records(entry.id, entry.attempt)
            except (*DAMAGED, Unreadable, Missing):
                continue  # for fsck, or gone
            line = packs.line(path, due.body, found) if due.expires else b""
            if len(line) > packs.LIMIT // 2:
                continue  # no pack has room for it: it stays until it goes
            day = id_date(entry.id)
            lines.setdefault((day, due.expires), []).append((entry.id, due.task.digest, line))
            if not line:
                records += [p for r in found if isinstance(p := r.get("log"), str)]
                records += [due.files] if due.files else []
            remove += [path, *records, layout.own_copy(entry.id)]  # in this order: see _remove
            self.counts["packed" if line else "dropped"] += 1
            size += len(line)
            if size > packs.LIMIT // 16:
                self._promise(lines, remove, now)
                yield
                lines, remove, size = {}, [], 0
        if remove:
            self._promise(lines, remove, now)
        yield

    def _thinned(self, excess: Excess, now: int) -> Iterator[None]:
        """Packs that hold more than is kept, made anew without it."""
        for path in packs.packs(self.disk) if excess.left else ():
            if not expired(path, now):
                self._thin(path, excess, now)
                yield

    def _thin(self, path: str, excess: Excess, now: int) -> None:
        day, expires = path.split("/")[1], path.rpartition("/")[2][:10]
        listed = path.removesuffix(packs.PACK) + packs.IDS
        kept: list[tuple[str, str, bytes]] = []
        gone: list[tuple[str, str, bytes]] = []
        logs: list[str] = []
        digests = packs.digests(self.disk, listed)
        for text in packs.lines(self.disk, path):
            found = packs.entry_of(text)
            if found is None:
                return  # damaged: for fsck
            state, entry = found
            goes = excess.takes(state, entry.task, entry.time)
            (gone if goes else kept).append((entry.id, digests.get(entry.id, ""), text))
            if goes:
                logs += [layout.log(entry.id, number) for number in range(1, entry.attempt + 1)]
        if gone and digests.keys() == {task_id for task_id, _, _ in (*gone, *kept)}:
            lines = {(day, ""): gone, (day, expires): kept}
            self._promise({key: rows for key, rows in lines.items() if rows}, [*logs, path, listed], now)
            self.counts["dropped"] += len(gone)

    def _records(self, task_id: str, attempt: int) -> tuple[list[str], list[dict[str, Any]]]:
        paths: list[str] = []
        found: list[dict[str, Any]] = []
        for number in range(1, attempt + 1):
            path = layout.record(task_id, number)
            try:
                found.append(look.record(self.disk, task_id, number))
            except Missing:
                continue
            except DAMAGED as problem:  # its task goes without it
                log.warning("%s is damaged, and goes to corrupt/: %s", path, problem)
                quarantine(self.disk, path, str(problem))
                continue
            paths.append(path)
        return paths, found

    def _promise(
        self, lines: dict[tuple[str, str], list[tuple[str, str, bytes]]], remove: list[str], now: int
    ) -> None:
        moves: list[tuple[str, str]] = []
        for (day, expires), rows in lines.items():
            stem = self._free(day, expires or date_of(now))
            ids = "".join(f"{task_id} {digest}\n" for task_id, digest, _ in sorted(rows))
            moves.append(self._stage(day, f"{stem}{packs.IDS}", ids.encode()))
            if expires:
                text = zlib.compressobj(wbits=31)
                data = b"".join(text.compress(line) for _, _, line in rows) + text.flush()
                moves.append(self._stage(day, f"{stem}{packs.PACK}", data))
        promise = Promise(moves=moves, remove=remove)
        staged = f"{layout.PACKED}/.packing.json"
        write_anew(self.disk, staged, orjson.dumps(promise))
        self.disk.sync([*(path for path, _ in moves), staged])
        self.disk.sync_dirs([layout.PACKED])
        self.disk.move(staged, PROMISE)
        self._keep(promise)

    def _free(self, day: str, expires: str) -> str:
        """A name that no pack has: EXPIRES.N."""
        taken = [
            int(match[2])
            for name in look.names(self.disk, f"{layout.PACKED}/{day}")
            if (match := packs.NAME.fullmatch(name)) and match[1] == expires
        ]
        return f"{expires}.{max(taken, default=0) + 1}"

    def _stage(self, day: str, name: str, data: bytes) -> tuple[str, str]:
        staged = f"{layout.PACKED}/.{day}.{name}"
        write_anew(self.disk, staged, data)  # there already where a full disk cut a batch off
        return staged, f"{layout.PACKED}/{day}/{name}"

    def _keep(self, promise: Promise) -> None:
        """Steps 2 to 5, as often as it takes."""
        self.disk.sync_dirs([layout.PACKED])
        dirs = {layout.PACKED}
        for staged, target in promise["moves"]:
            folder = layout.parent_of(target)
            self.disk.make_dir(folder)
            try:
                self.disk.move(staged, target)
            except Missing:
                pass  # moved before a crash
            dirs.add(folder)
        self.disk.sync_dirs(sorted(dirs))
        self.packed()
        self._remove(promise["remove"])
        self.disk.remove(PROMISE)
        self.disk.sync_dirs([layout.PACKED])

    def _remove(self, paths: list[str]) -> None:
        """An entry goes first: of us and whoever wants its task back only one can have it."""
        ours = True
        for path in paths:
            entry = path.partition("/")[0] in layout.ENDED
            if not (ours or entry):
                continue
            try:
                if path.startswith(f"{layout.FILES}/"):
                    look.remove_tree(self.disk, path)
                else:
                    self.disk.remove(path)
                ours = True
            except Missing:  # removed before a crash, or moved
                ours = not (entry and packs.lives(self.disk, look.entry_at(path).id))
        folders = sorted({layout.parent_of(path) for path in paths})
        self.disk.sync_dirs([folder for folder in folders if self.disk.info(folder) is not None])
        for folder in folders:
            if folder.partition("/")[0] not in layout.ENDED and folder.count("/"):
                self.disk.remove_dir(folder)
