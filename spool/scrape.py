"""The metrics of all nodes as one text in the format of Prometheus: each sample says of which node."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from spool import daemons, layout, look
from spool.disk import Missing, NotRegular, TooLarge, Unreadable
from spool.names import is_task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk

SUFFIX = ".metrics"
LIMIT = 16 << 20
UP = ("# HELP spool_up Whether a daemon serves the node.\n", "# TYPE spool_up gauge\n")

SAMPLE = re.compile(r"(\w+)\{(.*)\} ([0-9.e+-]+|-?inf|nan)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def samples(written: str) -> Iterator[dict[str, Any]]:
    """The name, labels and value of each sample of such a text; what is none is left out."""
    for line in written.splitlines():
        if (match := SAMPLE.fullmatch(line)) is None:
            continue
        labels = {name: re.sub(r"\\(.)", _unescaped, label) for name, label in LABEL.findall(match[2])}
        try:
            yield {"name": match[1], "labels": labels, "value": float(match[3])}
        except ValueError:
            continue


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]


def text(disk: Disk, root: str) -> str:
    """What every node has written, and whether its daemon is alive."""
    families: dict[str, tuple[list[str], list[str]]] = {"spool_up": (list(UP), [])}
    alive = {node: row["alive"] for node, row in daemons.nodes(disk, root).items()}
    written_by = {n.removesuffix(SUFFIX) for n in look.names(disk, layout.NODES) if n.endswith(SUFFIX)}
    for node in sorted(filter(is_task, alive.keys() | written_by)):
        families["spool_up"][1].append(f'spool_up{{node="{node}"}} {alive.get(node, False):d}\n')
        try:
            written = disk.read(layout.metrics(node), LIMIT).decode("utf-8", "replace")
        except (Missing, NotRegular, TooLarge, Unreadable):
            continue
        _add(families, written, node)
    return "".join(line for head, samples in families.values() if samples for line in (*head, *samples))


def _add(families: dict[str, tuple[list[str], list[str]]], written: str, node: str) -> None:
    """The families of a file, samples of a name behind each other as the format wants them."""
    family: tuple[list[str], list[str]] | None = None
    for line in written.splitlines(keepends=True):
        words = line.split(" ", 3)
        if line.startswith("# HELP ") and len(words) > 2:
            family = families.setdefault(words[2], ([], []))
        if family is None or not line.endswith("\n"):
            continue
        if line.startswith("#"):
            if not any(known.startswith(f"# {words[1]} ") for known in family[0]):
                family[0].append(line)
            continue
        name, brace, rest = line.partition("{")
        if brace:
            family[1].append(f'{name}{{node="{node}",{rest}')
        else:
            name, _, value = line.partition(" ")
            family[1].append(f'{name}{{node="{node}"}} {value}')
