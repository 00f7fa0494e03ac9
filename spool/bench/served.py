"""A spool with the real daemon on it, to be measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import spool
from spool.client import Spool
from spool.errors import SpoolError
from spool.init import init
from spool.names import new_id

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(spool.__file__).resolve().parents[1]
PATIENCE = 60.0
TOML = """\
durability = "{durability}"
outbox_limit = 1000000
admission.enabled = false
[handlers."stamp"]
exec = {stamp}
[handlers."noop"]
exec = ["/bin/true"]
[handlers."sleep"]
exec = ["/bin/sh", "-c", "echo $$ > $SPOOL_DIR/.pids; exec sleep 600"]
[handlers."ask"]
notify = "asked"
timeout = "10m"
"""
NODE = "bench"
LEAVE = (signal.SIGTERM, signal.SIGHUP)


class NoDaemon(SpoolError):
    """The daemon of a spool that is measured has not come up."""


class Stamp:
    """A handler that tells when it starts; a small C program, or a shell where there is no compiler."""

    def __init__(self, place: Path) -> None:
        self.fifo = place / "stamp.fifo"
        program, source = place / "stamp", Path(__file__).parent / "stamp.c"
        os.mkfifo(self.fifo)
        self.fd = os.open(self.fifo, os.O_RDWR)
        self.exact = any(self._compile(source, program, how) for how in (["-static"], []))
        self.argv = [str(program), str(self.fifo)]
        if not self.exact:
            self.argv = ["/bin/sh", "-c", 'echo > "$1"', "sh", str(self.fifo)]

    @staticmethod
    def _compile(source: Path, program: Path, how: list[str]) -> bool:
        command = ["cc", "-O2", *how, "-o", str(program), str(source)]
        try:
            return not subprocess.run(command, capture_output=True, check=False).returncode
        except FileNotFoundError:
            return False

    def read(self) -> int:
        """Wait for the next start; its monotonic ns."""
        line = os.read(self.fd, 64)
        return int(line) if self.exact else time.monotonic_ns()

    def close(self) -> None:
        """Let go of it; its files stay."""
        os.close(self.fd)
        self.fifo.unlink()

    @property
    def words(self) -> str:
        """How it measures."""
        return "a C program, by its own clock" if self.exact else "a shell, when its byte arrives"


class Served:
    """One spool, one daemon."""

    def __init__(self, place: Path, durability: str, stamp: Stamp) -> None:
        self.root = place
        init(str(place))
        settings = TOML.format(durability=durability, stamp=json.dumps(stamp.argv))
        (place / "spool.toml").write_text(settings)
        self.durability = durability
        for parent in ("default", "asked"):
            (place / "outbox" / parent).mkdir(mode=0o700)
        self.spool = Spool(place)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon; it serves when this returns."""
        self.process = self.popen()
        status = self.root / "nodes" / f"{NODE}.json"
        end = time.monotonic() + PATIENCE
        while not status.exists() or json.loads(status.read_bytes())["pid"] != self.process.pid:
            if self.process.poll() is not None or time.monotonic() > end:
                raise NoDaemon(f"{self.root}: spoold does not serve")
            time.sleep(0.01)

    def popen(self) -> subprocess.Popen[bytes]:
        """The daemon, just started."""
        signal.pthread_sigmask(signal.SIG_BLOCK, LEAVE)  # whom it ends meanwhile knows of the daemon
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "spoold", "-q", "--spool", str(self.root), "--node", NODE],
                stdin=subprocess.DEVNULL,
                cwd="/",
                env=as_installed(os.environ),
                preexec_fn=_unblock,  # noqa: PLW1509 - one thread
            )
        finally:
            _unblock()
        return self.process

    def stop(self) -> None:
        """End the daemon in order."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            finally:
                self.process.kill()
            self.process = None

    def drop(self, doc: dict[str, Any]) -> int:
        """An action by hand, as any language does it; the monotonic ns right before its rename."""
        name = f"{new_id()}.json"
        staged, target = self.root / "tmp" / f".{name}", self.root / "incoming" / name
        staged.write_text(json.dumps(doc))
        source, goal = os.fspath(staged), os.fspath(target)
        begun = time.monotonic_ns()
        os.rename(source, goal)
        return begun

    def cpu(self) -> float:
        """CPU seconds of the daemon and all below it until now."""
        if self.process is None:
            return 0.0
        return sum(map(cpu_of, _tree(self.process.pid)))


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEAVE)


def as_installed(environ: Mapping[str, str]) -> dict[str, str]:
    """With this very spool, whose modules are compiled once."""
    kept = {name: value for name, value in environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT)}


def cpu_of(pid: int) -> float:
    """CPU seconds of a process, all its threads, until now."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        total += int(path.read_text().split()[0])
    return total / 1e9


def _tree(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found
