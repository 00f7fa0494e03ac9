"""Hosts that share a spool, cut by chance: `python -m tests.cluster.proof` prints figures, one object a line.

Nothing is lost, nothing ends twice, and a run beyond one is explained by a loss that is on record.
tests/cluster/hosts.py says how hosts are named.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from spool.beats import parse
from tests.cluster.guest import RAN
from tests.cluster.hosts import CHECKOUT, LOG, hosts
from tests.cluster.kernels import NoLab

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Container, Iterator

    from tests.cluster.hosts import Hosts

TOML = """
lease = "{lease}s"
concurrency = {concurrency}
poison_after = 100
outbox_limit = 1000000
[admission]
load = [1000, 999]
[handlers."run.exec"]
exec = ["{dir}/run"]
backoff = "1s"
[handlers."run.py"]
python = "app"
cwd = "{dir}"
env = {{ RAN = "{ran}", WHERE = "{dir}", PYTHONDONTWRITEBYTECODE = "1" }}
backoff = "1s"
[handlers."long.*"]
exec = ["{dir}/run"]
"""
# Each tells on its host, too, that it runs: a file that it asked for may come when it is dead.
RUN = r"""#!/bin/sh
run=$SPOOL_ID.$SPOOL_ATTEMPT.$SPOOL_NODE
name={dir}/w/$run
runs() {{ read -r now _ < /proc/uptime; echo $now $run >> {ran}; }}
runs
: > $name.b
read -r args
case $args in
*:0?) ;;
*:*) args=${{args##*:}}; sleep "${{args%?}}" ;;
esac
runs
: > $name.e
runs
"""
APP = """
import os, time
from spool import current, task

@task("run.py")
def run(sleep: float = 0) -> None:
    it = current()
    run = f"{it.id}.{it.attempt}.{os.environ['SPOOL_NODE']}"
    name = f"{os.environ['WHERE']}/w/{run}"
    def runs() -> None:
        with open(os.environ["RAN"], "a") as file:
            file.write(f"{time.clock_gettime(time.CLOCK_BOOTTIME):.2f} {run}\\n")
    runs()
    open(name + ".b", "w").close()
    time.sleep(sleep)
    runs()
    open(name + ".e", "w").close()
    runs()
"""
CONCURRENCY = 4
KINDS = ("daemon", "power", "freeze", "link", "server")


class Proof:
    """One spool on the hosts, and what is done to them."""

    def __init__(self, hosts: Hosts, lease: int, seed: int, kinds: Container[str] = KINDS) -> None:
        self.hosts = hosts
        self.kinds = kinds
        self.lease = lease
        self.rng = random.Random(seed)
        self.seed = seed
        self.ids: list[str] = []
        self.cuts: list[str] = []
        self._writing: dict[str, subprocess.Popen[str]] = {}

    def prepare(self) -> None:
        """A fresh spool, and nobody who serves it."""
        where, first = self.hosts.dir, self.hosts.names[0]
        for host in self.hosts.names:
            self.hosts.kill_daemon(host)
            self.hosts.run(host, f"rm -f {LOG.format(host)} {RAN}")
        self.hosts.run(first, f"rm -rf {where}/q {where}/w {where}/ran.*; mkdir -p {where}/w")
        self._put(first, "run", RUN.format(dir=where, ran=RAN), "chmod 755")
        self._put(first, "app.py", APP, "chmod 644")
        self.hosts.run(first, _module(self.hosts, "spool", f"init {where}/q"))
        self._put(
            first,
            "q/spool.toml",
            TOML.format(dir=where, ran=RAN, lease=self.lease, concurrency=CONCURRENCY),
            "chmod 600",
        )

    def _put(self, host: str, name: str, text: str, then: str) -> None:
        self.hosts.run(host, f"cat > {self.hosts.dir}/{name} && {then} {self.hosts.dir}/{name}", text)

    def serve(self, count: int | None = None) -> None:
        """Start the daemons, and wait until all of them live."""
        wanted = self.hosts.names[:count]
        for host in wanted:
            self.hosts.serve(host)
        self._until(lambda: self._alive() >= set(wanted), "all nodes live")

    def _guest(self, *words: str, given: str = "", within: float = 120) -> str:
        return self.hosts.run(self.hosts.names[-1], self.hosts.guest(*words), given, within=within)

    def _until(self, true: Any, what: str, within: float = 600) -> None:
        end = time.monotonic() + within
        while not true():
            if time.monotonic() > end:
                raise SystemExit(f"not within {within:g} s: {what}")
            time.sleep(0.3)

    def _names(self, *places: str) -> list[str]:
        """The files there, by the quick way: a Python takes a second to start in a lab."""
        script = (
            f"cd {self.hosts.dir}/q && find {' '.join(places)} -type f -printf '%f\\n' 2>/dev/null; true"
        )
        return [name for name in self.hosts.run(self.hosts.names[-1], script).split() if name[0] != "."]

    def _alive(self) -> set[str]:
        return {beat.node for beat in map(parse, self._names("nodes/alive")) if beat is not None}

    def _left(self) -> int:
        return len(self._names("incoming", "pending", "running", "held", "pending"))

    # What is measured.

    def cut(self, tasks: int, cuts: int, pace: float = 0) -> dict[str, Any]:
        """Tasks come in, `pace` s apart on each host, while hosts and file server are killed and frozen."""
        self.prepare()
        self.serve()
        begun = time.monotonic()
        writers = [
            self._writer(host, tasks // len(self.hosts.names), str(pace)) for host in self.hosts.names
        ]
        for _ in range(cuts):
            time.sleep(self.rng.uniform(1, 5))
            self._one_cut()
        for thread in writers:
            thread.join()
        self._until(lambda: self._left() == 0, "all tasks have ended", 900)
        spent = time.monotonic() - begun
        for host in self.hosts.names:
            self.hosts.run(host, self.hosts.guest("ran", host))
        ids = "\n".join(self.ids)
        found = json.loads(self._guest("look", given=ids, within=600))
        frozen, cut_off = (
            {words[1] for words in map(str.split, self.cuts) if words[0] == kind}
            for kind in ("freeze", "link")
        )
        # What a host asked for before it was cut off may reach the file server when it is back.
        for what, may in (("late", frozen | cut_off), ("outran", frozen), ("overlaps", frozen)):
            found["wrong"] += [
                f"{what}: {one}, which was not away" for one in found[what] if one.split()[0] not in may
            ]
        found["wrong"] += [
            f"{h} says: {s[-600:]}" for h in self.hosts.names if "Traceback" in (s := self.hosts.said(h))
        ]
        return {"what": "cuts", "seed": self.seed, "seconds": round(spent), "cuts": self.cuts, **found}

    def _writer(self, host: str, count: int, pace: str) -> threading.Thread:
        """Submits on a host, until so many are acknowledged: begun again where it dies with its host."""

        def work() -> None:
            mine: list[str] = []
            while len(mine) < count:
                seed = f"{self.seed}{host}{len(mine)}"
                words = self.hosts.guest("submit", str(count - len(mine)), seed, pace)
                with self.hosts.open(host, words) as process:
                    self._writing[host] = process
                    mine += [line.strip() for line in process.stdout or () if len(line.strip()) == 32]
                time.sleep(0.5)
            self.ids += mine

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def _one_cut(self) -> None:
        hosts, rng = self.hosts, self.rng
        host, span = rng.choice(hosts.names), rng.choice((0.4, 1.0, 1.6)) * self.lease
        kinds = ["daemon", *(["power", "freeze"] * hosts.can_cut), *(["link"] * hosts.can_unlink)]
        kinds += ["server"] * (hosts.can_cut and hosts.server is not None)
        kind = rng.choice([kind for kind in kinds if kind in self.kinds])
        self.cuts.append(f"{kind} {hosts.server if kind == 'server' else host} {span:g}")
        print(f"  {self.cuts[-1]}", file=sys.stderr, flush=True)
        if kind == "daemon":
            hosts.kill_daemon(host)
            time.sleep(span)
            hosts.serve(host)
        elif kind == "power":
            hosts.power("kill", host)
            self._writing[host].kill()  # nobody tells it that the other end is gone
            time.sleep(span)
            hosts.power("boot", host)
            hosts.serve(host)
        elif kind == "freeze":
            hosts.power("pause", host)
            time.sleep(span)
            hosts.power("cont", host)
        elif kind == "link":
            hosts.link("down", host)
            time.sleep(span)
            hosts.link("up", host)
        else:
            hosts.power("kill", hosts.server or "")
            time.sleep(span / 4)
            hosts.power("boot", hosts.server or "")
            hosts.wait_for(hosts.names[-1])

    def durability(self, times: int) -> Iterator[dict[str, Any]]:
        """The only host that serves loses its power, with all it has not synced: what another one finds."""
        self.prepare()
        for number in range(times):
            other, victim = (self.hosts.names[(number + i) % len(self.hosts.names)] for i in (0, 1))
            self.hosts.serve(victim)
            self._until(lambda host=victim: host in self._alive(), "it lives")
            words = self.hosts.guest("submit", "100000", f"{self.seed}{number}", "0.1")
            with self.hosts.open(victim, words) as process:
                # More than could be told of those before: of its own, too.
                self._until(lambda: len(self._names("outbox")) > len(self.ids) + 9, "ten have ended")
                time.sleep(self.rng.uniform(0, 4))
                self.hosts.power("kill", victim)
                process.kill()
                self.ids += [line.strip() for line in process.stdout or () if len(line.strip()) == 32]
            ids = "\n".join(self.ids)
            found = json.loads(self.hosts.run(other, self.hosts.guest("promises"), ids, within=600))
            yield {"what": "durability", "seed": self.seed, **found}
            self.hosts.power("boot", victim)
        self.serve()
        self._until(lambda: self._left() == 0, "all tasks have ended")
        for host in self.hosts.names:
            self.hosts.kill_daemon(host)
        found = json.loads(self._guest("look", "fsck", given="\n".join(self.ids), within=600))
        yield {"what": "durability, the end", "seed": self.seed, **found}

    def takeover(self, times: int) -> dict[str, Any]:
        """From the death of a host to the first of its tasks running elsewhere."""
        self.prepare()
        self.serve()
        victim, took = self.hosts.names[0], []
        for _ in range(times):
            count = CONCURRENCY * (len(self.hosts.names) - 1)  # the others have room for all of them
            self._guest("plain", str(count), "long.a", "'{\"sleep\":30}'")
            self._until(lambda: not self._names("incoming", "pending"), "all have started")
            watch = self.hosts.open(self.hosts.names[-1], self.hosts.guest("second", victim))
            assert watch.stdout is not None
            if watch.stdout.readline().strip() == "0":
                watch.kill()
                self._until(lambda: self._left() == 0, "all tasks have ended")
                continue
            begun = time.monotonic()
            if self.hosts.can_cut:
                self.hosts.power("kill", victim)
            else:
                self.hosts.kill_daemon(victim)
            if not watch.stdout.readline():
                raise SystemExit(f"nothing that {victim} ran has begun elsewhere")
            took.append(time.monotonic() - begun)
            if self.hosts.can_cut:
                self.hosts.power("boot", victim)
            self._until(lambda: self._left() == 0, "all tasks have ended")
            self.hosts.serve(victim)
            self._until(lambda: victim in self._alive(), "it lives again")
        middle = statistics.median(took) if took else None
        return {
            "what": "takeover",
            "lease": self.lease,
            "seconds": [round(t, 1) for t in took],
            "median": middle,
        }

    def speed(self, tasks: int, task: str) -> Iterator[dict[str, Any]]:
        """Tasks a second with one, two ... hosts, and what each costs the file server."""
        for count in range(1, len(self.hosts.names) + 1):
            self.prepare()
            self._guest("plain", str(tasks), task)
            before = self._calls(count)
            self.serve(count)
            self._until(lambda: self._left() == 0, "all tasks have ended")
            calls = (self._calls(count) - before) / tasks
            row = json.loads(self._guest("spans"))
            yield {"what": "speed", "task": task, "hosts": count, **row, "calls_a_task": round(calls, 1)}
        time.sleep(5)
        before = self._calls()
        time.sleep(20)
        rate = (self._calls() - before) / 20 / len(self.hosts.names)
        yield {"what": "idle", "calls_a_second_and_node": round(rate, 1)}

    def _calls(self, count: int | None = None) -> int:
        return sum(
            int(self.hosts.run(host, self.hosts.guest("calls"))) for host in self.hosts.names[:count]
        )


def _module(hosts: Hosts, name: str, words: str) -> str:
    return f"cd {CHECKOUT} && PYTHONPATH={CHECKOUT} {hosts.python} -m {name} {words}"


def main(argv: list[str] | None = None) -> int:
    """1 where a promise was broken."""
    found = argparse.ArgumentParser(prog="proof", description=__doc__)
    found.add_argument("what", nargs="*", help="cuts, durability, takeover, speed (all)")
    found.add_argument("--tasks", type=int, default=900)
    found.add_argument("--cuts", type=int, default=12)
    found.add_argument("--times", type=int, default=3)
    found.add_argument("--lease", type=int, default=10, help="seconds")
    found.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    found.add_argument("--pace", type=float, default=0, help="seconds between two tasks of a host")
    found.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS, help="of cuts")
    found.add_argument("--clients", type=int, default=3, help="of the lab")
    found.add_argument("--vers", nargs="*", default=["4.2", "3"], help="of NFS in the lab")
    args = found.parse_args(argv)
    broken = False
    for vers in args.vers if "SPOOL_HOSTS" not in os.environ else ("",):
        try:
            with hosts(args.clients, vers) as those:
                for row in _rows(Proof(those, args.lease, args.seed, args.kinds), args):
                    print(json.dumps({"vers": vers, **row}), flush=True)
                    broken |= bool(row.get("wrong"))
        except NoLab as why:
            print(f"skipped: {why}")
            return 0
    return 1 if broken else 0


def _rows(proof: Proof, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for what in args.what or ("cuts", "durability", "takeover", "speed"):
        if what == "cuts":
            yield proof.cut(args.tasks, args.cuts, args.pace)
        elif what == "durability":
            yield from proof.durability(args.times)
        elif what == "takeover":
            yield proof.takeover(args.times)
        else:
            yield from proof.speed(args.tasks, "run.exec")
            yield from proof.speed(args.tasks, "run.py")


if __name__ == "__main__":
    sys.exit(main())
