"""Transitions that go to disk together: what a group holds, and how far it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spoold.core.table import RUNNING
from spoold.core.values import Drop, Message, Move, Note, Refuse, Rows, Tell, Undone
from spoold.effects import lines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spoold.core.values import Action

Writes = Move | Tell | Drop | Refuse | Note | Rows


class Group:
    """Transitions that go to disk together, and how far they have come."""

    def __init__(self, actions: list[Writes], undone: list[Undone] | None = None) -> None:
        self.moves: list[Move] = []
        self.tells: list[Message] = []
        self.drops: list[Drop] = []
        self.refusals: list[Refuse] = []
        self.rows: list[Rows] = []
        self.notes: list[Note] = []
        self.undone: list[Undone] = undone or []
        self.gone: set[int] = set()  # the same transitions
        self.step = 0
        self.named = False  # whether refusals have names of their own
        self.done: set[tuple[int, int]] = set()  # (step, part) that a full disk need not repeat
        self.refuges: dict[int, str] = {}  # where refused files go
        self.files: dict[str, None] = {}  # staged, to be synced
        self.dirs: dict[str, None] = {}  # changed, to be synced
        self.taken: dict[int, str] = {}  # where what ends or is late without having run stands
        self.given: dict[str, str] = {}  # files that come with tasks, and where they come from
        self.lines: list[tuple[str, int, bytes]] = []  # of which journal, from where on, which
        self.logged = False  # whether the redo log knows of it
        self.expected = 0  # how many were undone before it was logged
        self._taken: dict[int, Drop] = {}  # take-ins, and the action each came from
        fresh: list[Move] = []
        for action in actions:
            match action:
                case Move():
                    self.moves.append(action)
                    if action.body is not None:
                        fresh.append(action)
                case Tell():
                    self.tells.append(action.message)
                case Drop():
                    self.drops.append(action)
                    self._taken |= {id(move): action for move in fresh}
                    fresh = []
                case Refuse():
                    self.refusals.append(action)
                    self.tells.append(action.message)
                case Rows():
                    self.rows.append(action)
                case Note():
                    self.notes.append(action)
        self.tells = lines.apart(self.tells)
        self.targets = self._merge()

    def _merge(self) -> dict[int, str]:
        """Where each transition leads in the end.

        A task that comes in and starts at once is written straight to running/, and the later of the
        two transitions needs no step of its own.
        """
        targets: dict[int, str] = {}
        first: dict[str, int] = {}
        for move in self.moves:
            at = first.pop(move.source, None) if move.source is not None else None
            if at is not None and move.record is None:
                targets[at] = move.target
                first[move.target] = at
                continue
            targets[id(move)] = move.target
            if move.body is not None:
                first[move.target] = id(move)
        return targets

    def last_rows(self) -> list[Rows]:
        """The newest rows of each file."""
        return list({rows.path: rows for rows in self.rows}.values())

    def lapse(self, move: Move) -> list[Move]:
        """A start does not happen after all: its task stays where it waits, or comes in to wait."""
        gone = self.undo(move, "late")
        self.targets = self._merge()
        return gone

    def together(self, move: Move) -> list[Move]:
        """The tasks that came with this one in an action."""
        drop = self._taken.get(id(move))
        return [m for m in self.moves if m is move or (drop and self._taken.get(id(m)) is drop)]

    def undo(self, move: Move, why: str) -> list[Move]:
        """This transition, and all that build on it, do not happen; returns them."""
        gone, lost = [move], {move.target}
        start = next(i for i, m in enumerate(self.moves) if m is move)
        for later in self.moves[start + 1 :]:
            if later.source in lost:
                gone.append(later)
                lost.add(later.target)
        self.gone |= {id(m) for m in gone}
        self.undone += [Undone(m, why) for m in gone]
        self.moves = [m for m in self.moves if id(m) not in self.gone]
        # The action stays, and is looked at again.
        taken, task_id = self._taken.get(id(move)), move.entry.id if move.before != RUNNING else None
        self.drops = [d for d in self.drops if d is not taken and task_id not in d.ids]
        return gone


def groups(actions: Iterable[Action]) -> list[Group]:
    """Actions in groups such that none needs what the same group leaves behind late (step 7).

    Of two moves of one task from one place the first has it: the other, and what builds on it, did
    not happen, and nothing of it is written.
    """
    out: list[tuple[list[Writes], list[Undone]]] = [([], [])]
    left: set[str] = set()
    gone: set[str] = set()
    for action in actions:
        if isinstance(action, Move):
            if action.source is not None:
                if action.source in gone:
                    gone.add(action.target)
                    out[-1][1].append(Undone(action, "gone"))
                    continue
                gone.add(action.source)
            gone.discard(action.target)
            if action.source in left:
                out.append(([], []))
                left = set()
            if action.record is not None:
                left.add(action.target)
                if action.source is not None:
                    left.add(action.source)  # it leaves there late: nobody else may take it first
        elif not isinstance(action, Writes):
            continue
        out[-1][0].append(action)
    return [Group(part, undone) for part, undone in out if part or undone]
