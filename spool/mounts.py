"""What kind of file system a path is on, from /proc/self/mountinfo."""

from __future__ import annotations

import os
import re

from msgspec import Struct

MOUNTINFO = "/proc/self/mountinfo"
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "afs", "ncpfs")
ANY = "fuse"  # of a program that does not say which it is: it may be one of a network
IN_MEMORY = ("tmpfs", "ramfs")
_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(Struct, frozen=True):
    """One mount: where, its type (fuse.sshfs, nfs4, ext4 ...), its options, the device or server."""

    place: str
    type: str
    options: frozenset[str]
    source: str = ""

    @property
    def network(self) -> bool:
        """Whether other hosts may change it without inotify saying so here."""
        return self.type in (*NETWORK, ANY) or self.type.startswith("fuse.")

    @property
    def in_memory(self) -> bool:
        """Whether a power cut or a reboot takes all of it."""
        return self.type in IN_MEMORY


def mount_of(path: str, *, mountinfo: str = MOUNTINFO) -> Mount | None:
    """The mount a path is on; None where the kernel does not say."""
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
            mounts = [m for m in map(_parse, file) if m is not None]
    except OSError:
        return None
    real = os.path.realpath(path)
    over = [m for m in mounts if m.place == "/" or f"{real}/".startswith(f"{m.place}/")]
    # Of several on one place, the last mounted hides the others.
    return max(reversed(over), key=lambda m: len(m.place), default=None)


def is_network(path: str) -> bool:
    """Whether a path is on a network file system: False where the kernel does not say."""
    mount = mount_of(path)
    return mount is not None and mount.network


def _parse(line: str) -> Mount | None:
    """One line of proc_pid_mountinfo(5): ... ROOT PLACE OPTIONS [TAGS] - TYPE SOURCE OPTIONS."""
    before, dash, after = line.partition(" - ")
    first, last = before.split(" "), after.split()
    if not dash or len(first) < 6 or len(last) < 2:
        return None
    options = frozenset((*first[5].split(","), *(last[2].split(",") if len(last) > 2 else ())))
    place = _OCTAL.sub(lambda m: chr(int(m[1], 8)), first[4])
    return Mount(place, last[0], options, last[1])
