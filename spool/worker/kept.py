"""What a task keeps: its checkpoint, one file replaced as a whole, and the place of its files."""

from __future__ import annotations

import os
import threading
from typing import Any

import orjson

from spool import layout
from spool.errors import Invalid
from spool.tasks.context import Checkpoints
from spool.worker.ends import has_nan

LIMIT = 1 << 20


class Kept(Checkpoints):
    """The checkpoints and files of a spool."""

    def __init__(self, root: str) -> None:
        self.root = root

    def files(self, task_id: str) -> str:
        """Where the files of a task are."""
        return os.path.join(self.root, layout.files(task_id))

    def read(self, task_id: str) -> Any:
        """What was kept last; None where nothing was, or what is there is damaged."""
        try:
            with open(self._path(task_id), "rb") as file:
                return orjson.loads(file.read(LIMIT + 1))
        except (FileNotFoundError, orjson.JSONDecodeError):
            return None

    def write(self, task_id: str, value: Any) -> None:
        """Keep a value: on disk, file and name, when this returns."""
        try:
            data = orjson.dumps(value)
        except TypeError as problem:
            raise Invalid("checkpoint", None, f"must be JSON: {problem}") from None
        if b"null" in data and has_nan(value):
            raise Invalid("checkpoint", None, "must be JSON: it holds NaN or infinity")
        if len(data) > LIMIT:
            raise Invalid("checkpoint", None, f"must be at most {LIMIT} bytes, not {len(data)}")
        path = self._path(task_id)
        folder = os.path.dirname(path)
        staged = f"{folder}/.{task_id}.{os.getpid()}.{threading.get_ident()}"  # threads keep some as well
        os.makedirs(folder, mode=0o700, exist_ok=True)
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            while data:  # a disk that gets full takes a part, and says so at the next try
                data = data[os.write(fd, data) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(staged, path)
        folder_fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder_fd)
        finally:
            os.close(folder_fd)

    def _path(self, task_id: str) -> str:
        return os.path.join(self.root, layout.checkpoint(task_id))
