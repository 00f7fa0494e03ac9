"""Files in incoming/ to events: each is looked at, read once, bounded, and valid or refused."""

from __future__ import annotations

import logging
import re
import stat
from collections import ChainMap, deque
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from spool import handed, layout
from spool.actions import (
    Care,
    Control,
    Incomplete,
    Move,
    Prune,
    Replay,
    Schedule,
    Submit,
    Verb,
    decode,
    interpret,
)
from spool.disk import DiskFull, Missing, NotRegular, TooLarge, Unreadable
from spool.errors import Invalid
from spool.names import DAY_US, is_id, is_task
from spool.safe import as_utf8
from spool.times import FOREVER
from spoold.core import rights, share
from spoold.core.trust import Trust
from spoold.core.values import Arrived, Invalidated, Source, Who
from spoold.sources import LATEST
from spoold.sources.crowd import is_action, is_unfinished
from spoold.sources.named import OVERTAKEN, PATIENCE, Anew, Named, NotYet, own_id
from spoold.sources.signatures import AT_ONCE, Signatures, TooMany

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias
    from zoneinfo import ZoneInfo

    from spool.actions import Action as Request
    from spool.disk import Disk, Info
    from spool.requests import Word
    from spool.settings import Settings
    from spoold.core.values import Now
    from spoold.sources.crowd import Crowd

    Words: TypeAlias = Verb | Move | Word

log = logging.getLogger("spoold")
SLICE = 256  # files looked at in one round of the loop, at most
BURST = 128  # where there are more: what is high among them waits for such a round
MOST, LEAST = 1 << 16, 8  # tasks of a round, but for those of one file
LONG = 500_000  # us: a round that takes longer is too long for those that wait for the loop
PEEKS = 2048  # of the newest names in one round: what is high among them does not wait for a long listing
PEEK = 64 << 10  # bytes; what is larger does wait
LARGEST = 1 << 20  # bytes read in one round, and one file more: parsed they may take 40 times as much
LEFT = 2_000_000  # for what another node should have taken, us
HOLLOW = 3_600_000_000  # for an empty file that another node forwards to, us: longer than a lease
SHUT = -1  # the room of a disk that nothing comes in from
ADDING = ("submit", "replay")  # actions that there must be room for
AGAIN = 250_000  # how soon a file that is not ready is looked at again, us
SHORT = 1_000_000  # the same for one that there was no room for
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.json")
UNKNOWN = "unknown"
BOUND = {"action", "tasks", "key", "after"}  # fields of what keeps its place among the others
KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Waiting(Struct):
    """A file that is not ready: as what it was last seen, since when (monotonic), since which listing."""

    ino: int
    since: int
    size: int
    listing: int


class NoRoom(Exception):
    """A batch of more tasks than there are inodes to spare: it stays where it is. Fields: tasks.

    0 tasks: nobody has counted them, as nothing comes in.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__(tasks)
        self.tasks = tasks


class Intake:
    """Looks at incoming/ when told to (`ring`), a slice at a time."""

    def __init__(
        self, disk: Disk, settings: Settings, zone: ZoneInfo, crowd: Crowd | None = None
    ) -> None:
        """`crowd`: where several users write, and each has his turn."""
        self.disk = disk
        self.settings = settings
        self.zone = zone
        self.crowd = crowd
        self.immovable: set[tuple[str, int]] = set()  # done with, and not to be removed
        self.node = ""
        self.trust = Trust()  # of the core
        self.behind_server: Callable[[], int] = int  # us that our clock is behind the file server's
        self.peers: frozenset[str] = frozenset()  # the nodes that are alive; one: nobody else looks
        self._others: dict[str, int] = {}  # what another one should take first, since when
        self._left = 0  # how many of these this one does not touch yet
        self._rung = True
        self._most = MOST  # tasks of a round: as many as this disk can do in a while
        self._brought = 0  # by the last look
        self._listing = 0
        self._put_off = -2  # the last listing in which something was left for later
        self._names: list[str] = []
        self._newest: deque[str] = deque(maxlen=LATEST)
        self._hurried = False  # the last look was at the newest alone
        self._waiting: dict[str, Waiting] = {}
        self._room = 0
        self._large: dict[str, int] = {}  # tasks of files there was no room for
        self.overdue: set[str] = set()  # of these, what is about all that match
        self._ignored: set[str] = set()
        self.named = Named(disk, shared=crowd is not None)
        self.signatures = Signatures(disk, getattr(disk, "root", ""), settings)

    def configure(self, settings: Settings, zone: ZoneInfo, crowd: Crowd | None) -> None:
        """Settings that were read again."""
        self.settings = self.signatures.settings = settings
        self.zone, self.crowd = zone, crowd
        self.named.shared = crowd is not None

    def among(self, peers: frozenset[str]) -> None:
        """The nodes that are alive: what was for another one may be ours now."""
        self._rung |= peers != self.peers
        self.peers = peers

    def ring(self) -> None:
        """Something may have been dropped: look again, at everything."""
        self._rung = True
        if self.crowd is not None:
            self.crowd.ring()

    def again(self) -> None:
        """Look again at what was not ready; who was only too fast goes on with what is known of his."""
        if (
            self.crowd is not None
            and self.crowd.held
            and not (self._waiting or self._left or self._large)
        ):
            self.crowd.held = 0
        else:
            self.ring()

    def catch_up(self) -> None:
        """Look again, and hear of what nobody has told of: what came behind a listing under way."""
        self.ring()
        if self._names:
            self._newest.extend(sorted(set(self.disk.names(layout.INCOMING)).difference(self._names)))

    def heard(self, names: Iterable[str]) -> None:
        """These have come just now; a look at everything finds them too."""
        if self.crowd is not None:
            return
        self._newest.extend(names)
        if self._large:  # one of them may have a name that was known
            for name in names:
                self._large.pop(f"{layout.INCOMING}/{name}", None)

    @property
    def busy(self) -> bool:
        """Whether a look would do something now."""
        if self.crowd is not None:
            return self.crowd.busy
        return self._rung or bool(self._names)

    @property
    def behind(self) -> bool:
        """Whether more lies there than one look takes."""
        return len(self._names) > SLICE

    @property
    def unsettled(self) -> int:
        """How many files are not ready yet."""
        return len(self._waiting) + self._left + (self.crowd.held if self.crowd is not None else 0)

    @property
    def short(self) -> bool:
        """Whether there was no room for what lies there."""
        return bool(self._large)

    def next_look(self) -> int | None:
        """In how many us files that are not ready want another look; None where there are none."""
        slow = self.crowd.next_look() if self.crowd is not None else None
        shut = self._room == SHUT
        if self._waiting or self._left:
            return SHORT if shut else AGAIN
        return SHORT if self._large and not shut else slow

    def look(self, now: Now, room: int = FOREVER) -> list[Arrived | Invalidated]:
        """The next slice of files as events, in the order they were dropped in.

        A slice is what comes next by name: among files named after new ids that is by time as well.
        Where more lies there than one slice, tasks among the newest that say they are high come before
        it: every other time, so that the rest moves on. What is on disk by now is no longer in passing.
        `room`: for how many tasks. SHUT: what would add one stays, and so does what would be refused;
        each is read once, and is looked at again, in its order, when there is room.
        """
        self.named.passing.clear()
        if self._room == SHUT != room:
            self._names.clear()
            self._others.clear()
            self.ring()
        self._room = room
        self.signatures.left = AT_ONCE
        if self.crowd is not None:
            return self._in_turn(self.crowd, now)
        if not self._names and self._rung:
            self._rung = False
            self._listing += 1
            self._names = sorted(self.disk.names(layout.INCOMING))
            if len(self.peers) > 1 or self._others:
                self._names = self._shared_out(self._names, now)
            self._forget({f"{layout.INCOMING}/{name}" for name in self._names})
            if room == SHUT:
                at = f"{layout.INCOMING}/"
                self._names = [name for name in self._names if at + name not in self._large]
            if len(self._names) <= self._slice:
                self._newest.clear()  # they are in this slice, or gone
        many = room != SHUT and len(self._names) > self._slice
        hurry = many and len(self.peers) < 2 and not self._hurried
        found = self._all(self._high(), now)[0] if hurry else []
        self._hurried = bool(found)
        if found:
            return found
        batch, self._names = self._names[: self._slice], self._names[self._slice :]
        paths = [f"{layout.INCOMING}/{name}" for name in batch if not is_unfinished(name)]
        try:
            known = {path: self.disk.info(path) for path in paths}
        except Unreadable:
            known = {path: self._info(path) for path in paths}
        infos, later = self._share(known)
        found, rest = self._all(infos, now)
        self._names[:0] = sorted(path.rpartition("/")[2] for path in later | rest)
        return found

    @property
    def _slice(self) -> int:
        return min(SLICE if len(self._names) <= SLICE else BURST, self._most)

    def took(self, us: int) -> None:
        """How long the round of the last look was: less in the next where it was long.

        What waits for the loop meanwhile, ended tasks and free slots, would else have one turn in many
        seconds on a slow disk, for as long as more comes in than it can take.
        """
        if self._brought and us > LONG:
            self._most = max(LEAST, min(self._most, self._brought) // 2)
        elif self._brought and us < LONG // 4:
            self._most = min(MOST, self._most * 2)
        self._brought = 0

    def _high(self) -> dict[str, Info]:
        """Of what came last, the single high tasks that have nothing to do with any other."""
        found: dict[str, Info] = {}
        for _ in range(min(PEEKS, len(self._newest))):
            name = self._newest.pop()
            path = f"{layout.INCOMING}/{name}"
            try:
                data = b"" if is_unfinished(name) else self.disk.read(path, PEEK)
                doc = decode(data) if b'"high"' in data else {}
            except (Invalid, OSError):
                continue  # its turn comes, and with it what is to be said
            if doc.get("priority") == "high" and not doc.keys() & BOUND:
                info = self.disk.info(path)
                if info is not None:
                    found[path] = info
        return found

    def _in_turn(self, crowd: Crowd, now: Now) -> list[Arrived | Invalidated]:
        """The same where several users write; what is beyond a quota is refused unread."""
        shut = self._room == SHUT
        unready = ChainMap[str, Any](self._waiting, self._large) if shut else self._waiting
        batch = crowd.batch(self._aging(now), unready)
        if crowd.listing != self._listing:
            self._listing = crowd.listing
            known = (*self._waiting, *self._large, *self._ignored)
            self._forget({path for path in known if handed.info(self.disk, path) is not None})
        infos, later = self._share({path: handed.info(self.disk, path) for _, path in batch})
        before = len(self._waiting) + len(self._large)
        found, rest = self._all(infos, now)
        after = len(self._waiting) + len(self._large)
        crowd.back(batch, later | rest, moved=bool(found) or after > before)
        for event in found:
            crowd.took(event.source.uid, now)
        if shut:
            crowd.surplus.clear()
        surplus, crowd.surplus = crowd.surplus[:SLICE], crowd.surplus[SLICE:]
        for path, info, rule in surplus:
            if (path, info.ino) not in self.immovable:
                source = self._source(path, info, None, now)
                found.append(self._refusal(source, Invalid("file", as_utf8(path), rule), None))
        return found

    def _forget(self, there: set[str]) -> None:
        """What is gone is waited for no more, what is known of the rest of the disk may be old."""
        self.named.listed(alone=len(self.peers) < 2)
        for known in (self._waiting, self._large):
            for path in known.keys() - there:
                known.pop(path)
        self._ignored &= there
        self.overdue &= there

    def _share(self, infos: dict[str, Info | None]) -> tuple[dict[str, Info], set[str]]:
        """What is looked at in this round, and the paths of what is too large for it."""
        there = {path: info for path, info in infos.items() if info is not None}
        share: dict[str, Info] = {}
        size = 0
        for path, info in there.items():
            if size >= LARGEST:
                break
            size += min(info.size, self.settings.max_action_bytes)
            share[path] = info
        return share, there.keys() - share.keys()

    def _all(self, infos: dict[str, Info], now: Now) -> tuple[list[Arrived | Invalidated], set[str]]:
        """Some files as events, in the order they were dropped in, and those too many for one round."""
        there = sorted((info.ctime_us, path, info) for path, info in infos.items())
        found: list[Arrived | Invalidated] = []
        self._brought = 0
        for number, (_, path, info) in enumerate(there):
            if self._brought >= self._most:
                return found, {path for _, path, _ in there[number:]}
            room = self._room
            if (event := self._one(path, info, now)) is not None:
                found.append(event)
                self._brought += max(1, room - self._room)
        return found, set()

    def _info(self, path: str) -> Info | None:
        """What lstat says; None, too, of what the disk has lost, which is said once."""
        try:
            return self.disk.info(path)
        except Unreadable as problem:
            if path not in self._ignored:
                log.error("%s is left alone: %s", ascii(path), problem)  # noqa: TRY400 - no bug of ours
            self._ignored.add(path)
            return None

    def _source(self, path: str, info: Info, key: str | None, now: Now) -> Source:
        """Where an action comes from; who wrote it is looked up where that matters."""
        if self.crowd is None:
            who = None if key is None else Who(info.uid, str(info.uid), (), key, trusted=True)
            return Source(path, info.ino, info.ctime_us, info.uid, who)
        who = self.crowd.people.who(info.uid, key, now.mono, strict=False)
        return Source(path, info.ino, info.ctime_us, info.uid, who)

    def _signed(self, source: Source, info: Info, key: str | None, now: Now) -> Source:
        if key is None:
            return source
        return replace(source, who=self._source(source.path, info, key, now).who)

    def _shared_out(self, names: list[str], now: Now) -> list[str]:
        """What this node takes: what is for it, its share, and what others have left for a while."""
        mine: list[str] = []
        others: dict[str, int] = {}
        self._left = 0
        for name in names:
            named = name.split(",")[1] if name.startswith(layout.FOR) and name.count(",") > 1 else ""
            whose = named if named in self.peers else share.first(name[:32], self.peers)
            if whose != self.node and name.endswith(".json") and name[:1] != ".":
                others[name] = self._others.get(name, now.mono)
                if named == whose or now.mono - others[name] < LEFT:
                    self._left += named != whose
                    continue
            mine.append(name)
        self._others = others
        return mine

    def stale(self, now: Now) -> list[Invalidated]:
        """What was begun more than a day ago and never finished, here and in tmp/: refused."""
        found: list[Invalidated] = []
        now = self._aging(now)
        self.signatures.tidy(now)
        if self.crowd is not None:
            return found  # its pass finds them
        waits = any(name.endswith(".json") for name in self.disk.names(layout.INCOMING))
        for folder in (layout.INCOMING, layout.TMP):
            for name in self.disk.names(folder):
                path = f"{folder}/{name}"
                unfinished = folder == layout.TMP or path in self._ignored or is_unfinished(name)
                if folder == layout.TMP and waits and "," in name:
                    continue  # it may come with a task that has not been looked at yet
                info = self._info(path) if unfinished else None
                if info is None or stat.S_ISDIR(info.mode) or now.wall - info.ctime_us < DAY_US:
                    continue
                source = Source(path, info.ino, info.ctime_us, info.uid)
                problem = Invalid("file", as_utf8(name), "was not finished within a day")
                found.append(self._refusal(source, problem, None))
        return found

    def _aging(self, now: Now) -> Now:
        """The same with the time by which files are old."""
        return replace(now, wall=self.trust.time(now))

    def _one(self, path: str, info: Info, now: Now) -> Arrived | Invalidated | None:
        name = path.rpartition("/")[2]
        if (path, info.ino) in self.immovable or self._large.get(path, SHUT) > self._room:
            return None  # it is done with, or there is no room for it yet
        self.overdue.discard(path)
        known = self._large.pop(path, None)  # what it waits for from here on is something else
        if stat.S_ISDIR(info.mode):
            self._ignored.add(path)  # a directory cannot be refused, only left alone
            return None
        source = self._source(path, info, None, now)
        try:
            found = self._read(name, path, info, source, now)
        except NotYet as later:
            if self._patient(path, info, now, later.patience):
                return None
            if isinstance(later, Anew):
                self.named.have_ended(later.ids)
                return self._one(path, info, now)
            found = later.then
        except NoRoom as short:
            if short.tasks and not known:
                words = "%s waits: it brings %d task%s, and there is room for %d (min_free_inodes)"
                log.warning(words, name, short.tasks, "s" * (short.tasks != 1), self._room)
            found, self._large[path] = None, short.tasks
        except (Missing, TooMany, DiskFull) as why:
            self._later(why, path, info, now)
            return None
        self._waiting.pop(path, None)
        if self._room == SHUT and isinstance(found, Invalidated):
            found, self._large[path] = None, 0
        return found

    def _later(self, why: Exception, path: str, info: Info, now: Now) -> None:
        """What is not gone is looked at in the next round, or where the disk is full, in a while."""
        if not isinstance(why, Missing):
            self._put_off = self._listing
        if isinstance(why, TooMany):
            self.ring()
        elif isinstance(why, DiskFull):
            self._patient(path, info, now, FOREVER)

    def _patient(self, path: str, info: Info, now: Now, patience: int) -> bool:
        seen = self._waiting.get(path)
        if seen is None or seen.ino != info.ino or seen.size != info.size:
            self._waiting[path] = Waiting(info.ino, now.mono, info.size, self._listing)
            return True
        if self._listing < self._put_off + 2 or (self._others and now.mono - seen.since < LEFT):
            seen.listing = self._listing  # what it waits for may be what is left for later, or to others
        # It may be missing in the listing this was first seen in, not in the one after.
        return now.mono - seen.since < patience or self._listing < seen.listing + 2

    def _is_hollow(self, path: str, info: Info, now: Now) -> bool:
        """Whether another node moves an action there in a moment; or was fenced, and never does."""
        if info.size or not path.startswith(f"{layout.INCOMING}/{layout.FOR}"):
            return False
        if self._aging(now).wall - info.ctime_us > HOLLOW:
            self.disk.remove(path)
        return True

    def _read(
        self, name: str, path: str, info: Info, source: Source, now: Now
    ) -> Arrived | Invalidated | None:
        doc: dict[str, Any] | None = None
        fresh = True  # known tasks that come again are a safe resend, and no second use
        try:
            if self._is_hollow(path, info, now) or not is_action(name):
                self._ignored.add(path)
                return None
            self._check(name, info)
            data = self._bytes(path, info)
            source = replace(source, says=handed.meaning(data))
            found = self.signatures.open(decode(data, limit=self.settings.max_action_bytes), now)
            doc = found.action
            self._check_room(doc, path)
            source = self._signed(source, info, found.key, now)
            self._check_owner(path, info, source, now)
            dropped = min(info.ctime_us, now.wall + max(0, self.behind_server()))
            asked = interpret(doc, now=now.wall, dropped=dropped, zone=self.zone, uid=info.uid)
            request = self._not_before(min(dropped, now.wall), asked, source.who)
            patience = FOREVER if self._large else OVERTAKEN  # what is named may be what has no room
            if isinstance(request, Submit):
                request = _written(request, source.who, counts=self.crowd is not None)
                if len(request.tasks) > self._room:
                    raise NoRoom(len(request.tasks))
                request = self.named.identify(request, source, patience)
                self._room -= len(request.tasks)
                fresh = bool(request.tasks)
            elif not isinstance(request, Control | Care | Prune | Replay | Schedule):
                request = self.named.check_ids(request, source, patience)
            if fresh and found.key is not None:
                self._check_rules(request, source, now)
                self.signatures.use(found, source)
            if isinstance(request, Submit):
                stranger = source.who is not None and not source.who.trusted
                unsure = stranger or any(task.key is not None or task.files for task in request.tasks)
                self.named.passing |= {task.id or "": unsure for task in request.tasks}
        except NotYet as later:
            later.then = later.then or self._refusal(source, later.problem, doc)
            raise
        except Invalid as problem:
            refusal = self._refusal(source, problem, doc)
            if isinstance(problem, Incomplete):
                raise NotYet(problem, self.settings.settle, refusal) from None
            return refusal
        return Arrived(source, request)

    def _check_rules(self, request: Request, source: Source, now: Now) -> None:
        """What no rule allows its signer uses up no text: another name of the key may be allowed it."""
        if (who := source.who) is None:
            return
        if isinstance(request, Submit):
            why = rights.why_not_submit(self.settings, who, request.tasks, now.wall, 0)
        else:
            why = rights.why_not_ask(self.settings, who, request)
        if why:
            raise Invalid("policy", None, why)

    def _not_before(self, dropped: int, request: Request, who: Who | None) -> Request:
        """The same; a time before its drop is that of its drop, where no rule lets it go ahead."""
        if who is not None and isinstance(request, Submit):
            tasks = (rights.led(self.settings, who, task, dropped) for task in request.tasks)
            return replace(request, tasks=tuple(tasks))
        if who is not None and isinstance(request, Move):
            return rights.led(self.settings, who, request, dropped)
        return request

    def _check(self, name: str, info: Info) -> None:
        for is_kind, words in KINDS:
            if is_kind(info.mode):
                raise Invalid("file", name, f"is {words}; only a regular file is an action")
        if not NAME.fullmatch(layout.dropped_as(name)):
            rule = "a file name is [A-Za-z0-9][A-Za-z0-9._-]{0,127}.json"
            raise Invalid("file", as_utf8(name), rule)
        if info.nlink != 1:
            problem = Invalid("file", name, "has a second hard link; write a file of its own")
            raise NotYet(problem, PATIENCE)
        if info.size > self.settings.max_action_bytes:
            self._too_large(name)

    def _check_room(self, doc: dict[str, Any], path: str) -> None:
        """What adds tasks waits, and what is about all that match, as some of them may be waiting."""
        if self._room != SHUT:
            return
        if doc.get("action", "submit") in ADDING:
            raise NoRoom(0)
        if self._large and "match" in doc:
            self.overdue.add(path)
            raise NoRoom(0)

    def _check_owner(self, path: str, info: Info, source: Source, now: Now) -> None:
        """In a shared spool a file is of a known user, and a box holds files of its user alone."""
        if self.crowd is None:
            return
        if source.who is None or source.who.key is None:
            self.crowd.people.who(info.uid, None, now.mono)
        folder, _, box = layout.parent_of(path).rpartition("/")
        if folder == layout.WRITERS and info.uid != int(box):
            rule = f"belongs to uid {info.uid}, in the box of uid {box}"
            raise Invalid("file", path.rpartition("/")[2], rule)

    def _too_large(self, name: str) -> None:
        rule = f"is larger than {self.settings.max_action_bytes} bytes (max_action_bytes)"
        raise Invalid("file", name, rule)

    def _bytes(self, path: str, info: Info) -> bytes:
        name = path.rpartition("/")[2]
        content = handed.own if self.crowd is None else handed.content
        try:
            data = content(self.disk, path, info, self.settings.max_action_bytes)
        except TooLarge:
            self._too_large(name)
        except Unreadable as lost:
            if path not in self._waiting:
                log.error("%s is refused in a minute, unless that changes: %s", ascii(path), lost)  # noqa: TRY400 - no bug of ours
            raise NotYet(Invalid("file", name, str(lost)), PATIENCE) from None
        except NotRegular:
            raise Invalid("file", name, "is not a regular file") from None
        except PermissionError:
            problem = Invalid("file", name, "cannot be read by spoold: chmod it")
            raise NotYet(problem, PATIENCE) from None
        except BlockingIOError:  # somebody holds a lease on it
            problem = Invalid("file", name, "is kept from being read by a lease")
            raise NotYet(problem, PATIENCE) from None
        except handed.Changed:
            data = b""
        if len(data) != info.size:
            raise NotYet(Invalid("file", name, "changes while it is read"), PATIENCE)
        return data

    def _refusal(self, source: Source, problem: Invalid, doc: dict[str, Any] | None) -> Invalidated:
        fields = _first(doc or {})
        reason = {"field": problem.field, "value": _plain(problem.value), "rule": problem.rule}
        if problem.near:
            reason["near"] = problem.near
        reason["text"] = str(problem)
        task, parent, task_id = fields.get("task"), fields.get("notify"), (doc or {}).get("id")
        return Invalidated(
            source,
            reason,
            parent if isinstance(parent, str) and is_task(parent) else None,
            task if isinstance(task, str) and is_task(task) else UNKNOWN,
            task_id if isinstance(task_id, str) and is_id(task_id) else own_id(source, 0),
        )


def _written(request: Submit, who: Who | None, *, counts: bool) -> Submit:
    """The tasks of an action say whose they are and in whose quota they count."""
    if who is None:
        return request
    writer = who.token if counts else None
    tasks = (replace(task, signer=who.key, writer=writer) for task in request.tasks)
    return replace(request, tasks=tuple(tasks))


def _first(doc: dict[str, Any]) -> dict[str, Any]:
    """What names the parent of an action: its own fields, or those of the first task of a batch."""
    tasks = doc.get("tasks")
    first = tasks[0] if isinstance(tasks, list) and tasks else None
    return first if isinstance(first, dict) and "task" not in doc else doc


def _plain(value: object) -> Any:
    """A value fit for a reason file: bounded, and JSON."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else str(value)[:100]
    text = value if isinstance(value, str) else repr(value)
    return as_utf8(text[:200])
