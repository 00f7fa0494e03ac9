"""Bytes from outside to one JSON object, with every liberty of JSON parsers taken away."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import orjson

from spool.errors import Invalid

LIMIT = 1 << 20
DEPTH = 32

_BLANK = b" \t\r\n"
_STRING = re.compile(rb'"(?:[^"\\]+|\\.?)*+"?', re.DOTALL)  # never fails after its quote: linear
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_CUT_VALUE = re.compile(r"\s*|-|t|tr|tru|f|fa|fal|fals|n|nu|nul|\.|[eE][+-]?")
_CUT_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{0,4}\Z")
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Incomplete(Invalid):
    """The document may only be half written so far: look again later, then refuse it."""


def decode(data: bytes, *, limit: int = LIMIT, depth: int = DEPTH) -> dict[str, Any]:
    """The JSON object in data; Invalid says what is wrong with it, Incomplete that more may come.

    Refused: more than `limit` bytes or `depth` levels, anything but UTF-8, duplicate keys at any
    level, NaN, numbers outside 64 bits or a double, lone surrogates. `depth` is at most 250.
    """
    if len(data) > limit:
        _refuse(f"must be at most {limit} bytes, not {len(data)}")
    check_depth(data, "document", depth)
    try:
        doc = _DECODER.decode(data.decode())
    except UnicodeDecodeError as error:
        raise _not_utf8(data, error) from None
    except json.JSONDecodeError as error:
        raise _not_json(data, error) from None
    except ValueError:  # int() of thousands of digits
        _refuse("must hold no integer outside 64 bits")
    if type(doc) is not dict:
        raise _not_object(data)
    try:
        orjson.dumps(doc)  # what cannot be written again is found at the speed of C
    except TypeError:
        raise _unwritable(doc, "") or Invalid("document", None, "must be JSON") from None
    return doc


def decode_value(text: str | bytes, name: str) -> Any:
    """Any JSON value, held to the same rules as the value of the field `name` of an object."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    try:
        orjson.loads(data)  # one value, and nothing behind it
    except orjson.JSONDecodeError as error:
        raise Invalid(name, data.decode(errors="replace"), _why_no_value(data, error)) from None
    check_depth(data, name)
    found = decode(b"{%s:%s}" % (orjson.dumps(name), data), limit=len(data) + LIMIT)
    return found[name]


def check_depth(data: bytes, name: str, depth: int = DEPTH - 1) -> None:
    """Invalid where JSON has more levels; unless told otherwise, than a field of an object may have."""
    if data.count(b"[") + data.count(b"{") <= depth:
        return
    level = 0
    for byte in _STRING.sub(b"", data).translate(None, _NOT_BRACKETS):
        if byte in b"[{":
            level += 1
            if level > depth:
                raise Invalid(name, None, f"must be nested at most {depth} levels deep")
        else:
            level -= 1


def label(name: str) -> str:
    """A name from outside as it may stand in a message."""
    return name if _PLAIN.fullmatch(name) else ascii(name[:64])


def _refuse(rule: str, value: object = None) -> NoReturn:
    raise Invalid("document", value, rule)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Invalid(label(name), None, "must be given once, not twice")
            seen.add(name)
    return made


def _constant(text: str) -> NoReturn:
    _refuse("must hold no NaN or Infinity: they are not JSON", text)


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        _refuse("must hold no number beyond a double", text)
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant, parse_float=_number)


def _not_utf8(data: bytes, error: UnicodeDecodeError) -> Invalid:
    hint = _wrong_encoding(data)
    if hint is not None:
        return hint
    if error.reason == "unexpected end of data":
        return Incomplete("document", None, "must not end in the middle of a character")
    rule = f"must be UTF-8; byte {error.start} is not (0x{data[error.start]:02x})"
    return Invalid("document", None, rule)


def _wrong_encoding(data: bytes) -> Invalid | None:
    if data.startswith(b"\xef\xbb\xbf"):
        return Invalid("document", None, "must not start with a byte order mark: write plain UTF-8")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or 0 in data[:2] != b"\0\0":
        return Invalid("document", None, "must be UTF-8; this looks like UTF-16 or UTF-32")
    if b"\0" in data:  # perhaps a hole that a network file system has still to fill
        return Incomplete("document", None, "must hold no NUL bytes")
    return None


def _why_no_value(data: bytes, error: ValueError) -> str:
    try:
        data.decode()
    except UnicodeDecodeError as problem:
        return _not_utf8(data, problem).rule
    return f"must be JSON: {error}"


def _not_json(data: bytes, error: json.JSONDecodeError) -> Invalid:
    hint = _wrong_encoding(data)
    if hint is not None:
        return hint
    text = error.doc
    tail = text[error.pos :]
    if not data.strip(_BLANK):
        return Incomplete("document", None, "must not be empty")
    if error.msg == "Extra data" and tail.startswith("{"):
        rule = 'must be one JSON object; for many tasks in one file: {"tasks": [...]}'
        return Invalid("document", None, rule)
    if not data.lstrip(_BLANK).startswith(b"{"):
        return _not_object(data)
    where = f"line {error.lineno} column {error.colno}"
    if _may_go_on(text, tail, error.msg):
        return Incomplete("document", None, f"must be complete JSON: {error.msg} ({where})")
    return Invalid("document", None, f"must be JSON: {error.msg} ({where})")


def _may_go_on(text: str, tail: str, message: str) -> bool:
    """Whether more bytes at the end could still make this JSON."""
    if message.startswith("Unterminated string"):
        return True
    if message.startswith("Invalid \\uXXXX"):
        return _CUT_ESCAPE.search(text[-6:]) is not None
    return message != "Extra data" and _CUT_VALUE.fullmatch(tail) is not None


def _not_object(data: bytes) -> Invalid:
    many = '; for many tasks: {"tasks": [...]}' if data.lstrip(_BLANK).startswith(b"[") else ""
    return Invalid("document", None, f"must be one JSON object{many}")


def _unwritable(value: object, path: str) -> Invalid | None:
    """The first place below value that JSON in UTF-8 with 64-bit integers cannot say."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return Invalid(path, None, "must hold no lone surrogate (half of a \\uXXXX pair)")
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        return Invalid(path, value, "must be an integer within 64 bits")
    found = None
    if isinstance(value, dict):
        for name, inner in value.items():
            below = f"{path}.{label(name)}" if path else label(name)
            found = found or _unwritable(name, below) or _unwritable(inner, below)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found = found or _unwritable(inner, f"{path}[{index}]")
    return found
