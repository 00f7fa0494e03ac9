"""Handlers as real processes: each ends with a report, and nothing of it outlives that report."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import queue
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from spoold.effects import leftovers
from spoold.effects.leftovers import kill_leftovers
from spoold.effects.reports import Event, Exited, KeeperLost, NotStarted, Returned, Started
from spoold.effects.runner import Place, Runner, RunnerError
from spoold.keeper import NAME, loop, proc
from spoold.keeper.attempt import Attempt
from spoold.keeper.lanes import Lanes
from spoold.keeper.loop import Keeper
from spoold.keeper.orders import StartOrder
from spoold.keeper.proc import environ, kill_below
from spoold.keeper.spawn import prepare, spawn
from spoold.keeper.wire import LINE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
PATH = "/usr/local/bin:/usr/bin:/bin"
LONG = 20.0  # seconds: how long a test waits for what never takes so long
FOREVER = "1000"
MINE = f"{os.getpid()}-"  # so that runs of this file side by side do not see each other


class Handlers:
    """A runner, and the words the tests use."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.folder = folder
        self.runner = Runner(**options)  # type: ignore[arg-type]
        self.runner.start_keeper()
        self.seen: list[Event] = []
        self.niceness: dict[str, int | str] = {}  # of all its handlers

    def log(self, key: str) -> Path:
        return self.folder / "logs" / "day" / f"{key}.log"

    def start(
        self,
        *argv: str,
        key: str = "T.1",
        env: dict[str, str] | None = None,
        cwd: str | None = None,
        stdin: str = "",
        log: str | None = None,
        limit: int = 1 << 20,
        **niceness: int | str,
    ) -> None:
        task, _, attempt = key.partition(".")
        env = {"PATH": PATH, "SPOOL_ID": MINE + task, "SPOOL_ATTEMPT": attempt} if env is None else env
        log = str(self.log(key)) if log is None else log
        niceness = self.niceness | niceness
        self.runner.start(key, argv, env, cwd, stdin, log, limit, niceness=niceness)
        self.runner.flush()

    def shell(self, script: str, **options: object) -> None:
        self.start("sh", "-c", script, **options)  # type: ignore[arg-type]

    def wait(self, wanted: Callable[[Event], bool]) -> Event:
        """The first event that is wanted, seen already or not."""
        until = time.monotonic() + LONG
        while True:
            for event in self.seen:
                if wanted(event):
                    return event
            left = until - time.monotonic()
            assert left > 0, f"not seen within {LONG} s; seen: {self.seen[-5:]}"
            select.select([self.runner.fileno()], [], [], left)
            self.seen += self.runner.events()

    def exited(self, key: str = "T.1") -> Exited:
        event = self.wait(lambda e: isinstance(e, (Exited, NotStarted)) and e.key == key)
        assert isinstance(event, Exited), event
        return event

    def refused(self, key: str = "T.1") -> NotStarted:
        event = self.wait(lambda e: isinstance(e, (Exited, NotStarted)) and e.key == key)
        assert isinstance(event, NotStarted), event
        return event

    def pid(self, key: str = "T.1") -> int:
        event = self.wait(lambda e: isinstance(e, Started) and e.key == key)
        assert isinstance(event, Started)
        return event.pid


@pytest.fixture
def handlers(tmp_path: Path) -> Iterator[Handlers]:
    made = Handlers(tmp_path)
    yield made
    made.runner.close()


@pytest.fixture(params=[{}, {"nice": 1}], ids=["spawned", "forked"])
def either(handlers: Handlers, request: pytest.FixtureRequest) -> Handlers:
    """Handlers that are started in either way: with limits it is another one."""
    handlers.niceness = request.param
    return handlers


class Watched:
    """A process that is awaited by its pidfd, so never another one with its number."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.fd = os.pidfd_open(pid)

    def dies_within(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def lives(self) -> bool:
        return not self.dies_within(0)


class Fifo:
    """Where processes say their numbers, one line of words each, and wait for a go if they ask."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self.fd = os.open(path, os.O_RDWR)  # both ends: never an end of file
        self.text = b""
        self.go = f"{path}.go"
        os.mkfifo(self.go)
        self.go_fd = os.open(self.go, os.O_RDWR)

    def line(self) -> list[str]:
        while b"\n" not in self.text:
            assert select.select([self.fd], [], [], LONG)[0], "nobody said anything"
            self.text += os.read(self.fd, 4096)
        line, _, self.text = self.text.partition(b"\n")
        return line.decode().split()

    def watched(self) -> list[Watched]:
        return [Watched(int(word)) for word in self.line()]

    def release(self) -> None:
        """Let go on who reads a line from `go`."""
        os.write(self.go_fd, b"go\n")

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.go_fd)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Fifo]:
    made = Fifo(tmp_path / "fifo")
    yield made
    made.close()


# --- a handler's life ---


def test_a_handler_that_ends_well_is_reported_with_what_it_used(either: Handlers) -> None:
    either.start("true")
    done = either.exited()
    assert (done.exit, done.signal, done.logged) == (0, None, 0)
    assert done.log_error is None
    assert 0 < done.seconds < LONG
    assert done.rss > 100_000
    assert 0 <= done.cpu < LONG
    assert not either.log("T.1").exists(), "no output, no log"


@pytest.mark.parametrize("code", [1, 75, 255])
def test_the_exit_code_is_reported(either: Handlers, code: int) -> None:
    either.shell(f"exit {code}")
    assert (either.exited().exit, either.exited().signal) == (code, None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGPIPE])
def test_the_signal_that_ended_it_is_reported(either: Handlers, number: int) -> None:
    either.shell(f"kill -{int(number)} $$")
    assert (either.exited().exit, either.exited().signal) == (None, number)


def test_what_has_ended_is_not_told_to_have_started(handlers: Handlers) -> None:
    handlers.start("true")
    handlers.exited()
    handlers.start("sleep", "60", key="U.1")
    handlers.pid("U.1")
    assert [type(event) for event in handlers.seen] == [Exited, Started]


def test_a_key_can_be_used_again_after_its_report(handlers: Handlers) -> None:
    handlers.start("true")
    handlers.exited()
    handlers.seen.clear()
    handlers.start("false")
    assert handlers.exited().exit == 1


def test_a_key_in_use_is_refused_on_the_spot(handlers: Handlers) -> None:
    handlers.start("true")
    with pytest.raises(RunnerError):
        handlers.start("true")


@pytest.mark.parametrize("size", [0, 10, 1 << 20])
def test_stdin_holds_the_text_and_ends(either: Handlers, size: int) -> None:
    either.start("cat", stdin="ä" * size, limit=1 << 22)
    assert either.exited().logged == 2 * size
    if size:
        assert either.log("T.1").read_text() == "ä" * size


def test_args_of_any_size_there_may_be_fit_into_an_order(handlers: Handlers) -> None:
    size = 33 << 20  # each with a backslash before it on the way
    handlers.start("wc", "-c", stdin='"' * size)
    assert handlers.exited().tail.strip() == str(size)


def test_each_reads_its_own_socket_though_the_keeper_was_slow_to_take_the_orders(
    handlers: Handlers,
) -> None:
    handlers.start("true", key="first.1")
    handlers.exited("first.1")  # the keeper is up
    os.kill(handlers.runner.keeper_pid, signal.SIGSTOP)
    handlers.start("true", stdin="x" * 1_000_000, key="big.1")
    for key in ("a", "b", "c"):
        ours, theirs = socket.socketpair()
        with ours:
            ours.sendall(key.encode())
        env = {"PATH": PATH, "SPOOL_ID": MINE + key, "SPOOL_ATTEMPT": "1"}
        handlers.runner.start(f"{key}.1", ["cat"], env, None, "", str(handlers.log(key)), 1 << 20, theirs)
        handlers.runner.flush()
    os.kill(handlers.runner.keeper_pid, signal.SIGCONT)
    assert [handlers.exited(f"{key}.1").tail for key in ("a", "b", "c")] == ["a", "b", "c"]


def test_the_environment_is_exactly_what_was_given(either: Handlers) -> None:
    either.start("/usr/bin/env", env={"A": "1", "LONG": "x" * 1000, "BYTES": os.fsdecode(b"\xff")})
    either.exited()
    lines = either.log("T.1").read_bytes().splitlines()
    assert sorted(lines) == [b"A=1", b"BYTES=\xff", b"LONG=" + b"x" * 1000]


def test_only_stdin_and_the_output_pipe_are_inherited(either: Handlers) -> None:
    for n in range(3):  # more descriptors in the keeper that must not leak
        either.shell("echo x; read never < /dev/zero", key=f"other{n}.1")
    script = "import os\nfor fd in os.listdir('/proc/self/fd'): print(fd)"
    either.start(sys.executable, "-S", "-c", script)
    assert either.exited().tail.split() == ["0", "1", "2", "3"]  # 3: the listing itself


def test_a_handler_leads_its_own_session_and_no_signal_is_blocked_or_ignored(either: Handlers) -> None:
    either.start("grep", "-E", "^(Pid|NSsid|SigBlk|SigIgn)", "/proc/self/status")  # sh would unblock them
    _, pid, _, session, _, blocked, _, ignored = either.exited().tail.split()
    internal = 1 << 31 | 1 << 32  # 32 and 33 are glibc's own
    assert int(blocked, 16) == int(ignored, 16) & ~internal == 0
    assert session == pid


def test_no_new_privileges_where_asked(tmp_path: Path) -> None:
    handlers = Handlers(tmp_path, no_new_privs=True)
    handlers.shell("grep NoNewPrivs /proc/self/status")
    assert handlers.exited().tail.split() == ["NoNewPrivs:", "1"]
    handlers.runner.close()


def test_it_runs_in_its_directory_and_the_next_one_in_the_root(either: Handlers, tmp_path: Path) -> None:
    either.start("pwd", cwd=str(tmp_path))
    either.start("pwd", key="U.1")
    assert either.exited().tail == f"{tmp_path}\n"
    assert either.exited("U.1").tail == "/\n"


def test_a_program_that_is_not_there_is_named_though_its_name_is_no_text(handlers: Handlers) -> None:
    name = os.fsdecode(b"/nowhere/\xff")
    handlers.start(name)
    assert handlers.refused().error.startswith(f"{name}: ")


def test_a_program_is_looked_up_on_the_path_of_the_task(either: Handlers, tmp_path: Path) -> None:
    program = tmp_path / "only-here"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    either.start("only-here", env={"PATH": f"/nowhere:{tmp_path}"})
    assert either.exited().tail == "found\n"


# --- output ---


def test_both_outputs_come_to_the_log_in_order(handlers: Handlers) -> None:
    handlers.shell("echo one; echo two >&2; echo three")
    done = handlers.exited()
    assert handlers.log("T.1").read_text() == done.tail == "one\ntwo\nthree\n"
    assert done.logged == 14
    assert handlers.log("T.1").stat().st_mode & 0o777 == 0o640  # less what spoold masks


def test_output_over_the_limit_is_cut_and_says_so(handlers: Handlers) -> None:
    handlers.shell("printf 0123456789abcdef; exit 7", limit=10)
    done = handlers.exited()
    assert (done.exit, done.logged) == (7, 10)
    assert done.tail == "0123456789abcdef", "the tail is that of all output"
    assert handlers.log("T.1").read_text() == "0123456789\n[spool: output truncated after 10 bytes]\n"


def test_output_of_exactly_the_limit_is_whole(handlers: Handlers) -> None:
    handlers.shell("printf 0123456789", limit=10)
    assert handlers.exited().logged == 10
    assert handlers.log("T.1").read_text() == "0123456789"


def test_huge_output_without_a_newline_is_read_to_its_end(handlers: Handlers) -> None:
    handlers.shell("head -c 50000000 /dev/zero | tr '\\0' x; echo end", limit=100_000)
    done = handlers.exited()
    assert (done.exit, done.logged) == (0, 100_000)
    assert done.tail == "x" * 4092 + "end\n"
    assert handlers.log("T.1").stat().st_size == 100_000 + len(
        "\n[spool: output truncated after 100000 bytes]\n"
    )


def test_bytes_that_are_no_text_are_escaped_in_the_tail_and_kept_in_the_log(handlers: Handlers) -> None:
    handlers.shell(r"printf '\377\000\033'")
    assert handlers.exited().tail == "\\xff\x00\x1b"
    assert handlers.log("T.1").read_bytes() == b"\xff\x00\x1b"


def test_a_log_that_exists_is_continued(handlers: Handlers) -> None:
    for _ in range(2):
        handlers.shell("echo again")
        handlers.exited()
        handlers.seen.clear()
    assert handlers.log("T.1").read_text() == "again\nagain\n"


@pytest.mark.parametrize(
    "log", ["/proc/x/y.log", "/dev/full", "/dev/null/x", "bad\0name", "{tmp}/link", "{tmp}/fifo"]
)
def test_a_log_that_cannot_be_written_hurts_nobody(handlers: Handlers, tmp_path: Path, log: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / "fifo")
    handlers.shell("head -c 300000 /dev/zero; echo end", log=log.format(tmp=tmp_path))
    done = handlers.exited()
    assert (done.exit, done.logged, done.tail[-4:]) == (0, 0, "end\n")
    assert done.log_error
    assert not (tmp_path / "victim").exists()


# --- what is no handler ---


def _script(folder: Path, text: str, mode: int = 0o755) -> str:
    path = folder / "script"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("argv", "options", "says"),
    [
        ([], {}, "argv"),
        (["/bin/true", "a\0b"], {}, "null"),
        (["\0"], {}, "on PATH"),
        (["/bin/true", "\ud800"], {}, "surrogates"),
        ([""], {}, "empty"),
        (["/nowhere/at/all"], {}, "No such file"),
        (["no-such-program"], {}, "on PATH"),
        (["/"], {}, "Permission denied"),
        (["/etc/passwd"], {}, "Permission denied"),
        (["/bin/true", "x" * 200_000], {}, "too long"),
        (["/bin/true"], {"cwd": "/nowhere"}, "/nowhere"),
        (["/bin/true"], {"cwd": "/etc/passwd"}, "Not a directory"),
        (["/bin/true"], {"env": {"": "x"}}, "env"),
        (["/bin/true"], {"env": {"A=B": "x"}}, "env"),
        (["/bin/true"], {"env": {"A": "x\0"}}, "null"),
        (["/bin/true"], {"env": {"A": 1}}, "env"),
        (["/bin/true", 1], {}, "argv"),
        (["/bin/true"], {"limit": -1}, "log_limit"),
        (["/bin/true"], {"stdin": "\ud800"}, "surrogates"),
    ],
)
def test_what_cannot_be_started_is_refused_in_words_and_the_next_one_runs(
    either: Handlers, argv: list[str], options: dict[str, object], says: str
) -> None:
    either.start(*argv, **options)  # type: ignore[arg-type]
    assert says in either.refused().error
    either.start("true", key="next.1")
    assert either.exited("next.1").exit == 0


def test_argv_that_is_one_string_is_refused_not_taken_apart(handlers: Handlers) -> None:
    handlers.runner.start("T.1", "true", {}, None, "", "/dev/null", 1)
    handlers.runner.flush()
    assert "argv" in handlers.refused().error


def test_a_script_without_a_first_line_is_refused_with_the_remedy(
    either: Handlers, tmp_path: Path
) -> None:
    either.start(_script(tmp_path, "echo hello\n"))
    assert "#!/bin/sh" in either.refused().error


def test_a_missing_interpreter_is_named_as_such(either: Handlers, tmp_path: Path) -> None:
    either.start(_script(tmp_path, "#!/no/such/python\n"))
    assert "interpreter" in either.refused().error


def test_without_descriptors_starts_are_refused_and_go_on_later(handlers: Handlers) -> None:
    handlers.start("true", key="first.1")
    handlers.exited("first.1")  # the keeper is up
    resource.prlimit(handlers.runner.keeper_pid, resource.RLIMIT_NOFILE, (40, 40))
    for n in range(60):
        handlers.shell("echo x; exec sleep 1000", key=f"{n}.1")
    refused = handlers.wait(lambda e: isinstance(e, NotStarted))
    assert isinstance(refused, NotStarted)
    assert "Too many open files" in refused.error
    handlers.wait(lambda e: isinstance(e, Started | NotStarted) and e.key == "59.1")  # nobody is in line
    for key in ("0.1", "1.1"):  # a log that is late takes some of what the first leaves
        handlers.runner.kill(key, 0)
        handlers.exited(key)
    handlers.start("true", key="last.1")
    assert handlers.exited("last.1").exit == 0


def test_streams_that_cannot_be_put_in_place_are_an_error_and_not_those_of_the_keeper() -> None:
    order = StartOrder(json.loads(ordered("a.1", "/bin/true")))
    least = min(prepare(order))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (least, most[1]))  # after they were made
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            spawn(order)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)


def test_what_runs_leaves_descriptors_to_those_who_kill(either: Handlers) -> None:
    either.start("true", key="first.1")
    either.exited("first.1")  # the keeper is up
    keeper = either.runner.keeper_pid
    resource.prlimit(keeper, resource.RLIMIT_NOFILE, (40, 40))
    for n in range(40):
        either.start("sleep", FOREVER, key=f"{n}.1")
    either.refused("39.1")
    assert len(os.listdir(f"/proc/{keeper}/fd")) <= 40 - proc.SPARE
    either.runner.kill("0.1", 0)
    either.exited("0.1")


# --- killing ---


def test_term_ends_a_handler_with_its_tree(either: Handlers, fifo: Fifo) -> None:
    either.shell(f"setsid sleep {FOREVER} & sleep {FOREVER} & echo $$ $! > {fifo.path}; wait")
    watched = fifo.watched()
    either.runner.kill("T.1", LONG)
    assert either.exited().signal == signal.SIGTERM
    assert all(process.dies_within(0) for process in watched)


def test_a_stopped_handler_hears_the_term(handlers: Handlers) -> None:
    handlers.shell("kill -STOP $$; sleep 1000")
    handlers.pid()
    handlers.runner.kill("T.1", LONG)
    assert handlers.exited().signal == signal.SIGTERM


DEAF = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["setsid", "sleep", "1000"], env={})
with open(sys.argv[1], "w") as fifo:
    print(os.getpid(), child.pid, file=fifo)
signal.pause()
signal.pause()
"""


def test_who_ignores_term_is_killed_after_the_grace_and_so_is_its_tree(
    handlers: Handlers, fifo: Fifo
) -> None:
    handlers.start(sys.executable, "-S", "-c", DEAF, str(fifo.path))
    leader, child = fifo.watched()
    began = time.monotonic()
    handlers.runner.kill("T.1", 0.3)
    assert handlers.exited().signal == signal.SIGKILL
    assert 0.3 <= time.monotonic() - began < 5
    assert leader.dies_within(0)
    assert child.dies_within(0)


def test_no_grace_kills_at_once_and_a_second_kill_shortens_the_first(
    handlers: Handlers, fifo: Fifo
) -> None:
    handlers.start(sys.executable, "-S", "-c", DEAF, str(fifo.path))
    leader, child = fifo.watched()
    handlers.runner.kill("T.1", 1000)
    assert leader.lives()
    handlers.runner.kill("T.1", 0)
    assert handlers.exited().signal == signal.SIGKILL
    assert leader.dies_within(0)
    assert child.dies_within(0)


def test_killing_what_has_ended_or_never_was_is_no_error(handlers: Handlers) -> None:
    handlers.start("true")
    handlers.exited()
    handlers.runner.kill("T.1", 0)
    handlers.runner.kill("never.1", 1)
    handlers.start("true", key="next.1")
    assert handlers.exited("next.1").exit == 0


# --- what handlers leave behind ---

ORPHAN = "(setsid {env} sleep 1000 >{out} 2>&1 & echo $! > {fifo})"


@pytest.mark.parametrize("env", ["", "env -i"])
@pytest.mark.parametrize("out", ["/dev/null", "/dev/stdout"])
def test_a_grandchild_in_its_own_session_does_not_outlive_its_leader(
    handlers: Handlers, fifo: Fifo, env: str, out: str
) -> None:
    handlers.shell(ORPHAN.format(env=env, out=out, fifo=fifo.path) + f"; read go < {fifo.go}; exit 5")
    (grandchild,) = fifo.watched()
    fifo.release()
    assert handlers.exited().exit == 5
    assert grandchild.dies_within(0)


def test_leftovers_are_told_apart_while_others_run(handlers: Handlers, tmp_path: Path) -> None:
    mine, other = Fifo(tmp_path / "mine"), Fifo(tmp_path / "other")
    orphan = ORPHAN.format(env="", out="/dev/null", fifo="{}")
    handlers.shell(orphan.format(other.path) + "; exec sleep 1000", key="other.1")
    (spared,) = other.watched()
    handlers.shell(orphan.format(mine.path) + f"; read go < {mine.go}", key="mine.1")
    (doomed,) = mine.watched()
    mine.release()
    assert handlers.exited("mine.1").exit == 0
    assert doomed.dies_within(0)
    assert spared.lives()
    handlers.runner.kill("other.1", 0)
    handlers.exited("other.1")
    assert spared.dies_within(0)
    mine.close()
    other.close()


def test_a_nameless_leftover_of_a_live_handler_is_killed_with_it_and_not_before(
    handlers: Handlers, fifo: Fifo
) -> None:
    handlers.shell(ORPHAN.format(env="env -i", out="/dev/null", fifo=fifo.path) + "; exec sleep 1000")
    (nameless,) = fifo.watched()
    for n in range(3):
        handlers.shell("(setsid sleep 1000 &)", key=f"short{n}.1")
        handlers.exited(f"short{n}.1")
    assert nameless.lives()
    handlers.runner.kill("T.1", 0)
    handlers.exited()
    assert nameless.dies_within(0)


def test_many_leftovers_among_many_forks_are_all_found(handlers: Handlers, fifo: Fifo) -> None:
    handlers.start("sleep", FOREVER, key="other.1")
    loop = "i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done"
    handlers.shell(
        ORPHAN.format(env="", out="/dev/null", fifo=fifo.path) + f"; {loop}; read go < {fifo.go}"
    )
    (first,) = fifo.watched()
    fifo.release()
    assert handlers.exited().exit == 0
    assert first.dies_within(0)


def test_a_tree_that_keeps_forking_is_ended(handlers: Handlers, fifo: Fifo) -> None:
    handlers.shell(
        f"f() {{ setsid sh -c 'sleep 1000 & sleep 1000' & }}; echo $$ > {fifo.path}; while :; do f; /bin/true; done"
    )
    fifo.line()
    handlers.runner.kill("T.1", 0)
    handlers.exited()
    assert _with_environ(f"SPOOL_ID={MINE}T") == []


def test_a_large_environment_is_read_whole(tmp_path: Path) -> None:
    many = {f"V{n}": "x" * 100_000 for n in range(8)}  # the last name stands behind all of them
    ready = tmp_path / "ready"
    words = ["/bin/sh", "-c", f"echo > {ready}; read go"]
    with subprocess.Popen(words, env={**many, "SPOOL_ID": "T"}, stdin=subprocess.PIPE) as process:
        while not ready.exists():  # it is no copy of us any more
            time.sleep(0.01)
        found = environ(process.pid) or []
    assert b"SPOOL_ID=T" in found
    assert sum(len(entry) for entry in found) > 800_000


def test_who_cannot_tell_his_environment_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server, asked, slurp = threading.Event(), list[str](), proc._slurp

    def stuck(path: str, limit: int) -> bytes:
        if path == f"/proc/{process.pid}/environ":
            asked.append(path)
            assert server.wait(LONG)
        return slurp(path, limit)

    monkeypatch.setattr(proc, "_slurp", stuck)
    monkeypatch.setattr(proc, "WAIT", 0.01)
    ours = {"SPOOL_DIR": f"/{MINE}spool", "SPOOL_NODE": "here", "SPOOL_ID": "T"}
    with subprocess.Popen(["sleep", FOREVER], env={**ours, "PATH": PATH}) as process:
        assert environ(process.pid) is None
        monkeypatch.setattr(proc, "WAIT", LONG)
        assert kill_leftovers(f"/{MINE}spool", "here") == 0
        assert f"process {process.pid} waits for a file system" in caplog.text
        assert len(asked) == 1
        server.set()
        while proc._awaited:
            time.sleep(0.001)
        assert kill_leftovers(f"/{MINE}spool", "here") == 1


def test_many_that_cannot_tell_their_environment_keep_nobody_waiting_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    class Shut:
        def acquire(self, timeout: float = 0) -> bool:
            waits.append(timeout)
            return False

    monkeypatch.setattr(proc._thread, "allocate_lock", Shut)
    monkeypatch.setattr(proc._thread, "start_new_thread", lambda *_: None)
    monkeypatch.setattr(proc, "_awaited", set())
    assert not any(environ(pid) for pid in range(1000))
    assert sum(waits) < 10


def _with_environ(entry: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            entries = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if entry.encode() in entries:
            found.append(int(path.parent.name))
    return found


# --- many, and a keeper that is asked odd things ---


def test_a_burst_of_200_handlers_is_reported_whole(either: Handlers) -> None:
    keys = [f"{n}.1" for n in range(200)]
    for n, key in enumerate(keys):
        either.shell(f"echo {key}; exit {n % 100}", key=key)
    for n, key in enumerate(keys):
        done = either.exited(key)
        assert (done.exit, done.tail) == (n % 100, f"{key}\n")
    assert sum(isinstance(event, Exited) for event in either.seen) == 200


class RawKeeper:
    """The keeper as a stand-alone program, spoken to by hand."""

    def __init__(self, *before: str) -> None:
        """`before`: what is to run it."""
        self.sock, theirs = socket.socketpair()
        command = [*before, sys.executable, "-S", "-m", "spoold.keeper", str(theirs.fileno())]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT)
        theirs.close()
        self.sock.settimeout(LONG)
        self.file = self.sock.makefile("r")

    def say(self, line: bytes) -> None:
        self.sock.sendall(line + b"\n")

    def answer(self) -> dict[str, object]:
        answer = json.loads(self.file.readline())
        assert isinstance(answer, dict)
        return answer

    def close(self) -> int:
        self.file.close()
        self.sock.close()
        return self.process.wait(LONG)


def ordered(key: str, *argv: str) -> bytes:
    """An order to start at once."""
    common: dict[str, object] = {
        "op": "start",
        "env": {},
        "cwd": None,
        "stdin": "",
        "log": "/dev/null",
        "log_limit": 0,
    }
    return json.dumps({**common, "key": key, "argv": argv}).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{", b"[]", b"7", b"null", b"\xff", b'{"op": "dance"}', b'{"op": []}', b'{"op": "start"}',
        b'{"op": "start", "key": 7}', b'{"op": "kill", "key": "x"}', b'{"op": "kill", "key": "x", "grace": NaN}',
        b'{"op": "kill", "key": "x", "grace": -1}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_the_keeper_answers_nonsense_and_goes_on(line: bytes) -> None:
    keeper = RawKeeper()
    keeper.say(line)
    assert keeper.answer()["ev"] == "protocol"
    keeper.say(ordered("a.1", "/bin/true"))
    assert keeper.answer()["ev"] == "exit"
    assert keeper.close() == 0


def test_a_start_order_without_its_parts_is_refused_by_key() -> None:
    keeper = RawKeeper()
    keeper.say(b'{"op": "start", "key": "a.1"}')
    assert keeper.answer()["ev"] == "refused"
    assert keeper.close() == 0


def test_an_endless_line_is_dropped_not_kept() -> None:
    keeper = RawKeeper()
    for _ in range((LINE_LIMIT >> 20) + 2):
        keeper.sock.sendall(b"x" * (1 << 20))
    assert keeper.answer()["ev"] == "protocol"
    keeper.say(b"still the same line")
    keeper.say(ordered("a.1", "/bin/true"))
    assert keeper.answer()["ev"] == "exit"
    assert keeper.close() == 0


def test_quit_kills_and_ends_in_order() -> None:
    keeper = RawKeeper()
    keeper.say(ordered("a.1", "/bin/sleep", FOREVER))
    keeper.say(b'{"op": "quit"}')
    answer = keeper.answer()
    assert answer["ev"] == "started"
    assert keeper.process.wait(LONG) == 0
    assert not Path(f"/proc/{answer['pid']}").exists()
    keeper.close()


NO_THREAD = """
import _thread, sys
def start_new_thread(*_): raise RuntimeError("can't start new thread")
_thread.start_new_thread = start_new_thread
from spoold.keeper.__main__ import main
main(sys.argv[-1:])
"""


def test_a_keeper_works_where_there_are_as_many_threads_as_may_be() -> None:
    keeper = RawKeeper(sys.executable, "-S", "-c", NO_THREAD)
    keeper.say(ordered("a.1", "/bin/true"))
    assert keeper.answer()["ev"] == "exit"
    assert keeper.close() == 0


def test_a_daemon_that_does_not_listen_gets_no_more_work_done_and_its_death_is_noticed() -> None:
    keeper = RawKeeper()
    keeper.sock.setblocking(False)
    orders = b"".join(
        ordered(f"{n}.1", "/bin/sh", "-c", "head -c 4096 /dev/zero") + b"\n" for n in range(3000)
    )
    sent = 0
    poll = select.poll()
    poll.register(keeper.sock, select.POLLOUT)
    while sent < len(orders) and poll.poll(2000):  # until it takes nothing for two seconds
        sent += keeper.sock.send(orders[sent:])
    rss = int(Path(f"/proc/{keeper.process.pid}/statm").read_text().split()[1]) * 4096
    assert rss < 60_000_000
    assert keeper.close() == 0


# --- deaths of daemon and keeper ---


def test_close_kills_what_runs_and_gives_the_lock_back(tmp_path: Path, fifo: Fifo) -> None:
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    handlers = Handlers(tmp_path, keep_fds=[lock])
    os.close(lock)
    handlers.start(sys.executable, "-S", "-c", DEAF, str(fifo.path))
    watched = fifo.watched()
    again = os.open(tmp_path / "lock", os.O_RDWR)
    with pytest.raises(BlockingIOError):  # the keeper holds it, and the handler does not
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    handlers.runner.close()
    assert all(process.dies_within(0) for process in watched)
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(again)
    handlers.runner.close()  # harmless


OWNER = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from spoold.effects.runner import Runner
runner = Runner()
runner.start_keeper()
env = {{"PATH": {PATH!r}, "SPOOL_ID": "T", "SPOOL_ATTEMPT": "1", "SPOOL_DIR": f"/{MINE}spool", "SPOOL_NODE": "here"}}
nice, *scripts = sys.argv[1:]
for n, script in enumerate(scripts):
    argv = [script] if script[0] == "/" else ["sh", "-c", script]
    runner.start(f"T.{{n}}", argv, env, None, "", "/dev/null", 0, niceness={{"nice": int(nice)}} if int(nice) else None)
    runner.flush()
if os.fork() == 0:
    os.read(0, 1)
    os._exit(0)
print(runner.keeper_pid, flush=True)
os.read(0, 1)
"""


class Owner:
    """A process that owns a runner and can be killed; a child of it inherits all its descriptors."""

    def __init__(self, *scripts: str, nice: int = 0) -> None:
        """`scripts`: of the shell, or the path of a program."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(nice), *scripts],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.keeper = Watched(int(self.process.stdout.readline()))

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_kill_9_of_the_daemon_ends_its_handlers_with_all_descendants_within_a_second(fifo: Fifo) -> None:
    deaf = f"trap '' TERM HUP; setsid sleep {FOREVER} & setsid env -i sleep {FOREVER} & echo $$ $! > {fifo.path}; wait"
    owner = Owner(deaf, ORPHAN.format(env="", out="/dev/null", fifo=fifo.path) + "; exec sleep 1000")
    watched = [*fifo.watched(), *fifo.watched()]
    began = time.monotonic()
    owner.kill()
    assert all(process.dies_within(1) for process in [*watched, owner.keeper])
    assert time.monotonic() - began < 1
    owner.close()


def test_a_keeper_ends_with_the_thread_that_started_it_though_others_wait_for_a_file_server() -> None:
    made, answers = queue.SimpleQueue[RawKeeper](), queue.SimpleQueue[dict[str, object]]()

    def own() -> None:  # as the main thread of a daemon
        keeper = RawKeeper()
        keeper.say(ordered("a.1", "/bin/sleep", FOREVER))
        answers.put(keeper.answer())
        made.put(keeper)

    threading.Thread(target=own).start()
    keeper = made.get(timeout=LONG)
    assert answers.get()["ev"] == "started"
    assert keeper.process.wait(LONG) == 0
    keeper.close()


def test_who_mourns_kills_what_begins_later_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = []

    def kill(root: int) -> None:
        killed.append(root)
        if len(killed) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "kill_below", kill)
    monkeypatch.setattr(loop, "AGAIN", 0)
    keeper = Keeper.__new__(Keeper)
    keeper.orphaned = os.eventfd(1)
    with pytest.raises(KeyboardInterrupt):
        keeper.mourn()
    os.close(keeper.orphaned)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[str, threading.Event]]:
    """A program that does not begin, as one whose file server is away; set when somebody waits for it."""
    path = tmp_path / "slow"
    path.write_text("#!/bin/true\n")
    path.chmod(0o755)
    asked = threading.Event()
    before = signal.signal(signal.SIGIO, lambda *_: asked.set())
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)  # who opens it waits for us, for 45 s at most
        yield str(path), asked
    finally:
        os.close(fd)
        signal.signal(signal.SIGIO, before)


@pytest.mark.parametrize("nice", [0, 1], ids=["spawned", "forked"])
@pytest.mark.parametrize("fenced", [False, True], ids=["killed", "fenced"])
def test_handlers_die_with_their_daemon_though_the_keeper_waits_for_a_file(
    fifo: Fifo, slow: tuple[str, threading.Event], nice: int, *, fenced: bool
) -> None:
    path, asked = slow
    script = f"setsid sleep {FOREVER} & env -i sleep {FOREVER} & echo $$ $! > {fifo.path}; wait"
    owner = Owner(script, path, nice=nice)
    watched = fifo.watched()
    assert asked.wait(LONG)
    assert owner.keeper.lives()
    if fenced:
        kill_below(owner.process.pid, NAME.encode())
    else:
        owner.kill()
    assert all(process.dies_within(1) for process in watched)
    owner.close()
    assert owner.keeper.dies_within(LONG)


def test_kill_9_of_the_keeper_is_told_ends_its_handlers_and_brings_a_new_one(
    handlers: Handlers, fifo: Fifo
) -> None:
    handlers.shell(f"setsid sleep {FOREVER} & echo $$ $! > {fifo.path}; wait", key="a.1")
    handlers.start("sleep", FOREVER, key="b.1")
    watched = [*fifo.watched(), Watched(handlers.pid("b.1"))]
    before = handlers.runner.keeper_pid
    os.kill(before, signal.SIGKILL)
    lost = handlers.wait(lambda e: isinstance(e, KeeperLost))
    assert lost == KeeperLost(keys=("a.1", "b.1"))
    assert all(process.dies_within(0) for process in watched)
    assert not any(Path(f"/proc/{process.pid}").exists() for process in watched), "reaped, too"
    assert handlers.runner.keeper_pid != before
    handlers.start("true", key="a.1")
    assert handlers.exited("a.1").exit == 0


def test_a_keeper_that_stands_still_and_kills_nobody_is_killed_itself(
    handlers: Handlers, fifo: Fifo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spoold.effects.runner.PATIENCE", 0.2)
    handlers.start("sleep", FOREVER, key="quick.1")
    handlers.runner.kill("quick.1", 0)
    handlers.exited("quick.1")
    assert handlers.runner.due() is None
    handlers.start(sys.executable, "-S", "-c", DEAF, str(fifo.path), key="deaf.1")
    handlers.pid("deaf.1")
    watched, before = fifo.watched(), handlers.runner.keeper_pid
    handlers.runner.kill("deaf.1", 60)
    os.kill(before, signal.SIGSTOP)
    assert handlers.runner.events() == []  # it has time
    handlers.runner.kill("deaf.1", 0)
    handlers.runner.kill("deaf.1", 60)
    until = time.monotonic() + LONG
    while not (found := handlers.runner.events()) and time.monotonic() < until:
        time.sleep((handlers.runner.due() or 0) / 1e6)
    assert found == [KeeperLost(keys=("deaf.1",))]
    assert all(process.dies_within(0) for process in watched)
    assert handlers.runner.keeper_pid != before
    assert handlers.runner.due() is None


def test_a_keeper_that_is_at_work_is_left_to_it_however_long_a_death_takes(
    handlers: Handlers, fifo: Fifo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spoold.effects.runner.PATIENCE", -30)
    handlers.start(sys.executable, "-S", "-c", DEAF, str(fifo.path), key="deaf.1")
    handlers.pid("deaf.1")
    watched = fifo.watched()
    handlers.runner.kill("deaf.1", 30)
    assert handlers.runner.due() == 0
    assert handlers.runner.events() == []
    assert watched[0].lives()


def test_orders_given_to_a_dead_keeper_are_lost_in_words(handlers: Handlers) -> None:
    keeper = Watched(handlers.runner.keeper_pid)
    os.kill(keeper.pid, signal.SIGKILL)
    assert keeper.dies_within(LONG)
    handlers.start("true")
    assert handlers.wait(lambda e: isinstance(e, KeeperLost)) == KeeperLost(keys=("T.1",))


def test_a_keeper_that_never_stays_up_is_given_up(handlers: Handlers) -> None:
    def kill_them() -> None:
        for _ in range(10):
            os.kill(handlers.runner.keeper_pid, signal.SIGKILL)
            handlers.wait(lambda e: isinstance(e, KeeperLost))
            handlers.seen.clear()

    with pytest.raises(RunnerError, match="died"):
        kill_them()


def test_leftovers_of_a_daemon_and_a_keeper_killed_together_are_found_by_their_spool(fifo: Fifo) -> None:
    script = f"setsid sleep {FOREVER} & env -i sleep {FOREVER} & echo $$ $! > {fifo.path}; wait"
    owner = Owner(script)
    watched = fifo.watched()
    os.kill(owner.process.pid, signal.SIGSTOP)  # so that it cannot end them itself
    os.kill(owner.keeper.pid, signal.SIGKILL)
    owner.kill()
    assert owner.keeper.dies_within(LONG)
    assert all(process.lives() for process in watched)
    assert kill_leftovers(f"/{MINE}spool", "elsewhere") == 0
    assert kill_leftovers("/", "here") == 0
    assert kill_leftovers(f"/{MINE}spool", "here") == 3
    assert all(process.dies_within(0) for process in watched)
    assert kill_leftovers(f"/{MINE}spool", "here") == 0
    owner.close()


def test_all_below_a_daemon_is_killed_but_its_keeper_and_no_environment_is_read(
    fifo: Fifo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "environ", None)  # of who waits in an mmap it can not be had
    script = f"setsid sleep {FOREVER} & env -i sleep {FOREVER} & echo $$ $! > {fifo.path}; wait"
    owner = Owner(script)
    watched = fifo.watched()
    kill_below(owner.process.pid, NAME.encode())
    assert all(process.dies_within(LONG) for process in watched)
    assert owner.keeper.lives()
    owner.close()


def test_who_can_see_nobody_now_kills_at_the_next_call() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with subprocess.Popen(["sh", "-c", f"sleep {FOREVER} & wait"]) as process:
        while not (children := Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()):
            pass
        sleeper = Watched(int(children))
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, most[1]))
        try:
            kill_below(process.pid)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, most)
            lived = sleeper.lives()
            kill_below(process.pid)
        assert lived
        assert sleeper.dies_within(LONG)


# Niceness.

READ_OWN = """
import os, resource, json, sys
print(json.dumps({
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "oom": int(open("/proc/self/oom_score_adj").read()),
    "cpu": resource.getrlimit(resource.RLIMIT_CPU),
    "memory": resource.getrlimit(resource.RLIMIT_DATA)[0],
}))
"""


def test_niceness_holds_before_the_program_is_there(handlers: Handlers) -> None:
    wanted = {"nice": 7, "ionice": "idle", "oom_score_adj": 300, "cpu": 60, "memory": 1 << 30}
    handlers.start(sys.executable, "-c", READ_OWN, **wanted)  # type: ignore[arg-type]
    found = json.loads(handlers.exited().tail)
    assert found == {"nice": 7, "oom": 300, "cpu": [60, 65], "memory": 1 << 30}


def test_the_class_for_disks_is_set(handlers: Handlers) -> None:
    import psutil

    handlers.start("sleep", FOREVER, ionice="idle")
    assert psutil.Process(handlers.pid()).ionice().ioclass == psutil.IOPRIO_CLASS_IDLE


def test_who_wants_more_memory_than_its_limit_does_not_get_it(handlers: Handlers) -> None:
    eat = "data = bytearray(300 << 20)"
    handlers.start(sys.executable, "-c", eat, key="A.1", memory=100 << 20)
    assert handlers.exited("A.1").exit == 1
    assert "MemoryError" in handlers.exited("A.1").tail
    handlers.start(sys.executable, "-c", eat, key="B.1", memory=600 << 20)
    assert handlers.exited("B.1").exit == 0


def test_who_uses_up_its_cpu_time_is_ended(handlers: Handlers) -> None:
    handlers.shell("while :; do :; done", cpu=1)
    assert handlers.exited().signal == signal.SIGXCPU


def test_limits_are_of_one_handler_and_not_of_the_next(handlers: Handlers) -> None:
    handlers.start(sys.executable, "-c", READ_OWN, key="A.1", nice=5, memory=1 << 30)
    handlers.exited("A.1")
    handlers.start(sys.executable, "-c", READ_OWN, key="B.1")
    assert json.loads(handlers.exited("B.1").tail)["nice"] == os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"nice": "much"}, "niceness: nice cannot be 'much'"),
        ({"speed": 1}, "niceness: must be an object of cgroup, nice, "),
        ({"ionice": "odd"}, "ionice odd"),
    ],
)
def test_niceness_that_cannot_be_is_refused_in_words(
    handlers: Handlers, wrong: dict[str, int | str], words: str
) -> None:
    handlers.start("true", **wrong)  # type: ignore[arg-type]
    assert words in handlers.refused().error


@pytest.mark.skipif(os.getuid() == 0, reason="root may do this")
def test_niceness_without_the_privilege_is_refused_in_words(handlers: Handlers) -> None:
    handlers.start("true", nice=-5)
    assert handlers.refused().error == "nice -5: Permission denied"


# The lease of a node among others.


def test_nothing_starts_after_the_lease_whatever_was_ordered_before(tmp_path):
    lease = os.memfd_create("lease")
    handlers = Handlers(tmp_path, lease=lease)
    for key, span, starts in (("A.1", 1e6, True), ("B.1", -1e-3, False), ("C.1", 1e6, True)):
        until = int((time.clock_gettime(time.CLOCK_BOOTTIME) + span) * 1e6)
        os.pwrite(lease, until.to_bytes(8, "little"), 0)
        handlers.shell(f": > {tmp_path}/{key}", key=key)
        if starts:
            assert handlers.exited(key).exit == 0
        else:
            assert handlers.refused(key).errno == errno.ETIME
        assert (tmp_path / key).exists() == starts
    handlers.runner.close()
    os.close(lease)


# What is ordered ahead.


def _ahead(key: str, script: str, rank: int = 0, **more: object) -> bytes:
    order = json.loads(ordered(key, "sh", "-c", script))
    place = {"lane": "lane", "ahead": 1, "rank": [rank, key], "env": {"PATH": PATH}}
    return json.dumps(order | place | more).encode()


def test_what_is_ordered_ahead_runs_one_after_the_other_by_rank() -> None:
    keeper = RawKeeper()
    orders = [_ahead("a.1", "exit 1", 2), _ahead("b.1", "exit 2"), _ahead("c.1", "exit 3", 1)]
    keeper.say(b"\n".join(orders))  # all are there before the first begins
    last: dict[str, dict[str, object]] = {}
    while len(last) < len(orders):
        answer = keeper.answer()
        if answer["ev"] != "started":
            last[answer["key"]] = answer
    ended = [answer for answer in last.values() if answer["ev"] == "exit"]
    assert ended  # on a machine that is slow the others may come back
    assert [answer["exit"] for answer in ended] == [2, 3, 1][: len(ended)]
    for before, after in pairwise(ended):
        assert before["since"] + before["seconds"] <= after["since"]
    assert keeper.close() == 0


def test_as_many_of_a_lane_run_at_once_as_it_is_wide_and_what_is_slow_keeps_nobody() -> None:
    keeper = RawKeeper()
    keys = ["a.1", "b.1", "c.1", "d.1"]
    keeper.say(b"\n".join(_ahead(key, "exec sleep 1000", ahead=2) for key in keys))
    assert [keeper.answer()["key"] for _ in range(4)] == keys
    keeper.say(_ahead("c.1", "exit 0"))  # its key is free again, and none of the two has ended
    assert keeper.answer() == {"ev": "returned", "key": "c.1"}
    keeper.say(_ahead("x.1", "exit 0", lane="other"))
    assert keeper.answer()["ev"] == "exit"
    assert keeper.close() == 0


def test_a_slot_more_is_for_the_first_of_those_that_wait() -> None:
    lanes = Lanes()
    names = ["b", "c"]
    for name in names:
        lanes.add(StartOrder(json.loads(_ahead(name, "", 1))))
    running: list[Any] = [SimpleNamespace(lane="lane", since=0.0)]
    assert lanes.next(running) is None
    lanes.add(StartOrder(json.loads(_ahead("d", "", 2, ahead=0))))
    first = lanes.next(running)
    assert first is not None
    assert first.key == "b"
    assert lanes.next([*running, *running]) is None
    last = [order.key for order in iter(lambda: lanes.next(running), None)]
    assert last == ["c", "d"]
    assert not lanes.waiting


def test_what_needs_not_wait_begins_after_what_comes_before_it_in_its_lane() -> None:
    ends = [_in_a_lane() for _ in range(5)]  # on a machine that is slow, or stands still, some come back
    assert "exit" in ends, ends


def _in_a_lane() -> object:
    """How a program ends that another one comes before, which goes on."""
    keeper = RawKeeper()
    orders = [_ahead("a.1", "exec sleep 1000", ahead=0), _ahead("b.1", "exit 2")]
    keeper.say(b"\n".join([*orders, _ahead("c.1", "exit 3", 1, ahead=0)]))
    last: dict[str, dict[str, object]] = {}
    while len(last) < 2:
        answer = keeper.answer()
        if answer["ev"] != "started":
            last[str(answer["key"])] = answer
    assert keeper.close() == 0
    return last["b.1"]["ev"] if list(last) == ["b.1", "c.1"] else "c.1 first"  # or heard of first


def test_what_is_recalled_or_killed_before_it_begins_comes_back() -> None:
    keeper = RawKeeper()
    orders = [_ahead("a.1", "exit 7", ahead=0), *(_ahead(key, "exit 0") for key in ("b.1", "c.1"))]
    kill, recall = b'{"op": "kill", "key": "b.1", "grace": 9}', b'{"op": "recall", "lane": "lane"}'
    keeper.say(b"\n".join([*orders, kill, recall, b'{"op": "recall", "lane": "other"}']))
    said = {answer["key"]: answer["ev"] for answer in (keeper.answer() for _ in range(4))}
    assert said == {"b.1": "returned", "c.1": "returned", "a.1": "exit"}, said
    assert keeper.close() == 0


def test_the_next_of_a_lane_begins_though_one_cannot_be_started() -> None:
    keeper = RawKeeper()
    keeper.say(b"\n".join([_ahead("a.1", "", argv=["/nowhere"]), _ahead("b.1", "exit 0")]))
    assert [keeper.answer()["ev"] for _ in range(2)] == ["refused", "exit"]
    assert keeper.close() == 0


@pytest.mark.parametrize(
    "wrong",
    [{"ahead": "1"}, {"ahead": 1.5}, {"ahead": -1}, {"lane": 7}, {"rank": None}, {"rank": ["", 0]}],
)
def test_an_order_ahead_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    keeper = RawKeeper()
    keeper.say(_ahead("a.1", "exit 0", **wrong))
    assert keeper.answer()["ev"] == "refused"
    keeper.say(_ahead("a.1", "exit 0"))
    assert keeper.answer()["ev"] == "exit"
    assert keeper.close() == 0


def test_the_runner_tells_what_comes_back_and_when_what_waited_began(handlers: Handlers) -> None:
    env = {"PATH": PATH, "SPOOL_ID": MINE, "SPOOL_ATTEMPT": "1"}
    for key in ("a.1", "b.1"):
        place = Place("lane", 1, (0, key))
        handlers.runner.start(key, ("sleep", "1000"), env, None, "", "/dev/null", 0, place=place)
    handlers.runner.flush()
    handlers.wait(lambda e: e == Returned(key="b.1"))
    started = handlers.wait(lambda e: isinstance(e, Started))
    assert isinstance(started, Started)
    assert started.ahead
    assert time.monotonic() - LONG < started.since < time.monotonic()
    assert set(handlers.runner.pids()) == {"a.1"}


def test_a_lane_has_enough_while_more_than_half_of_what_was_given_waits() -> None:
    lanes = Lanes()
    for key in "abcd":
        lanes.add(StartOrder(json.loads(_ahead(key, ""))))
    left = []
    while lanes.waiting:
        left.append(lanes.has_enough("lane"))
        assert lanes.next([]) is not None
    assert left == [True, True, False, False]
    assert not lanes.has_enough("lane")
    assert lanes.next([]) is None


def test_the_end_of_one_is_told_before_the_start_of_the_next() -> None:
    keeper = RawKeeper()
    keeper.say(b"\n".join([_ahead("a.1", "exit 1"), _ahead("b.1", "exec sleep 1000")]))
    heard = [keeper.answer() for _ in range(2)]
    assert [(a["key"], a["ev"]) for a in heard] == [("a.1", "exit"), ("b.1", "started")]
    assert keeper.close() == 0


def test_what_one_says_is_in_its_log_while_it_runs(handlers: Handlers) -> None:
    handlers.shell("echo hello; exec sleep 1000")
    until = time.monotonic() + LONG
    while not handlers.log("T.1").exists() or handlers.log("T.1").read_text() != "hello\n":
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_cannot_be_listened_to_now_is_listened_to_later(tmp_path: Path) -> None:
    class Full:
        def register(self, _fd: int, _mask: int) -> None:
            raise OSError(errno.ENOMEM, "no memory")

    message = {"key": "T.1", "argv": ["/bin/echo", "hello"], "env": {}, "stdin": "", "log_limit": 9}
    before = len(os.listdir("/proc/self/fd"))
    attempt = Attempt(StartOrder({**message, "log": str(tmp_path / "log")}))
    now = time.monotonic()
    assert not attempt.listen(Full())  # type: ignore[arg-type]
    assert attempt.quiet is not None
    assert attempt.quiet > now
    with select.epoll() as epoll:
        assert attempt.listen(epoll)
        assert attempt.quiet is None
        assert [fd for fd, _ in epoll.poll(LONG)] == [attempt.pipe]
        os.waitpid(attempt.pid, 0)
        assert attempt.finish()["tail"] == "hello\n"
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_was_made_ready_for_an_order_goes_with_it() -> None:
    before = set(os.listdir("/proc/self/fd"))
    lanes = Lanes()
    for key in "abc":
        order = StartOrder(json.loads(_ahead(key, "exit 7")))
        lanes.add(order)
        assert prepare(order) == prepare(order)
    assert lanes.take("b")
    (started, *_) = lanes.first()
    assert lanes.next([]) is started
    pid, reader = spawn(started)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    os.close(reader)
    assert lanes.clear("lane") == ["c"]
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("most", [26, 28, 30, 34])
def test_what_is_made_ahead_takes_no_descriptor_that_others_need(most: int) -> None:
    keeper = RawKeeper("prlimit", f"--nofile={most}")
    orders = [
        _ahead(f"{lane}{n}.1", "echo x; (setsid sleep 0.1 &) ; exit 0", n, lane=lane, log_limit=9)
        for n in range(20)
        for lane in "abc"
    ]
    keeper.say(b"\n".join(orders))
    last: dict[str, dict[str, object]] = {}
    while len(last) < len(orders):
        answer = keeper.answer()
        if answer["ev"] != "started":
            last[str(answer["key"])] = answer
    for answer in last.values():
        assert answer["ev"] != "refused"
        assert not answer.get("log_error")
    assert keeper.close() == 0
