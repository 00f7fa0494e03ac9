"""The hosts of the proof: those of the lab, or others that the environment names.

    SPOOL_HOSTS         their names, of one word each: a b c; without it, the lab (lab.py)
    SPOOL_HOSTS_DIR     a directory on the file system they share; it is emptied
    SPOOL_HOSTS_RUN     runs what follows on {host}, with standard input: ssh {host}
    SPOOL_HOSTS_POWER   kill, boot, pause, cont: power {verb} {host}; without it nothing is cut
    SPOOL_HOSTS_LINK    the network of a host down or up: link {host} {verb}; without it none is cut
    SPOOL_HOSTS_SERVER  the host that is the file server, for SPOOL_HOSTS_POWER alone
    SPOOL_HOSTS_PYTHON  the interpreter there, with spool's dependencies (this one)

Commands are split at spaces. The checkout has to be at the same place on all of them.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import lab

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CHECKOUT = Path(__file__).resolve().parents[2]
LOG = "${{TMPDIR:-/tmp}}/spoold-{}.log"  # on each host


class Hosts:
    """Some hosts, and a directory that all of them see."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.names = env["SPOOL_HOSTS"].split()
        self.dir = env["SPOOL_HOSTS_DIR"]
        self.server = env.get("SPOOL_HOSTS_SERVER")
        self.can_cut = "SPOOL_HOSTS_POWER" in env
        self.can_unlink = "SPOOL_HOSTS_LINK" in env
        self.python = env.get("SPOOL_HOSTS_PYTHON", sys.executable)
        self._env = env

    def run(self, host: str, script: str, given: str = "", *, within: float = 120) -> str:
        """What a shell script prints there; CalledProcessError, TimeoutExpired."""
        done = subprocess.run(
            self._command(host, script),
            input=given,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            raise subprocess.CalledProcessError(done.returncode, script, done.stdout, done.stderr)
        return done.stdout

    def open(self, host: str, script: str) -> subprocess.Popen[str]:
        """The same, for something that takes its time."""
        return subprocess.Popen(
            self._command(host, script),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def guest(self, *words: str) -> str:
        """The command of tests.cluster.guest."""
        head = f"cd {CHECKOUT} && PYTHONPATH={CHECKOUT} exec {self.python} -m tests.cluster.guest"
        verb, *rest = words
        return f"{head} {verb} {self.dir} {' '.join(rest)}"

    def serve(self, host: str) -> None:
        """Start the daemon of a host; what it says goes to a file of its own there."""
        head = f"cd {CHECKOUT}; export PYTHONPATH={CHECKOUT} PYTHONDONTWRITEBYTECODE=1"
        daemon = f"exec {self.python} -m spoold --spool {self.dir}/q --node {host}"
        log = LOG.format(host)
        self.run(host, f"{head}; (setsid sh -c '{daemon}' >> {log} 2>&1 < /dev/null &) ; exit 0")

    def said(self, host: str) -> str:
        """What its daemon has said since the host was booted."""
        return self.run(host, f"cat {LOG.format(host)} 2>/dev/null; true")

    def kill_daemon(self, host: str) -> None:
        """kill -9."""
        words = f"[s]poold --spool {self.dir}/q --node {host}"
        self.run(host, f'for p in $(pgrep -f "{words}"); do kill -9 $p; done; true')

    def power(self, verb: str, host: str) -> None:
        """kill, boot, pause or cont."""
        for tries in (2, 1, 0):
            try:
                self._act("SPOOL_HOSTS_POWER", verb, host)
                break
            except subprocess.CalledProcessError:
                if verb != "boot" or not tries:  # a host may take its time on a busy machine
                    raise
        if verb == "boot":
            self.wait_for(host)

    def link(self, verb: str, host: str) -> None:
        """The network down or up."""
        self._act("SPOOL_HOSTS_LINK", verb, host)

    def wait_for(self, host: str) -> None:
        """Until it answers, and sees the directory."""
        end = time.monotonic() + 180
        while True:
            try:
                self.run(host, f"test {host} = {self.server} || test -d {self.dir}/q", within=60)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)
            else:
                return

    def _act(self, name: str, verb: str, host: str) -> None:
        words = [w.format(verb=verb, host=host) for w in self._env[name].split()]
        subprocess.run(words, check=True, capture_output=True, timeout=180)

    def _command(self, host: str, script: str) -> list[str]:
        return [
            *(w.format(host=host) for w in self._env["SPOOL_HOSTS_RUN"].split()),
            "sh",
            "-c",
            _quoted(script, self._env),
        ]


def _quoted(script: str, env: Mapping[str, str]) -> str:
    """ssh gives its words to a shell once more."""
    return shlex.quote(script) if env["SPOOL_HOSTS_RUN"].split()[0].endswith("ssh") else script


@contextlib.contextmanager
def hosts(clients: int, vers: str, lease: int = 10) -> Iterator[Hosts]:
    """Those that the environment names, else a lab for as long as the block lasts; lab.NoLab.

    `lease` of the file server, in seconds: how long its clients wait after it was rebooted.
    """
    if "SPOOL_HOSTS" in os.environ:
        yield Hosts(os.environ)
        return
    with lab.lab(clients, vers, lease) as env:
        yield Hosts(env)
