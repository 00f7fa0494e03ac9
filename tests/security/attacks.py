"""What a hostile writer does in a loop, and an honest one beside him: `attacks ROLE ROOT SECONDS SEED`.

Run as a user with the rights of a writer and no others. An honest one prints the ids he was given.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import random
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD = b'{"task": "note", "args": "hostile"}'


class Hostile:
    """Attacks on one spool; `outside` is a file beside it that only spoold may read."""

    def __init__(self, root: str, chance: random.Random) -> None:
        self.box = f"{root}/incoming"
        self.tmp = f"{root}/tmp"
        self.outside = f"{os.path.dirname(root)}/outside"
        self.chance = chance
        self.number = 0

    def name(self) -> str:
        self.number += 1
        return f"{self.box}/h{os.getpid()}-{self.number}.json"

    def put(self, data: bytes = GOOD, path: str | None = None) -> str:
        path = path or self.name()
        staged = f"{self.tmp}/.h{os.getpid()}"
        with open(staged, "wb") as file:
            file.write(data)
        os.rename(staged, path)
        return path

    def swap_link(self) -> None:
        """A good file, and a link out of the spool under its name, again and again."""
        path, link = self.put(), f"{self.tmp}/.l{os.getpid()}"
        for _ in range(20):
            os.symlink(self.chance.choice([self.outside, "/etc/passwd", "../spool.toml"]), link)
            os.rename(link, path)
            self.put(path=path)

    def swap_content(self) -> None:
        """Another file under the name of one that is being looked at."""
        path = self.name()
        for number in range(20):
            self.put(b'{"task": "note", "args": %d}' % number, path)

    def swap_fifo(self) -> None:
        path, fifo = self.put(), f"{self.tmp}/.f{os.getpid()}"
        os.mkfifo(fifo)
        os.rename(fifo, path)

    def write_on(self) -> None:
        """A file that goes on changing, grows and shrinks while it is read and after."""
        with open(self.name(), "wb+") as file:
            file.write(GOOD)
            file.flush()
            with mmap.mmap(file.fileno(), len(GOOD)) as view:
                for _ in range(20):
                    view[24:31] = self.chance.choice([b"HOSTILE", b"hostile"])
                    time.sleep(0.001)
            for _ in range(20):
                file.write(b" " * 50_000)
                file.flush()
                file.truncate(self.chance.choice([0, 10, len(GOOD)]))

    def lease(self) -> None:
        with open(self.name(), "wb+") as file:
            file.write(GOOD)
            file.flush()
            with suppress(OSError):
                fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            time.sleep(0.05)

    def hard_link(self) -> None:
        path = self.put()
        with suppress(OSError):
            os.link(path, self.name())
        for victim in (self.outside, "/etc/passwd", f"{self.box}/../format"):
            with suppress(OSError):
                os.link(victim, self.name())

    def deep(self) -> None:
        self.put(b'{"task": "note", "args": %s' % (b"[" * 200_000))
        self.put(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
        self.put(b'{"task": "note", "args": 1%s}' % (b"0" * 5000))

    def sparse(self) -> None:
        with open(self.name(), "wb") as file:
            file.truncate(1 << 40)

    def flood(self) -> None:
        for _ in range(100):
            self.put(self.chance.choice([GOOD, b"{", b"", b'{"task": "' + os.urandom(20) + b'"}']))

    def folders(self) -> None:
        for _ in range(5):
            os.mkdir(self.name())
        with suppress(OSError):
            os.rename(self.put(), f"{self.box}/-rf \x1b[2J\n{self.number}.json")

    def others(self) -> None:
        """Verbs on what is none of his, and words for a parent he is not."""
        for action in (
            {"action": "cancel", "match": {"task": "*"}},
            {"action": "pause"},
            {"action": "drain", "until": "+1h"},
            {"action": "prune"},
            {"task": "spool.run", "args": {"argv": ["touch", self.outside]}},
            {"task": "note", "notify": "shop"},
        ):
            self.put(json.dumps(action).encode())

    def spoil(self) -> None:
        """What the file system must not let him do."""
        with suppress(OSError):
            for name in os.listdir(self.box):
                os.unlink(f"{self.box}/{name}")
        for change in (
            lambda: os.rename(self.box, f"{self.box}.old"),
            lambda: os.rename(self.put(), f"{self.box}/../spool.toml"),
            lambda: os.rename(self.put(), f"{self.box}/../pending/x.json"),
            lambda: os.chmod(self.box, 0o777),
            lambda: os.truncate(f"{self.box}/../format", 0),
        ):
            with suppress(OSError):
                change()

    def leave(self) -> None:
        with open(f"{self.tmp}/.left{self.number}-{os.getpid()}", "wb") as file:
            file.write(GOOD)
        self.number += 1


def hostile(root: str, seconds: float, chance: random.Random) -> None:
    """Every kind of attack in random order until the time is over."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    one = Hostile(root, chance)
    attacks: list[Callable[[], None]] = [
        one.swap_link, one.swap_content, one.swap_fifo, one.write_on, one.lease, one.hard_link, one.deep,
        one.sparse, one.flood, one.folders, one.others, one.spoil, one.leave,
    ]  # fmt: skip
    end, done = time.monotonic() + seconds, dict.fromkeys((a.__name__ for a in attacks), 0)
    while time.monotonic() < end or not all(done.values()):
        attack = chance.choice(attacks)
        try:
            attack()
        except OSError:
            pass  # spoold was faster, or the kernel said no
        done[attack.__name__] += 1
    print(json.dumps(done))


def honest(root: str, seconds: float, _chance: random.Random) -> None:
    """A task every 50 ms, by the library."""
    from spool import Spool

    ids, end = [], time.monotonic() + seconds
    with Spool(root, durability="relaxed") as spool:
        while time.monotonic() < end or len(ids) < 20:
            ids.append(spool.submit("note", {"n": len(ids)}))
            time.sleep(0.05)
    print(json.dumps(ids))


if __name__ == "__main__":
    {"hostile": hostile, "honest": honest}[sys.argv[1]](
        sys.argv[2], float(sys.argv[3]), random.Random(int(sys.argv[4]))
    )
