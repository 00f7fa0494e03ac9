"""Actions are signed with an SSH key by ssh-keygen: files, agents and security keys as it takes them."""

from __future__ import annotations

import os
import subprocess
import time

import orjson
from msgspec import Struct

from spool import envelope
from spool.errors import NotAllowed
from spool.times import DAY


class Key(Struct, frozen=True):
    """A key to sign with: a file as `ssh-keygen -f` takes it, whose it is, and for which spool."""

    path: str
    signer: str | None
    audience: str
    lasts: int = DAY  # us
    room = envelope.LARGEST  # bytes that an envelope may add to its text

    @staticmethod
    def weight(data: bytes) -> int:
        """The bytes that JSON takes as a text within JSON."""
        return len(data) + data.count(b'"') + data.count(b"\\")

    def seal(self, data: bytes) -> bytes:
        """An action's bytes in an envelope; NotAllowed where ssh-keygen does not sign."""
        now = time.time_ns() // 1000
        fields = envelope.fields(self.audience, now, self.lasts, self.signer)
        text = orjson.dumps(fields | orjson.loads(data)).decode()
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", envelope.NAMESPACE, "-f"]
        try:
            done = subprocess.run(
                [*command, os.path.expanduser(self.path)],
                input=text.encode(),
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            raise NotAllowed("ssh-keygen is not here: install the OpenSSH client to sign") from None
        if done.returncode:
            said = done.stderr.decode(errors="backslashreplace").strip().splitlines()
            mode = [f"{line.rstrip('.')}: chmod 600 it" for line in said if "too open" in line]
            why = [*mode, *said[-1:], "ssh-keygen failed"][0]
            raise NotAllowed(f"cannot sign with {self.path}: {why}")
        sealed = {"signed": text, "signature": done.stdout.decode()}
        if self.signer is not None:
            sealed["signer"] = self.signer
        return orjson.dumps(sealed)
