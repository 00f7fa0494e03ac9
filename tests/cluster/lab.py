"""Hosts on one machine: Linux kernels in user mode that share a directory by NFS. It needs no rights.

    lab.py start [--clients N] [--vers 4.2|3] [--lease S]  a file server s, clients a, b ...; ^C ends it
    lab.py run HOST COMMAND...                             streams and exit status pass through
    lab.py kill|boot|pause|cont HOST                       power cut, power on, freeze, thaw
    lab.py down|up HOST                                    its network

Packages of Debian: user-mode-linux nfs-kernel-server kmod iproute2 e2fsprogs. Every host sees the files
of this machine, which it cannot change; the clients have what they share in /mnt.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests.cluster.kernels import PATH, Kernels, NoLab, say

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACE = os.environ.get("SPOOL_LAB", f"{tempfile.gettempdir()}/spool-lab-{os.getuid()}")
MOUNT = "/mnt"
NEEDED = ("linux.uml", "rpc.nfsd", "mount.nfs", "rpcbind", "modprobe", "ip", "mkfs.ext4")
MODULES = "/usr/lib/uml/modules"


def missing() -> str:
    """Why there can be no lab; empty where there can."""
    absent = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    absent += [MODULES] * (not os.path.isdir(MODULES))
    return f"not installed: {' '.join(absent)}" if absent else ""


@contextlib.contextmanager
def lab(clients: int, vers: str, lease: int) -> Iterator[dict[str, str]]:
    """A lab for as long as the block lasts; gives the environment that hosts.py reads. NoLab."""
    if why := missing():
        raise NoLab(why)
    with tempfile.TemporaryDirectory(prefix="spool-lab-") as place:
        words = ["--clients", str(clients), "--vers", vers, "--lease", str(lease)]
        process = subprocess.Popen(
            [sys.executable, __file__, "start", *words],
            env={**os.environ, "SPOOL_LAB": f"{place}/lab"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            if not (said := process.stdout.readline()).startswith("up"):
                raise NoLab(said + process.stdout.read())
            me = f"env SPOOL_LAB={place}/lab {sys.executable} {__file__}"
            yield {
                "SPOOL_HOSTS": " ".join(chr(ord("a") + i) for i in range(clients)),
                "SPOOL_HOSTS_DIR": MOUNT,
                "SPOOL_HOSTS_RUN": f"{me} run {{host}}",
                "SPOOL_HOSTS_POWER": f"{me} {{verb}} {{host}}",
                "SPOOL_HOSTS_LINK": f"{me} {{verb}} {{host}}",
                "SPOOL_HOSTS_SERVER": "s",
            }
        finally:
            try:
                process.communicate(timeout=30)  # the end of its input is its own
            except subprocess.TimeoutExpired:
                process.kill()  # its kernels go when nobody holds their lines
                process.communicate()


def _start(words: list[str]) -> int:
    options = argparse.ArgumentParser(prog="lab.py start")
    options.add_argument("--clients", type=int, default=2)
    options.add_argument("--vers", default="4.2", help="of NFS")
    options.add_argument("--lease", type=int, default=10, help="of the file server, seconds")
    kernels = Kernels(options.parse_args(words, argparse.Namespace(place=PLACE)))
    try:
        os.mkdir(PLACE, 0o700)
    except FileExistsError:
        print(f"{PLACE}: a lab is up, or was killed: end it, or remove the directory", flush=True)
        return 73
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        kernels.begin()
        print(f"up: {' '.join(kernels.hosts)}", flush=True)
        while os.read(0, 1 << 12):
            pass
    except (NoLab, OSError, subprocess.CalledProcessError) as problem:
        print(problem, flush=True)
        return 1
    except KeyboardInterrupt:
        pass
    finally:
        kernels.end()
        shutil.rmtree(PLACE, ignore_errors=True)
    return 0


def _order(verb: str, host: str, argv: list[str]) -> int:
    """Have it done by the lab that is up."""
    with socket.socket(socket.AF_UNIX) as there:
        try:
            there.connect(f"{PLACE}/orders")
        except OSError:
            print(f"no lab is up at {PLACE}: lab.py start", file=sys.stderr)
            return 69
        say(there, {"verb": verb, "host": host, "argv": argv, "cwd": os.getcwd()})
        if verb == "run":
            threading.Thread(target=_feed, args=(there,), daemon=True).start()
        with there.makefile("rb") as said:
            for words in said:
                message = json.loads(words)
                for name, stream in (("out", sys.stdout), ("err", sys.stderr)):
                    if name in message:
                        stream.buffer.write(message[name].encode("latin-1"))
                        stream.flush()
                if "rc" in message:
                    return int(message["rc"])
    print(f"{host} went away", file=sys.stderr)
    return 255


def _feed(there: socket.socket) -> None:
    while data := os.read(0, 600):  # six times that as JSON, and a line takes no more
        say(there, {"in": data.decode("latin-1")})
    say(there, {"in": ""})


def main(words: list[str]) -> int:
    """The command."""
    match words:
        case ["start", *options]:
            return _start(options)
        case ["run", host, *argv] if argv:
            return _order("run", host, argv)
        case ["kill" | "boot" | "pause" | "cont" | "down" | "up" as verb, host]:
            return _order(verb, host, [])
    print(__doc__)
    return 64


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # a thread may wait for input for ever
