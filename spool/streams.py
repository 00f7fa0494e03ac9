"""Standard input, output and error, where who started the program has closed one of them."""

from __future__ import annotations

import os
import sys


def complete() -> None:
    """Open /dev/null for each that is closed, so that no file gets its number and what was for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            fd = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(fd, True)  # noqa: FBT003
            setattr(sys, name, os.fdopen(fd, mode, encoding="utf-8"))
