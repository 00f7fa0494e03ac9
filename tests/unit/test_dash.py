"""The pages of `spool dash` without a browser: who gets in, what is escaped, what a form may ask for."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import time
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock
from urllib.parse import urlencode

import pytest

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("jinja2", reason="jinja2 is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

from spool import Spool, layout
from spool.command.main import main
from spool.dash import forms, plots, serve
from spool.dash.app import CHUNK, Dash
from spool.dash.guard import HEADERS, Guard
from spool.dash.source import Source
from spool.errors import Invalid
from spool.failures import Group, encode
from spool.init import init
from spool.names import Entry, new_id
from spool.owncopy import Task
from spool.times import HOUR, SECOND, format_utc
from tests.unit.test_client import take_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1_795_000_000 * SECOND
TOKEN = "t" * 32
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[2J\u202eevil{{7*7}}"
VOID = {"meta", "link", "input", "br", "img", "path", "rect"}


class Answer:
    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.headers = {k.decode().lower(): v.decode() for k, v in headers}
        self.body = body.decode()


class Site:
    """The application, asked without a socket."""

    def __init__(self, root: Path, *, allow: bool = False, token: str | None = TOKEN) -> None:
        self.spool = Spool(root)
        self.source = Source(self.spool)
        self.dash = Dash(self.source, allow=allow)
        self.app = Guard(self.dash.app(), token=token, hosts={"localhost"}, port=80)

    def ask(
        self, path: str, *, method: str = "GET", form: dict[str, str] | None = None, **headers: str
    ) -> Answer:
        headers = {"host": "localhost", "authorization": f"Bearer {TOKEN}", **headers}
        path, _, query = path.partition("?")
        body = urlencode(form or {}).encode()
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()], "server": ("localhost", 80),
            "scheme": "http", "root_path": "", "http_version": "1.1", "asgi": {"version": "3.0", "spec_version": "2.4"},
        }  # fmt: skip
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))  # type: ignore[arg-type]
        found = b"".join(m.get("body", b"") for m in sent[1:])
        return Answer(sent[0]["status"], sent[0]["headers"], found)

    def post(self, **form: str) -> Answer:
        return self.ask("/act", method="POST", form={"form_token": self.dash.form_token, **form})


class Tags(HTMLParser):
    """What a browser makes of a page, as far as it could do harm."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    init(str(tmp_path / "s"))
    return tmp_path / "s"


@pytest.fixture
def site(root: Path) -> Iterator[Site]:
    found = Site(root)
    yield found
    found.spool.close()


@pytest.fixture
def open_site(root: Path) -> Iterator[Site]:
    found = Site(root, allow=True)
    yield found
    found.spool.close()


def dropped(root: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in (root / "incoming").iterdir()]


PAGES = ("/", "/?range=24h", "/?range=7d", "/queue", "/tasks", "/tasks?state=failed", "/errors?all=1",
         "/errors?span=7d", "/schedule", "/history", "/nodes")  # fmt: skip


def test_what_cannot_be_read_is_said_and_ends_no_look(root: Path, site: Site) -> None:
    today = layout.journal("n", time.time_ns() // 1000)
    (root / today).mkdir(parents=True)
    site.source._look()
    assert f"{today} cannot be read: not a regular file" in site.ask("/").body
    (root / today).rmdir()
    site.source._look()
    assert "cannot be read" not in site.ask("/").body
    (root / "nodes").rename(root / "away")
    (root / "nodes").symlink_to("nodes")  # as where the disk says EIO
    site.source._look()
    assert "the pages show what was a while ago: " in site.ask("/").body


# Who gets in.


def test_without_the_token_nobody_gets_in(site: Site) -> None:
    for headers in (
        {"authorization": ""},
        {"authorization": "Bearer wrong"},
        {"authorization": "", "cookie": "spool-dash-80=x"},
    ):
        for path in ("/", "/static/dash.css", "/changes", f"/log/{new_id()}/1", "/?token=wrong"):
            assert site.ask(path, **headers).status == 401, (path, headers)
        assert site.ask("/act", method="POST", **headers).status == 401


def test_a_cookie_takes_the_place_of_the_token_and_is_good_for_this_process_alone(site: Site) -> None:
    found = site.ask(f"/queue?token={TOKEN}&task=a", authorization="")
    assert (found.status, found.headers["location"]) == (303, "/queue?task=a")
    cookie = found.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    cookie = cookie.partition(";")[0]
    assert site.ask("/queue", authorization="", cookie=cookie).status == 200
    value = cookie.partition("=")[2]
    assert site.ask("/queue", authorization=f"Bearer {value}").status == 401
    assert site.ask(f"/queue?token={value}", authorization="").status == 401
    assert site.ask("/queue", authorization="", cookie=f"spool-dash-80={TOKEN}").status == 401
    site.app = Guard(site.dash.app(), token=TOKEN, hosts={"localhost"}, port=80)
    assert site.ask("/queue", authorization="", cookie=cookie).status == 401


def test_the_token_leads_to_no_other_site(site: Site) -> None:
    assert site.ask(f"//evil.example?token={TOKEN}").headers["location"] == "/evil.example"


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "[", "127.0.0.1@evil"])
def test_a_foreign_name_for_this_host_is_refused(site: Site, host: str) -> None:
    assert site.ask("/", host=host).status == 421


def test_every_answer_tells_the_browser_to_run_nothing_of_others(site: Site) -> None:
    for path in (*PAGES, "/static/dash.js", "/nothing", f"/task/{new_id()}"):
        headers = site.ask(path).headers
        assert all(headers[name.lower()] == value for name, value in HEADERS.items()), path
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


# What is shown.


@pytest.mark.parametrize("path", PAGES)
def test_every_page_of_an_empty_spool_is_whole(site: Site, path: str) -> None:
    found = site.ask(path)
    assert found.status == 200
    assert found.body.rstrip().endswith("</html>")


def hostile(root: Path) -> tuple[str, str]:
    """A spool whose writers mean ill; the id of a task and a fingerprint."""
    entry = Entry(time=NOW, id=new_id(NOW), task="a.b", fails=1)
    path = layout.ended("failed", NOW, entry)
    from spool.owncopy import encode_task

    task = Task(
        id=entry.id, task="a.b", args={EVIL: EVIL}, at=NOW, priority="medium", retries=3, meta={"m": EVIL},
        submitted_at=NOW, uid=0, digest="0" * 64,
    )  # fmt: skip
    for place in (path, layout.own_copy(entry.id)):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(encode_task(task))
    error = {"type": EVIL, "message": EVIL, "trace": EVIL, "fingerprint": "f" * 16}
    record = {"v": 1, "event": "failed", "id": entry.id, "task": "a.b", "attempt": 1, "outcome": "error", "error": error,
              "result": EVIL, "args": {}, "meta": {}, "seconds": 1.0, "node": EVIL, "entry": path,
              "started_at": format_utc(NOW), "ended_at": format_utc(NOW), "will_retry": False}  # fmt: skip
    (root / layout.record(entry.id, 1)).parent.mkdir(parents=True, exist_ok=True)
    (root / layout.record(entry.id, 1)).write_text(json.dumps(record))
    (root / layout.log(entry.id, 1)).parent.mkdir(parents=True, exist_ok=True)
    (root / layout.log(entry.id, 1)).write_text(EVIL)
    group = Group(fingerprint="f" * 16, task=EVIL, type=EVIL, message=EVIL, place=(EVIL,), first=NOW, last=NOW,
                  count=1, versions={EVIL: 1}, nodes={EVIL: 1}, by={"uid": 1, "why": EVIL},
                  examples=[{"id": EVIL, "attempt": EVIL, "at": format_utc(NOW)}])  # fmt: skip
    (root / "errors" / f"{'f' * 16}.json").write_bytes(encode(group))
    (root / "journal/n").mkdir()
    line = {"at": format_utc(NOW), "event": EVIL, "id": entry.id, "task": EVIL, "from": "new", "to": EVIL, "node": EVIL,
            "outcome": EVIL, "error": EVIL, "type": EVIL, "by": {"uid": EVIL, "why": EVIL}, "why": EVIL}  # fmt: skip
    (root / layout.journal("n", NOW)).write_text(json.dumps(line) + "\n")
    status = {"state": EVIL, "pid": EVIL, "settings_error": EVIL, "started_at": format_utc(NOW),
              "next": {"id": EVIL, "task": EVIL, "at": format_utc(NOW), "class": EVIL},
              "gate": {"open": False, "why": EVIL}, "held_back": [{"why": EVIL, "ready": 1}],
              "running": [{"id": EVIL, "task": EVIL, "attempt": EVIL, "class": EVIL, "handler": EVIL,
                           "started_at": format_utc(NOW), "ending": EVIL,
                           "progress": {"percent": 50, "note": EVIL}}]}  # fmt: skip
    (root / "nodes/n.json").write_text(json.dumps(status))
    (root / "nodes/n.lock").write_text("")
    (root / "nodes/pauses.json").write_text(
        json.dumps([{"kind": "pause", "task": EVIL, "node": EVIL, "who": EVIL, "why": EVIL}])
    )
    (root / "outbox" / EVIL.replace("/", "|")).mkdir()
    (root / "outbox" / EVIL.replace("/", "|") / "x").write_text("")
    return entry.id, "f" * 16


def test_a_refusal_is_shown_with_its_reason_and_leads_to_a_page_that_is_there(
    root: Path, site: Site
) -> None:
    (root / "journal/n").mkdir()
    told = {"field": "foo", "rule": "is no field", "text": "foo: is no field", "uid": 7}
    line = {"at": format_utc(NOW), "event": "refuse", "id": (task_id := new_id()), "task": "a",
            "node": "n", "reason": told}  # fmt: skip
    (root / layout.journal("n", NOW)).write_text(json.dumps(line) + "\n")
    page = site.ask("/history?since=400w").body
    assert "foo: is no field" in page
    assert f"/task/{task_id}" not in page
    assert "foo: is no field" in site.ask(f"/history?id={task_id}").body


def test_nothing_a_writer_names_becomes_a_tag_or_reaches_a_terminal(root: Path) -> None:
    task_id, fingerprint = hostile(root)
    site = Site(root, allow=True)
    for node in site.source.moment.status["nodes"].values():
        node["alive"] = True
    pages = (*PAGES, f"/task/{task_id}", f"/error/{fingerprint}",
             f"/history?{urlencode({'task': EVIL, 'since': '400w'})}", f"/queue?{urlencode({'task': EVIL})}",
             f"/nothing?{urlencode({EVIL: EVIL})}")  # fmt: skip
    shown = 0
    for path in pages:
        found = site.ask(path)
        tags = Tags()
        tags.feed(found.body)
        assert tags.tags.count("script") == 1, path  # ours
        assert "img" not in tags.tags
        assert not any(name.startswith("on") or name == "style" for name in tags.attributes), path
        assert "\x1b" not in found.body
        assert "\u202e" not in found.body
        assert "evil49" not in found.body
        shown += found.body.count("evil{{7*7}}")
    assert shown > 60
    log = site.ask(f"/log/{task_id}/1")
    assert log.headers["content-type"].startswith("text/plain")
    assert "\x1b" not in log.body
    site.spool.close()


def test_a_log_is_read_in_parts_and_nothing_else_is(root: Path, site: Site) -> None:
    task_id = new_id()
    path = root / layout.log(task_id, 1)
    path.parent.mkdir(parents=True)
    path.write_text("one\ntwo\n")
    assert site.ask(f"/log/{task_id}/1").body == "one\ntwo\n"
    part = site.ask(f"/log/{task_id}/1?from=4")
    assert (part.body, part.headers["x-next"]) == ("two\n", "8")
    path.write_bytes(b"x" * (CHUNK - 1) + "é".encode() + b"two\xc3")
    read, place = [], 0
    while (part := site.ask(f"/log/{task_id}/1?from={place}")).body:
        read.append(part.body)
        place = int(part.headers["x-next"])
    assert read == ["x" * (CHUNK - 1), "étwo", "\\xc3"]
    path.unlink()
    os.mkfifo(path)
    assert site.ask(f"/log/{task_id}/1").status == 404
    path.unlink()
    path.symlink_to("/etc/passwd")
    for bad in (
        f"/log/{task_id}/1",
        f"/log/{'x' * 32}/1",
        "/log/ffffffffffff7fff8fffffffffffffff/1",
        "/task/ffffffffffff7fff8fffffffffffffff",
        f"/log/{task_id}/1?from=-1",
        "/log/../spool.toml/1",
    ):
        assert site.ask(bad).status == 404, bad


# What a form may ask for.


def test_a_read_only_page_has_no_forms_and_takes_none(root: Path, site: Site) -> None:
    site.spool.submit("a.b")
    for path in PAGES:
        assert 'method="post"' not in site.ask(path).body
    assert site.post(action="cancel", ids=new_id(), sure="1").status == 403
    assert len(dropped(root)) == 1


def test_a_form_of_another_page_is_refused(root: Path, open_site: Site) -> None:
    form = {"action": "hold", "ids": new_id()}
    assert open_site.ask("/act", method="POST", form=form).status == 403
    assert open_site.ask("/act", method="POST", form={**form, "form_token": "x"}).status == 403
    good = {**form, "form_token": open_site.dash.form_token}
    for origin in ("http://evil.example", "http://localhost:99", "null", "http://["):
        assert open_site.ask("/act", method="POST", form=good, origin=origin).status == 403
    assert dropped(root) == []
    assert open_site.ask("/act", method="POST", form=good, origin="http://localhost").status == 303
    assert [one["action"] for one in dropped(root)] == ["hold"]


def test_a_form_leads_back_to_a_page_of_ours_alone(open_site: Site) -> None:
    for back in ("//evil.example", "/\\evil.example", "http://evil.example", "javascript:alert(1)", ""):
        found = open_site.post(action="hold", ids=new_id(), back=back)
        assert found.headers["location"].startswith("/?said="), back


def test_a_form_beside_a_question_leads_back_to_where_that_does(open_site: Site) -> None:
    pause = {"kind": "pause", "task": "a.*", "node": None, "who": "ann", "why": None}
    open_site.source.moment.status["pauses"] = [pause]
    for form in ({"action": "pause"}, {"action": "none"}, {"form_token": "old"}):
        asked = open_site.post(back="/errors?span=7d", **form).body
        assert asked.count('name="back" value="/errors?span=7d"') >= 1, form
        assert 'value="/act"' not in asked
    assert open_site.ask("/act").headers["location"] == "/"


def test_a_state_that_is_none_is_refused(site: Site) -> None:
    assert site.ask("/tasks?state=evil").status == 400
    assert "what waits is in the queue" in site.ask("/tasks?state=pending").body


def test_what_cannot_be_taken_back_is_asked_about(root: Path, open_site: Site) -> None:
    task_id = new_id()
    asked = open_site.post(action="cancel", ids=task_id)
    assert asked.status == 200
    assert task_id in asked.body
    assert dropped(root) == []
    take_in(root, known := new_id(), "mail.send")
    assert f'<b>mail.send</b> <a href="/task/{known}">' in open_site.post(action="cancel", ids=known).body
    assert '<code class="whole">../x</code>' in open_site.post(action="cancel", ids="../x").body
    open_site.post(action="cancel", ids=task_id, sure="1", why="so")
    assert dropped(root) == [{"action": "cancel", "ids": [task_id], "why": "so"}]


def test_a_question_about_many_does_not_wait_until_all_are_counted(
    root: Path, open_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mail.one", "mail.two"):
        take_in(root, new_id(), name, "failed")
    assert "Retry 2 tasks?" in open_site.post(action="retry", task="mail.*", state="failed").body
    monkeypatch.setattr("spool.dash.app.COUNTING", -1)
    assert "Retry at least 2 tasks?" in open_site.post(action="retry", task="mail.*", state="failed").body
    take_in(root, new_id(), "other", "failed")
    asked = open_site.post(action="retry", task="nobody.*", state="failed").body
    assert "Retry at least 0 tasks?" in asked
    assert 'name="sure"' in asked


@pytest.mark.parametrize(
    "form",
    [
        {"action": "submit", "task": "a"},
        {"action": "ack", "ids": "x"},
        {"action": ""},
        {"action": "cancel"},
        {"action": "cancel", "ids": "x", "task": "a"},
        {"action": "hold", "ids": "x" * 2000},
    ],
)
def test_a_form_that_is_none_is_refused_in_words(
    root: Path, open_site: Site, form: dict[str, str]
) -> None:
    with pytest.raises(Invalid):
        forms.action(form)
    assert open_site.post(**form).status == 400
    assert dropped(root) == []


def test_a_form_that_is_too_long_is_refused(open_site: Site) -> None:
    assert open_site.post(action="hold", ids="x" * (2 << 20)).status == 413


# Where it listens.


def test_an_address_is_a_port_a_host_or_a_path() -> None:
    assert serve.address("80") == serve.Address(host="127.0.0.1", port=80)
    assert serve.address("[::1]:0") == serve.Address(host="::1", port=0)
    assert serve.address("unix:/x").path == "/x"
    assert [serve.address(a).local for a in ("80", "localhost:1", "unix:/x", "0.0.0.0:1")] == [
        True
    ] * 3 + [False]
    for bad in ("", "host", "host:port", "host:99999", "unix:", "²", "host:٣"):
        with pytest.raises(Invalid):
            serve.address(bad)


def test_a_socket_at_a_path_is_its_user_s_alone_and_a_stale_one_goes(tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    first = serve.bound(serve.Address(path=path))
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
    with pytest.raises(OSError, match="in use"):
        serve.bound(serve.Address(path=path))
    first.close()
    serve.bound(serve.Address(path=path)).close()
    os.unlink(path)
    (tmp_path / "sock").write_text("mine")
    with pytest.raises(OSError, match="in use"):
        serve.bound(serve.Address(path=path))


def test_a_path_that_no_socket_can_have_is_refused_with_the_reason(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dash", "--spool", str(root), "--listen", f"unix:/tmp/{'x' * 200}"]) == 69
    assert "path too long; choose another one" in capsys.readouterr().err


def test_an_address_that_is_taken_is_not_there_and_one_that_is_closed_is_not_allowed(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = serve.bound(serve.Address(host="127.0.0.1"))
    for given in (str(taken.getsockname()[1]), f"unix:{root}/none/sock"):
        assert main(["dash", "--spool", str(root), "--listen", given]) == 69
    taken.close()
    closed = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(serve, "bound", Mock(side_effect=closed))
    assert main(["dash", "--spool", str(root), "--listen", "80"]) == 77
    assert "--listen 80: Permission denied; choose another one" in capsys.readouterr().err


def test_a_token_is_kept_in_a_file_of_its_user_s_own(tmp_path: Path) -> None:
    path = tmp_path / "token"
    first = serve.token_in(str(path))
    assert len(first) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert serve.token_in(str(path)) == first
    path.chmod(0o644)
    with pytest.raises(Invalid, match="chmod 600"):
        serve.token_in(str(path))
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(Invalid, match="at least 16"):
        serve.token_in(str(path))


# Plots.


def frame(many: int) -> plots.Frame:
    starts = [NOW + n * HOUR for n in range(many)]
    return plots.Frame(
        title="T<",
        starts=starts,
        width=HOUR,
        say=str,
        clock=str,
        axis=str,
        shaded=[(NOW, NOW + HOUR)],
        shade="<",
    )


def test_plots_are_whole_whatever_the_values() -> None:
    import xml.etree.ElementTree as ET

    for values in ([], [None, None], [0, 0, 0], [1, None, 3], [1e-9, 1e9], [5] * 168):
        for draw in (plots.bars, plots.lines):
            rows = [plots.Series("<b>", values, "s-one")] * 2
            ET.fromstring(str(draw(frame(len(values)), rows)))


def test_a_value_that_stands_alone_is_a_dash_that_can_be_seen() -> None:
    drawn = str(plots.lines(frame(5), [plots.Series("a", [None, 3, None, 1, 2], "s-one")]))
    assert drawn.count("h4") == 1
    assert drawn.count("L") >= 1


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (1, 1), (1.1, 2), (3, 5), (24, 25), (26, 50), (0.03, 0.05)]
)
def test_an_axis_ends_at_a_round_number(value: float, top: float) -> None:
    assert plots.nice(value) == pytest.approx(top)


def test_an_axis_of_time_ends_at_whole_minutes_or_hours() -> None:
    assert [plots.nice(v, time=True) for v in (0.2, 31, 400, 4000, 90_000)] == [
        0.2,
        60,
        600,
        7200,
        172_800,
    ]
