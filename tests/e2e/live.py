"""A spool with the real daemon on it, driven and watched through its files alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from spool import layout, mounts
from spool.init import init
from spool.look import entry_at
from spool.names import BadName, Entry, new_id, parse_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
PATIENCE = 30.0  # seconds; a deadline for what takes milliseconds on an idle machine
TICK = 0.02  # seconds; files are dated by a clock that ticks every 1 to 10 ms
ENDED = ("done", "failed", "cancelled")


def until(look: Callable[[], T | None], what: str, within: float = PATIENCE) -> T:
    """What `look` finds, as soon as it finds something; fails with `what` when it never does."""
    end = time.monotonic() + within
    pause = 0.001
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)


def needs_log(root: Path) -> None:
    """Skip the test where a spool here has no redo log."""
    mount = mounts.mount_of(str(root))
    if mount is None or mount.in_memory:
        pytest.skip("a spool in memory has no redo log")


def toml(value: object) -> str:
    """A value as TOML writes it: JSON but for tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


def handler(name: str, script: str | None = None, **more: Any) -> str:
    """The lines of spool.toml that bind a shell script (or what `more` says) to a task name."""
    if script is not None:
        more["exec"] = ["/bin/sh", "-c", script]
    lines = [f"{key} = {toml(value)}" for key, value in more.items()]
    return "\n".join([f'[handlers."{name}"]', *lines, ""])


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not reaped yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


class Live:
    """One spool, its daemon, and a directory beside it that handlers may write to."""

    def __init__(self, place: Path, settings: str = "") -> None:
        self.place = place
        self.root = place / "spool"
        self.notes = place / "notes"
        self.notes.mkdir()
        self.errors = place / "spoold.err"
        self.node = "here"
        self.make()
        self.settings(settings)
        self.process: subprocess.Popen[bytes] | None = None
        self.expect_trouble = False
        self._dropped = 0

    def make(self) -> None:
        """Make the spool."""
        init(str(self.root))

    # The daemon.

    def settings(self, text: str) -> None:
        """Replace spool.toml, as an editor does; what the machine is busy with does not matter."""
        if "admission" not in text:
            text += "\n[admission]\nenabled = false\n"
        new = self.root / ".toml.new"
        new.write_text(text.replace("$NOTES", str(self.notes)))
        new.chmod(0o600)
        new.replace(self.root / layout.SETTINGS)

    def spoold(self, *options: str, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """A daemon on this spool, run by what `before` says; nobody waits for it here."""
        with self.errors.open("ab") as errors:
            return subprocess.Popen(
                [
                    *before,
                    sys.executable,
                    "-m",
                    "spoold",
                    "--spool",
                    str(self.root),
                    "--node",
                    self.node,
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                cwd="/",
                env={**os.environ, "PYTHONPATH": str(ROOT), "SECRET_OF_THE_CALLER": "hidden"},
            )

    def start(self, *options: str) -> Live:
        """Start the daemon; it serves when this returns."""
        self.process = self.spoold(*options)
        process, pid = self.process, self.process.pid

        def serves() -> bool:
            assert process.poll() is None, f"spoold ended with {process.poll()}: {self.says()}"
            status = self.status_now()
            return status is not None and status["pid"] == pid

        until(serves, "spoold serves")
        return self

    def once(self, *options: str) -> int:
        """Run a daemon to its own end; returns its exit status."""
        process = self.spoold(*options)
        try:
            return process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()

    def says(self) -> str:
        """What the daemon has written to standard error."""
        return self.errors.read_text(errors="replace") if self.errors.exists() else ""

    def signal(self, number: int) -> None:
        """Send the daemon a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait_exit(self, within: float = PATIENCE) -> int:
        """Wait for the daemon to end."""
        assert self.process is not None
        status = self.process.wait(within)
        self.process = None
        return status

    def kill9(self) -> None:
        """Kill the daemon at whatever instruction it is."""
        self.signal(signal.SIGKILL)
        self.wait_exit()

    def stop(self) -> int:
        """TERM, and wait for the orderly end."""
        self.signal(signal.SIGTERM)
        return self.wait_exit()

    def close(self) -> None:
        """End whatever is left, then look whether the spool is whole."""
        if self.process is not None:
            status = self.process.poll()
            self.kill9()
            assert status is None, f"spoold ended by itself with {status}: {self.says()}"
        if not self.expect_trouble:
            assert "Traceback" not in self.says(), self.says()
        self.check_places()

    def check_places(self) -> None:
        """Every task that was taken in stands in exactly one place."""
        places: dict[str, list[str]] = {}
        for path, entry in self.entries():
            places.setdefault(entry.id, []).append(path)
        twice = {task_id: paths for task_id, paths in places.items() if len(paths) != 1}
        assert not twice, f"in two places: {twice}"

    def command(self, *words: str, check: bool = True) -> str:
        """What `spool ...` prints; `check`: and that it exits with 0."""
        env = {**os.environ, "PYTHONPATH": str(ROOT), "SPOOL_DIR": str(self.root)}
        argv = [sys.executable, "-m", "spool", *words]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=check, timeout=60)
        return done.stdout

    # Dropping.

    def put(self, name: str, data: bytes) -> Path:
        """A file under a name of its own: temp and rename."""
        staged = self.root / layout.TMP / name
        staged.write_bytes(data)
        target = self.root / layout.INCOMING / name
        staged.rename(target)
        return target

    def drop(self, doc: object, name: str | None = None) -> str:
        """An action; returns the name of its file."""
        self._dropped += 1
        name = name or f"drop-{self._dropped:06d}.json"
        self.put(name, doc if isinstance(doc, bytes) else json.dumps(doc).encode())
        return name

    def submit(self, task: str, **fields: Any) -> str:
        """One task with an id of our own."""
        task_id: str = fields.setdefault("id", new_id())
        self.drop({"task": task, **fields})
        return task_id

    def submit_all(self, bodies: list[dict[str, Any]]) -> list[str]:
        """Many tasks in one file: all or none."""
        ids = [body.setdefault("id", new_id()) for body in bodies]
        self.drop({"tasks": bodies})
        return ids

    def verb(self, kind: str, *ids: str, **fields: Any) -> str:
        """An action on tasks that are there."""
        return self.drop({"action": kind, "ids": list(ids), **fields})

    def taken(self, name: str) -> None:
        """Wait until a dropped file is gone: carried out or refused."""
        path = self.root / layout.INCOMING / name
        until(lambda: not path.exists(), f"{name} is taken in")

    def do(self, doc: object) -> None:
        """Drop an action and wait until it is carried out; it must not be refused."""
        name = self.drop(doc)
        self.taken(name)
        assert self.refusal_now(name) is None, self.refusal_now(name)

    # Looking.

    def paths(self, *states: str) -> Iterator[str]:
        """Every file in the directories of these states, dot names left out."""
        for state in states or layout.STATES:
            for folder, _, names in os.walk(self.root / state):
                for name in names:
                    if not name.startswith("."):
                        yield f"{os.path.relpath(folder, self.root)}/{name}"

    def entries(self, *states: str) -> Iterator[tuple[str, Entry]]:
        """(path, entry) of what stands in these states; a name that is none fails the test."""
        for path in self.paths(*states):
            try:
                yield path, entry_at(path)
            except BadName as problem:
                raise AssertionError(f"{path}: {problem}") from None

    def where(self, task_id: str) -> tuple[str, Entry] | None:
        """The state and entry of a task now; a rename under way can hide it for a moment."""
        for path in self.paths():
            if task_id in path:
                return path.partition("/")[0], entry_at(path)
        return None

    def entry(
        self,
        task_id: str,
        *states: str,
        where: Callable[[Entry], bool] = lambda _: True,
        within: float = PATIENCE,
    ) -> Entry:
        """Wait until a task stands in one of these states (and its entry is as asked)."""

        def look() -> Entry | None:
            found = self.where(task_id)
            return found[1] if found and found[0] in states and where(found[1]) else None

        return until(look, f"{task_id} is {' or '.join(states)}, not {self.where(task_id)}", within)

    def count(self, *states: str) -> int:
        """How many entries stand in these states now."""
        return sum(1 for _ in self.paths(*states))

    def wait_count(self, number: int, *states: str, within: float = PATIENCE) -> None:
        """Wait until that many entries stand in these states."""
        until(lambda: self.count(*states) == number, f"{number} in {states}", within)

    def events(
        self, parent: str = "default", event: str | None = None, task_id: str | None = None
    ) -> list[Path]:
        """The unread events of a parent, oldest first."""
        try:
            names = sorted(os.listdir(self.root / layout.OUTBOX / parent))
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            parts = parse_event(name)
            assert parts is not None, f"{name} is no name of an event"
            if event in (None, parts[3]) and task_id in (None, parts[1]):
                found.append(self.root / layout.OUTBOX / parent / name)
        return found

    def event(
        self,
        event: str,
        task_id: str | None = None,
        parent: str = "default",
        *,
        within: float = PATIENCE,
        take: bool = True,
    ) -> dict[str, Any]:
        """Wait for an event, read it and (with `take`) acknowledge it by deleting its file."""

        def look() -> Path | None:
            found = self.events(parent, event, task_id)
            return found[0] if found else None

        path = until(look, f"{event} of {task_id} for {parent}", within)
        content: dict[str, Any] = json.loads(path.read_bytes())
        assert content["event"] == event
        if take:
            path.unlink()
        return content

    def end(self, task_id: str, parent: str = "default", *, within: float = PATIENCE) -> dict[str, Any]:
        """Wait for the end of a task, whichever; the terminal event."""

        def look() -> Path | None:
            found = [p for e in ENDED for p in self.events(parent, e, task_id)]
            return found[0] if found else None

        found: dict[str, Any] = json.loads(until(look, f"{task_id} ends", within).read_bytes())
        return found

    def refusal_now(self, name: str) -> dict[str, Any] | None:
        """Why a file was refused, None where it was not."""
        for path in self.reasons():
            if not (data := path.read_bytes()).endswith(b"\n"):
                continue  # being written: unlike an event, a reason is not announced
            reason: dict[str, Any] = json.loads(data)
            if reason.get("name") == name:
                return reason
        return None

    def refusal(self, name: str, within: float = PATIENCE) -> dict[str, Any]:
        """Wait until a file is refused, its event told; the reason."""
        return until(lambda: self.refusal_now(name), f"{name} is refused", within)

    def reasons(self) -> list[Path]:
        """The reason files of what was refused."""
        return sorted((self.root / layout.REJECTED).glob("*/*.reason.json"))

    def records(self, task_id: str) -> list[dict[str, Any]]:
        """The attempt records of a task, oldest first."""
        found = [
            json.loads(p.read_bytes()) for p in (self.root / layout.ATTEMPTS).glob(f"*/{task_id}.*.json")
        ]
        return sorted(found, key=lambda record: record["attempt"])

    def log(self, task_id: str, attempt: int = 1) -> bytes:
        """What an attempt printed."""
        return (self.root / layout.log(task_id, attempt)).read_bytes()

    def journal(self, event: str | None = None) -> list[dict[str, Any]]:
        """The lines of the journal, oldest first; one that a kill cut off is none."""
        lines = [
            line
            for p in sorted((self.root / "journal").glob("*/*.jsonl"))
            for line in p.read_text().splitlines()
        ]
        found = [json.loads(line) for line in lines if line.endswith("}")]
        return [line for line in found if event in (None, line["event"])]

    def status_now(self) -> dict[str, Any] | None:
        """The status file, None where there is none yet."""
        try:
            found: dict[str, Any] = json.loads((self.root / layout.status(self.node)).read_bytes())
        except FileNotFoundError:
            return None
        return found

    def status(
        self, good: Callable[[dict[str, Any]], Any], what: str, within: float = PATIENCE
    ) -> dict[str, Any]:
        """Wait for a status file that is as asked."""

        def look() -> dict[str, Any] | None:
            found = self.status_now()
            return found if found is not None and good(found) else None

        return until(look, what, within)

    # What handlers noted.

    def note(self, name: str, within: float = PATIENCE) -> str:
        """Wait for a file that a handler writes in one go; its text without the newline."""

        def look() -> str | None:
            try:
                text = (self.notes / name).read_text()
            except FileNotFoundError:
                return None
            return text.rstrip("\n") if text.endswith("\n") else None

        return until(look, f"a handler wrote {name}", within)

    def lines(self, name: str) -> list[str]:
        """The lines handlers have appended to a file until now."""
        path = self.notes / name
        return path.read_text().splitlines() if path.exists() else []

    def wait_lines(self, name: str, number: int, within: float = PATIENCE) -> list[str]:
        """Wait until handlers have appended that many lines."""

        def look() -> list[str] | None:
            found = self.lines(name)
            return found if len(found) >= number else None

        return until(look, f"{number} lines in {name}, there are {self.lines(name)[-3:]}", within)
