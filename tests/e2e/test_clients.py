"""The clients in other languages, each written against the format alone, keep the promises of the format with a live daemon."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLIENTS = Path(__file__).parents[2] / "tools" / "clients"
HANDLERS = """
[handlers."echo.*"]
exec = ["/bin/cat"]
[handlers."bad.*"]
exec = ["/bin/sh", "-c", "exit 65"]
"""
DONE, FAILED, CANCELLED, USAGE, REFUSED, IO_ERROR, TIMEOUT = 0, 1, 2, 64, 65, 74, 75
AWKWARD = {
    "to": "Zoë",
    "text": '漢字 😀 "quoted" \\ $HOME `id` %s {x} [y]; \n\t\x7f',
    "deep": [{"è": [1.5, True]}],
}
UUID7 = re.compile(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """How to build and run one client; {source} and {out} stand for its file and an empty directory."""

    source: str
    tools: tuple[str, ...]
    build: tuple[str, ...] = ()
    run: tuple[str, ...]


LANGUAGES = {
    "sh": Client(source="sh/spool-submit.sh", tools=("sh", "sync"), run=("sh", "{source}")),
    "c": Client(
        source="c/spool_submit.c",
        tools=("gcc",),
        build=(
            "gcc",
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-O2",
            "-o",
            "{out}/spool_submit",
            "{source}",
        ),
        run=("{out}/spool_submit",),
    ),
    "perl": Client(source="perl/spool_submit.pl", tools=("perl",), run=("perl", "{source}")),
    "node": Client(source="node/spool_submit.mjs", tools=("node",), run=("node", "{source}")),
    "java": Client(
        source="java/SpoolSubmit.java",
        tools=("java", "javac"),
        build=("javac", "-Xlint:all", "-Werror", "-d", "{out}", "{source}"),
        run=("java", "-cp", "{out}", "SpoolSubmit"),
    ),
    "rust": Client(
        source="rust/spool_submit.rs",
        tools=("rustc",),
        build=("rustc", "-O", "-D", "warnings", "-o", "{out}/spool_submit", "{source}"),
        run=("{out}/spool_submit",),
    ),
    "tcl": Client(source="tcl/spool_submit.tcl", tools=("tclsh", "sync"), run=("tclsh", "{source}")),
}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """Return the command of a language's client, built at most once; skip where its toolchain is missing."""
    commands: dict[str, list[str]] = {}

    def command(language: str) -> list[str]:
        client = LANGUAGES[language]
        if missing := [tool for tool in client.tools if shutil.which(tool) is None]:
            pytest.skip(f"the {language} client needs {' and '.join(missing)}, not found in PATH")
        if language not in commands:
            places = {"source": CLIENTS / client.source, "out": tmp_path_factory.mktemp(language)}
            if client.build:
                subprocess.run([word.format(**places) for word in client.build], check=True, timeout=120)
            commands[language] = [word.format(**places) for word in client.run]
        return commands[language]

    return command


@pytest.fixture(params=LANGUAGES)
def client(request: pytest.FixtureRequest, built: Callable[[str], list[str]]) -> list[str]:
    """Return the command that runs the client, of every language in turn."""
    return built(request.param)


def made_spool(path: Path) -> Path:
    """Return a new spool with the handlers of these tests, and no daemon."""
    subprocess.run(
        [sys.executable, "-m", "spool", "init", str(path)],
        check=True,
        timeout=30,
        stdout=subprocess.DEVNULL,
    )
    with (path / "spool.toml").open("a") as settings:
        settings.write(HANDLERS)
    return path


@pytest.fixture
def asleep(tmp_path: Path) -> Path:
    """Return a spool whose daemon is stopped; its name is one a careless client would expand or split."""
    return made_spool(tmp_path / "a [s]pool*")


@pytest.fixture(scope="module")
def awake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a spool with a live daemon."""
    home = tmp_path_factory.mktemp("awake")
    spool = made_spool(home / "a [s]pool*")
    with (home / "spoold.log").open("w") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "spoold", "--spool", str(spool)], stdout=log, stderr=log
        )
    try:
        yield spool
        assert daemon.poll() is None, (home / "spoold.log").read_text()
    finally:
        daemon.terminate()
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def environment() -> dict[str, str]:
    """Return an environment whose locale is UTF-8: Java takes its arguments by the locale."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def submit(client: list[str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a client to its end."""
    command = [*client, *map(str, words)]
    return subprocess.run(
        command, capture_output=True, check=False, encoding="utf-8", env=environment(), timeout=60
    )


def until(happened: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something the daemon does."""
    give_up = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < give_up, "the daemon did not do it in time"
        time.sleep(0.01)


def records(spool: Path, task_id: str) -> list[dict[str, Any]]:
    """Return the attempt records of a task."""
    return [json.loads(path.read_bytes()) for path in spool.glob(f"attempts/*/{task_id}.*.json")]


@pytest.mark.parametrize(
    "args",
    [{}, [], None, 0, AWKWARD],
    ids=["empty", "list", "null", "number", "awkward"],
)
def test_a_task_that_succeeds_exits_0_and_prints_its_id_and_its_record(
    client: list[str], awake: Path, args: object
) -> None:
    ended = submit(client, awake, "echo.args", json.dumps(args, ensure_ascii=False))
    assert (ended.returncode, ended.stderr) == (DONE, "")
    task_id, line = ended.stdout.splitlines()
    record = json.loads(line)
    assert UUID7.fullmatch(task_id)
    assert (record["id"], record["task"], record["args"]) == (task_id, "echo.args", args)
    assert (record["event"], record["outcome"], record["exit"]) == ("done", "ok", 0)


def test_the_record_printed_is_that_of_the_newest_attempt(client: list[str], awake: Path) -> None:
    ended = submit(client, awake, "echo.newest", "{}")
    task_id, line = ended.stdout.splitlines()
    assert json.loads(line) == max(records(awake, task_id), key=lambda record: record["attempt"])


def test_a_task_that_fails_exits_1(client: list[str], awake: Path) -> None:
    ended = submit(client, awake, "bad.always", "{}")
    assert ended.returncode == FAILED, ended.stderr
    (task_id,) = ended.stdout.splitlines()
    assert {(record["exit"], record["outcome"]) for record in records(awake, task_id)} == {(65, "error")}


def test_a_task_that_is_cancelled_exits_2(client: list[str], awake: Path) -> None:
    command = [*client, str(awake), "echo.later", '{},"at":"+1h"', "30"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, encoding="utf-8", env=environment()
    ) as waiting:
        assert waiting.stdout is not None
        task_id = waiting.stdout.readline().strip()
        until(lambda: not (awake / "incoming" / f"{task_id}.json").exists())
        hidden = awake / "tmp" / f".cancel-{task_id}"
        hidden.write_text(json.dumps({"action": "cancel", "ids": [task_id]}))
        hidden.rename(awake / "incoming" / f"cancel-{task_id}.json")
        assert waiting.wait(30) == CANCELLED


def test_a_refused_action_exits_65_and_the_reason_names_the_field(client: list[str], awake: Path) -> None:
    ended = submit(client, awake, "echo.refused", '1,"nosuchfield":2')
    assert ended.returncode == REFUSED, ended.stderr
    assert "nosuchfield" in ended.stderr
    assert len(ended.stdout.splitlines()) == 1


def test_a_task_not_over_in_time_exits_75_and_stays_submitted(client: list[str], asleep: Path) -> None:
    ended = submit(client, asleep, "echo.asleep", '{"è": "😀"}', "0")
    assert ended.returncode == TIMEOUT, ended.stderr
    (task_id,) = ended.stdout.splitlines()
    (dropped,) = (asleep / "incoming").iterdir()
    assert dropped.name == f"{task_id}.json"
    assert json.loads(dropped.read_bytes()) == {"id": task_id, "task": "echo.asleep", "args": {"è": "😀"}}
    assert stat.S_IMODE(dropped.stat().st_mode) == 0o600
    assert list((asleep / "tmp").iterdir()) == []


def test_an_id_carries_the_time_and_differs_from_the_next(client: list[str], asleep: Path) -> None:
    first, second = (submit(client, asleep, "echo.id", "{}", "0").stdout.strip() for _ in range(2))
    assert UUID7.fullmatch(first)
    assert UUID7.fullmatch(second)
    assert first[12:] != second[12:]
    for task_id in (first, second):
        dropped = (asleep / "incoming" / f"{task_id}.json").stat().st_mtime
        assert abs(dropped - int(task_id[:12], 16) / 1000) < 30


@pytest.mark.parametrize("task", ["", ".hidden", "-x", "a b", 'a","x":"', "a/b", "è", "a\n", "x" * 65])
def test_a_bad_task_name_exits_64_and_submits_nothing(client: list[str], asleep: Path, task: str) -> None:
    assert submit(client, asleep, task, "{}", "0").returncode == USAGE
    assert list((asleep / "incoming").iterdir()) == list((asleep / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    "words", [[], ["echo.x"], ["echo.x", "{}", "1", "more"], ["echo.x", "{}", "1s"], ["echo.x", "{}", ""]]
)
def test_wrong_usage_exits_64(client: list[str], asleep: Path, words: list[str]) -> None:
    assert submit(client, asleep, *words).returncode == USAGE
    assert list((asleep / "incoming").iterdir()) == []


def test_a_directory_that_is_no_spool_of_this_format_exits_64(client: list[str], asleep: Path) -> None:
    (asleep / "format").write_text("spool 2\n")
    assert submit(client, asleep, "echo.x", "{}", "0").returncode == USAGE
    assert submit(client, asleep / "tmp", "echo.x", "{}", "0").returncode == USAGE
    assert submit(client, asleep / "missing", "echo.x", "{}", "0").returncode == USAGE


@pytest.mark.parametrize("missing", ["tmp", "incoming"])
def test_what_cannot_be_submitted_exits_74_and_prints_no_id(
    client: list[str], asleep: Path, missing: str
) -> None:
    (asleep / missing).rmdir()
    ended = submit(client, asleep, "echo.x", "{}", "0")
    assert (ended.returncode, ended.stdout) == (IO_ERROR, "")
    assert missing in ended.stderr


def test_where_one_may_drop_but_not_read_it_exits_74_at_once_and_names_what(
    client: list[str], asleep: Path
) -> None:
    for path in asleep.iterdir():
        if path.is_dir():
            path.chmod(0o300 if path.name in ("incoming", "tmp") else 0)
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may read everywhere but for setpriv, not found in PATH")
        client = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *client]
    ended = submit(client, asleep, "echo.x", "{}", "5")
    for path in asleep.iterdir():
        path.chmod(0o700)
    assert ended.returncode == IO_ERROR, ended.stderr
    assert "done" in ended.stderr
    assert [f"{line}.json" for line in ended.stdout.splitlines()] == os.listdir(asleep / "incoming")


def test_args_that_are_not_utf_8_are_refused_and_not_changed(client: list[str], awake: Path) -> None:
    ended = submit(client, awake, "echo.bytes", os.fsdecode(b'"\xff"'))
    assert ended.returncode == REFUSED, ended.stderr
    assert "UTF-8" in ended.stderr


def test_no_directory_is_no_spool(
    client: list[str], asleep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(asleep)
    assert submit(client, "", "echo.x", "{}", "0").returncode == USAGE
    assert list((asleep / "incoming").iterdir()) == []


@pytest.mark.parametrize("name", ["-", "--", "-P", "~", "s"])
def test_a_directory_may_have_any_name(
    client: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for place in ("here", "there"):
        made_spool(tmp_path / place / name)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("OLDPWD", str(tmp_path / "there" / name))
    monkeypatch.setenv("CDPATH", str(tmp_path / "there"))
    ended = submit(client, name, "echo.x", "{}", "0")
    assert ended.returncode == TIMEOUT, ended.stderr
    assert f"{ended.stdout.strip()}.json" in os.listdir(tmp_path / "here" / name / "incoming")
