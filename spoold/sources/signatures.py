"""Signatures under actions: verified by ssh-keygen over the exact bytes, each text used once by a key."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from spool import layout, look
from spool.disk import Exists, Missing, NotRegular, TooLarge
from spool.envelope import NAMESPACE, SIGNER, SKEW, envelope_of, opened
from spool.errors import Invalid
from spool.names import date_of
from spool.strict import decode

if TYPE_CHECKING:
    from spool.disk import Disk
    from spool.envelope import Envelope
    from spool.settings import Settings
    from spoold.core.values import Now, Source

PATIENCE = 2.0  # seconds for one run of ssh-keygen, which takes milliseconds
AT_ONCE = 8  # signatures verified in one round of the loop: some 40 ms
SLICE = 1000
TORN = b"{"
PRINT = re.compile(r" key (SHA256:\S+)$", re.MULTILINE)  # in what ssh-keygen says of a good one
SAID = (  # what ssh-keygen says, and what it means
    ("namespace does not match", f"was made for another purpose: sign with -n {NAMESPACE}"),
    ("not permitted for use", f"was made with a key that {layout.SIGNERS} has for other namespaces"),
    ("incorrect signature", "does not fit the text: one of the two was changed"),
    ("has expired", "was made with a key that has expired (valid-before)"),
    ("is not yet valid", "was made with a key that is not valid yet (valid-after)"),
    ("parse signature", "is no SSH signature"),
    ("armor", "is no SSH signature"),
    ("invalid format", "is no SSH signature"),
)


class TooMany(Exception):
    """Enough for this round: look at this file again in the next one."""


class Opened(NamedTuple):
    """An action, who has signed it (None: it is not signed), until when, and the marks of its use.

    The first is made. The other, of the text alone, is one that spools had before: it holds as well.
    """

    action: dict[str, Any]
    key: str | None = None
    expires: int = 0
    marks: tuple[str, str] = ("", "")


class Signatures:
    """Opens envelopes of a spool; remembers on disk which texts were used until they have expired."""

    def __init__(self, disk: Disk, root: str, settings: Settings) -> None:
        self.disk = disk
        self.root = root
        self.settings = settings
        self.left = AT_ONCE

    @property
    def name(self) -> str:
        """What a signed text calls this spool."""
        return self.settings.name or os.path.basename(self.root)

    def open(self, doc: dict[str, Any], now: Now) -> Opened:
        """What is in an envelope, or what came without one. Invalid, TooMany."""
        found = envelope_of(doc)
        if found is None:
            if self.settings.signatures == "required":
                how = "spool submit --sign KEY, or see spool-security(7)"
                raise Invalid("signature", None, f"is required here: {how}")
            return Opened(doc)
        if self.left <= 0:
            raise TooMany
        self.left -= 1
        signer, key = self._verified(found)
        inner = decode(found.text, limit=self.settings.max_action_bytes)
        action, expires = opened(inner, self.name, signer, now.wall)
        used = (f"{key}\n".encode() + found.text, found.text)  # a key: of one there may be many names
        own, before = (hashlib.sha256(data).hexdigest() for data in used)
        return Opened(action, signer, expires, (own, before))

    def use(self, found: Opened, source: Source) -> None:
        """A signed text counts, once; that is written down, and synced, first. Invalid the second time.

        The same file again is no second one: spoold may have died before it carried it out.
        """
        if not self._first_use(found, source):
            raise Invalid("signature", None, "is under a text that was used before: sign another one")

    def _first_use(self, found: Opened, source: Source) -> bool:
        day = f"{layout.SIGNED}/{date_of(found.expires + SKEW)}"
        path, before = (f"{day}/{mark}.json" for mark in found.marks)
        ours = orjson.dumps({"path": ascii(source.path), "ino": source.ino, "ctime": source.ctime})
        self.disk.make_dir(day)
        if self.disk.info(before) is not None and self._says(before) not in (ours, TORN):
            return False
        try:
            self.disk.write(path, ours)
        except Exists:
            there = self._says(path)
            if there != TORN:
                return there == ours
            self.disk.remove(path)
            self.disk.write(path, ours)
        if self.settings.durability == "durable":
            self.disk.sync([path], [day, layout.SIGNED, "."])
        return True

    def _says(self, mark: str) -> bytes:
        """What a mark says: TORN of one that a power cut tore, before anything was done about it."""
        try:
            found = self.disk.read(mark, 1 << 16)
        except (Missing, NotRegular, TooLarge):
            return b""
        return found if found.endswith(b"}") else TORN

    def tidy(self, now: Now) -> None:
        """What has expired is forgotten, some of it at a time."""
        today = date_of(now.wall)
        days = [day for day in look.names(self.disk, layout.SIGNED) if day < today]
        for day in days[:1]:
            for name in look.names(self.disk, f"{layout.SIGNED}/{day}")[:SLICE]:
                with suppress(Missing):  # another daemon has
                    self.disk.remove(f"{layout.SIGNED}/{day}/{name}")
            self.disk.remove_dir(f"{layout.SIGNED}/{day}")

    # ssh-keygen.

    def _verified(self, found: Envelope) -> tuple[str, str]:
        """Who has signed these very bytes, by which key; Invalid says why it is nobody."""
        allowed = os.path.join(self.root, layout.SIGNERS)
        if not os.path.isfile(allowed):
            rule = f"is by nobody: this spool has no {layout.SIGNERS}, see spool-security(7)"
            raise Invalid("signature", None, rule)
        signature = os.memfd_create("signature")
        try:
            os.write(signature, found.signature)
            signer = found.signer or self._principal(signature, allowed)
            words = ["verify", "-n", NAMESPACE, "-I", signer]
            revoked = os.path.join(self.root, layout.REVOKED)
            more = ["-r", revoked] if os.path.lexists(revoked) else []
            good, said = _ssh_keygen([*words, *more], signature, allowed, found.text)
            if good:
                key = PRINT.search(said)
                return signer, key[1] if key else ""
            why = _meaning(said)
            if not why and more and _ssh_keygen(words, signature, allowed, found.text)[0]:
                why = f"was made with a key that is revoked, or {layout.REVOKED} cannot be read"
            rule = why or f"is by no key that {layout.SIGNERS} has for {signer}"
        finally:
            os.close(signature)
        raise Invalid("signature", None, rule)

    def _principal(self, signature: int, allowed: str) -> str:
        """Whose key it is, where the envelope does not say."""
        good, said = _ssh_keygen(["find-principals"], signature, allowed, b"")
        first = said.partition("\n")[0]
        if not good:
            rule = _meaning(said) or f"is by a key that is not in {layout.SIGNERS}"
            raise Invalid("signature", None, rule)
        if SIGNER.fullmatch(first) is None:
            rule = f"must be named: {layout.SIGNERS} has {first[:64]!a} for this key"
            raise Invalid("signer", None, rule)
        return first


def _ssh_keygen(words: list[str], signature: int, allowed: str, text: bytes) -> tuple[bool, str]:
    """Run it; whether it was content, and what it said."""
    command = ["ssh-keygen", "-Y", *words, "-f", allowed, "-s", f"/proc/self/fd/{signature}"]
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            timeout=PATIENCE,
            pass_fds=(signature,),
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"},
            check=False,
        )
    except FileNotFoundError:
        raise Invalid("signature", None, "cannot be verified: ssh-keygen is not installed here") from None
    except subprocess.TimeoutExpired:
        raise Invalid("signature", None, f"was not verified within {PATIENCE:g} s") from None
    return done.returncode == 0, (done.stdout + done.stderr).decode("utf-8", "backslashreplace")


def _meaning(said: str) -> str:
    return next((words for text, words in SAID if text in said), "")
