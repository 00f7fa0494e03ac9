"""Other queues at what pythons.py measures of spool: no-op Python tasks a second, run to the end.

    python -m venv peers && peers/bin/pip install -r tools/bench/requirements-peers.txt
    python tools/bench/peers.py --python peers/bin/python [--dir DIR] [--number N] [--repeat N] [--json]
    python tools/bench/peers.py --python peers/bin/python --idle [...]

All tasks are submitted before a worker starts. Each task writes one byte to a pipe; the rate is from the
first byte to the last. spool and the prototype are measured in the same run, from the first done event
to the last. What is not installed, or whose server is not, is left out and named. Each peer is set up
as its documentation does for throughput: `keeps` says what a power cut or a kill costs. With --idle: the
time from submission to the first line of the function, one task every 5 ms, one worker that is warm.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import prototype
import pythons

from spool.bench import speed
from spool.bench.figures import environment, listing

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

PATIENCE = 300  # seconds for one run
MOST_IDLE = 500  # tasks, one at a time
STAMP = 9  # bytes: a letter and the monotonic ns
FILES = 10  # that a task may need, of whichever queue
MARK = """
import os, time
pipe = os.open(os.environ["PIPE"], os.O_WRONLY)
pace = float(os.environ["PACE"])
def say(what): os.write(pipe, what + time.monotonic_ns().to_bytes(8, "little"))
def mark(): say(b"r") if pace else os.write(pipe, b".")
def turns(number):
    for n in range(number):
        if pace:
            time.sleep(pace)
            say(b"s")
        yield n
"""
HUEY = """
from huey import {kind}
from mark import mark, turns
app = {made}
@app.task()
def noop(): mark()
def submit(number):
    for _ in turns(number): noop()
"""
CONSUMER = "huey.bin.huey_consumer"
RQ = """
from redis import Redis
from rq import Queue
from mark import mark, turns
def noop(): mark()
def submit(number):
    queue = Queue(connection=Redis(port={port}))
    for _ in turns(number): queue.enqueue("app.noop", result_ttl=0)
"""
DRAMATIQ = """
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from mark import mark, turns
dramatiq.set_broker(RedisBroker(port={port}))
@dramatiq.actor
def noop(): mark()
def submit(number):
    for _ in turns(number): noop.send()
"""
TASKIQ = """
import asyncio
from taskiq_redis import ListQueueBroker
from mark import mark, turns
broker = ListQueueBroker("redis://127.0.0.1:{port}")
@broker.task
async def noop(): mark()
def submit(number):
    async def send():
        await broker.startup()
        for _ in turns(number): await noop.kiq()
        await broker.shutdown()
    asyncio.run(send())
"""
CELERY = """
from celery import Celery
from mark import mark, turns
app = Celery("app", broker="redis://127.0.0.1:{port}")
app.conf.update(task_ignore_result=True, task_acks_late={late})
@app.task
def noop(): mark()
def submit(number):
    for _ in turns(number): noop.delay()
"""
LITEQUEUE = """
import sys
from litequeue import LiteQueue
from mark import mark, turns
def queue(): return LiteQueue("queue.db")
def submit(number):
    q = queue()
    for _ in turns(number): q.put("noop")
def work():
    q = queue()
    while (task := q.pop()) is not None:
        mark()
        q.done(task.message_id)
"""
BEANSTALK = """
import greenstalk
from mark import mark, turns
def submit(number):
    with greenstalk.Client(("127.0.0.1", {port})) as client:
        for _ in turns(number): client.put("noop")
def work():
    with greenstalk.Client(("127.0.0.1", {port})) as client:
        while True:
            job = client.reserve()
            mark()
            client.delete(job)
"""
WORK = ("-c", "import app; app.work()")


@dataclass(frozen=True)
class Peer:
    """A queue and its worker: `app` is its module, `work` what Python is told to run."""

    name: str
    keeps: str
    needs: str  # the module it is
    app: str
    work: tuple[str, ...]
    server: tuple[str, ...] = ()
    each: bool = False  # a worker is a process of its own; else {workers} stands in `work`
    waits: bool = True  # for tasks to come; else its worker ends when there is none


def huey(name: str, keeps: str, kind: str, made: str, server: tuple[str, ...] = ()) -> Peer:
    """Huey with one of its storages; its worker processes are asked for by number."""
    work = ("-m", CONSUMER, "app.app", "-k", "process", "-w", "{workers}", "-q", "-n")
    return Peer(name, keeps, "huey", HUEY.format(kind=kind, made=made), work, server)


REDIS = ("redis-server", "--port", "{port}", "--dir", "{place}", "--save", "")
AOF = (*REDIS, "--appendonly", "yes", "--appendfsync")
BEANS = ("beanstalkd", "-l", "127.0.0.1", "-p", "{port}")
SQLITE = "SqliteHuey(filename='queue.db', fsync={})"
PEERS = (
    huey("huey on sqlite", "a kill loses what runs", "SqliteHuey", SQLITE.format("False")),
    huey("huey on sqlite, fsync", "a kill loses what runs", "SqliteHuey", SQLITE.format("True")),
    huey("huey on files", "a kill loses what runs", "FileHuey", "FileHuey(path='queue')"),
    huey("huey on redis", "nothing without its memory", "RedisHuey", "RedisHuey(port={port})", REDIS),
    huey("huey on redis, AOF", "all but the last second", "RedisHuey", "RedisHuey(port={port})",
         (*AOF, "everysec")),
    Peer("litequeue", "a power cut loses the last tasks", "litequeue", LITEQUEUE, WORK, each=True,
         waits=False),
    Peer("RQ, SimpleWorker", "nothing without its memory", "rq", RQ,
         ("-m", "rq.cli", "worker", "-q", "-w", "rq.worker.SimpleWorker", "--url", "redis://127.0.0.1:{port}"),
         REDIS, each=True),
    Peer("dramatiq", "nothing without its memory", "dramatiq", DRAMATIQ,
         ("-m", "dramatiq", "app", "-p", "{workers}", "-t", "1"), REDIS),
    Peer("taskiq", "a kill loses what runs", "taskiq", TASKIQ,
         ("-m", "taskiq", "worker", "app:broker", "--workers", "{workers}", "--log-level", "ERROR"),
         REDIS),
    Peer("Celery, acks late", "nothing without its memory", "celery", CELERY.replace("{late}", "True"),
         ("-m", "celery", "-A", "app", "worker", "-c", "{workers}", "-l", "ERROR"), REDIS),
    Peer("beanstalkd", "nothing without its memory", "greenstalk", BEANSTALK, WORK, BEANS, each=True),
    Peer("beanstalkd -b -f0", "everything", "greenstalk", BEANSTALK, WORK,
         (*BEANS, "-b", "{place}", "-f", "0"), each=True),
)  # fmt: skip


def missing(peer: Peer, python: str) -> str:
    """What stands in its way, in words."""
    if peer.server and shutil.which(peer.server[0]) is None:
        return f"{peer.server[0]} is not installed"
    found = subprocess.run([python, "-c", f"import {peer.needs}"], capture_output=True, check=False)
    return f"{python} has no {peer.needs}" if found.returncode else ""


def free_port() -> int:
    """A port of this host that nobody has at the moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def running(place: Path, argv: list[str], env: dict[str, str]) -> Iterator[None]:
    """A program and what it starts, until the end of the block."""
    with (place / "output").open("ab") as out:
        process = subprocess.Popen(
            argv, cwd=place, env=env, stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def served(
    peer: Peer, place: Path, python: str, workers: int, pace: float = 0
) -> Iterator[tuple[int, list[str], dict[str, str]]]:
    """Its server runs: where its tasks say that they do, its worker's command, their environment."""
    port = free_port() if peer.server else 0
    fill = {"port": port, "place": place, "workers": workers}
    (place / "mark.py").write_text(MARK)
    (place / "app.py").write_text(peer.app.replace("{port}", str(port)))
    pipe = place / "pipe"
    os.mkfifo(pipe)
    fd = os.open(pipe, os.O_RDWR)
    env = {**os.environ, "PYTHONPATH": str(place), "PIPE": str(pipe), "PACE": str(pace)}
    try:
        with running(place, [w.format(**fill) for w in peer.server] or ["sleep", "inf"], env):
            if port:
                _listening(port)
            yield fd, [python, *(word.format(**fill) for word in peer.work)], env
    except TimeoutError:
        raise SystemExit(f"peers: {peer.name}: {(place / 'output').read_text()[-2000:]}") from None
    finally:
        os.close(fd)


def submitted(python: str, place: Path, env: dict[str, str], number: int) -> None:
    """A producer of its own drops so many."""
    submit = [python, "-c", f"import app; app.submit({number})"]
    subprocess.run(submit, cwd=place, env=env, check=True, timeout=PATIENCE)


def rate(peer: Peer, place: Path, python: str, workers: int, number: int) -> float:
    """Tasks a second of one run."""
    with served(peer, place, python, workers) as (fd, argv, env):
        submitted(python, place, env, number)
        with running(place, argv, env):
            if peer.each and workers > 1:
                with running(place, argv, env):
                    return _counted(fd, number)
            return _counted(fd, number)


def idle(peer: Peer, place: Path, python: str, number: int) -> list[float]:
    """Milliseconds from right before the submission to the first line of the function, sorted."""
    with served(peer, place, python, 1, prototype.PACE) as (fd, argv, env), running(place, argv, env):
        submitted(python, place, env, 1)  # the worker has to start first
        _stamps(fd, 2)
        submitted(python, place, env, number)
        stamps = _stamps(fd, 2 * number)
    sent = [at for what, at in stamps if what == b"s"]
    begun = [at for what, at in stamps if what == b"r"]
    return sorted((b - a) / 1e6 for a, b in zip(sent, begun, strict=True))


def _stamps(fd: int, number: int) -> list[tuple[bytes, int]]:
    """So many words of the submitter and of the worker, each with its time."""
    found: list[tuple[bytes, int]] = []
    for data in _read(fd, STAMP * 1000, 0.01):
        found += [
            (data[i : i + 1], int.from_bytes(data[i + 1 : i + STAMP], "little"))
            for i in range(0, len(data), STAMP)
        ]
        if len(found) >= number:
            break
    return found


def _read(fd: int, most: int, pause: float) -> Iterator[bytes]:
    """What comes out of a pipe, as long as there is patience; else TimeoutError."""
    os.set_blocking(fd, False)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            yield os.read(fd, most)
        except BlockingIOError:
            time.sleep(pause)
    raise TimeoutError


def _listening(port: int) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.01)
    raise TimeoutError


def _counted(fd: int, number: int) -> float:
    found, begun = 0, 0
    for data in _read(fd, 1 << 16, 0.0002):
        found += len(data)
        begun = begun or time.monotonic_ns()
        if found >= number:
            break
    return (number - 1) * 1e9 / (time.monotonic_ns() - begun)


def main() -> int:
    """Everything interleaved, and a table."""
    options = pythons.options(__doc__, 3000)
    options.add_argument("--python", required=True, help="one that has the peers")
    options.add_argument("--idle", action="store_true", help="milliseconds to the start of one task")
    options.add_argument("--only", default="", help="peers whose name contains this")
    args = options.parse_args()
    python = os.path.abspath(args.python)
    about = environment(Path(args.dir).resolve())
    peers = []
    for peer in PEERS:
        if args.only not in peer.name:
            continue
        if why := missing(peer, python):
            print(f"peers: {peer.name} left out: {why}", file=sys.stderr)
            continue
        peers.append(peer)
    if args.idle:
        return _print_idle(args, python, peers, about)
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in range(args.repeat):
        for workers in (1, 2):
            for contender in (pythons.PROTOTYPE, "relaxed", "durable", *peers):
                name = contender.name if isinstance(contender, Peer) else f"spool, {contender}"
                print(f"peers: {name}, {workers} worker(s)", file=sys.stderr, flush=True)
                with speed.room(args.dir, FILES * args.number) as place:
                    if isinstance(contender, Peer):
                        found = rate(contender, place, python, workers, args.number)
                    else:
                        name = contender if contender == pythons.PROTOTYPE else name
                        found = pythons.rate(place, contender, workers, args.number)
                rates.setdefault((name, workers), []).append(found)
    keeps = {peer.name: peer.keeps for peer in peers}
    keeps |= {"spool, relaxed": "a power cut loses the last tasks", "spool, durable": "everything"}
    base = {workers: statistics.median(rates[pythons.PROTOTYPE, workers]) for workers in (1, 2)}
    rows = [
        (workers, name, statistics.median(found), min(found), max(found))
        for (name, workers), found in rates.items()
    ]
    rows.sort(key=lambda row: (row[0], -row[2]))
    if args.json:
        print(json.dumps({"environment": about, "rates": rows, "keeps": keeps}))
        return 0
    print(listing(about))
    print("\n| workers | | tasks/s | min | max | x prototype | keeps |")
    print("|---:|---|---:|---:|---:|---:|---|")
    for workers, name, *figures in rows:
        cells = [f"{figure:,.0f}" for figure in figures] + [f"{figures[0] / base[workers]:.2f}"]
        print(f"| {workers} | {name} | {' | '.join(cells)} | {keeps.get(name, '')} |")
    return 0


def _print_idle(
    args: argparse.Namespace, python: str, peers: list[Peer], about: dict[str, object]
) -> int:
    peers = [peer for peer in peers if peer.waits]
    number = min(args.number, MOST_IDLE)
    times: dict[str, list[float]] = {}
    for _ in range(args.repeat):
        for contender in (pythons.PROTOTYPE, "relaxed", "durable", *peers):
            with speed.room(args.dir, FILES * number) as place:
                if isinstance(contender, Peer):
                    name, found = contender.name, idle(contender, place, python, number)
                elif contender == pythons.PROTOTYPE:
                    name, found = contender, prototype.idle(place, number)
                else:
                    name, found = f"spool, {contender}", pythons.idle(place, contender, number)
            times.setdefault(name, []).extend(found)
    if args.json:
        print(json.dumps({"environment": about, "ms": times}))
        return 0
    print(listing(about))
    print("\n| | p50, ms | p99 | x prototype |\n|---|---:|---:|---:|")
    base = statistics.median(times[pythons.PROTOTYPE])
    for name, found in sorted(times.items(), key=lambda row: statistics.median(row[1])):
        p50, p99 = statistics.median(found), sorted(found)[len(found) * 99 // 100]
        print(f"| {name} | {p50:.2f} | {p99:.2f} | {p50 / base:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
