"""`spool dash` with a live daemon, in a real browser where there is one: what is seen, what a click does."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import pytest

from tests.e2e.browser import CHROMIUM, Browser
from tests.e2e.live import PATIENCE, ROOT, Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Make = Callable[..., Live]

NEEDED = ("starlette", "uvicorn", "jinja2")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED),
    reason="starlette, uvicorn or jinja2 is not installed",
)
EVIL = "<script>window.evil=1</script><img src=x onerror='window.evil=1'>\x1b[2J"
HANDLERS = (
    handler(
        "long.*",
        'echo "line one"; read x < $NOTES/gate; cat $NOTES/evil; echo "line two"; sleep 600',
        retries=0,
    )
    + handler("bad.*", "cat $NOTES/evil >&2; exit 1", retries=0)
    + handler("good.*", "true")
    + handler("shop.*", notify="shop")
)
PAGES = (
    "/",
    "/queue",
    "/tasks?state=running",
    "/tasks?state=failed",
    "/errors",
    "/schedule",
    "/history",
    "/nodes",
)


class Site:
    """`spool dash` on a live spool."""

    def __init__(self, live: Live, *options: str) -> None:
        command = [sys.executable, "-m", "spool", "--spool", str(live.root), "dash", "--json"]
        self.process = subprocess.Popen(
            [*command, *(options or ("--listen", "0"))], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url: str = json.loads(self.process.stdout.readline())["url"]
        self.base = self.url.partition("/?")[0]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@pytest.fixture
def dash() -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(live: Live, *options: str) -> Site:
        made.append(Site(live, *options))
        return made[-1]

    yield make
    for site in made:
        if site.process.poll() is None:
            site.end(signal.SIGKILL)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    found = Browser(tmp_path / "browser")
    yield found
    found.close()


def busy(live: Make) -> tuple[Live, dict[str, str]]:
    """A spool with something in every state, and ids of it."""
    spool = live(HANDLERS)
    (spool.notes / "evil").write_text(EVIL)
    os.mkfifo(spool.notes / "gate")
    ids = {
        name: spool.submit(name)
        for name in ("long.one", "shop.one", "bad.one", "good.one", "nobody.home")
    }
    ids["later"] = spool.submit("good.later", args={EVIL: EVIL}, at="+1h", deadline="+2h")
    spool.entry(ids["bad.one"], "failed")
    spool.entry(ids["good.one"], "done")
    for name in ("long.one", "shop.one"):
        spool.entry(ids[name], "running")
    spool.do({"action": "progress", "id": ids["shop.one"], "attempt": 1, "percent": 40, "note": EVIL})
    until(lambda: list((spool.root / "errors").glob("*.json")), "the group of errors has a file")
    return spool, ids


def test_a_page_follows_what_happens_and_runs_nothing_it_is_told(
    live: Make, dash: Callable[..., Site], browser: Browser
) -> None:
    spool, ids = busy(live)
    browser.open(dash(spool).url)
    browser.shows("long.one", "shop.one", "40 %", "bad.one", "good.later", "Read-only")
    assert "token" not in browser.js("location.href")
    browser.js("window.kept = 1")
    spool.submit("good.more", at="+2h", priority="high")
    browser.until("document.querySelector('#tiles .tile b').innerText === '1'")
    assert browser.js("window.kept") == 1  # the page was not loaded anew

    browser.open(f"{browser.js('location.origin')}/task/{ids['long.one']}")
    browser.shows("line one", "running", "What happened")
    (spool.notes / "gate").write_text("go\n")
    browser.shows("line two", "<script>", "\\x1b[2J")
    for path in (*PAGES, f"/task/{ids['later']}", f"/task/{ids['bad.one']}"):
        browser.open(f"{browser.js('location.origin')}{path}")
        assert browser.js("document.querySelectorAll('form[method=post]').length") == 0
        assert browser.js(
            "window.evil === undefined && !document.querySelector('main img, main script')"
        ), path
    assert browser.said == []


def test_what_is_clicked_is_done_and_what_is_grave_is_asked(
    live: Make, dash: Callable[..., Site], browser: Browser
) -> None:
    spool, ids = busy(live)
    site = dash(spool, "--listen", "0", "--allow-actions")
    browser.open(site.url)
    browser.open(f"{site.base}/task/{ids['later']}")
    browser.js("[...document.querySelectorAll('button')].find((b) => b.innerText === 'Hold').click()")
    spool.entry(ids["later"], "held")
    browser.shows("hold: done")
    browser.until("[...document.querySelectorAll('button')].some((b) => b.innerText === 'Cancel')")
    browser.js("[...document.querySelectorAll('button')].find((b) => b.innerText === 'Cancel').click()")
    browser.shows("Cancel 1 task?")
    browser.js("document.querySelector('main form input[name=why]').value = '<b>no longer wanted</b>'")
    browser.js("document.querySelector('main form button').click()")
    spool.entry(ids["later"], "cancelled")
    browser.shows("cancel: done", "<b>no longer wanted</b>")

    (spool.notes / "evil").write_text("mended")
    browser.open(f"{site.base}/errors")
    browser.until("[...document.querySelectorAll('button')].some((b) => b.innerText === 'Retry all')")
    browser.js(
        "[...document.querySelectorAll('button')].find((b) => b.innerText === 'Retry all').click()"
    )
    browser.shows("Retry 1 task?", ids["bad.one"][:0])
    browser.js("document.querySelector('main form button').click()")
    browser.shows("retry: done")
    until(lambda: len(spool.records(ids["bad.one"])) == 2, "it was tried again")
    assert browser.said == []


def test_pages_are_usable_by_keyboard_on_a_phone_in_the_dark_and_on_paper(
    live: Make, dash: Callable[..., Site], browser: Browser
) -> None:
    spool, _ = busy(live)
    spool.submit("good." + "n" * 59, at="+1h")
    spool.entry(spool.submit("shop." + "W" * 59), "running")
    site = dash(spool)
    browser.open(site.url)
    browser.shows("long.one")
    browser.press("2")
    browser.shows("In the order of their turn", "good.later")
    browser.press("j")
    browser.until("document.activeElement.closest('tr')")
    browser.press("/")
    browser.until("document.activeElement.name === 'task'")

    light = browser.js("getComputedStyle(document.body).backgroundColor")
    browser.media(scheme="dark")
    assert browser.js("getComputedStyle(document.body).backgroundColor") != light
    browser.media("print")
    assert browser.js("getComputedStyle(document.querySelector('nav')).display") == "none"
    # a long table breaks between its rows
    assert browser.js("getComputedStyle(document.querySelector('table')).breakInside") == "auto"
    for width, media in ((1280, ""), (961, ""), (800, ""), (641, ""), (800, "print"), (360, "")):
        browser.media(media)
        browser.size(width, 740, phone=width == 360)
        for path in PAGES:
            browser.open(f"{site.base}{path}")
            assert browser.js("document.documentElement.scrollWidth") <= width, path
    browser.open(f"{site.base}/queue")
    for head in (
        "Class",
        "All",
        "When",
        "Deadline",
    ):  # they stand beside a name that is as long as may be
        seen = f"[...document.querySelectorAll('th')].find((th) => th.innerText === '{head}')"
        assert browser.until(f"{seen}?.getBoundingClientRect().right") <= 360, head


def test_a_stop_ends_open_pages_too(live: Make, dash: Callable[..., Site]) -> None:
    site = dash(live(HANDLERS))
    token = site.url.partition("token=")[2]
    host, _, port = site.base.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as waiting:
        waiting.sendall(
            f"GET /changes HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        until(lambda: b"data: " in waiting.recv(4096), "a first signal")
        assert site.end() == 0


@pytest.mark.parametrize(
    "begin",
    [b"", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    ids=["nothing", "half a head", "kept alive"],
)
def test_who_asks_nothing_keeps_nobody_out(live: Make, dash: Callable[..., Site], begin: bytes) -> None:
    site = dash(live(HANDLERS))
    host, _, port = site.base.removeprefix("http://").partition(":")
    with ExitStack() as those:
        for _ in range(210):
            one = those.enter_context(socket.create_connection((host, int(port))))
            one.sendall(begin)
        token = {"Authorization": f"Bearer {site.url.partition('token=')[2]}"}
        with urlopen(Request(site.base, headers=token)) as answer:
            assert answer.status == 200


def test_on_a_socket_of_its_own_it_needs_no_token(
    live: Make, dash: Callable[..., Site], tmp_path: Path
) -> None:
    path = f"{tmp_path}/sock"
    site = dash(live(HANDLERS), "--listen", f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"GET /nodes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        found = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert found.startswith(b"HTTP/1.1 200")
    assert b"here" in found
    assert site.end() == 0
    assert not os.path.exists(path)


def test_every_page_is_served(live: Make, dash: Callable[..., Site]) -> None:
    spool, ids = busy(live)
    site = dash(spool)
    token = site.url.partition("token=")[2]
    for path in (*PAGES, f"/task/{ids['bad.one']}", f"/log/{ids['long.one']}/1"):
        with urlopen(
            Request(f"{site.base}{path}", headers={"Authorization": f"Bearer {token}"})
        ) as answer:
            assert answer.status == 200, path
