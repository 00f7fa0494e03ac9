"""Calls of the C library that the standard library does not offer."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 15, 36, 38
LIBC = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: object) -> None:
    """Set an attribute of this process."""
    if LIBC.prctl(option, value, 0, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")


def signalfd(number: int) -> int:
    """A signal as a descriptor, one read for any number of them; blocked otherwise from now on."""
    mask = ctypes.create_string_buffer(128)
    LIBC.sigemptyset(mask)
    LIBC.sigaddset(mask, number)
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    fd: int = LIBC.signalfd(-1, mask, os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "signalfd")
    return fd
