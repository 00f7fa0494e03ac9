"""Failures of one kind have one fingerprint, whatever chance puts into them; others have another."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool.fingerprint import FINGERPRINT, fingerprint, normal, place

TEXT = st.text(max_size=300)
ERRORS = st.fixed_dictionaries({"type": TEXT, "message": TEXT, "trace": st.none() | TEXT})
NUMBERS = st.integers(0, 10**20)
PATHS = st.lists(st.from_regex(r"[a-z0-9_.]{1,12}", fullmatch=True), min_size=1, max_size=5)


def error(trace: str, kind: str = "exit 1") -> dict[str, str]:
    return {"type": kind, "message": trace.rstrip().rpartition("\n")[2], "trace": trace}


@given(TEXT, ERRORS)
def test_anything_has_a_fingerprint_and_always_the_same(task: str, problem: dict[str, str]) -> None:
    found = fingerprint(task, problem)
    assert re.fullmatch(FINGERPRINT, found)
    assert fingerprint(task, dict(problem)) == found


@given(st.text(max_size=400))
def test_no_number_is_left(line: str) -> None:
    assert re.search(r"\d", normal(line)) is None


@given(NUMBERS, st.uuids(), PATHS, st.datetimes(), st.text("abcxyz 0123", max_size=20))
def test_numbers_ids_paths_times_and_quoted_text_are_chance(
    number: int, an_id: uuid.UUID, parts: list[str], at: object, quoted: str
) -> None:
    def said(n: object, i: object, p: object, t: object, q: object) -> str:
        return f"{t} worker[{n}]: order {i}: cannot open {p}: no such file ({n} bytes of '{q}')\n"

    one = said(number, an_id, "/" + "/".join(parts), at, quoted)
    two = said(7, uuid.UUID(int=1 << 100), "/srv/in/cat.jpg", "2026-11-21 08:00:00", "it")
    assert fingerprint("mail.send", error(one)) == fingerprint("mail.send", error(two))


@given(st.sampled_from(["task", "type", "words"]))
def test_another_task_type_or_message_is_another_kind(what: str) -> None:
    one = fingerprint("mail.send", error("relay refused the connection"))
    other = {
        "task": lambda: fingerprint("mail.read", error("relay refused the connection")),
        "type": lambda: fingerprint("mail.send", error("relay refused the connection", "exit 2")),
        "words": lambda: fingerprint("mail.send", error("relay does not answer")),
    }[what]()
    assert one != other


TRACE = """starting
Traceback (most recent call last):
  File "/srv/app/releases/{release}/mail/send.py", line {line}, in deliver
    relay.send(message, to="{to}")
  File "/usr/lib/python3.11/site-packages/relay/client.py", line {other}, in send
    raise Refused(code)
relay.errors.Refused: 451 {to} try again in {other} s
"""


@given(NUMBERS, NUMBERS, st.from_regex(r"[0-9]{8}", fullmatch=True), st.emails())
def test_a_traceback_is_known_by_the_frames_of_the_application(
    line: int, other: int, release: str, to: str
) -> None:
    to = to.replace('"', "").replace("{", "").replace("}", "")
    text = TRACE.format(release=release, line=line, other=other, to=to)
    assert place(error(text)) == ("mail/send.py:deliver", "relay.errors.Refused")


def test_another_function_or_exception_is_another_kind() -> None:
    text = TRACE.format(release=1, line=2, other=3, to="x@y.z")
    found = {
        fingerprint("t", error(t))
        for t in (text, text.replace("in deliver", "in render"), text.replace("Refused:", "Gone:"))
    }
    assert len(found) == 3


def test_the_frames_of_libraries_count_where_there_are_no_others() -> None:
    text = 'Traceback (most recent call last):\n  File "/usr/lib/python3.11/json/decoder.py", line 1, in decode\nValueError: x\n'
    assert place(error(text)) == ("json/decoder.py:decode", "ValueError")


def test_a_recursion_is_one_place_however_deep_it_went() -> None:
    def text(depth: int) -> str:
        frame = '  File "/app/tree.py", line 3, in walk\n    walk(child)\n'
        return f"Traceback (most recent call last):\n{frame * depth}RecursionError: too deep\n"

    assert fingerprint("t", error(text(5))) == fingerprint("t", error(text(50)))


@pytest.mark.parametrize("unit", ["a1-", "'", '"', "1.", "/a", "x@", "http://", 'File "', " |+", "aA0_"])
def test_no_text_is_too_hard(unit: str) -> None:
    """Backtracking that runs away would take years for these."""
    text = unit * (65_536 // len(unit))
    assert fingerprint("t", {"type": "x", "message": text, "trace": text})
