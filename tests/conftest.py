"""What all tests share."""

import signal

import pytest
from hypothesis import HealthCheck, settings

from spool.disk import RealDisk
from spool.init import init

# A shell's background job ignores SIGINT, and so would all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Machines are shared and slow at times: no test fails because of the clock.
settings.register_profile("spool", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("spool")


def pytest_collection_modifyitems(config, items):
    """Long tests run when they are asked for by their mark."""
    if config.option.markexpr or config.option.keyword:
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@pytest.fixture
def disk(tmp_path):
    """A new spool, for who reads and writes in it by hand."""
    init(str(tmp_path / "spool"))
    found = RealDisk(str(tmp_path / "spool"))
    yield found
    found.close()
