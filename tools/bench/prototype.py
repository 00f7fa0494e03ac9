"""The least that a queue of files can do: the yardstick beside which a spool is measured.

    python tools/bench/prototype.py work DIR     # one worker, until incoming/ stays empty
    python tools/bench/prototype.py work DIR spawn
    python tools/bench/prototype.py serve DIR    # for ever, asleep while there is nothing

No order, no retries, no crash safety: take a name from a listing, rename it to claim it, read it, run
a function that does nothing (`spawn`: /bin/true), write a result under a dot name, rename it, link it
into an outbox, rename the task to done/.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

from spool.bench.bell import Bell

FOLDERS = ("tmp", "incoming", "running", "done", "results", "outbox")
TRUE = ["/bin/true"]
PACE, FOREVER = 0.005, 1e6  # seconds: between two tasks, one at a time; of patience


def fill(place: Path, number: int) -> None:
    """So many tasks are dropped, as a client drops them."""
    for name in FOLDERS:
        (place / name).mkdir(parents=True)
    for i in range(number):
        body = json.dumps({"id": i, "task": "noop", "args": {}}).encode()
        path = f"{place}/tmp/{i:08}.json"
        _write(path, body)
        os.rename(path, f"{place}/incoming/{i:08}.json")


def work(place: str, *, spawn: bool = False) -> int:
    """Do all that is there; how many."""
    done, fds = 0, {name: os.open(f"{place}/{name}", os.O_RDONLY) for name in FOLDERS}
    while names := sorted(os.listdir(fds["incoming"])):
        for name in names:
            try:
                os.rename(name, name, src_dir_fd=fds["incoming"], dst_dir_fd=fds["running"])
            except FileNotFoundError:
                continue  # another worker was faster
            fd = os.open(name, os.O_RDONLY, dir_fd=fds["running"])
            body = json.loads(os.read(fd, 1 << 16))
            os.close(fd)
            begun = _run(body, spawn=spawn)
            _write(f".{name}", json.dumps({"id": body["id"], "result": begun}).encode(), fds["results"])
            os.rename(f".{name}", name, src_dir_fd=fds["results"], dst_dir_fd=fds["results"])
            os.link(name, name, src_dir_fd=fds["results"], dst_dir_fd=fds["outbox"])
            os.rename(name, name, src_dir_fd=fds["running"], dst_dir_fd=fds["done"])
            done += 1
    return done


def rate(place: Path, workers: int, number: int, *, spawn: bool = False) -> float:
    """Tasks a second of one run, from the start of the first task to the last result."""
    fill(place, number)
    os.sync()
    words = [sys.executable, __file__, "work", str(place), *(["spawn"] if spawn else [])]
    workers_ = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(workers)]
    said = [json.loads(one.communicate()[0]) for one in workers_]
    begun, ended = min(row["begun"] for row in said), max(row["ended"] for row in said)
    if sum(row["done"] for row in said) != number:
        raise RuntimeError(said)
    return number * 1e9 / (ended - begun)


def idle(place: Path, number: int) -> list[float]:
    """Milliseconds from drop to start of so many tasks, one at a time; sorted."""
    fill(place, 0)
    found = []
    bell = Bell(f"{place}/outbox")
    worker = subprocess.Popen([sys.executable, __file__, "serve", str(place)])
    try:
        for i in range(number + 1):
            path = f"{place}/tmp/{i:08}.json"
            _write(path, json.dumps({"id": i, "task": "noop", "args": {}}).encode())
            begun = time.monotonic_ns()
            os.rename(path, f"{place}/incoming/{i:08}.json")
            bell.count(1)
            body = json.loads((place / "outbox" / f"{i:08}.json").read_bytes())
            found.append((body["result"] - begun) / 1e6)
            time.sleep(PACE)
    finally:
        worker.kill()
        worker.wait()
        bell.close()
    return sorted(found[1:])  # the worker had to start before the first


def _write(path: str, data: bytes, folder: int | None = None) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
    os.write(fd, data)
    os.close(fd)


def _run(body: dict[str, object], *, spawn: bool) -> int:
    begun = time.monotonic_ns()
    if spawn:
        os.waitpid(os.posix_spawn(TRUE[0], TRUE, {}), 0)
    else:
        dict(body)
    return begun


def main(words: list[str]) -> int:
    """A worker."""
    if words[0] == "serve":
        bell = Bell(f"{words[1]}/incoming")
        while True:
            work(words[1])
            bell.wait(FOREVER)
    begun = time.monotonic_ns()
    done = work(words[1], spawn="spawn" in words[2:])
    print(json.dumps({"done": done, "begun": begun, "ended": time.monotonic_ns()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
