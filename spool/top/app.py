"""Draws `spool top` and hears its keys."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import App
from textual.binding import Binding
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Footer, Input, Static

from spool.command.render import clock
from spool.errors import SpoolError
from spool.safe import safe
from spool.top.head import LINES, head
from spool.top.screens import KEYS, Ask, Page, Story
from spool.top.source import Source
from spool.top.tables import GAP, VIEWS, table, widths

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult

    from spool.client import Spool
    from spool.top.head import Line
    from spool.top.source import Picture
    from spool.top.tables import Row, Table

MOVES = {
    "f": {"position": "front"},
    "b": {"position": "back"},
    "h": {"priority": "high"},
    "m": {"priority": "medium"},
    "l": {"priority": "low"},
}
MOST = 3  # lines of what holds the queue
TALL = 24  # lines of a terminal with room for so many
CSS = f"""
Screen {{ background: ansi_default; }}
#head {{ height: auto; min-height: {LINES}; text-wrap: nowrap; text-overflow: ellipsis; }}
#views {{ height: 1; background: $panel; }}
#filter {{ height: 1; border: none; display: none; }}
DataTable {{ height: 1fr; background: ansi_default; scrollbar-size-horizontal: 0; }}
ModalScreen {{ align: center middle; }}
#ask {{ width: auto; max-width: 90%; padding: 1 2; background: $panel; border: round $accent; }}
#page {{ width: 100%; height: 100%; background: $surface; padding: 0 1; }}
"""


class Top(App[None]):
    """The application. One thread looks at the spool, this one draws."""

    CSS = CSS
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar = [
        *(Binding(str(n + 1), f"view({n})", show=False) for n in range(len(VIEWS))),
        Binding("tab,right", "step(1)", show=False, priority=True),
        Binding("shift+tab,left", "step(-1)", show=False, priority=True),
        Binding("slash", "filter", "filter", key_display="/", priority=True),
        Binding("l", "open", "log"),
        Binding("c", "change('cancel')", "cancel"),
        Binding("r", "change('retry')", "retry"),
        Binding("h", "change('hold')", "hold"),
        Binding("u", "change('release')", "release"),
        Binding("m", "move", "move"),
        Binding("p", "pause", "pause"),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("q", "quit", "quit"),
        Binding("escape", "unfilter", show=False),
    ]

    def __init__(self, spool: Spool, *, view: str, wanted: str, interval: float) -> None:
        super().__init__(ansi_color=True)
        self.animation_level = "none"  # a slow line has better things to carry
        self._source = Source(spool)
        self._view = view
        self._wanted = wanted
        self._interval = interval
        self._picture: Picture | None = None
        self._drawn: tuple[Any, ...] = ()
        self._widths: list[int] = []
        self._looking = Lock()
        self._trouble = ""  # what cannot be read, in words

    def compose(self) -> ComposeResult:
        yield Static(id="head", markup=False)
        yield Static(id="views", markup=False)
        yield DataTable(cursor_type="row", zebra_stripes=False)
        yield Input(placeholder="task name (* for any) or part of an id", id="filter")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one(DataTable).focus()
        self._look()
        self.set_interval(self._interval, self._look)

    def on_resize(self) -> None:
        self._draw()

    # Looking and drawing.

    def _look(self) -> None:
        view, wanted = self._view, self._wanted
        self.run_worker(lambda: self._looked(view, wanted), thread=True, group="look", exclusive=False)

    def _looked(self, view: str, wanted: str) -> None:
        """In a thread of its own; one look at a time."""
        if not self._looking.acquire(blocking=False):
            return
        picture, trouble = None, ""
        try:
            picture = self._source.look(view, wanted)
            trouble = self._source.trouble
        except (SpoolError, OSError) as problem:
            trouble = f"this is what was a while ago: {problem}"
        finally:
            self._looking.release()
        if self.is_running:
            self.call_from_thread(self._got, picture, trouble)

    def _got(self, picture: Picture | None, trouble: str) -> None:
        self._trouble = trouble
        self._picture = picture or self._picture
        self._draw()
        if picture is not None and picture.view != self._view:
            self._look()

    def _draw(self) -> None:
        self.query_one("#views", Static).update(self._views())
        picture = self._picture
        if picture is None:
            return
        now, width = picture.moment.now, self.size.width
        most = MOST if self.size.height >= TALL else 1
        lines = head(picture.moment, picture.flow, width, lambda us: clock(us, now), most=most)
        self.query_one("#head", Static).update(_lines(lines))
        if picture.view == self._view:
            self._fill(picture)

    def _views(self) -> Text:
        text = Text(no_wrap=True)
        for number, view in enumerate(VIEWS, 1):
            text.append(f"{number}", "dim")
            text.append(view, "bold reverse" if view == self._view else "")
            text.append(" ")
        if self._wanted:
            text.append(f"/{safe(self._wanted)} ", "yellow")
        text.append(safe(self._trouble), "red")
        return text

    def _fill(self, picture: Picture) -> None:
        found = table(self._view, picture.moment, picture.listed, self._wanted)
        if (self._view, found.rows, self.size.width) == self._drawn:
            return
        grid = self.query_one(DataTable)
        old = self._rows()
        wide = widths(found, max(1, self.size.width - grid.styles.scrollbar_size_vertical))
        same = bool(old) and [row.key for row in old] == [row.key for row in found.rows]
        same = same and wide == self._widths
        self._drawn = self._view, found.rows, self.size.width
        self._widths = wide
        if same:
            self._change(grid, old, found.rows)
        else:
            self._anew(grid, old, found)

    def _change(self, grid: DataTable[Text], old: list[Row], new: list[Row]) -> None:
        """Other cells in the same lines: only those are sent to the terminal."""
        for number, (before, row) in enumerate(zip(old, new, strict=True)):
            for column, (text, cell) in enumerate(zip(before.cells, _cells(row), strict=True)):
                if text != row.cells[column]:
                    grid.update_cell_at(Coordinate(number, column), cell)

    def _anew(self, grid: DataTable[Text], old: list[Row], found: Table) -> None:
        """Other lines: the cursor stays with what it stood on, where that is still there."""
        at = grid.cursor_row if old else 0
        offset = int(grid.scroll_offset.y) if old else 0
        grid.clear(columns=True)
        whole = [("", max(1, self.size.width - GAP))]
        heads = zip(found.heads, self._widths, strict=True) if found.rows else whole
        for name, width in heads:  # of its own accord the grid measures cells after it has shown them
            grid.add_column(Text(name, "dim"), width=width)
        for row in found.rows:
            grid.add_row(*_cells(row))
        if not found.rows:
            grid.add_row(Text(found.empty, "dim"))
        keys = [row.key for row in found.rows]
        if 0 <= at < len(old) and old[at].key in keys:
            at = keys.index(old[at].key)
        grid.move_cursor(row=min(at, max(0, len(keys) - 1)), scroll=False)
        grid.scroll_to(y=offset, animate=False, force=True)

    def _rows(self) -> list[Row]:
        """What the grid shows; none until it shows the view one is in."""
        return self._drawn[1] if self._drawn[:1] == (self._view,) else []

    def _key(self) -> str | None:
        """What the line under the cursor stands for."""
        at, rows = self.query_one(DataTable).cursor_row, self._rows()
        return rows[at].key if 0 <= at < len(rows) else None

    def _task_id(self) -> str | None:
        """The task under the cursor; of an error, its newest example."""
        key = self._key()
        if self._view != "errors" or self._picture is None:
            return None if self._view in ("nodes", "outboxes") else key
        groups = [g for g in self._picture.moment.groups if g.fingerprint == key]
        return str(groups[0].examples[0]["id"]) if groups and groups[0].examples else None

    # Keys.

    def action_view(self, number: int) -> None:
        self._view = VIEWS[number]
        self._look()
        self._draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's
        """Keys that come before all others are for typing where there is something to type."""
        if action in ("filter", "step"):
            return not (isinstance(self.screen, (Ask, Page)) or self.query_one(Input).has_focus)
        return True

    def action_step(self, by: int) -> None:
        self.action_view((VIEWS.index(self._view) + by) % len(VIEWS))

    def action_filter(self) -> None:
        box = self.query_one(Input)
        box.value = self._wanted
        box.display = True
        self.set_focus(box)  # at once: what was typed ahead is for the box

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self._unfilter(event.value.strip())

    def action_unfilter(self) -> None:
        self._unfilter("")

    def _unfilter(self, wanted: str) -> None:
        self._wanted = wanted
        self.query_one(Input).display = False
        self.set_focus(self.query_one(DataTable))
        self._look()

    def on_data_table_row_selected(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        task_id = self._task_id()
        if task_id is not None:
            self.push_screen(Story(self._source, task_id))

    def action_help(self) -> None:
        self.push_screen(Page(Text(KEYS)))

    def action_change(self, verb: str) -> None:
        key = self._key()
        if key is None or self._view in ("nodes", "outboxes"):
            return
        if self._view == "errors":
            if verb == "retry":
                self._ask_and_do("retry all that failed with this error?", verb, match={"error": key})
            return
        self._ask_and_do(f"{verb} {self._called(key)}?", verb, ids=[key])

    def action_move(self) -> None:
        key = self._key()
        if key is None or self._view not in ("waiting", "held"):
            return
        question = f"move {self._called(key)}: (f)ront (b)ack (h)igh (m)edium (l)ow"

        def answered(answer: str | None) -> None:
            if answer:
                self._do({"action": "move", "ids": [key], **MOVES[answer]})

        self.push_screen(Ask(question, "".join(MOVES)), answered)

    def action_pause(self) -> None:
        if self._picture is None:
            return
        pauses = self._picture.moment.status["pauses"]
        whole = any(not row.get("task") and not row.get("node") for row in pauses)
        verb = "resume" if whole else "pause"
        self._ask_and_do(f"{verb} the whole spool?", verb)

    def _called(self, task_id: str) -> str:
        row = next((r for r in self._rows() if r.key == task_id), None)
        return f"{row.cells[0][0]} {task_id}" if row else task_id

    def _ask_and_do(self, question: str, verb: str, **more: Any) -> None:
        def answered(answer: str | None) -> None:
            if answer == "y":
                self._do({"action": verb, **more, "why": "spool top"})

        self.push_screen(Ask(f"{question}  y/n", "y"), answered)

    def _do(self, action: dict[str, Any]) -> None:
        self._in_thread(lambda: self.call_from_thread(self._did, self._source.do(action)))

    def _in_thread(self, what: Callable[[], None]) -> None:
        self.run_worker(what, thread=True, group="do")

    def _did(self, said: str) -> None:
        self.notify(safe(said), markup=False, timeout=4)
        self._look()


def _lines(lines: list[Line]) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    for number, line in enumerate(lines):
        text.append("\n" if number else "")
        for said, style in line:
            text.append(safe(said), style)
    return text


def _cells(row: Row) -> list[Text]:
    return [Text(safe(text), style, no_wrap=True, overflow="ellipsis") for text, style in row.cells]
