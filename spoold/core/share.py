"""Which of the live nodes tries something first: the same answer on all that see the same nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool.rendezvous import weight

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


def first(key: str, live: Collection[str]) -> str:
    """The node with the highest weight for a key: when one goes, only its own share moves."""
    return max(live, key=lambda node: _weight(key, node))


def ranked(key: str, live: Iterable[str]) -> list[str]:
    """All of them, by their weights: the first one first."""
    return sorted(live, key=lambda node: _weight(key, node), reverse=True)


def _weight(key: str, node: str) -> tuple[int, str]:
    return weight(node, key), node
