"""A spool is made, found, and recognised by its format file."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from spool import layout
from spool.disk import FULL
from spool.errors import Full, NotAllowed, NotASpool, NotMade

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
NOWHERE = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT)


def default_dir(environ: Mapping[str, str]) -> str:
    """$SPOOL_DIR, else the user's own spool: $XDG_STATE_HOME/spool."""
    if environ.get("SPOOL_DIR"):
        return environ["SPOOL_DIR"]
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # as its specification says, it does not count then
        state = os.path.join(environ.get("HOME") or _home(), ".local", "state")
    return os.path.join(state, "spool")


def _home() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/"


def is_own(path: str, environ: Mapping[str, str]) -> bool:
    """Whether this is the user's own spool, which is made on first use."""
    return not environ.get("SPOOL_DIR") and os.path.abspath(path) == os.path.abspath(default_dir(environ))


def init(path: str) -> bool:
    """Make a spool, private to this user, or complete one; False where all of it was there.

    The format file comes last: a directory without it is no spool, whatever else is in it.
    """
    from spool.settings import DEFAULT_TOML

    marker = os.path.join(path, layout.FORMAT)
    complete = os.path.exists(marker)
    if complete:
        check_format(path)
    else:
        refuse_place(path, {*layout.TREE, layout.SETTINGS})
    with making(path):
        make_dir(path)
        for name in layout.TREE:
            make_dir(os.path.join(path, name))
        write_new(os.path.join(path, layout.SETTINGS), DEFAULT_TOML)
        made = write_new(marker, layout.FORMAT_LINE)
        sync_dir(path)
    return made


@contextmanager
def making(path: str) -> Iterator[None]:
    """Full, NotAllowed or NotMade for what the kernel says; that a disk fails is its OSError."""
    try:
        yield
    except OSError as problem:
        if problem.errno in (errno.EEXIST, errno.ENOTDIR):
            raise NotMade(path, "a file is in the way") from None
        if problem.errno in NOWHERE:
            raise NotMade(path, str(problem.strerror)) from None
        if problem.errno not in FULL + DENIED:
            raise
        kind = Full if problem.errno in FULL else NotAllowed
        raise kind(f"cannot make a spool at {path}: {problem.strerror}") from None


def refuse_place(path: str, known: set[str]) -> None:
    """NotASpool where no spool is to be made: in another one, or among files other than `known`."""
    if around := outer(path):
        raise NotASpool(path, f"is in the spool {around}; take a directory outside")
    if os.path.isdir(path) and set(os.listdir(path)) - known:
        raise NotASpool(path, "has other files in it; a spool wants a directory of its own")


def outer(path: str) -> str | None:
    """The spool a path lies in, None where it is in none."""
    place = os.path.realpath(path)
    while place != (place := os.path.dirname(place)):
        with suppress(OSError):  # others may write there
            if re.fullmatch(rb"spool \d+\n", _format(place, os.O_NOFOLLOW)):
                return place
    return None


def _format(path: str, flags: int = 0) -> bytes:
    """What the file `format` says, nothing where it is no file; no FIFO is waited for."""
    fd = os.open(os.path.join(path, layout.FORMAT), os.O_RDONLY | os.O_NONBLOCK | flags)
    try:
        return os.read(fd, 64) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)


def check_format(path: str) -> None:
    """NotASpool where path is none, or one of a format this code does not know."""
    try:
        words = _format(path).decode("ascii", "replace").split()
    except (FileNotFoundError, NotADirectoryError):
        remedy = "name one of these" if ":" in path else f"make one with `spool init {path}`"
        if around := outer(path):
            remedy = f"it is in one: {around}"
        raise NotASpool(path, f"is not a spool; {remedy}") from None
    except PermissionError:
        raise NotAllowed(f"{path} may not be read by uid {os.getuid()}") from None
    if len(words) != 2 or words[0] != "spool" or not words[1].isdigit():
        raise NotASpool(path, f"has a damaged format file; it should read {layout.FORMAT_LINE!r}")
    if int(words[1]) != 1:
        raise NotASpool(path, f"has format {words[1]}, this program knows format 1; upgrade it")


def make_dir(path: str, mode: int = 0o700) -> None:
    """A directory with those above it, of exactly this mode whatever the umask; or what is there."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_dir(os.path.dirname(path), mode)
        os.mkdir(path, mode)
    os.chmod(path, mode)  # the umask may have taken bits of our own


def write_new(path: str, text: str) -> bool:
    """A file for this user alone, synced; False where the name is taken."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except FileExistsError:
        return False
    os.fchmod(fd, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return True


def sync_dir(path: str) -> None:
    """The names in a directory are on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
