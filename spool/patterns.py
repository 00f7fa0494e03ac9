"""Patterns that stand for task names: a task name in which `*` is any run of characters."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

PATTERN = r"[A-Za-z0-9*][A-Za-z0-9._*-]{0,63}"
_PATTERN = re.compile(PATTERN)


def is_pattern(text: str) -> bool:
    """Whether text is a task name or a pattern of task names."""
    return _PATTERN.fullmatch(text) is not None


def matches(pattern: str, task: str) -> bool:
    """Whether a task name is one the pattern stands for; never slow, however many stars."""
    return fnmatchcase(task, pattern)


def rank(pattern: str) -> tuple[bool, int, str]:
    """Sort key: exact names first, then the most literal characters, ties by name."""
    return "*" in pattern, pattern.count("*") - len(pattern), pattern
