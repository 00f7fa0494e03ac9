"""The worker at work: plain functions one after the other, coroutines side by side."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from spool import layout
from spool.tasks import registry
from spool.worker import ends
from spool.worker.attempt import Attempt
from spool.worker.kept import Kept
from spool.worker.output import Output
from spool.worker.usage import Usage

if TYPE_CHECKING:
    import asyncio
    from types import FrameType

    from spool.worker.coroutines import Coroutines
    from spool.worker.line import Line

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Leave(BaseException):
    """TERM, and nothing runs: go."""


class Worker:
    """Everything the process does; functions run in its main thread."""

    def __init__(self, line: Line, hello: dict[str, Any]) -> None:
        self.line = line
        self.hello = hello
        self.root = hello["spool"]
        self.output = Output(hello["scratch"], hello["log_limit"])
        self.kept = Kept(self.root)
        self.told: dict[int, dict[str, Any]] = {}  # by their turn, which has not come yet
        self.waiting: deque[dict[str, Any]] = deque()  # their turn has come
        self.attempts: dict[tuple[str, int], Attempt] = {}
        self.running: dict[tuple[str, int], asyncio.Task[None]] = {}
        self.inside: Attempt | None = None  # a plain function, which TERM interrupts
        self.idle = False
        self.last = False  # leave after what runs
        self._listening = threading.Lock()
        self.drains = False
        self.children = 0
        self.spoilt = False  # to be replaced
        self._coroutines: Coroutines | None = None

    def run(self) -> int:
        """Import the application, serve until told to leave; an exit status."""
        signal.signal(signal.SIGTERM, self._term)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        logging.basicConfig(level=logging.INFO, format=FORMAT, stream=sys.stderr)
        try:
            if not self._import():
                return 1
            self.children = _children()
            self._serve()
        except _Leave:
            pass
        return 0

    def _import(self) -> bool:
        try:
            importlib.import_module(self.hello["module"])
            asyncs = [name for name, task in registry.REGISTRY.items() if task.is_async]
            for task in registry.REGISTRY.values():
                task.signature.compiled()
            takes = registry.takes()
            if asyncs:
                importlib.import_module("spool.worker.coroutines")
        except _Leave:
            raise
        except BaseException as problem:  # noqa: BLE001 - SystemExit in a module as well
            self.line.send({"ev": "broken", "error": ends.caught(problem)})
            return False
        said = self.output.taken()
        self.line.send({"ev": "ready", "takes": takes, "asyncs": asyncs, "said": said})
        return True

    def _serve(self) -> None:
        while self.waiting or not self.last:
            if not self.waiting:
                self.take(wait=True)
                continue
            attempt = self.attempt(self.waiting.popleft())
            if attempt.is_async and attempt.end is None:
                self._beside().run(attempt)
            else:
                self._plain(attempt)

    def _beside(self) -> Coroutines:
        """Where coroutines run; asyncio takes time and memory that plain functions need not spend."""
        if self._coroutines is None:
            from spool.worker.coroutines import Coroutines

            self._coroutines = Coroutines(self)
        return self._coroutines

    def attempt(self, message: dict[str, Any]) -> Attempt:
        """A task that is about to run, from the words about it."""
        attempt = Attempt(
            message,
            result_limit=self.hello["result_limit"],
            tell=self.line.send,
            poll=self._listen,
            checkpoints=self.kept,
            zone=self.hello["timezone"],
        )
        self.attempts[attempt.key] = attempt
        if self.drains:
            attempt.context.stopping = "drain"
        return attempt

    # Being told.

    def take(self, *, wait: bool) -> bool:
        """The next turn, if there is one: a task begins, or there is something to hear."""
        self.idle = wait
        turn = self.line.turn(wait=wait)
        self.idle = False
        if turn is None:
            return False
        if turn == 0:
            self._listen(surely=True)
            return True
        while turn not in self.told:
            with self._listening:
                if turn not in self.told:
                    self._hear(self.line.receive(wait=True))
        for number in [number for number in self.told if number < turn]:
            del self.told[number]  # spoold has taken it back
        message = self.told.pop(turn)
        self._note(message)
        self.waiting.append(message)
        return True

    def _note(self, message: dict[str, Any]) -> None:
        """It begins, for whoever comes after spoold. By path: a task may have closed any descriptor."""
        if self.hello["begun"] is None:
            return
        line = f"{message['id']}.{message['attempt']}\n".encode()
        try:
            fd = os.open(self.hello["begun"], os.O_WRONLY | os.O_APPEND)
            try:
                whole = os.write(fd, line) == len(line)
            finally:
                os.close(fd)
        except OSError:
            whole = False
        if not whole:  # no room, or no descriptor: then all have begun, for all they know
            with suppress(OSError):
                os.truncate(self.hello["begun"], 0)

    def _listen(self, *, surely: bool = False) -> None:
        if not self._listening.acquire(blocking=surely):
            return  # another thread of the task, or what TERM has interrupted, listens already
        try:
            self._hear(self.line.receive(wait=False))
        finally:
            self._listening.release()

    def _hear(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            match message["op"]:
                case "start":
                    self.told[message["turn"]] = message
                case "stop":
                    self._stop(message)
                case "drain":
                    self.drains = True
                    for attempt in self.attempts.values():
                        attempt.context.stopping = attempt.context.stopping or "drain"
                case "quit":
                    self.last = True
                case unknown:
                    raise ValueError(f"spoold says {unknown!r}, which this worker does not know")

    def _stop(self, message: dict[str, Any]) -> None:
        key = (message["id"], message["attempt"])
        attempt = self.attempts.get(key)
        if attempt is None:
            return  # it has just ended
        attempt.context.stopping = message["why"]
        if (running := self.running.get(key)) is not None:
            running.cancel()

    def _term(self, _number: int, _frame: FrameType | None) -> None:
        """TERM: what runs is to stop, why has been said on the line; nothing runs: leave."""
        if os.getpid() != self.line.owner:  # a child that a task has forked, told to end by that
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        self.last = True
        if self.inside is not None:
            self._listen()
            problem = self.inside.stopped()
            if problem is not None:
                raise problem
        elif self.idle:
            raise _Leave

    # Plain functions.

    def _plain(self, attempt: Attempt) -> None:
        began = Usage()
        self.inside = attempt
        try:
            end = attempt.run()
            self.inside = None
        except BaseException as problem:  # noqa: BLE001 - TERM came a moment after its end
            self.inside = None
            end = attempt.end or attempt.raised(problem)
        if signal.getsignal(signal.SIGTERM) != self._term:
            signal.signal(signal.SIGTERM, self._term)
        self.tell(attempt, end, began, self.settled(attempt))
        self.last |= self.spoilt

    def settled(self, attempt: Attempt) -> int:
        """What was printed becomes its log; bytes of it."""
        out, err = self.output.streams
        if len(self.running) < 2 and not (sys.stdout is out and sys.stderr is err):
            self.output.put_back()
        try:
            return self.output.settle(self.log(attempt))
        except OSError:  # the function has closed our descriptors, or the disk is full
            self.spoilt = True
            return 0

    def tell(self, attempt: Attempt, end: ends.End, began: Usage, logged: int) -> None:
        """How it ended, to spoold."""
        del self.attempts[attempt.key]
        facts = began.until_now()
        facts["log"] = layout.log(*attempt.key) if logged else None
        # Processes it has left behind end with this worker.
        self.spoilt |= not self.running and _children() > self.children
        self.line.send(
            {
                "ev": "end",
                "id": attempt.key[0],
                "attempt": attempt.key[1],
                **end,
                "began": began.at,
                "facts": facts,
                "recycle": self.spoilt,
            }
        )

    def log(self, attempt: Attempt) -> str:
        """Path of its log."""
        return os.path.join(self.root, layout.log(*attempt.key))


def _children() -> int:
    """How many children this process has; one call where there is none."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    count = 0
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children") as file:
                count += len(file.read().split())
        except OSError:
            continue  # the thread has ended, or this kernel does not tell
    return max(count, 1)
