"""Which of several names a key goes to: to another one only where its own goes, or a new one comes."""

from __future__ import annotations

from zlib import crc32

SPREAD = 0x9E3779B1  # odd, with bits everywhere
BITS = 0xFFFFFFFF


def weight(name: str, key: str) -> int:
    """The name with the highest one has the key; each of them has as many keys as the others.

    A checksum alone is linear: of three names that differ in a letter one would have half of all keys.
    """
    return crc32(f"{name},{key}".encode("utf-8", "surrogateescape")) * SPREAD & BITS
