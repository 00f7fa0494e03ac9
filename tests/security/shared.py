"""A shared spool with the real daemon under a user of its own, and writers with user ids of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spool import sysinit
from tests.e2e.live import ROOT, Live, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SPOOLD, SUBMIT, READ, SHOP = 60001, 60010, 60011, 60020  # ids that nobody has
ANN, BOB, EVE = 60101, 60102, 60103
PATHS = os.pathsep.join((str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
IMPORTS = (
    "import orjson, watchdog, filelock, psutil, msgspec, spool.client, spoold.daemon, spoold.service"
)


@lru_cache
def python() -> str:
    """A Python that users without rights can start, and that finds the code; empty where there is none."""
    if os.geteuid() != 0:
        return ""
    for program in (sys.executable, f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"):
        try:
            done = subprocess.run(
                [program, "-c", IMPORTS], check=False, capture_output=True, **become(EVE), cwd="/"
            )
        except OSError:
            continue
        if done.returncode == 0:
            return program
    return ""


def become(uid: int, *groups: int) -> dict[str, Any]:
    """Options of Popen: this user, these groups and no other."""
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": PATHS, "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"}
    return {"user": uid, "group": uid, "extra_groups": list(groups), "env": env, "umask": 0o077}


needs_users = pytest.mark.skipif(
    "not __import__('tests.security.shared', fromlist=['python']).python()",
    reason="needs root, to become several users, and a Python that all of them can start",
)


class Shared(Live):
    """A spool made by `spool init --system`, and its daemon."""

    def __init__(self, place: Path, settings: str, writers: Sequence[int] = ()) -> None:
        self.given = settings
        self.writers = writers
        self.groups: tuple[int, ...] = ()  # of spoold
        self.tracer: subprocess.Popen[bytes] | None = None
        super().__init__(place, settings)
        self.errors.touch()

    def make(self) -> None:
        users = sysinit.Users(uid=SPOOLD, gid=SPOOLD, submit=SUBMIT, read=READ)
        sysinit.init_system(str(self.root), users)
        for uid in self.writers:
            sysinit.add_writer(str(self.root), str(uid))
        sysinit.add_outbox(str(self.root), f"shop={SHOP}")
        self.notes.chmod(0o777)

    def settings(self, text: str) -> None:
        super().settings(f"shared = true\n{text}")
        os.chown(self.root / "spool.toml", 0, SPOOLD)
        (self.root / "spool.toml").chmod(0o640)

    def spoold(self, *options: str, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        with self.errors.open("ab") as errors:
            return subprocess.Popen(
                [
                    *before,
                    python(),
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
                **become(SPOOLD, *self.groups),
            )

    def run(self, uid: int, *words: str, groups: Sequence[int] = (SUBMIT,), stdin: str = "") -> Any:
        """A command as a user; its CompletedProcess."""
        return subprocess.run(
            words,
            check=False,
            capture_output=True,
            text=True,
            input=stdin,
            cwd="/",
            **become(uid, *groups),
        )

    def script(self, uid: int, code: str, groups: Sequence[int] = (SUBMIT,)) -> Any:
        """Python as a user, with `root` the spool; its CompletedProcess."""
        return self.run(uid, python(), "-c", f"root = {str(self.root)!r}\n{code}", groups=groups)

    def spool(self, uid: int, *words: str, groups: Sequence[int] = (SUBMIT,)) -> Any:
        """The command spool as a user."""
        return self.run(uid, python(), "-m", "spool", "--spool", str(self.root), *words, groups=groups)

    def submitted(self, uid: int, *words: str, groups: Sequence[int] = (SUBMIT,)) -> str:
        """The id of what a user submits by the command."""
        done = self.spool(uid, "submit", *words, groups=groups)
        assert done.returncode == 0, done.stderr
        return str(done.stdout.strip())

    def handed_in(self, uid: int, name: str, doc: object, *, box: str = "incoming") -> None:
        """A file of a user, dropped as a shell would."""
        data = doc if isinstance(doc, bytes) else json.dumps(doc).encode()
        path = self.root / "tmp" / f".{name}"
        path.write_bytes(data)
        os.chown(path, uid, SPOOLD)
        path.chmod(0o640)
        path.rename(self.root / box / name)

    def start_traced(self, *before: str) -> None:
        """Start the daemon below a tracer; it serves when this returns."""
        self.tracer = self.spoold("-q", before=before)
        until(self.status_now, "spoold serves")

    def close(self) -> None:
        """Away with the tracer, and with what it traces."""
        if self.tracer is not None:
            status = self.status_now()
            if status is not None:
                os.kill(status["pid"], signal.SIGKILL)
            self.tracer.kill()
            self.tracer.wait()
        super().close()

    def stop_traced(self, pid: int) -> None:
        """Stop the daemon, traced or not, and see that it ends in good order."""
        os.kill(pid, signal.SIGTERM)
        process = self.process or self.tracer
        assert process is not None
        assert process.wait(100) == 0
        self.process = self.tracer = None


@pytest.fixture
def made() -> Iterator[Callable[..., Shared]]:
    spools: list[Shared] = []
    with tempfile.TemporaryDirectory() as place:  # pytest closes its own to other users
        Path(place).chmod(0o755)

        def make(settings: str = "", writers: tuple[int, ...] = ()) -> Shared:
            spools.append(Shared(Path(place), settings, writers))
            return spools[-1]

        yield make
        for spool in spools:
            spool.close()
