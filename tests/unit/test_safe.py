"""Nothing that comes from outside can control the terminal it is shown on."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool.command.render import json_line
from spool.records import encode
from spool.safe import safe

BIDI = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
UNSAFE = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *BIDI]


@pytest.mark.parametrize("code", UNSAFE)
def test_every_control_is_shown_as_its_number(code: int) -> None:
    shown = safe(f"a{chr(code)}b")
    assert shown == (f"a\\x{code:02x}b" if code < 256 else f"a\\u{code:04x}b")


@pytest.mark.parametrize("code", UNSAFE)
def test_json_has_no_control_in_it_and_says_the_same(code: int) -> None:
    shown = json_line({"a": f"Zoë{chr(code)}"})
    assert safe(shown) == shown
    assert json.loads(shown) == {"a": f"Zoë{chr(code)}"}


def test_what_people_write_stays_as_it_is() -> None:
    text = "Zoë 漢字 😀 naïve c\u0327 שלום “quoted” \\ 100 %"
    assert safe(text) == text


def test_an_escape_sequence_cannot_reach_the_terminal() -> None:
    assert safe("\x1b]0;owned\x07\x9b31m") == "\\x1b]0;owned\\x07\\x9b31m"


def test_half_a_surrogate_pair_is_shown_and_can_be_printed() -> None:
    assert safe("a\udce9b").encode() == b"a\\udce9b"


def test_what_is_to_stay_stays() -> None:
    assert safe("a\n\tb\r", keep="\n\t") == "a\n\tb\\x0d"


def test_anything_else_is_shown_as_text() -> None:
    assert safe(3) == "3"
    assert safe(None) == "None"


@given(st.text(st.characters()))
def test_no_text_leaves_a_control_or_a_line_behind(text: str) -> None:
    shown = safe(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in shown)
    assert not any(ord(c) in BIDI for c in shown)
    assert len(shown.splitlines()) <= 1


@pytest.mark.parametrize("code", UNSAFE)
def test_a_record_holds_no_control(code: int) -> None:
    data = encode({"id": chr(code)})
    assert chr(code) not in data[:-1].decode()
    assert json.loads(data) == {"id": chr(code)}
