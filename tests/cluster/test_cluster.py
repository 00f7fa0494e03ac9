"""The short form of the proof, in a lab of two hosts and their file server."""

from __future__ import annotations

import pytest

from tests.cluster.hosts import hosts
from tests.cluster.kernels import NoLab
from tests.cluster.proof import Proof


@pytest.mark.timeout(400)
def test_a_host_without_power_loses_nothing_and_ends_nothing_twice() -> None:
    try:
        with hosts(2, "4.2", lease=4) as those:
            found = Proof(those, 5, 1, ("power",)).cut(tasks=40, cuts=1)
    except NoLab as why:
        pytest.skip(f"no lab of hosts: {why}")
    assert found["tasks"] == 40
    assert not found["wrong"], found
