"""A handler becomes a process: its program found, its input and output put in place."""

from __future__ import annotations

import ctypes
import errno
import fcntl  # here and not late: without descriptors nothing can be imported
import os
import signal

from . import niceness
from .libc import LIBC
from .proc import SPARE, spare

TYPE_CHECKING = False  # typing takes long to import
if TYPE_CHECKING:
    from typing import NoReturn

    from .orders import StartOrder

SETSIGDEF, SETSIGMASK, SETSID = 4, 8, 0x80
STRUCT = 1024  # bytes: more than any of the C library's
MFD_CLOEXEC, MFD_NOEXEC_SEAL = 1, 8
# signal.valid_signals() says the same, ten times as slowly
EVERY_SIGNAL = {*range(1, 32), *range(signal.SIGRTMIN, signal.NSIG)} - {signal.SIGKILL, signal.SIGSTOP}


def spawn(order: StartOrder) -> tuple[int, int]:
    """Start it: its process id and the reading end of its output. An error leaves only `input` open."""
    reader, writer, source = prepare(order)
    order.streams = None
    try:
        if order.cwd is not None:
            os.chdir(order.cwd)
        program = _program(order.argv[0], order.env)
        start = _forked if order.niceness else _spawned
        pid = start(program, order, source, writer)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
        if source != order.input:
            os.close(source)
        if order.cwd is not None:
            os.chdir("/")
    return pid, reader


def prepare(order: StartOrder, least: int = SPARE) -> tuple[int, int, int]:
    """The two ends of its output and what it reads. They are the order's until it is started.

    OSError where fewer descriptors than `least` would be left.
    """
    if order.streams is None:
        reader, writer = made = list(os.pipe())
        try:
            os.set_blocking(reader, False)
            source = order.input
            if source is None:
                source = _stdin(order.stdin.encode("utf-8", "surrogateescape"))
                made.append(source)
            spare(max(reader, writer, source), least)
        except BaseException:
            for fd in made:
                os.close(fd)
            raise
        order.streams = reader, writer, source
    return order.streams


def _spawned(program: str, order: StartOrder, source: int, writer: int) -> int:
    """The quick way, by the C library.

    os.posix_spawn would keep the other thread from running until the program has begun, which may be on
    a file server that is away.
    """
    pid, actions = ctypes.c_int(), ctypes.create_string_buffer(STRUCT)
    argv, env = _words(order.argv), _words([f"{name}={value}" for name, value in order.env.items()])
    _must(LIBC.posix_spawn_file_actions_init(actions))
    try:
        for number, fd in enumerate((source, writer, writer)):
            _must(LIBC.posix_spawn_file_actions_adddup2(actions, fd, number))
        name = _words([program])[0]
        _must(LIBC.posix_spawn(ctypes.byref(pid), name, actions, ATTRIBUTES, argv, env), program)
    finally:
        LIBC.posix_spawn_file_actions_destroy(actions)
    return pid.value


def _must(code: int, name: str | None = None) -> None:
    """These functions return what went wrong."""
    if code:
        raise OSError(code, os.strerror(code), name)


def _words(words: list[str]) -> ctypes.Array[ctypes.c_char_p]:
    """As C has them."""
    found = "\0".join(words).encode("utf-8", "surrogateescape").split(b"\0") if words else []
    if len(found) != len(words):
        raise ValueError("embedded null byte")
    return (ctypes.c_char_p * (len(found) + 1))(*found)


def _attributes() -> ctypes.Array[ctypes.c_char]:
    """A session of its own, no signal blocked or ignored."""
    found, signals = ctypes.create_string_buffer(STRUCT), ctypes.create_string_buffer(128)
    _must(LIBC.posix_spawnattr_init(found))
    _must(LIBC.posix_spawnattr_setflags(found, ctypes.c_short(SETSIGDEF | SETSIGMASK | SETSID)))
    LIBC.sigemptyset(signals)
    _must(LIBC.posix_spawnattr_setsigmask(found, signals))
    for number in EVERY_SIGNAL:
        LIBC.sigaddset(signals, number)
    _must(LIBC.posix_spawnattr_setsigdefault(found, signals))
    return found


ATTRIBUTES = _attributes()


def _forked(program: str, order: StartOrder, source: int, writer: int) -> int:
    """The way that leaves a moment to set limits; the keeper is small, and its other thread waits."""
    reader, told = os.pipe()  # its other end goes with the exec
    try:
        pid = os.fork()  # noqa: TID251 - posix_spawn knows no limits
        if not pid:
            _become(program, order, (source, writer, writer), told)
    finally:
        os.close(told)
    try:
        problem = os.read(reader, 4096)
    finally:
        os.close(reader)
    if problem:
        os.waitpid(pid, 0)
        code, _, words = problem.decode("utf-8", "backslashreplace").partition(" ")
        if code == "0":
            raise ValueError(words)
        if int(code) in (errno.EAGAIN, errno.ENOMEM):  # by the limits it was given, not by the machine
            raise ValueError(f"{words}: {os.strerror(int(code))}")
        raise OSError(int(code), os.strerror(int(code)), words)
    return pid


def _become(program: str, order: StartOrder, streams: tuple[int, ...], told: int) -> NoReturn:
    """In the child: never returns."""
    try:
        os.setsid()
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        for number in EVERY_SIGNAL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        niceness.apply(order.niceness)
        os.execve(program, order.argv, order.env)  # noqa: S606
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else program
        os.write(told, f"{error.errno} {name}".encode("utf-8", "backslashreplace"))
    except MemoryError:
        os.write(told, b"%d memory" % errno.ENOMEM)
    except BaseException as error:  # noqa: BLE001 - a NUL, a lone surrogate; or a bug of ours
        os.write(told, f"0 {error}".encode("utf-8", "backslashreplace"))
    finally:
        os._exit(127)


def _stdin(data: bytes) -> int:
    """A file descriptor that reads as these bytes: a memfd, which takes any size at once."""
    for flags in (MFD_CLOEXEC | MFD_NOEXEC_SEAL, MFD_CLOEXEC):  # the first from Linux 6.3
        try:
            fd = os.memfd_create("stdin", flags)
        except (OSError, AttributeError):
            continue
        try:
            written = os.pwrite(fd, data, 0)  # the offset stays 0
        except BaseException:
            os.close(fd)
            raise
        if written < len(data):  # a limit on the size of files
            os.close(fd)
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), "stdin")
        return fd
    return _piped(data)


def _piped(data: bytes) -> int:
    """The same where memfds are forbidden; up to /proc/sys/fs/pipe-max-size, by default 1 MiB."""
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, max(len(data), 4096))
        os.write(writer, data)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    return reader


def _program(name: str, env: dict[str, str]) -> str:
    """Where a program is: a name without a slash is looked up on the PATH of the task."""
    if "/" in name or not name:
        return name
    code = errno.ENOENT
    for folder in env.get("PATH", os.defpath).split(":"):
        path = os.path.join(folder or ".", name)
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            code = errno.EACCES
    raise OSError(code, f"{os.strerror(code)} on PATH", name)


def why(error: Exception) -> str:
    """The error of a start in words."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    text = f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    if error.errno == errno.ENOEXEC:
        text += " (a script needs a first line such as #!/bin/sh)"
    if error.errno == errno.ENOENT and error.filename and os.path.isfile(error.filename):
        text += " (the file is there: its interpreter is not)"
    return text
