"""Standard input, output and error, where who started the program has closed one of them."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spool.errors import Unprinted

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def telling(done: str) -> Iterator[None]:
    """Print what is done: where that fails it is done all the same. Unprinted."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as problem:
        if problem.filename is not None:
            raise
        raise Unprinted(done, problem.strerror or str(problem)) from None


def settled() -> bool:
    """Whether standard output has taken all that was printed; else the rest goes nowhere."""
    try:
        sys.stdout.flush()
    except OSError:
        give_up()
        return False
    return True


def give_up() -> None:
    """What is printed from now on, and what is left to be printed, goes nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def complete() -> None:
    """Open /dev/null for each that is closed, so that no file gets its number and what was for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            fd = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(fd, True)  # noqa: FBT003
            setattr(sys, name, os.fdopen(fd, mode, encoding="utf-8"))
