"""A module as a worker would have it: imported in a process of its own that says what it can run."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from contextlib import contextmanager
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any, NoReturn

from spool.errors import Invalid
from spool.results import named
from spool.tasks import registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection


class Code:
    """What one module can run, with all that importing it brings in.

    Raises Invalid where it cannot be imported, or ends its process.
    """

    def __init__(self, module: str, line: Connection) -> None:
        self.module = module
        self._line = line
        names, problem = self._heard("cannot be imported: it ends its process")
        if problem:
            raise Invalid("module", module, problem)
        self.names: frozenset[str] = names

    def reasons(self, tasks: list[tuple[str, Any, Any]]) -> list[str]:
        """Why it cannot run each of these (name, version, args); empty where it can."""
        self._line.send(tasks)
        names = ", ".join(sorted({name for name, *_ in tasks}))
        found: list[str] = self._heard(f"ends its process in an upgrade of {names}")
        return found

    def _heard(self, otherwise: str) -> Any:
        try:
            return self._line.recv()
        except (EOFError, ConnectionError):
            raise Invalid("module", self.module, otherwise) from None


@contextmanager
def imported(module: str) -> Iterator[Code]:
    """The module, imported now from where we are; its process is gone afterwards."""
    here, there = Pipe()
    pid = os.fork()  # noqa: TID251 - of a small command; what one imports, the next must not see
    if pid == 0:
        _answer(module, there)
    there.close()
    try:
        with here:
            yield Code(module, here)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _answer(module: str, line: Connection) -> NoReturn:
    try:
        # The ends of others as well: each process sees when the command is gone.
        os.closerange(3, line.fileno())
        os.closerange(line.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        os.dup2(2, 1)  # what it writes is no answer of ours
        sys.stdout = sys.stderr
        line.send(_import(module))
        while True:
            line.send([_reason(*task) for task in line.recv()])
    finally:
        os._exit(0)


def _import(module: str) -> tuple[frozenset[str], str]:
    """The names of tasks that are there then, and what is wrong."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    try:
        importlib.import_module(module)
        for task in registry.REGISTRY.values():
            task.signature.compiled()
    except Invalid as problem:
        return frozenset(), str(problem)
    except BaseException as problem:  # noqa: BLE001 - a module may raise anything
        return frozenset(), f"cannot be imported: {type(problem).__name__}: {problem}"
    return frozenset(registry.REGISTRY), ""


def _reason(name: str, version: Any, args: Any) -> str:
    try:
        task = registry.find(name, version)
        if not named(args):  # what a result will be is not known yet
            task.signature.unpack(task.upgraded(args, version))
    except registry.NoCode as problem:
        return str(problem)
    except Invalid as problem:
        return f"{problem.field}: {problem.rule}"
    except BaseException as problem:  # noqa: BLE001 - an upgrade may raise anything
        return f"its upgrade raises {type(problem).__name__}: {problem}"
    return ""
