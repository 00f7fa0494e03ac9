"""Runs commands in a host of the lab, as its serial line says: JSON objects, one a line.

n argv cwd     run it as number n      n in    its input, empty at the end     n end   kill it
n out, n err   what it said            n rc    its exit status                 n null  ready, or heard
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import threading
import tty
from typing import Any, BinaryIO

POWER_OFF = 0x4321FEDC


class Agent:
    """The line, and what runs."""

    def __init__(self) -> None:
        self.line = os.open("/dev/ttyS0", os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.line)
        self.lock = threading.Lock()
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def say(self, number: int | None, **words: Any) -> None:
        data = json.dumps({"n": number, **words}).encode() + b"\n"
        with self.lock:
            while data:
                data = data[os.write(self.line, data) :]

    def work(self) -> None:
        self.say(None)
        with os.fdopen(self.line, "rb", closefd=False) as said:
            for words in said:
                if words.strip():
                    self.say(None)
                    self.obey(json.loads(words))

    def obey(self, order: dict[str, Any]) -> None:
        number = order["n"]
        if "argv" in order:
            cwd = order["cwd"] if os.path.isdir(order["cwd"]) else "/"
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            try:
                process = subprocess.Popen(order["argv"], cwd=cwd, start_new_session=True, **pipes)
            except OSError as problem:
                self.say(number, err=f"{problem}\n", rc=127)
                return
            self.running[number] = process
            threading.Thread(target=self.follow, args=(number, process), daemon=True).start()
        elif number in self.running:
            process = self.running[number]
            if "end" in order:
                os.killpg(process.pid, signal.SIGKILL)
            elif process.stdin is not None:
                try:
                    process.stdin.write(order["in"].encode("latin-1"))
                    process.stdin.flush()
                    if not order["in"]:
                        process.stdin.close()
                except (OSError, ValueError):
                    pass  # it does not read

    def follow(self, number: int, process: subprocess.Popen[bytes]) -> None:
        pumps = [
            threading.Thread(target=self.pump, args=(number, name, stream), daemon=True)
            for name, stream in (("out", process.stdout), ("err", process.stderr))
        ]
        for pump in pumps:
            pump.start()
        status = process.wait()
        del self.running[number]
        for pump in pumps:
            pump.join(2)  # something it left behind may hold them
        self.say(number, rc=status if status >= 0 else 128 - status)

    def pump(self, number: int, name: str, stream: BinaryIO) -> None:
        while data := os.read(stream.fileno(), 1 << 12):
            self.say(number, **{name: data.decode("latin-1")})


if __name__ == "__main__":
    try:
        Agent().work()
    finally:  # the lab is gone
        ctypes.CDLL(None).reboot(POWER_OFF)
