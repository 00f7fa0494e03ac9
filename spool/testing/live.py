"""A throw-away spool with the real daemon on it, for the few tests that want processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

from spool import layout
from spool.client import Spool
from spool.errors import TimedOut
from spool.init import init

PATIENCE = 60.0
LOOK = 0.5  # seconds between looks whether the daemon lives
TOML = """
durability = "relaxed"
[admission]
enabled = false
[handlers."*"]
python = "{module}"
cwd = "{cwd}"
env = {{ PYTHONPATH = "{path}" }}
"""


class Live:
    """`submit`, `wait` and all else of Spool, as `spool`; the daemon serves while this is open."""

    def __init__(self, place: str | os.PathLike[str], module: str, toml: str = "") -> None:
        """Serve the tasks of `module`, imported as the test could; `toml`: another spool.toml."""
        self.path = os.path.join(os.fspath(place), "live")
        init(self.path)
        path = os.pathsep.join(p for p in sys.path if p)
        text = toml or TOML.format(module=module, cwd=os.getcwd(), path=path)
        with open(os.path.join(self.path, layout.SETTINGS), "w") as file:
            file.write(text)
        self.spool = Spool(self.path)
        self._log = os.path.join(os.fspath(place), "spoold.log")
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "spoold", "--spool", self.path],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
            )

    def wait(self, task_id: str, timeout: float = PATIENCE) -> dict[str, Any]:
        """The last record of a task, when it has ended; see Spool.wait.

        AssertionError, with what the daemon has said, where that has ended before.
        """
        end = time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            try:
                return self.spool.wait(task_id, min(left, LOOK))
            except TimedOut:
                if (status := self._process.poll()) is not None:
                    msg = f"spoold has ended with status {status}:\n{self.said()}"
                    raise AssertionError(msg) from None
                if left <= LOOK:
                    raise

    def said(self) -> str:
        """What the daemon has printed."""
        with open(self._log, errors="replace") as log:
            return log.read()

    def close(self) -> None:
        """End the daemon: in order, else at once."""
        self._process.send_signal(signal.SIGTERM)
        end = time.monotonic() + PATIENCE
        try:
            self._process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.spool.close()
