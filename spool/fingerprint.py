"""Which failures are the same: the fingerprint of a task's error, from what does not change by chance.

Three things count: the task's name, the error's type, and its place. The place is the frames of the
application where the trace is one of Python's (files and functions, no line numbers, no libraries),
else the last lines that were printed, with numbers, ids, paths, times and quoted text taken out.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LENGTH = 16  # hex digits
FRAMES = 8
LINES = 3
WIDTH = 200  # characters of a normal line that count
READ = 1000  # characters of a line that are looked at
TRACE = 16_384  # characters of a trace that count, from its end
FINGERPRINT = rf"[0-9a-f]{{{LENGTH}}}"

_HEAD = "Traceback (most recent call last):"
_FRAME = re.compile(r'^[ |+]*File "([^"\n]{1,500})", line \d+(?:, in (.{1,200}))?$', re.MULTILINE)
_KIND = re.compile(r"^[ |+]{0,40}([A-Za-z_][\w.]{0,200})(?::|$)")
_LIBRARY = re.compile(r"site-packages|dist-packages|/lib(?:64)?/python\d|^<")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b.")
_SPACE = re.compile(r"\s+")
# In this order: each takes out what the ones behind it would see only parts of.
_CHANCE = (
    (re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s'\"<>]+"), "<url>"),
    (re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+"), "<mail>"),
    (re.compile(r"\"[^\"]*\"|`[^`]*`|(?<!\w)'[^']*'(?!\w)"), "<text>"),
    (re.compile(r"(?<![\w<])(?:[A-Za-z]:\\|~?/|\.{1,2}/)[^\s:;,'\"()<>]*"), "<path>"),
    (re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"), "<n>"),
    (re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<n>"),
    (re.compile(r"\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{12,}\b"), "<id>"),
    (re.compile(r"(?<![\w<])(?=[\w-]*\d[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{8,}(?![\w>])"), "<id>"),
    (re.compile(r"\d+(?:[.,:]\d+)*"), "<n>"),
)


def fingerprint(task: str, error: Mapping[str, Any]) -> str:
    """16 hex digits that are the same for failures of one kind. `error`: type, message, trace."""
    parts = "\n".join((task, _text(error.get("type")), *place(error)))
    return hashlib.sha256(parts.encode("utf-8", "backslashreplace")).hexdigest()[:LENGTH]


def place(error: Mapping[str, Any]) -> tuple[str, ...]:
    """Where it went wrong, in lines without anything that changes from one failure to the next."""
    trace = _text(error.get("trace"))[-TRACE:]
    frames = _frames(trace)
    if frames:
        return frames
    lines = [line for line in trace.splitlines() if line.strip()]
    if not lines:
        lines = _text(error.get("message"))[:TRACE].splitlines()
    return tuple(filter(None, map(normal, lines[-LINES:])))


def normal(line: str) -> str:
    """One line of text without numbers, ids, paths, addresses, times and quoted text."""
    text = _ESCAPES.sub("", line[:READ])
    for pattern, instead in _CHANCE:
        text = pattern.sub(instead, text)
    return _SPACE.sub(" ", text).strip()[:WIDTH].rstrip()


def _frames(trace: str) -> tuple[str, ...]:
    """The innermost frames of the application and the exception's class, if it is a traceback."""
    last = trace[max(0, trace.rfind(_HEAD)) :]
    found = list(_FRAME.finditer(last))
    if not found:
        return ()
    own = [m for m in found if not _LIBRARY.search(m[1])] or found
    names: list[str] = []
    for match in own:
        name = f"{_module(match[1])}:{match[2] or ''}"
        if names[-1:] != [name]:  # a recursion is one place, however deep
            names.append(name)
    return (*names[-FRAMES:], *_kind(last[found[-1].end() :]))


def _module(path: str) -> str:
    """The last two parts of a path: where it is installed is chance."""
    return "/".join(path.replace("\\", "/").split("/")[-2:])


def _kind(rest: str) -> list[str]:
    """The class of the exception: the first word behind the frames that is not their source."""
    for line in rest.splitlines()[1:]:
        if line[:1] not in (" ", "\t", "") and (match := _KIND.match(line)):
            return [match[1]]
    return []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
