"""A headless Chromium, driven over the pipe of its own debugging protocol: no driver, no other package."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from tests.e2e.live import PATIENCE, until

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-extensions", "--disable-background-networking", "--remote-debugging-pipe", "--mute-audio",
)  # fmt: skip


class Browser:
    """One browser with one page."""

    def __init__(self, place: Path) -> None:
        assert CHROMIUM is not None
        theirs, self._out = os.pipe()
        self._in, answers = os.pipe()
        words = [CHROMIUM, *OPTIONS, f"--user-data-dir={place}", "about:blank"]
        line = f'exec "$@" 3<&{theirs} 4>&{answers}'
        self.process = subprocess.Popen(
            ["bash", "-c", line, "bash", *words],
            pass_fds=(theirs, answers), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        os.close(answers)
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.said: list[str] = []  # errors of scripts, and what the policy has refused
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.size(1280, 900)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command, and its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                assert "error" not in found, (method, found["error"])
                result: dict[str, Any] = found["result"]
                return result
            self._heard(found)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._in, 1 << 16)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _heard(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Runtime.exceptionThrown":
            self.said.append(str(message["params"]["exceptionDetails"]))
        if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.said.append(message["params"]["entry"]["text"])

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Of what is shown."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )

    def media(self, media: str = "", scheme: str = "light") -> None:
        """Screen or print; light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def open(self, url: str) -> None:
        """Load a page."""
        self.call("Page.navigate", url=url)
        self.ready()

    def ready(self) -> None:
        """Wait until the page is whole."""
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, code: str) -> Any:
        """What an expression is in the page."""
        found = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, (code, found["exceptionDetails"])
        return found["result"].get("value")

    def until(self, code: str, within: float = PATIENCE) -> Any:
        """Wait until an expression is true."""

        def look() -> Any:
            try:
                return self.js(code)
            except AssertionError as problem:
                if "context" in str(problem) or "navigat" in str(problem):
                    return None  # between two pages
                raise

        return until(look, code, within)

    def text(self) -> str:
        """What a reader sees."""
        found: str = self.js("document.body.innerText")
        return found

    def shows(self, *texts: str) -> None:
        """Wait until all of it is to be seen."""
        self.until(f"{json.dumps(texts)}.every((text) => document.body?.innerText.includes(text))")

    def press(self, key: str) -> None:
        """A key, once the page listens to it."""
        self.ready()
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        code = {"windowsVirtualKeyCode": 13} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                **(text if kind == "keyDown" else {}),
                **code,
            )

    def shot(self, path: Path, *, whole: bool = False) -> None:
        """A picture of it as PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """End it."""
        os.close(self._out)
        os.close(self._in)
        os.killpg(self.process.pid, 9)
        self.process.wait(PATIENCE)
