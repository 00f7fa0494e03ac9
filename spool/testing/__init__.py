"""Tests of Python tasks: a throw-away spool, run in the test's own process on the daemon's real path.

    def test_welcome(spool):                        # the fixture of the pytest plugin
        signup("ada@example.org")                   # submits tasks
        spool.assert_submitted("email.welcome", to="ada@example.org")
        spool.run_ready()
        assert spool.outcome_of("email.welcome") == "ok"

Actions are dropped as files, taken in, claimed and recorded by the code of spoold itself; only the
processes and the clock are the test's. What would fail for not being JSON fails here as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spool.testing.tester import NotSubmitted, Tester

__all__ = ["NotSubmitted", "Tester"]


def __getattr__(name: str) -> Any:
    """These on first use: the plugin is loaded by every pytest, and most have nothing to do with us."""
    if name not in __all__:
        raise AttributeError(name)
    from spool.testing import tester

    return getattr(tester, name)
