"""A POSIX disk in memory: inodes, hard links, a model clock, and power cuts.

What a power cut leaves is the durable world plus some of what was not synced yet:

- Each namespace operation (create, link, rename, unlink, mkdir, rmdir) is atomic and stands in a log
  until it is durable. fsync of a directory makes durable every earlier operation that touches it,
  and whatever those build on: earlier operations on the same names.
- A rename touches both its directories: syncing either persists it whole, as journalling file
  systems do. It is never half done; a file is never in neither place because of it. For the same
  reason a rename into a directory that is gone itself is void: the file is where it was.
- fsync of a directory says nothing of the directory's own name in the one above it (what was linked
  or made there goes with it), and fsync of a file nothing of its name. That is stricter than ext4 and xfs, and what POSIX promises.
- Of the operations that are not durable any subset may survive (`cut` picks it from the seed): none,
  all, a prefix (what an ordered journal leaves), or an arbitrary choice, in which an operation
  whose precondition is gone is void (btrfs with its log tree comes near to that).
- Data that is not synced is whole, gone, cut at any byte, or a tail of zeroes.

Not modelled: a rename that leaves the file under both names (no journalling file system does that),
garbage of other files in unsynced data, and fsync that lies.

Inode numbers are used again at once, as real file systems do.
"""

from __future__ import annotations

import errno
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from zlib import crc32

from spool.disk import DiskFull, Exists, Free, Info, Missing, NotRegular, TooLarge, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from random import Random

ROOT = 0
LOG_LIMIT = 2000  # un-synced operations the model's kernel keeps back; older ones are written
Slot = tuple[int, str]  # directory, name


@dataclass(slots=True)
class Node:
    """An inode. `key` is never used twice, `ino` is what lstat shows. `safe` bytes are synced."""

    key: int
    ino: int
    mode: int
    uid: int
    ctime: int
    nlink: int = 0
    data: bytearray = field(default_factory=bytearray)
    safe: int = 0
    children: dict[str, int] | None = None
    changes: int = 0  # of the names in it


@dataclass(slots=True, eq=False)
class Op:
    """One namespace operation: `node` leaves the slot `out`, comes into the slot `into`, or both.

    `ctime` is what the inode had before: where the operation is lost, its time is lost with it.
    """

    node: int
    ctime: int
    out: Slot | None = None
    into: Slot | None = None
    slots: tuple[Slot, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.slots = tuple(s for s in (self.out, self.into) if s is not None)


class ModelDisk:
    """spool.disk.Disk over dicts; `clock` gives ctimes in us."""

    def __init__(self, clock: Callable[[], int], uid: int = 1000) -> None:
        self.clock = clock
        self.uid = uid
        self.room = Free(1 << 40, 1 << 30)
        self.changes = 0  # how often a name came, went or moved
        self.log: list[Op] = []
        self.synced: set[Op] = set()  # of these, the renames that wait for their directory
        self.above: dict[int, Slot] = {}  # where each directory was made
        self.nodes: dict[int, Node] = {}
        self._next = ROOT
        self._inos: list[int] = []
        self._dirs: dict[str, Node] = {}
        self.root = self._new(stat.S_IFDIR | 0o700)
        self.root.nlink = 1
        self.durable: dict[int, dict[str, int]] = {ROOT: {}}
        self.rotten: set[int] = set()  # inodes whose blocks cannot be read

    # The verbs.

    def names(self, path: str) -> list[str]:
        if self._dir(path)[0] in self.rotten:
            raise Unreadable(errno.EUCLEAN, "cannot be read", path)
        return sorted(self._dir(path)[1], key=_hash)  # no order anybody could rely on

    def slices(self, path: str, size: int) -> Iterator[list[str]]:
        try:
            names = self.names(path)
        except Missing:
            return
        for start in range(0, len(names), size):
            yield names[start : start + size]

    def read(self, path: str, limit: int, start: int = 0) -> bytes:
        node = self._file(path)
        if not stat.S_ISREG(node.mode):
            raise NotRegular(errno.EINVAL, "not a regular file", path)
        if not node.mode & 0o444:
            raise PermissionError(errno.EACCES, "may not be read", path)
        if len(node.data) - start > limit:
            raise TooLarge(errno.EFBIG, f"more than {limit} bytes", path)
        if node.key in self.rotten:
            raise Unreadable(errno.EIO, "cannot be read", path)
        return bytes(node.data[start:])

    def write(self, path: str, data: bytes, *, private: bool = False) -> None:
        self._create(path, stat.S_IFREG | 0o600).data += data

    def append(self, path: str, data: bytes) -> None:
        try:
            node = self._file(path)
        except Missing:
            node = self._create(path, stat.S_IFREG | 0o600)
        if node.children is not None:
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        node.data += data
        node.ctime = self.clock()

    def move(self, source: str, target: str) -> None:
        (old, names), name = self._split(source)
        (new, others), other = self._split(target)
        key = names.get(name)
        if key is None:
            raise Missing(errno.ENOENT, "no such file", source)
        node = self.nodes[key]
        taken = others.get(other)
        if taken == key:
            return  # two names of one file: rename(2) does nothing
        if taken is not None and self.nodes[taken].children is not None:
            raise IsADirectoryError(errno.EISDIR, "is a directory", target)
        del names[name]
        if taken is not None:
            self._unlinked(self.nodes[taken])
        others[other] = key
        before, node.ctime = node.ctime, self.clock()
        if node.children is not None:
            self._dirs.clear()
            self.above[key] = new, other
        self._note(Op(key, before, (old, name), (new, other)))

    def link(self, source: str, target: str) -> None:
        node = self._file(source)
        (parent, names), name = self._split(target)
        if name in names:
            raise Exists(errno.EEXIST, "the name is taken", target)
        if node.children is not None:
            raise PermissionError(errno.EPERM, "is a directory", source)
        names[name] = node.key
        node.nlink += 1
        before, node.ctime = node.ctime, self.clock()
        self._note(Op(node.key, before, None, (parent, name)))

    def remove(self, path: str) -> None:
        (parent, names), name = self._split(path)
        key = names.get(name)
        if key is None:
            raise Missing(errno.ENOENT, "no such file", path)
        if self.nodes[key].children is not None:
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        del names[name]
        before = self.nodes[key].ctime
        self._unlinked(self.nodes[key])
        self._note(Op(key, before, (parent, name)))

    def make_dir(self, path: str) -> None:
        above = path.rpartition("/")[0]
        if above:
            self.make_dir(above)
        (_, names), name = self._split(path)
        if name not in names:
            self._create(path, stat.S_IFDIR | 0o700)

    def remove_dir(self, path: str) -> bool:
        try:
            node, names = self._dir(path)
        except (Missing, NotADirectoryError):
            return False
        if names:
            return False
        (parent, beside), name = self._split(path)
        del beside[name]
        self._unlinked(self.nodes[node])
        self._dirs.clear()
        self._note(Op(node, self.nodes[node].ctime, (parent, name)))
        return True

    def info(self, path: str) -> Info | None:
        try:
            node = self._file(path)
        except (Missing, NotADirectoryError):
            return None
        return Info(len(node.data), node.nlink, node.ctime, node.ino, node.uid, node.mode)

    def stamp(self, path: str) -> int | None:
        try:
            return self.nodes[self._dir(path)[0]].changes
        except (Missing, NotADirectoryError):
            return None

    def sync(self, paths: Iterable[str], dirs: Iterable[str] = ()) -> None:
        for node in [self._file(path) for path in dict.fromkeys(paths)]:
            node.safe = len(node.data)
        self.sync_dirs(dirs)

    def sync_dirs(self, paths: Iterable[str]) -> None:
        wanted = {self._dir(path)[0] for path in paths}
        slots: set[Slot] = set()
        kept: list[Op] = []
        done: list[Op] = []
        for op in reversed(self.log):
            if op in self.synced or any(s[0] in wanted or s in slots for s in op.slots):
                slots.update(op.slots)
                done.append(op)
                if op.into is None:
                    wanted.add(op.node)  # a directory goes when it is empty: what emptied it goes first
            else:
                kept.append(op)
        self.synced = self._write_out(done[::-1])
        stay = self.synced.union(kept)
        self.log = [op for op in self.log if op in stay]

    def _write_out(self, ops: list[Op]) -> set[Op]:
        """Make operations durable; returns those that wait for the directory they lead to."""
        late: set[Op] = set()
        slots: set[Slot] = set()
        for op in ops:
            if not slots.isdisjoint(op.slots) or not self._reaches(self.durable, op):
                late.add(op)
                slots.update(op.slots)
            else:
                _apply(self.durable, op)
        return late

    def _reaches(self, world: dict[int, dict[str, int]], op: Op) -> bool:
        """Whether a rename leads to a directory that is there."""
        if op.out is None or op.into is None:
            return True
        key = op.into[0]
        while key != ROOT:
            above, name = self.above[key]
            if world.get(above, {}).get(name) != key:
                return False
            key = above
        return True

    def overwrite(self, path: str, offset: int, data: bytes) -> None:
        node = self._file(path)
        if offset + len(data) > len(node.data) or node.safe < len(node.data):
            raise AssertionError("only a file of one size, all of it synced, is overwritten")
        node.data[offset : offset + len(data)] = data
        node.ctime = self.clock()

    def mark(self, path: str, data: bytes) -> None:
        node = self._file(path)
        node.data[: len(data)] = data
        node.safe = -1  # any older state may be on disk: see cut

    def flush(self) -> Callable[[bool], bool]:
        """It is over when it is asked for the second time, or waited for."""
        ops, sizes = list(self.log), {key: len(node.data) for key, node in self.nodes.items()}
        asked = 0

        def over(wait: bool) -> bool:
            nonlocal asked
            asked += 1
            if asked == 1 and not wait:
                return False
            if asked <= 2:
                self._flushed(set(ops), sizes)
                asked = 2
            return True

        return over

    def _flushed(self, ops: set[Op], sizes: dict[int, int]) -> None:
        for op in self.log:
            if op in ops:
                _apply(self.durable, op)
        self.log = [op for op in self.log if op not in ops]
        self.synced -= ops
        for key, size in sizes.items():
            if key in self.nodes:
                node = self.nodes[key]
                node.safe = max(node.safe, min(size, len(node.data))) if node.safe >= 0 else -1

    def free(self) -> Free:
        return self.room

    # What others do to it.

    def place(self, path: str, mode: int, data: bytes = b"") -> None:
        """A file of any kind, as a stranger may leave it."""
        self._create(path, mode).data += data

    def rewrite(self, path: str, data: bytes) -> None:
        """Write into a file where it stands, as a careless program does."""
        node = self._file(path)
        node.data, node.safe, node.ctime = bytearray(data), 0, self.clock()

    def rot(self, path: str) -> None:
        """The blocks of a file or directory cannot be read any more; its name can."""
        self.rotten.add(self._file(path).key)

    def chmod(self, path: str, mode: int) -> None:
        node = self._file(path)
        node.mode, node.ctime = mode, self.clock()

    def walk(self, path: str = "") -> Iterator[str]:
        """Every path below a directory that is no directory."""
        for name, key in list(self._dir(path)[1].items()):
            below = f"{path}/{name}" if path else name
            if self.nodes[key].children is None:
                yield below
            else:
                yield from self.walk(below)

    def settle(self) -> None:
        """The kernel has written everything: all that is there is durable."""
        for op in self.log:
            _apply(self.durable, op)
        self.log, self.synced = [], set()
        for node in self.nodes.values():
            node.safe = len(node.data)

    def cut(self, rng: Random) -> None:
        """The power fails, and comes back."""
        world = {key: dict(names) for key, names in self.durable.items()}
        lived = {op for op in _survivors(self.log, rng) if self._reaches(world, op) and _apply(world, op)}
        for op in reversed(self.log):
            if op not in lived:
                self.nodes[op.node].ctime = op.ctime
        kept: dict[int, Node] = {}
        self._keep(ROOT, world, kept)
        for node in kept.values():
            if node.safe < 0:  # marked in place: as it was made, and no longer
                node.data = bytearray(len(node.data))
            elif node.children is None and node.safe < len(node.data):
                node.data = _torn(node, rng)
            node.safe = len(node.data)
        self._inos = []
        used: set[int] = set()
        for node in kept.values():  # one that came back may have lent its number to another
            node.ino = node.key + (1 << 20) if node.ino in used else node.ino
            used.add(node.ino)
        self.changes += 1
        self.nodes, self.log, self.synced = kept, [], set()
        self.durable = {k: dict(n.children) for k, n in kept.items() if n.children is not None}
        self._dirs.clear()

    def _keep(self, key: int, world: dict[int, dict[str, int]], kept: dict[int, Node]) -> None:
        node = kept[key] = self.nodes[key]
        node.nlink = 1
        if node.children is None:
            return
        node.children = world.get(key, {})
        for below in node.children.values():
            if below in kept:
                kept[below].nlink += 1
            else:
                self._keep(below, world, kept)

    # How it is done.

    def _new(self, mode: int) -> Node:
        key, self._next = self._next, self._next + 1
        ino = self._inos.pop() if self._inos else key + 100  # keys grow: no other inode has it
        children: dict[str, int] | None = {} if stat.S_ISDIR(mode) else None
        node = Node(key, ino, mode, self.uid, self.clock(), children=children)
        self.nodes[key] = node
        return node

    def _create(self, path: str, mode: int) -> Node:
        (parent, names), name = self._split(path)
        if name in names:
            raise Exists(errno.EEXIST, "the name is taken", path)
        if len(name.encode("utf-8", "surrogateescape")) > 255:
            raise OSError(errno.ENAMETOOLONG, "the name is too long", path)
        if self.room.inodes <= 0:
            raise DiskFull(errno.ENOSPC, "no inode left", path)
        node = self._new(mode)
        node.nlink = 1
        names[name] = node.key
        if node.children is not None:
            self.above[node.key] = parent, name
        self._note(Op(node.key, node.ctime, None, (parent, name)))
        return node

    def _unlinked(self, node: Node) -> None:
        node.nlink -= 1
        node.ctime = self.clock()
        if node.nlink == 0:
            self._inos.append(node.ino)

    def _note(self, op: Op) -> None:
        self.changes += 1
        for parent, _ in op.slots:
            self.nodes[parent].changes += 1
        self.log.append(op)
        if len(self.log) > LOG_LIMIT:
            for old in self.log[: LOG_LIMIT // 2]:
                _apply(self.durable, old)
            del self.log[: LOG_LIMIT // 2]

    def _split(self, path: str) -> tuple[tuple[int, dict[str, int]], str]:
        above, _, name = path.rpartition("/")
        return self._dir(above), name

    def _dir(self, path: str) -> tuple[int, dict[str, int]]:
        node = self._dirs.get(path)
        if node is None:
            node = self.root if path in ("", ".") else self._file(path)
            if node.children is None:
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
            self._dirs[path] = node
        if node.children is None:
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        return node.key, node.children

    def _file(self, path: str) -> Node:
        (_, names), name = self._split(path)
        key = names.get(name)
        if key is None:
            raise Missing(errno.ENOENT, "no such file", path)
        return self.nodes[key]


def _hash(name: str) -> int:
    return crc32(name.encode("utf-8", "surrogateescape"))


def _apply(world: dict[int, dict[str, int]], op: Op) -> bool:
    """Do one operation in a world; False, and void, where what it needs is not there."""
    if op.out is not None:
        names = world.get(op.out[0], {})
        if names.get(op.out[1]) != op.node:
            return False
        if op.into is None and world.get(op.node):
            return False  # rmdir of a directory that is not empty in this world
        del names[op.out[1]]
    if op.into is not None:
        names = world.setdefault(op.into[0], {})
        if op.out is None and op.into[1] in names:
            return False
        names[op.into[1]] = op.node
    return True


def _survivors(log: list[Op], rng: Random) -> list[Op]:
    match rng.randrange(6):
        case 0:
            return []
        case 1:
            return list(log)
        case 2:
            return log[: rng.randint(0, len(log))]
        case _:
            share = rng.choice((0.1, 0.5, 0.9))
            return [op for op in log if rng.random() < share]


def _torn(node: Node, rng: Random) -> bytearray:
    match rng.randrange(4):
        case 0:
            return node.data
        case 1:
            return node.data[: node.safe]
        case 2:
            return node.data[: rng.randint(node.safe, len(node.data))]
        case _:
            whole = rng.randint(node.safe, len(node.data))
            return node.data[:whole] + bytes(len(node.data) - whole)
