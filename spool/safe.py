"""Text from outside made safe to show on a terminal: nothing in it can move, hide or reorder."""

from __future__ import annotations

import re

# C0, DEL, C1; bidirectional controls; line and paragraph separators; lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def safe(text: object, *, keep: str = "") -> str:
    r"""The text (or str() of anything else) on one line, each unsafe character as \xNN or \uNNNN.

    `keep` names characters that may stay: "\n\t" for output of several lines.
    """
    return _UNSAFE.sub(lambda m: m[0] if m[0] in keep else _escape(m[0]), str(text))


def safe_json(text: str) -> str:
    """JSON that says the same, with no unsafe character in it."""
    return _UNSAFE.sub(lambda m: f"\\u{ord(m[0]):04x}", text)


def as_utf8(text: str) -> str:
    """Text, or a path, as JSON can hold it: bytes that are no UTF-8 are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
