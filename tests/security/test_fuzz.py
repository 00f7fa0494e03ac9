"""Whatever is dropped, the intake does not break, hang, or take more memory than its bound."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spoold.core.values import Now
from spoold.sources.intake import LARGEST
from tests.e2e.catalogue import ALL, NAMES
from tests.e2e.live import ROOT
from tests.security.fuzz import Target, looked

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
FIRM = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
documents = st.sampled_from([case.content for case in ALL if isinstance(case.content, bytes)])
file_names = st.sampled_from([case.name for case in NAMES]) | st.binary(max_size=40)
edits = st.lists(st.tuples(st.integers(0, 100), st.binary(max_size=4)), max_size=4)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(str(tmp_path))


@FIRM
@given(file_names, documents, edits)
def test_any_bytes_under_any_name_are_taken_refused_or_waited_for(
    target: Target, name: bytes, document: bytes, changes: list[tuple[int, bytes]]
) -> None:
    data = bytearray(document[:2048])
    for place, new in changes:
        data[place : place + len(new)] = new
    target.drop(name, bytes(data))


def filled(start: bytes, middle: bytes, end: bytes = b"") -> bytes:
    return start + middle * ((MIB - len(start) - len(end)) // len(middle)) + end


TASK = b'{"task": "note", "args": '
HARD = {
    "open brackets": filled(TASK, b"["),
    "open and closed": filled(TASK, b"[]", b"}"),
    "empty lists": filled(TASK + b"[0", b",[]", b"]}"),
    "empty objects": filled(TASK + b"[0", b",{}", b"]}"),
    "small objects": filled(TASK + b"[0", b',{"a":1}', b"]}"),
    "quotes": filled(TASK, b'"'),
    "backslashes": filled(TASK + b'"', b"\\"),
    "escaped quotes": filled(TASK + b'"', b'\\"', b'"}'),
    "escapes": filled(TASK + b'"', b"\\u00e9", b'"}'),
    "half escapes": filled(TASK + b'"', b"\\u"),
    "half pairs": filled(TASK + b'"', b"\\ud83d", b'"}'),
    "wide text": filled(TASK + b'"', "\U0001f600".encode(), b'"}'),
    "digits": filled(TASK, b"1", b"}"),
    "a fraction": filled(TASK + b"0.", b"3", b"}"),
    "an exponent": filled(TASK + b"1e", b"0", b"}"),
    "numbers": filled(TASK + b"[0", b",1.5", b"]}"),
    "blanks": filled(b"", b" \n"),
    "NULs": filled(TASK, b"\0"),
    "one key many times": filled(b'{"x-a":0', b',"x-a":0', b"}"),
    "many tasks": filled(b'{"tasks":[{"task":"a"}', b',{"task":"a"}', b"]}"),
    "many ids": filled(b'{"action":"cancel","ids":["x"', b',"x"', b"]}"),
    "a long name": filled(b'{"task": "', b"a", b'"}'),
    "a long backoff": filled(b'{"task": "a", "timeout": "', b"1h", b'"}'),
    "a long time": filled(b'{"task": "a", "at": "', b"2026-", b'"}'),
    "a signed text": filled(b'{"signature": "-----BEGIN SSH SIGNATURE-----", "signed": "', b"x", b'"}'),
    "a signature": filled(b'{"signed": "{}", "signature": "-----BEGIN SSH SIGNATURE-----', b"A", b'"}'),
}


@pytest.mark.parametrize("kind", HARD)
def test_the_largest_and_worst_take_no_more_memory_than_their_bound(target: Target, kind: str) -> None:
    """Time has a bound as well: what is not linear in a mebibyte never ends."""
    data = HARD[kind]
    assert MIB - 64 < len(data) <= MIB
    target.drop(b"", b'{"task": "note"}')  # what is loaded once
    target.disk.write("incoming/in.json", data)
    tracemalloc.start()
    try:
        found = list(looked(target.own))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found or target.own.unsettled
    assert peak < 100 * MIB, f"{peak / MIB:.0f} MiB"


@pytest.mark.parametrize("way", ["own", "shared"])
def test_a_round_reads_so_many_bytes_however_many_files_there_are(target: Target, way: str) -> None:
    for number in range(12):
        target.disk.write(f"incoming/in{number:02}.json", filled(TASK + b'"', b"x", b'"}'))
    intake = getattr(target, way)
    intake.ring()
    rounds = []
    while intake.busy:
        rounds.append([event.source.path for event in intake.look(Now(1 << 50, 1_000_000))])
    assert max(map(len, rounds)) == LARGEST // MIB
    assert [path for one in rounds for path in one] == [
        f"incoming/in{number:02}.json" for number in range(12)
    ]


@pytest.mark.root
@pytest.mark.skipif("os.geteuid() != 0", reason="needs root, to give files to others")
def test_large_files_of_one_keep_the_others_waiting_for_one_round(target: Target) -> None:
    for number in range(13):
        eve = number < 12
        path = f"incoming/in{number:02}.json"
        target.disk.write(path, filled(TASK + b'"', b"x", b'"}') if eve else b'{"task": "note"}')
        os.chown(path, 60103 if eve else 60101, -1, dir_fd=target.disk.fd)
    target.shared.ring()
    first: list[Any] = []
    while not first:
        first = target.shared.look(Now(1 << 50, 1_000_000))
    assert first[-1].source.path == "incoming/in12.json"
    assert len(first) <= 6


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_guided_by_the_code_it_reaches_nothing_is_found(tmp_path: Path) -> None:
    """The short form, the same each time; `make fuzz` looks for as long as one likes."""
    words = ["--runs", "2000", "--seed", "1", "--seconds", "100", "--found", f"{tmp_path}/"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.security.fuzz", *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "cov: " in done.stderr
    assert list(tmp_path.iterdir()) == []
