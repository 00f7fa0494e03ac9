"""What lies over the table of `spool top`: a question, a task with its log, the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from spool.safe import safe

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.events import Key

    from spool.top.source import Source

KEYS = """\
1-9, Tab   another view            /    filter by name (* for any) or id
Enter, l   the task, with its log  Esc  away with filter or window
c  cancel                          r    retry; of an error: all that failed so
h  hold                            u    release
m  move: front, back, class        p    pause the spool, or resume
q  quit                            arrows, PgUp, PgDn, Home, End

A full bar is what the task says of itself; a dim one is the share of the
time that its name usually takes. Whatever changes something drops a file,
as any program may.

The second line counts what stands where: waiting by class, held, running,
done, failed, cancelled. p50/p95: half of all, and 95 in 100, took at most
so long to get their turn, and to run.
"""


class Ask(ModalScreen[str | None]):
    """A question that one key answers: the key, None for any other."""

    def __init__(self, question: str, keys: str) -> None:
        super().__init__()
        self._question = question
        self._keys = keys

    def compose(self) -> ComposeResult:
        yield Static(Text(safe(self._question)), id="ask", markup=False)

    def on_key(self, event: Key) -> None:
        event.stop()
        key = (event.character or "").lower()
        self.dismiss(key if key and key in self._keys else None)


class Page(ModalScreen[None]):
    """Some text to read."""

    BINDINGS: ClassVar = [("escape,q,enter,l,question_mark", "dismiss", "back")]

    def __init__(self, text: Text) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="page"):
            yield Static(self._text, id="text", markup=False)


class Story(Page):
    """A task and the end of its log, read again and again."""

    def __init__(self, source: Source, task_id: str) -> None:
        super().__init__(Text("..."))
        self._source = source
        self._asked = task_id
        self._shown = ""

    def on_mount(self) -> None:
        self._again()
        self.set_interval(1.0, self._again)

    def _again(self) -> None:
        lines, log = self._source.story(self._asked)
        text = "\n".join(map(safe, lines)) + ("\n\n" + safe(log, keep="\n\t") if log else "")
        if text != self._shown:
            place = self.query_one("#page", VerticalScroll)
            at_end = place.scroll_offset.y >= place.max_scroll_y
            self.query_one("#text", Static).update(Text(text))
            if at_end and self._shown:
                place.scroll_end(animate=False)
            self._shown = text
