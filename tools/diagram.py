"""Print the transition diagram from the daemon's own table.

    python tools/diagram.py             the list in spool(7)
    python tools/diagram.py --dot       for Graphviz: ... --dot | dot -Tsvg > transitions.svg
    python tools/diagram.py --check     1 if man/spool.7 says something else

tools/manual.py puts the list into the page.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))

from between import find  # noqa: E402

from spoold.core.table import TABLE, TERMINAL  # noqa: E402

PAGE = HERE.parent / "man" / "spool.7"
NAME = "transitions"


def text() -> str:
    """One line a transition, in mdoc."""
    rows = [".Bd -literal -offset indent"]
    for state, events in TABLE.items():
        lines = [f"{event:<10} -> {after}" for event, after in events.items()] or ["(nothing)"]
        for number, line in enumerate(lines):
            rows.append(f"{state if number == 0 else '':<10} {line}")
    return "\n".join([*rows, ".Ed\n"])


def dot() -> str:
    """The same as a graph; events with the same way share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for state, events in TABLE.items():
        for event, after in events.items():
            arrows.setdefault((state, after), []).append(event)
    lines = ["digraph spool {", "  rankdir=LR; node [shape=box, style=rounded];"]
    lines += [f"  {state} [peripheries=2];" for state in TERMINAL]
    for (state, after), names in arrows.items():
        label = "\\n".join(names)
        lines.append(f'  {state} -> {after} [label="{label}"];')
    return "\n".join([*lines, "}\n"])


def main(words: list[str]) -> int:
    if words == ["--check"]:
        if find(PAGE.read_text(), NAME) != text():
            print(f"{PAGE.name} shows other transitions than the code: tools/manual.py")
            return 1
        return 0
    print(dot() if words == ["--dot"] else text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
