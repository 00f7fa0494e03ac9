"""The hosts of the lab: a Linux kernel in user mode each, a network between them, a line to each.

The network is a loop here that hands frames from one kernel to the other. Commands go over the serial
line of a host, to agent.py there. Nothing of it needs rights, or changes anything of this machine.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

HERE = Path(__file__).resolve().parent
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
SHM = "/dev/shm"  # where a kernel keeps its memory, if there is room
DISK = 4 << 30  # bytes, none of them used before they are written
MEMORY = 256  # MiB, at most, of each host
PATIENCE = 60  # s for a host to come up
LINE = 4000  # bytes
REGISTERS = "registers.so"  # made of registers.c
NUDGE = 0.02  # s
NOTHING = (
    b"\xff" * 6 + bytes([2, 0, 0, 0, 0, 0xFF]) + b"\x88\xb5" + bytes(46)
)  # a frame that no one reads


class NoLab(Exception):
    """It cannot be had here, or not now; str() says why."""


class Host:
    """One kernel, its network and its serial line."""

    def __init__(self, name: str, number: int, options: argparse.Namespace) -> None:
        self.name, self.number, self.options = name, number, options
        self.state = f"{options.place}/{name}"
        self.linked = True
        self.ready = threading.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self.wire = self.line = socket.socket()
        self.asked: dict[int, socket.socket] = {}  # by the number of a command: who hears of it
        self._lock = threading.Lock()
        self._heard = threading.Event()  # its agent has read what it was told

    def boot(self) -> None:
        """Power on; `ready` is set when it has mounted what is shared, or serves it."""
        for folder in ("sm", "sm.bak", "nfsdcld", "v4recovery"):
            os.makedirs(f"{self.state}/{folder}", exist_ok=True)
        self.wire, wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.line, line = socket.socketpair()
        words = {
            "init": HERE / "boot.sh",
            "rootfstype": "hostfs",
            "mem": f"{MEMORY}M",
            "umid": f"{self.name}-{os.getpid()}",
            "uml_dir": f"{self.state}/",
            "vec0:transport": f"fd,fd={wire.fileno()},mac=02:00:00:00:00:{self.number:02x}",
            "ssl0": f"fd:{line.fileno()}",
            "con": "null",
            "con0": "null,fd:1",
            "panic": "-1",
            **({"ubd0": f"{self.options.place}/disk"} if self.name == "s" else {}),
            "LAB_HOST": self.name,
            "LAB_NUMBER": self.number,
            "LAB_STATE": self.state,
            "LAB_VERS": self.options.vers,
            "LAB_LEASE": self.options.lease,
            "LAB_AGENT": f"{sys.executable}:{HERE / 'agent.py'}",
        }
        with open(f"{self.state}/console", "ab") as console:
            self.process = subprocess.Popen(
                ["linux.uml", "ro", "quiet", *(f"{name}={word}" for name, word in words.items())],
                pass_fds=(wire.fileno(), line.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={"PATH": PATH, **_memory(self.options.place), **_registers(self.options.place)},
                start_new_session=True,
            )
        wire.close()
        line.close()
        threading.Thread(target=self._listen, args=(self.line,), daemon=True).start()

    def wait(self) -> None:
        """Until it is ready; NoLab."""
        end = time.monotonic() + PATIENCE
        while not self.ready.wait(0.2):
            if self.process is None or self.process.poll() is not None or time.monotonic() > end:
                said = Path(f"{self.state}/console").read_text(errors="replace")
                if "put_fp_registers" in said:
                    raise NoLab("linux.uml needs cc for all registers of this processor (AMX)")
                raise NoLab(f"{self.name} did not come up within {PATIENCE} s; it said: {said[-600:]}")

    def kill(self) -> None:
        """Cut the power: what was not on the disk of the file server is gone."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):  # all that play its processes are in the group
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        self.ready.clear()
        self.line.close()

    def freeze(self, number: signal.Signals) -> None:
        """SIGSTOP or SIGCONT."""
        if self.process is not None:
            self.process.send_signal(number)

    def tell(self, message: dict[str, Any]) -> None:
        """Say something to its agent, who is told one thing after the other; OSError.

        A terminal holds 4096 bytes, and once it was full that of such a kernel says nothing any more.
        """
        data = json.dumps(message).encode()
        if len(data) > LINE:
            raise OSError(errno.E2BIG, f"more than {LINE} bytes for the line of {self.name}")
        with self._lock:
            self._heard.clear()
            self.line.sendall(data + b"\n")
            while not self._heard.wait(0.2) and self.ready.is_set():
                self.line.sendall(b"\n")  # it may have missed the interrupt

    def _listen(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), line.makefile("rb") as said:
            for words in filter(bytes.strip, said):
                message = json.loads(words)
                if message["n"] is None:
                    self._heard.set()
                    self.ready.set()
                elif message["n"] in self.asked:
                    say(self.asked[message["n"]], message)
        for client in list(self.asked.values()):  # the host is gone
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


class Kernels:
    """All hosts: s, the file server, and its clients; orders come by the socket PLACE/orders."""

    def __init__(self, options: argparse.Namespace) -> None:
        names = ["s", *(chr(ord("a") + i) for i in range(options.clients))]
        self.hosts = {name: Host(name, i + 1, options) for i, name in enumerate(names)}
        self.selector = selectors.DefaultSelector()
        self.place = options.place
        self.orders = socket.socket(socket.AF_UNIX)

    def begin(self) -> None:
        """Power on; NoLab, OSError, CalledProcessError."""
        with open(f"{self.place}/disk", "wb") as file:
            file.truncate(DISK)
        words = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", f"{self.place}/disk"]
        subprocess.run(words, check=True, capture_output=True, env={"PATH": PATH})
        if shutil.which("cc", path=PATH):
            words = ["cc", "-shared", "-fPIC", "-o", f"{self.place}/{REGISTERS}", f"{HERE}/registers.c"]
            subprocess.run(words, check=True, capture_output=True, env={"PATH": PATH})
        self.orders.bind(f"{self.place}/orders")
        self.orders.listen()
        for work in (self._switch, self._nudge, self._answer):
            threading.Thread(target=work, daemon=True).start()
        for host in self.hosts.values():
            self._boot(host)
        for host in self.hosts.values():
            host.wait()

    def end(self) -> None:
        """Power off."""
        for host in self.hosts.values():
            host.kill()

    def _boot(self, host: Host) -> None:
        if host.process is None:
            host.boot()
            self.selector.register(host.wire, selectors.EVENT_READ, host)

    def _switch(self) -> None:
        """Frames from one kernel to the other."""
        while True:
            for key, _ in self.selector.select(0.1):  # nobody wakes it where a host comes anew
                try:
                    frame = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                except OSError:
                    frame = b""
                if frame:
                    self._pass_on(key.data, frame)
                else:
                    self.selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]

    def _pass_on(self, source: Host, frame: bytes) -> None:
        number = frame[5] if frame[0] == 2 else None  # of the addressee, or all
        for host in self.hosts.values():
            if host is not source and number in (None, host.number) and host.linked and source.linked:
                with contextlib.suppress(OSError):  # full, or gone: as any network
                    host.wire.send(frame, socket.MSG_DONTWAIT)

    def _nudge(self) -> None:
        """Such a kernel misses an interrupt now and then, and what came with it until there is more."""
        while True:
            time.sleep(NUDGE)
            for host in self.hosts.values():
                with contextlib.suppress(OSError):
                    host.wire.send(NOTHING, socket.MSG_DONTWAIT)

    def _answer(self) -> None:
        number = 0
        while True:
            client, _ = self.orders.accept()
            number += 1
            threading.Thread(target=self._serve, args=(client, number), daemon=True).start()

    def _serve(self, client: socket.socket, number: int) -> None:
        """One order: its first line says what; what follows is the input of a command."""
        with client, contextlib.suppress(OSError), client.makefile("rb") as said:
            first = json.loads(said.readline())
            host = self.hosts.get(first["host"])
            if host is None:
                say(client, {"err": f"there is no host {first['host']}\n", "rc": 64})
                return
            try:
                if first["verb"] != "run":
                    self._do(host, first["verb"])
                    say(client, {"rc": 0})
                elif host.ready.is_set():
                    host.asked[number] = client
                    host.tell({"n": number, **first})
                    for words in said:
                        host.tell({"n": number, **json.loads(words)})
                    host.tell({"n": number, "end": True})
                else:
                    say(client, {"err": f"{host.name} is down\n", "rc": 1})
            except (NoLab, OSError) as problem:
                say(client, {"err": f"{problem}\n", "rc": 1})
            finally:
                host.asked.pop(number, None)

    def _do(self, host: Host, verb: str) -> None:
        match verb:
            case "kill":
                host.kill()
            case "boot":
                self._boot(host)
                host.wait()
            case "pause":
                host.freeze(signal.SIGSTOP)
            case "cont":
                host.freeze(signal.SIGCONT)
            case "up" | "down":
                host.linked = verb == "up"


def say(to: socket.socket, message: dict[str, Any]) -> None:
    """A message is one line; who is gone hears nothing."""
    with contextlib.suppress(OSError):
        to.sendall(json.dumps(message).encode() + b"\n")


def _memory(place: str) -> dict[str, str]:
    """Where the memory of a kernel lies as a file: in SHM, if that has room for a few."""
    free = shutil.disk_usage(SHM).free if os.path.isdir(SHM) else 0
    return {} if free > (MEMORY << 20) * 6 else {"TMPDIR": place}


def _registers(place: str) -> dict[str, str]:
    """What lets a kernel boot on a processor with AMX, where it could be made."""
    library = f"{place}/{REGISTERS}"
    return {"LD_PRELOAD": library} if os.path.exists(library) else {}
