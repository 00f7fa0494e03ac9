"""The values that enter the core (events), leave it (actions) and are kept by it (runs)."""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from spool.layout import PAUSES
from spool.owncopy import deadline_of
from spool.times import maybe_utc

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal, TypeAlias

    from spool.actions import Action as Request
    from spool.actions import Task
    from spool.names import Entry
    from spool.place import Place, Rival
    from spool.settings import Handler, Settings
    from spoold.core.admit import Machine

    # What Python code takes: node -> handler -> task -> versions.
    Takers: TypeAlias = dict[str, dict[str, dict[str, frozenset[int | str]]]]
    # What the disk is asked about tasks for: to start them, now or in a moment, what waits for others
    # or for code, deadlines that have passed in pending/ and in held/, keys, a match, ids of a verb.
    Question: TypeAlias = Literal[
        "claim", "soon", "release", "strand", "late", "overdue", "rival", "match", "verb"
    ]

NONE: Mapping[str, Any] = MappingProxyType({})


class Now(Struct, frozen=True):
    """One reading of the clocks: wall time (us UTC) and monotonic time (us)."""

    wall: int
    mono: int


class Who(Struct, frozen=True):
    """A writer: the owner of his file, and whose key signed it. `trusted`: no rule is asked about him."""

    uid: int
    name: str
    groups: tuple[str, ...] = ()
    key: str | None = None
    trusted: bool = False

    @property
    def said(self) -> str:
        """The writer in words."""
        return f"key {self.key}" if self.key is not None else f"uid {self.uid} ({self.name})"

    @property
    def token(self) -> str:
        """In whose quota his tasks count, as the name of an entry says it."""
        if self.key is None:
            return str(self.uid)
        return f"k{hashlib.sha256(self.key.encode()).hexdigest()[:12]}"


class Source(Struct, frozen=True):
    """The file in incoming/ that an action came from; `ino` and `ctime` say it is still that one.

    `who` is None where nobody asks who wrote it. `says`: a hash of what it says, 0 where it was not read.
    """

    path: str
    ino: int
    ctime: int
    uid: int
    who: Who | None = None
    says: int = 0

    @property
    def by(self) -> dict[str, Any]:
        """Who it was, for journal and records."""
        key = self.who.key if self.who is not None else None
        return {"uid": self.uid} if key is None else {"uid": self.uid, "key": key}


# Events: what happened in the world.


class Arrived(Struct, frozen=True):
    """A valid action was dropped."""

    source: Source
    request: Request


class Invalidated(Struct, frozen=True):
    """A file was dropped that is no valid action: it is to be refused, and its parent told."""

    source: Source
    reason: dict[str, Any]
    parent: str | None
    task: str
    id: str


class Seen(Struct, frozen=True):
    """A scan read some names of pending/DATE/PRIO/."""

    scan: str
    date: str
    prio: str
    names: list[str]


class Scanned(Struct, frozen=True):
    """A scan has ended, or (`prio`) has ended with one class."""

    scan: str
    prio: str | None


class Matched(Struct, frozen=True):
    """Some of the tasks an action is about, by id where each stands; `done`: there are no more."""

    source: Source
    paths: dict[str, str]
    done: bool = False
    tasks: tuple[Task, ...] = ()  # of a replay: what is to be submitted
    denied: tuple[str, ...] = ()  # of a replay: why some cannot be
    known: int = 0  # of a replay: so many have been submitted before


class Looked(Struct, frozen=True):
    """The answer to a Look: every id asked for, found or None."""

    ask: Ask
    found: dict[str, Place | None]


class KeysTaken(Struct, frozen=True):
    """The answer to a TakeKeys: by id the rival that has the key, None where it is taken now."""

    asked: TakeKeys
    rivals: dict[str, Rival | None]


class Settled(Struct, frozen=True):
    """What held tasks wait for has ended. Each by its path: those that go on, and those that end.

    `stranded`: why they do, in words.
    """

    free: dict[str, str]
    stranded: Mapping[str, tuple[str, str]] = NONE  # id: path, why


class Exited(Struct, frozen=True):
    """A handler has ended. Times of day are in the run; `seconds` is by the monotonic clock."""

    id: str
    attempt: int
    exit: int | None
    signal: int | None
    seconds: float
    rss: int
    cpu: float
    logged: int
    tail: str
    result: Any = None
    result_error: str | None = None
    began: int | None = None  # monotonic us


NO_CODE = "no code"  # why an attempt has failed, or crashed: its module is not imported


class Answered(Struct, frozen=True):
    """A worker tells how an attempt of a Python task has ended, or has died with it (`crashed`).

    `outcome`: done, failed (`why` may be NO_CODE), timeout, snoozed, cancelled, parked (`why`: no code
    can run it), crashed (NO_CODE too) or interrupted (`why`: its worker was killed because of
    another task). `among`: it died with others, and any of them may have done it; how many may share its
    worker next time.
    `final`: to try again cannot help. `delay` us until the next try, `until` us UTC. `facts` go into the
    record. `began`: when its function did (monotonic us), where that is known.
    """

    id: str
    attempt: int
    outcome: str
    result: Any = None
    error: dict[str, Any] | None = None
    final: bool = False
    delay: int | None = None
    until: int | None = None
    why: str = ""
    facts: Mapping[str, Any] = NONE
    began: int | None = None
    among: int = 0


class Waits(Struct, frozen=True):
    """An attempt waits for its worker to be ready: its time does not count."""

    id: str
    attempt: int


class Begun(Struct, frozen=True):
    """An attempt that had to wait for its worker, or a slot, runs since `began` (monotonic us) or now."""

    id: str
    attempt: int
    began: int | None = None


class Returned(Struct, frozen=True):
    """An attempt that was handed ahead comes back: it has not begun, and will not."""

    id: str
    attempt: int


class Progressed(Struct, frozen=True):
    """A running attempt tells how far it is."""

    id: str
    attempt: int
    percent: float
    note: str | None


class Registered(Struct, frozen=True):
    """The code of some handlers (their patterns) was imported: task name -> versions it takes.

    `asyncs`: the names of those that are coroutines. `asked`: somebody wanted it to be imported anew.
    """

    patterns: tuple[str, ...]
    takes: dict[str, frozenset[int | str]]
    asyncs: frozenset[str] = frozenset()
    asked: bool = False


class Broken(Struct, frozen=True):
    """The code of some handlers (their patterns) cannot be imported; it is tried again at `until`.

    `until`: monotonic us.
    """

    patterns: tuple[str, ...]
    until: int
    why: str


class NotStarted(Struct, frozen=True):
    """A handler could not be started at all. `full`: as the machine can have no process more now."""

    id: str
    attempt: int
    error: str
    full: bool = False


class Crashed(Struct, frozen=True):
    """What ran a task died with it: the keeper, not the handler itself."""

    id: str
    attempt: int
    reason: str


class Recovered(Struct, frozen=True):
    """At start: an entry in running/NODE/ whose attempt has not ended.

    `since` is when it was claimed (the file's ctime), `logged` whether it has printed anything, `begun`
    whether it had been more than claimed.
    """

    place: Place
    since: int
    logged: bool = False
    begun: bool = True


class Undone(Struct, frozen=True):
    """A transition could not be put on disk (`why`: gone, clash, full, late): it did not happen."""

    move: Move
    why: str


class Failed(Struct, frozen=True):
    """A transition that is a failure of its task is on its way to the disk, or on it."""

    move: Move


class Reloaded(Struct, frozen=True):
    """spool.toml was read again."""

    settings: Settings


class Outboxes(Struct, frozen=True):
    """How many unread events lie in these parents' outboxes."""

    counts: dict[str, int]


class Peers(Struct, frozen=True):
    """The nodes that are alive, this one among them."""

    live: frozenset[str]


class Stirred(Struct, frozen=True):
    """Somebody else may have changed pending/: what is known of it is not all."""


class Brought(Struct, frozen=True):
    """What a dead node had left is back, in pending/ and held/."""


class Repaused(Struct, frozen=True):
    """What is paused, as another node has put it on disk."""

    rows: tuple[dict[str, Any], ...] = ()


class Takes(Struct, frozen=True):
    """What the code of the nodes takes, as their status files say."""

    nodes: Takers


class Measured(Struct, frozen=True):
    """The answer to a Measure."""

    machine: Machine


class Stop(Struct, frozen=True):
    """The daemon is asked to end: start nothing, let what runs finish within the grace."""


class Tick(Struct, frozen=True):
    """Time has passed."""


Event = (
    Arrived
    | Invalidated
    | Seen
    | Scanned
    | Matched
    | Looked
    | KeysTaken
    | Settled
    | Exited
    | Answered
    | Waits
    | Begun
    | Returned
    | Progressed
    | Registered
    | Broken
    | NotStarted
    | Crashed
    | Recovered
    | Undone
    | Failed
    | Reloaded
    | Outboxes
    | Peers
    | Stirred
    | Brought
    | Repaused
    | Takes
    | Measured
    | Stop
    | Tick
)


# Actions: what the world is to do.


class Message(Struct, frozen=True):
    """An event file to be: for `parent`, named by `at`, told when its transition is on disk."""

    event: str
    parent: str
    at: int
    id: str
    task: str
    content: dict[str, Any]


class Move(Struct, frozen=True):
    """One transition of one task, all of it or none.

    `source` None is a take-in: `body` becomes the task's own copy. A `record` ends an attempt: it
    is written before the entry moves, and is what `message` tells.
    """

    event: str
    entry: Entry
    before: str
    after: str
    source: str | None
    target: str
    body: Task | None = None
    record: dict[str, Any] | None = None
    message: Message | None = None
    note: Mapping[str, Any] = NONE
    key: str | None = None  # the key of its task, for its line of the journal
    mark: str | None = None  # the hash of that key, where the task has just taken it


class Tell(Struct, frozen=True):
    """An event that belongs to no transition."""

    message: Message


class Start(Struct, frozen=True):
    """Run a handler for a task that is claimed.

    `ahead`: it has no slot of its own and begins when one of so many that its handler has is free.
    `rank`: its place among all that is ready.
    """

    entry: Entry
    task: Task
    handler: Handler
    ahead: int = 0
    rank: tuple[int, str] = (0, "")


class Recall(Struct, frozen=True):
    """What was handed ahead for a handler (its pattern), and has not begun, is to come back."""

    pattern: str


class Kill(Struct, frozen=True):
    """End a handler: TERM, `grace` us, KILL. `why`: timeout, cancelled or interrupt."""

    id: str
    attempt: int
    grace: int
    why: str


class Ask(Struct, frozen=True):
    """A question to the disk about some ids and what it is for; `paths` are where they should be."""

    why: Question
    ids: tuple[str, ...]
    paths: Mapping[str, str] = NONE
    request: Request | None = None
    source: Source | None = None
    entries: Mapping[str, Entry] = NONE  # of tasks that are to be claimed, now or soon


class TakeKeys(Struct, frozen=True):
    """Take the keys of these tasks, each by a name that only one can make.

    `over`: ids whose key may be taken though they have not ended: they are being killed. `last`:
    what stands in the way was dealt with before.
    """

    source: Source
    request: Request
    tasks: tuple[Task, ...]
    over: frozenset[str] = frozenset()
    last: bool = False


class FreeKeys(Struct, frozen=True):
    """Give back what TakeKeys took for these ids: they do not come in. `again`: look at them later."""

    ids: tuple[str, ...]
    again: bool = False


class Drop(Struct, frozen=True):
    """An action is done with: its file goes, after what it caused is on disk.

    It stays where one of the tasks `ids` was taken away before its transition, to run, say.
    """

    source: Source
    ids: frozenset[str] = frozenset()


class Forward(Struct, frozen=True):
    """An action is about what another node runs: its file gets a name that says for whom it is."""

    source: Source
    node: str


class Refuse(Struct, frozen=True):
    """An action is refused: its file goes to rejected/ with the reason, and the parent is told."""

    source: Source
    reason: dict[str, Any]
    message: Message


class Scan(Struct, frozen=True):
    """Read names: `due` up to the date `edge`, of the `future` from the stamp `edge` on, or `held`.

    `but`: what runs on other nodes than this one is read as well, first.
    """

    kind: str
    edge: str = ""
    but: str = ""


class Measure(Struct, frozen=True):
    """Look at the machine: a task waits at the gate."""


class Note(Struct, frozen=True):
    """Something that is of no task, for the journal."""

    event: str
    facts: dict[str, Any]


class Rows(Struct, frozen=True):
    """What is paused (or, by `path`, which schedules are set), all of it, to be kept."""

    rows: list[dict[str, Any]]
    note: dict[str, Any]
    path: str = PAUSES

    def written(self) -> list[dict[str, Any]]:
        """The rows as they stand in the file: instants as text."""
        return [
            {k: maybe_utc(v) if k in ("since", "until") else v for k, v in r.items()} for r in self.rows
        ]


class Seek(Struct, frozen=True):
    """Look for the tasks an action is about by what they are, a slice at a time.

    `settings`: of a replay, to tell what is replayable.
    """

    source: Source
    request: Request
    settings: Settings


class Quarantine(Struct, frozen=True):
    """A file that cannot be what its place says: to corrupt/, with the reason."""

    path: str
    why: str


Action = (
    Move
    | Tell
    | Start
    | Recall
    | Kill
    | Ask
    | TakeKeys
    | FreeKeys
    | Drop
    | Forward
    | Refuse
    | Scan
    | Seek
    | Measure
    | Note
    | Rows
    | Quarantine
)


# What the core keeps.


class Seeking(Struct):
    """An action whose tasks are being looked for: how many were found, changed and denied so far."""

    request: Request
    found: int = 0
    changed: int = 0
    elsewhere: set[str] = field(default_factory=set)  # nodes that run some of them
    denied: dict[str, int] = field(default_factory=dict)  # why -> how many
    duplicates: int = 0  # of the tasks of a replay: their keys are taken
    short: bool = False  # some had no room on the disk: it is carried out once more


class Run(Struct, kw_only=True):
    """A claimed task: the entry as it stands in running/, and how its attempt goes."""

    entry: Entry
    path: str
    task: Task
    handler: Handler | None  # None: a parent does the work
    parent: str
    started: int  # wall, for the record
    began: int  # monotonic, for the time-out
    limit: int  # monotonic instant of the time-out
    ending: str = ""  # why it is being killed: timeout, cancelled, interrupt
    who: dict[str, Any] | None = None
    passed: str = ""  # what the gate said when the deadline let it pass
    progress: dict[str, Any] | None = None

    @property
    def deadline(self) -> int | None:
        """When it should be done, to the us."""
        return deadline_of(self.task, self.entry)

    @property
    def is_process(self) -> bool:
        """Whether it can be killed: no parent does the work."""
        return self.handler is not None and not self.handler.notify
