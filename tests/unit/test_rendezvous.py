"""Nodes, and spools side by side, have shares of one size."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from spool.rendezvous import weight

KEYS = [Random(n).randbytes(16).hex() for n in range(4000)]


@pytest.mark.parametrize("names", [("n1", "n2"), ("n1", "n2", "n3"), ("a", "b", "c", "d"), "abcdefg"])
def test_each_of_several_names_has_as_many_keys_as_the_others(names: tuple[str, ...]) -> None:
    found = Counter(max(names, key=lambda name: weight(f"/srv/{name}", key)) for key in KEYS)
    fair = len(KEYS) / len(names)
    assert all(0.8 * fair < found[name] < 1.2 * fair for name in names), found


def test_only_the_share_of_a_name_that_goes_moves() -> None:
    for key in KEYS[:500]:
        first, second = sorted("abc", key=lambda name: weight(name, key), reverse=True)[:2]
        rest = [name for name in "abc" if name != first]
        assert max(rest, key=lambda name: weight(name, key)) == second
