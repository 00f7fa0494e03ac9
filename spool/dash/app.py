"""The application: addresses, templates, forms, and the signal that something has changed."""

from __future__ import annotations

import asyncio
import codecs
import os
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import (
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from spool import layout, look
from spool.dash import forms, pages
from spool.dash.guard import form_token, same
from spool.disk import open_regular
from spool.errors import NoSuchTask, Refused, SpoolError, TimedOut
from spool.names import is_id
from spool.safe import safe
from spool.scene.words import number, seconds, short, spark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    from spool.dash.source import Source

BEAT = 15.0  # seconds between two signs of life
LOOK = 0.5  # seconds between two looks for news
CHUNK = 1 << 18  # bytes of a log at once
UTF8 = 4  # bytes of the longest character
LONGEST = 1 << 20  # bytes of a form
GLANCE = 2.0  # seconds that an answer is waited for
COUNTING = 0.15  # seconds in which the tasks that a form is about are counted
MOST = 1000  # of them whose ids are told
FEW = 10  # of them that are told by name, without a click
NOTES = 100  # words about what came of a form, kept until they are read


class Dash:
    """The pages of one spool."""

    def __init__(self, source: Source, *, allow: bool) -> None:
        self.source = source
        self.allow = allow
        self.form_token = form_token(secrets.token_bytes(32))
        self._notes: dict[str, str] = {}
        self.templates = Environment(
            loader=PackageLoader("spool.dash"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_harmless,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters |= {
            "number": number, "short": short, "seconds": seconds, "spark": spark, "text": text,
            "json": pretty, "query": urlencode,
        }  # fmt: skip

    def app(self) -> Starlette:
        """All addresses."""
        static = os.path.join(os.path.dirname(__file__), "static")
        page = self._page
        return Starlette(
            routes=[
                Route("/", page("overview", pages.overview)),
                Route("/queue", page("queue", pages.queue)),
                Route("/tasks", page("tasks", pages.tasks)),
                Route("/task/{id}", self.task),
                Route("/log/{id}/{attempt:int}", self.log),
                Route("/errors", page("errors", pages.errors)),
                Route("/error/{fingerprint}", self.error),
                Route("/schedule", page("schedule", pages.schedule)),
                Route("/history", page("history", pages.history)),
                Route("/nodes", page("nodes", lambda source, _: pages.nodes(source))),
                Route("/changes", self.changes),
                Route("/act", self.act, methods=["POST"]),
                Route("/act", lambda _: RedirectResponse("/", 303), methods=["GET"]),  # read again
                Mount("/static", StaticFiles(directory=static)),
            ],
            exception_handlers={404: self.missing},
        )

    def render(
        self,
        name: str,
        request: Request,
        status: int = 200,
        *,
        version: int | None = None,
        back: str | None = None,
        **values: Any,
    ) -> Response:
        """A page; `version`: of the picture its values are of. `back`: where its forms lead."""
        self.source.asked()
        note = self._notes.pop(request.query_params.get("said", ""), None)
        query = [(k, v) for k, v in request.query_params.multi_items() if k != "said"]
        back = back or request.url.path + (f"?{urlencode(query)}" if query else "")
        made = self.templates.get_template(f"{name}.html").render(
            **pages.head(self.source), page=name, allow=self.allow, form_token=self.form_token, note=note,
            back=back, version=self.source.version if version is None else version, **values,
        )  # fmt: skip
        return HTMLResponse(made, status)

    def _page(self, name: str, values: Callable[..., dict[str, Any]]) -> Callable[[Request], Response]:
        def show(request: Request) -> Response:  # not a coroutine: it runs in a thread
            version = self.source.version
            try:
                found = values(self.source, request.query_params)
            except SpoolError as problem:
                return self.render("trouble", request, 400, said=str(problem))
            return self.render(name, request, version=version, **found)

        return show

    def task(self, request: Request) -> Response:
        """All of a task's life."""
        version = self.source.version
        try:
            found = pages.task(self.source, request.path_params["id"])
        except NoSuchTask as problem:
            return self.render("trouble", request, 404, said=str(problem))
        except SpoolError as problem:
            return self.render("trouble", request, 409, said=str(problem))
        return self.render("task", request, version=version, **found)

    def error(self, request: Request) -> Response:
        """A group of errors."""
        version = self.source.version
        found = pages.error(self.source, request.path_params["fingerprint"])
        if found is None:
            return self.render("trouble", request, 404, said="no error group has this fingerprint")
        return self.render("error", request, version=version, **found)

    def log(self, request: Request) -> Response:
        """A part of a log as text, from ?from= on, with the place of the next one in X-Next."""
        task_id, attempt = request.path_params["id"], request.path_params["attempt"]
        start = request.query_params.get("from", "0")
        if not is_id(task_id) or not (start.isascii() and start.isdigit() and len(start) < 16):
            return PlainTextResponse("no such log\n", 404)
        try:
            fd = open_regular(f"{self.source.spool.path}/{layout.log(task_id, attempt)}")
        except OSError:
            return PlainTextResponse("no such log\n", 404)
        with open(fd, "rb") as file:
            file.seek(int(start))
            data = file.read(CHUNK)
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        said = safe(decoder.decode(data, final=len(data) < UTF8), keep="\n\t")
        begun = len(decoder.getstate()[0])  # of a character whose end is in the next part
        return PlainTextResponse(said, headers={"X-Next": str(int(start) + len(data) - begun)})

    def missing(self, request: Request, _: Exception) -> Response:
        """An address that is none."""
        return self.render("trouble", request, 404, said="there is no such page")

    async def changes(self, request: Request) -> Response:
        """Server-sent events: the number of the newest picture, whenever there is a new one."""

        async def told() -> AsyncIterator[str]:
            seen, still = -1, 0.0
            while not await request.is_disconnected():
                self.source.asked()
                if self.source.version != seen:
                    seen, still = self.source.version, 0.0
                    yield f"data: {seen}\n\n"
                elif still >= BEAT:
                    still = 0.0
                    yield ": still here\n\n"
                await asyncio.sleep(LOOK)
                still += LOOK

        return StreamingResponse(told(), media_type="text/event-stream")

    async def act(self, request: Request) -> Response:
        """A form: an action is dropped, as any program of this user could."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LONGEST:
                return PlainTextResponse("too large\n", 413)
        form = dict(parse_qsl(body.decode(errors="replace")))
        return await run_in_threadpool(self._act, request, form)

    def _act(self, request: Request, form: dict[str, str]) -> Response:
        back = form.get("back", "/")
        back = back if back.startswith("/") and not back.startswith(("//", "/\\")) else "/"
        if not same(form.get("form_token", ""), self.form_token):
            said = "This form is out of date: load the page again."
            return self.render("trouble", request, 403, back=back, said=said)
        if not self.allow:
            said = "These pages only show. `spool dash --allow-actions` makes them change things too."
            return self.render("trouble", request, 403, back=back, said=said)
        try:
            action = forms.action(form)
            if forms.asks(form):
                meant, whole = self._meant(action)
                named = self._named(meant or [])
                return self.render(
                    "sure",
                    request,
                    action=action,
                    form=form,
                    meant=meant,
                    named=named,
                    whole=whole,
                    back=back,
                )
            said = self._do(action)
        except SpoolError as problem:
            return self.render("trouble", request, 400, back=back, said=str(problem))
        if len(self._notes) > NOTES:
            self._notes.clear()
        name = secrets.token_urlsafe(8)
        self._notes[name] = said
        joint = "&" if "?" in back else "?"
        return RedirectResponse(f"{back}{joint}said={quote(name)}", status_code=303)

    def _meant(self, action: dict[str, Any]) -> tuple[list[str] | None, bool]:
        """(the ids an action is about, None where it is not about tasks; whether those are all)."""
        if "ids" in action:
            return list(action["ids"]), True
        if "match" not in action:
            return None, True
        from spool.match import find

        match = self.source.spool.match(action["action"], action["match"])
        found: list[str] = []
        end = time.monotonic() + COUNTING
        for ids in find(self.source.spool.disk, action["action"], match):
            found += ids
            if len(found) > MOST or time.monotonic() > end:
                return found[:MOST], False
        return found, True

    def _named(self, ids: list[str]) -> list[tuple[str, str]]:
        """(id, task name) of the tasks of a question, where they are few; no name: it is not known."""
        found = []
        for task_id in ids if len(ids) <= FEW else ():
            name = ""
            if is_id(task_id):
                with suppress(OSError, SpoolError):  # not taken in yet, or damaged
                    name = look.read_task(self.source.spool.disk, layout.own_copy(task_id)).task
            found.append((task_id, name))
        return found

    def _do(self, action: dict[str, Any]) -> str:
        verb = action["action"]
        if verb in forms.SPOOL:
            options = {k: v for k, v in action.items() if k != "action"}
            stem = self.source.spool.control(verb, **options)
        else:
            stem = self.source.spool.act(action)
        try:
            self.source.spool.carried_out(stem, GLANCE)
        except Refused as problem:
            return f"{verb} was refused: {problem.reason}"
        except TimedOut:
            return f"{verb} is asked for, and not carried out yet"
        return f"{verb}: done"


def text(value: object) -> Markup:
    """Text of several lines, harmless."""
    return Markup(escape(safe(value, keep="\n\t")))  # noqa: S704 - it is escaped right here


def pretty(value: object) -> Markup:
    """A value as JSON to read."""
    import orjson

    return text(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _harmless(value: object) -> object:
    """What every expression of a template goes through; HTML is escaped behind it."""
    if value is None:
        return ""
    return value if isinstance(value, (Markup, int, float)) else safe(value)
