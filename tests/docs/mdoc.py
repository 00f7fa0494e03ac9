"""The manual as the tests read it: sections, items of lists, marked examples."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAN = ROOT / "man"
PAGES = sorted(MAN.glob("*.[1-9]"))


def section(page: str, title: str, *, below: str = "Sh") -> str:
    """The lines below a heading, up to the next one of its kind or a higher one."""
    text = (MAN / page).read_text()
    start = text.index(f"\n.{below} {title}\n")
    ends = "Sh" if below == "Sh" else "S[hs]"
    rest = text[start + 2 :]
    end = re.search(rf"\n\.{ends} ", rest)
    return rest[: end.start()] if end else rest


def items(text: str, macro: str) -> dict[str, str]:
    """Item -> what stands below it, for items such as `.It Cm a , b`; up to the next item."""
    found: dict[str, str] = {}
    parts = re.split(r"^\.It ", text, flags=re.MULTILINE)[1:]
    for part in parts:
        head, _, body = part.partition("\n")
        words = head.split()
        if not words or words[0] != macro:
            continue
        for word in head[len(macro) :].split(" , "):
            found[word.split()[0]] = f"{head}\n{body}"
    return found


def words(text: str, macro: str) -> set[str]:
    """Every word a macro marks: `.Cm a , b` and `No Cm a`."""
    found: set[str] = set()
    for line in re.findall(rf"(?:^\.|\s){macro} (.*)", text, flags=re.MULTILINE):
        found.update(word for word in line.split() if re.fullmatch(r"[A-Za-z][\w.-]*", word))
    return found


def examples(page: str) -> list[tuple[str, str, str]]:
    """(language, programs it needs, text) of the literal blocks below `example: LANGUAGE [needs ...]`."""
    text = (MAN / page).read_text()
    pattern = r'^\.\\" example: (\w+)(?: needs (.*))?\n\.Bd .*\n((?:.*\n)*?)\.Ed$'
    found = re.findall(pattern, text, flags=re.MULTILINE)
    return [(language, needs, plain(body)) for language, needs, body in found]


def plain(text: str) -> str:
    """Literal text without what mdoc needs to be told."""
    for written, meant in (("\\e", "\\"), ("\\(dq", '"'), ("\\(aq", "'"), ("\\-", "-"), ("\\&", "")):
        text = text.replace(written, meant)
    return text
