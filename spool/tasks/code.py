"""A module as a worker would have it: imported in a process of its own that says what it can run."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NoReturn

from spool.apps import command
from spool.errors import Invalid
from spool.results import named
from spool.tasks import registry
from spool.tasks.outcomes import Cancelled, Snooze

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.apps import App


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
def imported(app: App) -> Iterator[Code]:
    """The module of an application, imported now from where we are; its process is gone afterwards."""
    here, there = Pipe()
    with here:
        with there:
            words = [*command(app.interpreter, __name__), app.module, str(there.fileno())]
            try:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    env=os.environ | dict(app.env),
                    pass_fds=[there.fileno()],
                )
            except OSError as problem:
                rule = f"cannot be started: {problem.strerror}; name the one to use with --interpreter"
                raise Invalid("interpreter", words[0], rule) from None
        try:
            yield Code(app.module, here)
        finally:
            process.kill()
            process.wait()


def main() -> NoReturn:
    """The process: it answers until the command is gone."""
    module, fd = sys.argv[1:]
    line = Connection(int(fd))
    try:
        os.dup2(2, 1)  # what it writes is no answer of ours
        sys.stdout = sys.stderr
        line.send(_import(module))
        while True:
            line.send([_reason(*task) for task in line.recv()])
    except EOFError:
        pass
    finally:
        os._exit(0)


def _import(module: str) -> tuple[frozenset[str], str]:
    """The names of tasks that are there then, and what is wrong."""
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
            task.signature.fits(task.upgraded(args, version))
    except registry.NoCode as problem:
        return str(problem)
    except Invalid as problem:
        return f"{problem.field}: {problem.rule}"
    except (Cancelled, Snooze):
        return ""  # as its upgrade wants
    except BaseException as problem:  # noqa: BLE001 - an upgrade may raise anything
        return f"its upgrade raises {type(problem).__name__}: {problem}"
    return ""
