"""The names in nodes/alive/: a node's sign of life is a name, a beat is a rename.

    NODE,INCARNATION,n=COUNT,l=LEASE        lives as long as COUNT changes within LEASE seconds
    NODE,INCARNATION,b=OTHER,i=INCARNATION  is dead; OTHER brings its tasks back

A beat fails exactly where somebody has declared the node dead, and one listing shows all nodes.
"""

from __future__ import annotations

import re

from msgspec import Struct

from spool.names import is_task

ORPHAN = "0"  # the incarnation of what stands in running/NODE/ though nobody of that name lives
_COUNT = re.compile(r"[0-9]{1,15}")
_INCARNATION = re.compile(r"[0-9a-z]{1,32}")


class Beat(Struct, frozen=True):
    """A node's sign of life; `lease` in whole seconds."""

    node: str
    incarnation: str
    count: int
    lease: int

    @property
    def name(self) -> str:
        """Its file name."""
        return f"{self.node},{self.incarnation},n={self.count},l={self.lease}"


class Death(Struct, frozen=True):
    """A node was declared dead; `by` and `by_incarnation` say who sees to what it left."""

    node: str
    incarnation: str
    by: str
    by_incarnation: str

    @property
    def name(self) -> str:
        """Its file name."""
        return f"{self.node},{self.incarnation},b={self.by},i={self.by_incarnation}"


def parse(name: str) -> Beat | Death | None:
    """What a name says; None where it is none of ours."""
    parts = name.split(",")
    if len(parts) != 4 or not is_task(parts[0]) or not _INCARNATION.fullmatch(parts[1]):
        return None
    node, incarnation = parts[:2]
    keys = parts[2][:2] + parts[3][:2]
    one, two = parts[2][2:], parts[3][2:]
    if keys == "n=l=" and _COUNT.fullmatch(one) and _COUNT.fullmatch(two):
        return Beat(node, incarnation, int(one), int(two))
    if keys == "b=i=" and is_task(one) and _INCARNATION.fullmatch(two):
        return Death(node, incarnation, one, two)
    return None
