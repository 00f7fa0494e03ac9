"""The short form of the proof, where the environment names hosts that share a file system."""

from __future__ import annotations

import pytest

from tests.cluster.hosts import Hosts, missing
from tests.cluster.proof import Proof

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"{missing()}, see tests/cluster/hosts.py")


@pytest.mark.timeout(1200)
def test_hosts_that_are_cut_lose_nothing_and_end_nothing_twice() -> None:
    found = Proof(Hosts(), lease=10, seed=1).cut(tasks=90, cuts=2)
    assert not found["wrong"], found


@pytest.mark.timeout(1200)
def test_the_tasks_of_a_dead_host_run_on_another() -> None:
    found = Proof(Hosts(), lease=10, seed=1).takeover(1)
    assert len(found["seconds"]) == 1
