"""What a dead node left in running/NODE/ goes back to the queue, or to the node that sees to it.

The same as what the node itself would do at its next start (`recover`), under its own name: what is on
record is rolled forward, the rest are lost attempts. What a parent works at goes on: it moves to the
directory of the node that does this. Done once more, after a crash at any step, it comes to the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from spool import layout
from spool.disk import Missing
from spoold.core.decide import decide
from spoold.core.state import State
from spoold.effects.group import groups
from spoold.effects.store import Store
from spoold.recovery import recover

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from spool.disk import Disk
    from spool.settings import Settings
    from spoold.core.values import Action, Now, Recovered


def reclaim(  # noqa: PLR0913 - whose, by whom, and what is known
    disk: Disk, dead: str, node: str, settings: Settings, now: Now, begun: Container[str] | None = None
) -> Iterator[Recovered]:
    """Bring running/DEAD/ in order for good; tells what `node` has to look after from now on.

    Call it for a node that was declared dead, while nobody of that name can begin. What was told before
    an OSError is not told once more by the next try.
    """
    store = Store(disk, dead, durable=settings.durability == "durable")
    state = State(dead, settings, 1)
    actions: list[Action] = []
    theirs: list[Recovered] = []  # that parents work at
    for event in recover(disk, store, settings, begun):
        if event.place.entry.timeout is None:
            actions += decide(state, event, now)
        else:
            theirs.append(event)
    for group in groups(actions):
        store.perform(group, now.wall)
    for event in theirs:
        if (mine := _adopt(disk, event, node)) is not None:
            yield mine
    if theirs and store.durable:
        disk.sync_dirs([f"{layout.RUNNING}/{node}", store.stage_dir])


def _adopt(disk: Disk, event: Recovered, node: str) -> Recovered | None:
    path = layout.running(node, event.place.entry)
    try:
        disk.move(event.place.path, path)
    except Missing:
        return None  # its node, thawed for a moment, was faster
    return replace(event, place=replace(event.place, path=path, node=node))
