"""Calls of the C library that `os` has not."""

from __future__ import annotations

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *args: object, path: str | None = None) -> int:
    """What the function returns; where that is negative, OSError with its errno and this path."""
    done: int = getattr(_LIBC, name)(*args)
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return done
