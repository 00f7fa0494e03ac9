"""The Python client: submit tasks, look at them, wait for them, read an outbox. No daemon needed.

What a submission does not need is imported where it is used: many programs do nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

from spool import layout
from spool.batch import batches, with_id
from spool.body import encoded, fields, plain
from spool.closed import telling
from spool.control import Control
from spool.disk import Missing, RealDisk
from spool.drop import Drops, attached, box_of
from spool.errors import Invalid, NoSuchTask, NotAllowed, NotASpool
from spool.init import check_format, default_dir, init, is_own
from spool.names import is_id, new_id
from spool.peek import DURABLE, RELAXED, client_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import tzinfo

    from spool.actions import Match
    from spool.body import Backoff, Span, When
    from spool.signing import Key
    from spool.views import Event, Listed, TaskView


class Spool(Control):
    """One spool. Safe to share between threads, and to keep open for as long as you like."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        durability: Literal["durable", "relaxed"] | None = None,
        key: Key | None = None,
    ) -> None:
        """Open a spool: `path`, else $SPOOL_DIR, else the user's own, which is made on first use.

        `durability`: "durable" (an id is returned when the task survives a power cut) or "relaxed";
        left out, what spool.toml says. `key`: signs every action.
        Raises NotASpool, NotAllowed.
        """
        found = default_dir(os.environ) if path is None else os.fspath(path)
        self.path = os.path.abspath(found)
        if is_own(self.path, os.environ) and not os.path.exists(f"{self.path}/{layout.FORMAT}"):
            init(self.path)
        check_format(self.path)
        if durability not in (None, DURABLE, RELAXED):
            raise Invalid("durability", durability, f"must be {DURABLE} or {RELAXED}")
        try:
            self.disk = RealDisk(self.path)
        except PermissionError:
            raise NotAllowed(f"{self.path} may not be read by uid {os.getuid()}") from None
        except FileNotFoundError:
            raise NotASpool(self.path, "is gone") from None
        setting, self.max_action_bytes, self._timezone = client_settings(self.disk)
        self.durable = (durability or setting) == DURABLE
        self.box = box_of(self.disk)
        self.key = key

    def __repr__(self) -> str:
        return f"Spool({self.path!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def zone(self) -> tzinfo | None:
        """That of local times, as spool.toml names it; None: spoold's own, which it alone knows."""
        from spool.times import zone

        try:
            return zone(self._timezone)
        except ValueError:
            return None

    def close(self) -> None:
        """Let go of the directory."""
        self.disk.close()

    # Submitting.

    def submit(  # noqa: PLR0913 - the fields of a task, all optional
        self,
        task: str,
        args: object = None,
        /,
        *,
        at: When | None = None,
        deadline: When | None = None,
        lead: Span | None = None,
        tz: str | None = None,
        priority: Literal["high", "medium", "low"] | None = None,
        position: Literal["front", "back"] | None = None,
        retries: int | None = None,
        backoff: Backoff | None = None,
        timeout: Span | None = None,
        version: int | str | None = None,
        notify: str | None = None,
        on_miss: Literal["run", "drop", "fail"] | None = None,
        trace: str | None = None,
        replay_of: str | None = None,
        key: str | None = None,
        key_for: Span | None = None,
        on_duplicate: Literal["keep", "replace", "reject", "extend"] | None = None,
        after: Sequence[str] | None = None,
        on_failure: Literal["wait", "cancel", "run", "only"] | None = None,
        ref: str | None = None,
        files: Mapping[str, str | os.PathLike[str]] | None = None,
        meta: Mapping[str, Any] | None = None,
        id: str | None = None,  # noqa: A002 - named as the field is
    ) -> str:
        """Submit one task and return its id: 32 hex digits.

        `args`: anything JSON can say, {} where it is left out. Times: an aware datetime; a naive
        one, or text without offset, is local in `tz` or the spool's time zone; a timedelta counts
        from now. Durations: a timedelta, seconds, or text such as "90s". `files`: name -> path of
        what is copied and comes with the task. The other fields are those
        of spool(5). Give an `id` of your own to make a resend safe.

        Raises Invalid before anything is written; Full, NotAllowed, NotASpool: what was written is
        taken back, if spoold has not taken it in already.
        """
        doc = fields(
            task=task, args=args, id=id, at=at, deadline=deadline, lead=lead, tz=tz,
            priority=priority, position=position, retries=retries, backoff=backoff,
            timeout=timeout, version=version, notify=notify, on_miss=on_miss, trace=trace,
            replay_of=replay_of, key=key, key_for=key_for, on_duplicate=on_duplicate, after=after,
            on_failure=on_failure, ref=ref, files=files, meta=meta,
        )  # fmt: skip
        return self.submit_one(doc)

    def submit_one(self, task: Mapping[str, Any]) -> str:
        """Submit one task given as a mapping of the fields of `submit` (and `x-...`).

        With `every` as well it is a schedule that is set; its name is returned, for there is no task yet.
        """
        doc = with_id(task, "")
        if "every" in task:
            self.act(task)
            return str(task.get("key", task["task"]))
        # The file is named by the id. A chosen one may come twice, and no drop replaces another.
        suffix = f"-{new_id()[-8:]}" if "id" in task else ""
        self._drop(f"{doc['id']}{suffix}.json", doc)
        return str(doc["id"])

    def submit_many(
        self, tasks: Iterable[Mapping[str, Any]], *, then: Mapping[str, Any] | None = None
    ) -> list[str]:
        """Submit tasks, each a mapping of the fields of `submit` (and `x-...`), and return their ids.

        No id and no `key` occurs twice. Up to 1000 go into one file, and those are taken in all or
        none. All files become visible together, with one sync. `then`: one more that waits for all
        of them (or, with `on_failure` only, for the first that fails), the last of the ids. With it,
        or where a task has a `ref` that others name in `after` or `args`, all go into one file: at
        most 10,000, of at most `max_action_bytes` together. Raises as `submit` does, Invalid naming
        `tasks[N].field`.
        """
        ids: list[str] = []
        with self._drops() as drops:
            named = (attached(with_id(task, f"tasks[{n}]"), drops) for n, task in enumerate(tasks))
            last = attached(with_id(then, "then"), drops) if then is not None else None
            for data in batches(named, last, self.max_action_bytes, self._encoded, ids, self.key):
                drops.stage(f"{new_id()}.json", self._sealed(data))
        return ids

    @contextmanager
    def _drops(self) -> Iterator[Drops]:
        """What is staged in it becomes visible at its end, all of it or nothing."""
        drops = Drops(self.disk, self.path, durable=self.durable, box=self.box)
        try:
            yield drops
            drops.publish()
        except BaseException:
            drops.abandon()
            raise

    def preview(self, doc: Mapping[str, Any]) -> bytes:
        """The bytes of an action as they would be dropped, checked; Invalid where it breaks a rule."""
        return self._encoded(plain(doc), self.max_action_bytes)

    def _encoded(self, doc: dict[str, Any], limit: int, within: int = 0) -> bytes:
        return encoded(doc, limit, _now(), self.zone, within, self.key)

    # Asking for something.

    def act(self, action: Mapping[str, Any]) -> str:
        """Drop any action of spool(5); returns the name of its file without `.json`.

        It is checked first: Invalid. That it was carried out is another matter: see `carried_out`.
        """
        stem = new_id()
        self._drop(f"{stem}.json", action)
        return stem

    def match(self, action: str, match: Mapping[str, Any]) -> Match:
        """What a `match` of an action means, as spoold reads it. Invalid."""
        from spool.actions import decode, interpret
        from spool.machine import zone_of

        doc = decode(self.preview({"action": action, "match": dict(match), **_ANYWHERE.get(action, {})}))
        now = _now()
        found: Any = interpret(doc, now=now, dropped=now, zone=self.zone or zone_of(""), uid=None)
        read: Match = found.match
        return read

    def carried_out(self, stem: str, timeout: float | None = None) -> None:
        """Wait until the action of this name is carried out; Refused, or TimedOut after `timeout` s.

        NotAllowed where this user may not see whether it was refused.
        """
        from spool import waiting

        waiting.carried_out(self.disk, self.path, stem, timeout)

    def _drop(self, name: str, doc: Mapping[str, Any]) -> None:
        """Drop one action, with the files that come along."""
        files = doc.get("files")
        data = self.preview({**doc, "files": list(files)} if isinstance(files, Mapping) else doc)
        sealed = self._sealed(data)
        with self._drops() as drops:
            attached(doc, drops)
            drops.stage(name, sealed)

    def _sealed(self, data: bytes) -> bytes:
        if self.key is None:
            return data
        sealed = self.key.seal(data)
        if len(sealed) > self.max_action_bytes:
            rule = f"must be at most {self.max_action_bytes} bytes when it is signed, not {len(sealed)}"
            raise Invalid("document", None, rule)
        return sealed

    # Looking.

    def get(self, task_id: str, *, hint: str | None = None) -> TaskView:
        """Everything there is to know of a task; NoSuchTask, Invalid where its file is damaged.

        `hint`: where its entry was last, if you know: `entry` of its last line in the journal, say.
        It saves the look at all names that finds a task which was moved to another time.
        """
        from spool import dropped, look, packs
        from spool.machine import zone_of
        from spool.views import dropped_view, task_view

        found = None
        with telling(self.path):
            if is_id(task_id):
                waits = dropped.waiting(self.disk, task_id)  # first: from there it goes to the others
                place = look.find(self.disk, task_id, hint)
                if place is not None:
                    found = task_view(place, look.records(self.disk, task_id))
                elif waits is not None:
                    found = dropped_view(self.disk, waits, self.zone or zone_of(""))
                elif (packed := packs.find(self.disk, task_id)) is not None:
                    found = task_view(packed.place(), list(packed.attempts))
            if found is None:
                raise packs.missing(self.disk, task_id)
            return replace(found, files=look.sizes(self.disk, layout.files(task_id)) or found.files)

    def checkpoint(self, task_id: str) -> Any:
        """What a task in Python has kept last (`current().checkpoint`); None where nothing is kept."""
        from spool.worker.kept import Kept

        if not is_id(task_id):
            raise NoSuchTask(task_id)
        with telling(self.path):
            return Kept(self.path).read(task_id)

    def list(
        self, state: str | None = None, task: str | None = None, limit: int | None = None
    ) -> Iterator[Listed]:
        """The tasks in a state (or all), as their names tell; no file is opened.

        `state`: pending, held, running, done, failed or cancelled. `task`: a name, or one with `*`.
        In no promised order. What moves meanwhile may be seen twice or missed; `get` tells more.
        """
        if state is not None and state not in layout.STATES:
            from spool.fields import nearest

            near = nearest(state, layout.STATES)
            raise Invalid("state", state, f"must be one of {', '.join(layout.STATES)}", near)
        return self._list(layout.STATES if state is None else (state,), task, limit)

    def _list(self, states: tuple[str, ...], task: str | None, limit: int | None) -> Iterator[Listed]:
        from spool import look
        from spool.patterns import matches
        from spool.views import listed

        left = limit
        with telling(self.path):
            for path, entry in look.entries(self.disk, states):
                if left is not None and left <= 0:
                    return
                if task is None or matches(task, entry.task):
                    yield listed(path, entry)
                    left = None if left is None else left - 1

    def wait(self, task_id: str, timeout: float | None = None) -> dict[str, Any]:
        """The last record of a task, as spool(5) describes it, when the task has ended.

        Its `event` is done, failed or cancelled. Raises NoSuchTask, Refused where its submission
        was refused, TimedOut after `timeout` seconds.
        """
        from spool import waiting

        with telling(self.path):
            return waiting.ended(self.disk, self.path, task_id, timeout)

    def outbox(
        self, parent: str = layout.DEFAULT_PARENT, *, follow: bool = True, timeout: float | None = None
    ) -> Iterator[Event]:
        """The events of a parent, oldest first, each within milliseconds of its becoming visible.

        An outbox has one reader: two would be given the same events, and do most of the work twice.
        An event is acknowledged (its file deleted) when you come back for the next one. If you
        raise, or leave the loop, the one at hand stays and comes again: handle events so that
        seeing one twice does no harm. `acknowledge` does it at once. Damaged files are skipped with
        a warning in the log `spool`, and stay. Ends when nothing is left (`follow` False), or
        nothing has come for `timeout` seconds; an outbox that is not there yet is waited for.
        """
        from spool.outbox import Outbox

        return Outbox(self.disk, self.path, parent).events(follow=follow, timeout=timeout)

    def acknowledge(self, event: Event) -> None:
        """Delete the file of an event now; one that is gone already is no error."""
        with suppress(Missing), telling(self.path):  # another reader was faster
            self.disk.remove(f"{layout.OUTBOX}/{event.parent}/{event.name}")

    def status(self) -> dict[str, Any]:
        """What goes on: spool, alive, nodes, counts, oldest, counted_at, complete, pauses, outboxes.

        `nodes`: node name -> its status file, with `alive` added. `counts`: state (pending as
        pending/CLASS) -> number of tasks, counted by names; where there are more than 50,000, as a
        daemon has counted them at `counted_at` (RFC 3339, else None), and where none has, at least
        so many: `complete` is False. `oldest`: id, task and at of what has been due the longest, or None.
        `pauses`: rows, instants in us UTC. `outboxes`: parent -> unread events.
        """
        from spool import daemons, look

        with telling(self.path):
            found = daemons.nodes(self.disk, self.path)
            shape, counted = self._shape(found)
        return {
            "spool": self.path,
            "alive": any(node["alive"] for node in found.values()),
            "nodes": found,
            "counts": {layout.INCOMING: look.incoming(self.disk), **shape["counts"]},
            "oldest": shape["oldest"],
            "counted_at": shape["at"] if counted else None,
            "complete": shape["complete"],
            "pauses": daemons.pauses(self.disk),
            "outboxes": daemons.unread(self.disk),
        }

    def shape(self) -> dict[str, Any]:
        """For how long what waits has been due: at, counts, oldest, bounds, tasks, complete.

        `tasks`: name -> class -> [due later, then a count for each of `bounds` (seconds), older].
        Counted now by names; where there are more than 50,000 of them, as a daemon has counted them
        at `at`, and where none has, `complete` is False and only those that were looked at are told.
        """
        from spool import daemons

        with telling(self.path):
            return self._shape(daemons.nodes(self.disk, self.path))[0]

    def _shape(self, nodes: Iterable[str]) -> tuple[dict[str, Any], bool]:
        """The shape, and whether a daemon has counted it."""
        from spool import daemons, look
        from spool.shape import Shape

        file = daemons.counted(self.disk, nodes)
        if file is not None and sum(file["counts"].values()) > look.MANY:
            return {**file, "complete": True}, True
        found, complete = Shape(_now()), True
        for folder, names in look.batches(self.disk, (layout.PENDING,)):
            found.wait(folder, names)
            complete = sum(found.counts.values()) <= look.MANY
            if not complete:
                break
        if not complete and file is not None:
            return {**file, "complete": True}, True
        others, all_of_them = look.count(self.disk, look.PLACED, limit=look.MANY)
        for state, count in others.items():
            found.count(state, count)
        return {**found.plain(), "complete": complete and all_of_them}, False


_ANYWHERE = {"move": {"priority": "low"}}  # a move must say where to


def _now() -> int:
    return time.time_ns() // 1000
