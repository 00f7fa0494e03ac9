"""Pictures of `spool dash` in a headless Chromium: of what `make demo` leaves and more, or of a spool.

    python tools/shots.py [--spool DIR] [--out tools/pictures] [--all]

Without --all the few of the README; with it every page, wide, on a phone, in the dark and on
paper. Prints how long each page took, from the request to its load event, the median of five.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(1, str(ROOT))

from spool import Spool  # noqa: E402 - found by the line above
from tests.e2e.browser import CHROMIUM, Browser  # noqa: E402 - found by the line above

PAGES = {
    "overview": "/",
    "queue": "/queue",
    "tasks": "/tasks?state=done",
    "failed": "/tasks?state=failed",
    "errors": "/errors",
    "schedule": "/schedule",
    "history": "/history",
    "nodes": "/nodes",
}
README = ("overview", "errors", "schedule")
LOOKS = {
    "readme": (1120, 800, "light"),
    "wide": (1280, 900, "light"),
    "phone": (390, 844, "light"),
    "dark": (1280, 900, "dark"),
    "print": (800, 1100, "light"),
}
TOOK = "performance.getEntriesByType('navigation')[0].loadEventEnd"
TIMES = 5


MORE = """
[recurring.nightly]
every = "30 2 * * *"
timezone = "Europe/Rome"
task = "report.day"
args = { of = 12 }
[recurring.rates]
every = "0 9,17 * * MON-FRI"
task = "fetch.page"
args = { failures = 0 }
[recurring.sweep]
every = "5m"
task = "sum.file"
args = { file = "LICENSE" }
"""


def demo(place: Path) -> subprocess.Popen[bytes]:
    """The spool of the demo in `place`, with schedules, more to do and a daemon that does it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, str(ROOT / "tools/demo.py")]
    subprocess.run(words, cwd=place, env=env, check=True, stdout=subprocess.DEVNULL)
    root = place / "demo-spool"
    with (root / "spool.toml").open("a") as file:
        file.write(MORE)
    words = [sys.executable, "-m", "spoold", "-q", "--spool", str(root), "--node", "here"]
    daemon = subprocess.Popen(words, env=env)
    with Spool(root) as spool:
        for number in range(60):
            args = {"file": "LICENSE", "pause": 1.5}
            spool.submit("pack.file", args, priority=("medium", "low")[number % 2], deadline="+10m")
        for number in range(40):
            spool.submit("report.day", {"of": 12}, at=f"+{number * 3}h")
        spool.submit("order.gift", {"order": 18})
        for name, args in (("fetch.page", {"failures": 9}), ("sum.file", {"file": "NOTES"})) * 2:
            spool.submit(name, args, retries=1, priority="high")
        while spool.status()["counts"]["failed"] < 2:
            time.sleep(0.2)
    return daemon


def serve(spool: str) -> tuple[subprocess.Popen[str], str]:
    """`spool dash`, and its address."""
    words = [sys.executable, "-m", "spool", "--spool", spool, "dash", "--json", "--listen", "0"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())["url"]


def task_page(browser: Browser, base: str) -> str | None:
    """The page of a task that has failed or is done."""
    browser.open(f"{base}/tasks?state=failed")
    return browser.js(
        "document.querySelector('main td a[href^=\"/task/\"]')?.getAttribute('href') || null"
    )


def measure(browser: Browser, url: str) -> float:
    """Milliseconds from the request until all of a page is there."""
    took = []
    for _ in range(TIMES):
        browser.open(url)
        took.append(browser.until(f"{TOOK} > 0 && {TOOK}"))
    return statistics.median(took)


def shoot(browser: Browser, url: str, path: Path, look: str) -> None:
    """One picture; a phone and paper show all of the page."""
    width, height, scheme = LOOKS[look]
    browser.size(width, height, phone=look == "phone")
    browser.media("print" if look == "print" else "", scheme)
    browser.open(url)
    browser.until("document.readyState === 'complete'")
    browser.shot(path, whole=look in ("phone", "print"))


def main() -> int:
    """Serve, look, leave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--spool", help="of which spool; left out: the demo's, made for it")
    parser.add_argument("--out", type=Path, help="where the pictures go; left out: only the times")
    parser.add_argument("--all", action="store_true", help="every page in every look")
    args = parser.parse_args()
    if CHROMIUM is None:
        print("shots: no chromium is installed", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="demo-") as place:
        daemon = None if args.spool else demo(Path(place))
        process, url = serve(args.spool or f"{place}/demo-spool")
        browser = Browser(Path(place) / "browser")
        try:
            base = url.partition("/?")[0]
            browser.open(url)
            browser.until("!document.body.innerText.includes('Reading the journal')")
            pages = dict(PAGES)
            if (path := task_page(browser, base)) is not None:
                pages["task"] = path
            for path in pages.values():
                print(f"{measure(browser, base + path):6.0f} ms  {path}", flush=True)
            if args.out is not None:
                args.out.mkdir(parents=True, exist_ok=True)
                for name in pages if args.all else README:
                    for look in LOOKS if args.all else ("readme",):
                        file = args.out / (f"{name}-{look}.png" if args.all else f"{name}.png")
                        shoot(browser, base + pages[name], file, look)
        finally:
            browser.close()
            for one in filter(None, (process, daemon)):
                one.terminate()
                one.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
