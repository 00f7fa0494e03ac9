"""A pipe that nobody reads: what is written waits once, then goes, and is counted."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from spoold import unread
from spoold.unread import AT_ONCE, Unread

if TYPE_CHECKING:
    import pytest


def drained(fd: int) -> bytes:
    os.set_blocking(fd, False)
    found = b""
    try:
        while data := os.read(fd, 1 << 16):
            found += data
    except BlockingIOError:
        pass
    return found


def test_what_nobody_reads_is_counted_and_what_is_read_again_keeps_its_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unread, "PATIENCE", 1)
    reader, writer = os.pipe()
    stream = io.BufferedWriter(Unread(writer))
    line = b"x" * 99 + b"\n"
    for _ in range(10_000):  # far more than a pipe holds
        stream.write(line)
        stream.flush()
    kept = drained(reader)
    assert set(kept.splitlines(keepends=True)) == {line}
    stream.write(b"a\n" + b"b" * 3 * AT_ONCE + b"\n")
    stream.flush()
    lines = drained(reader).splitlines()
    missed = 10_000 - len(kept) // len(line)
    assert lines[0].decode() == f"spoold: {missed} lines were not written: nobody read standard error"
    assert lines[1:] == [b"a", b"b" * 3 * AT_ONCE]
    os.close(reader)
    os.close(writer)
