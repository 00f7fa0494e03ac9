"""Write what the manual takes from the code into its pages: transitions, fields of actions, crash table.

    python tools/manual.py              write them
    python tools/manual.py --check      1 where a page says something else than the code, and what

The places are between two comments: `generated: NAME` and `end of NAME`.
"""

import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))

import crash_table  # noqa: E402
import diagram  # noqa: E402
from between import find, replace  # noqa: E402

from spool.fields import TAKES  # noqa: E402

MAN = HERE.parent / "man"
WIDTH = 66


def actions() -> str:
    """Every action with its fields, those that may be left out in brackets, as mdoc."""
    out = [".Bd -literal -offset indent"]
    for action, rows in TAKES.items():
        line = f"{action:<9}"
        for row in sorted(rows.values(), key=lambda row: not row.required):
            word = row.name if row.required else f"[{row.name}]"
            if len(line) + 1 + len(word) > WIDTH:
                out.append(line)
                line = " " * 9
            line += f" {word}"
        out.append(line)
    return "\n".join([*out, ".Ed\n"])


BLOCKS = {
    "transitions": ("spool.7", diagram.text),
    "actions": ("spool.5", actions),
    "crash table": ("spool.5", crash_table.table),
}


ADVICE = "read the difference first: a promise changes with it; where that is meant, run tools/manual.py"


def difference(page: str, code: str) -> Iterator[str]:
    """What the code says otherwise, line by line."""
    return difflib.unified_diff(
        page.splitlines(), code.splitlines(), "the page", "the code", lineterm="", n=1
    )


def main(words: list[str]) -> int:
    wrong = 0
    for name, (page, made) in BLOCKS.items():
        path = MAN / page
        old, text = path.read_text(), made()
        if find(old, name) == text:
            continue
        wrong = 1
        if words == ["--check"]:
            print(*difference(find(old, name), text), sep="\n")
            print(f"{page}: {name}: the code says something else; {ADVICE}")
        else:
            path.write_text(replace(old, name, text))
            print(f"{page}: {name} written")
    return wrong if words == ["--check"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
