"""Completions as shells make them: verbs, options, ids and names of the spool at hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spool import layout
from spool.command.verbs import VERBS
from spool.init import init
from spool.names import Entry, new_id
from tests.e2e.live import until

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
NOW = 1_795_000_000_000_000
ENTRY = Entry(time=NOW, id=new_id(NOW), task="mail.send")
GONE = Entry(time=NOW, id=new_id(NOW - 10**12), task="mail.send")


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "s"
    init(str(root))
    (root / "spool.toml").write_text(
        '[handlers."thumb.make"]\nexec = ["true"]\n[handlers."x.*"]\nnotify = "mill"\n'
        '[recurring.nightly]\nevery = "1d"\ntask = "mail.send"\n'
    )
    (root / "outbox/shop").mkdir()
    (root / "outbox/$(touch evil)").mkdir()
    (root / layout.ended("done", NOW, GONE)).parent.mkdir(parents=True)
    (root / layout.ended("done", NOW, GONE)).write_text("")
    (root / layout.pending(ENTRY)).parent.mkdir(parents=True)
    (root / layout.pending(ENTRY)).write_text("")
    (root / "nodes/n.lock").write_text("")
    evil = "$(touch evil)"
    (root / "nodes/n.shape").write_text(json.dumps({"tasks": {"mail.send": {}, evil: {}}}))
    return root


@pytest.fixture
def env(root: Path, tmp_path: Path) -> dict[str, str]:
    """An environment where `spool` is this code, with this spool."""
    command = tmp_path / "bin/spool"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m spool "$@"\n')
    command.chmod(0o700)
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "SPOOL_DIR": str(root),
        "HOME": str(tmp_path),
    }


def script(shell: str, env: dict[str, str]) -> str:
    return subprocess.run(
        ["spool", "completion", shell], capture_output=True, text=True, env=env, check=True
    ).stdout


@pytest.fixture
def complete(env: dict[str, str], tmp_path: Path) -> Callable[..., list[str]]:
    """What bash offers for these words, the last of which is being typed."""
    if shutil.which("bash") is None:
        pytest.skip("not installed: bash")
    made = script("bash", env)

    def run(*words: str, **more: str) -> list[str]:
        code = f'{made}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _spool_words; printf "%s\\n" "${{COMPREPLY[@]}}"'
        done = subprocess.run(
            ["bash", "-c", code, "bash", "spool", *words],
            capture_output=True, text=True, env={**env, **more}, cwd=tmp_path, check=True,
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout.split()

    return run


def test_verbs_and_options_are_those_there_are(complete: Callable[..., list[str]]) -> None:
    assert complete("") == list(VERBS)
    assert complete("can") == ["cancel"]
    assert complete("--v") == ["--version"]
    assert {"--priority", "--deadline", "--args"} <= set(complete("submit", "--"))
    assert complete("submit", "mail.send", "--prio") == ["--priority"]


def test_words_are_what_the_verb_takes(complete: Callable[..., list[str]]) -> None:
    assert complete("submit", "") == ["mail.send", "thumb.make"]
    assert complete("submit", "th") == ["thumb.make"]
    assert complete("cancel", "") == [ENTRY.id]
    assert complete("retry", "") == complete("show", "") == [ENTRY.id, GONE.id]
    assert complete("watch", "") == ["mill", "shop"]
    assert complete("cron", "r") == ["run", "rm", "resume"]
    assert complete("cron", "run", "") == complete("cron", "--json", "run", "") == ["nightly"]
    assert complete("cron", "run", "x", "--why", "no", "r") == []
    assert complete("show", ENTRY.id[:9]) == [ENTRY.id]
    assert complete("ls", "f") == ["failed"]
    assert complete("top", "err") == ["errors"]
    assert complete("completion", "f") == ["fish"]


def test_values_are_what_the_option_takes(complete: Callable[..., list[str]]) -> None:
    assert complete("submit", "x", "--priority", "") == ["high", "medium", "low"]
    assert complete("cancel", "--state", "h") == ["held"]
    assert complete("submit", "--notify", "") == complete("history", "--parent", "") == ["mill", "shop"]
    assert complete("ls", "--task", "") == ["mail.send", "thumb.make"]
    assert complete("pause", "--task", "") == ["mail.send", "thumb.make"]
    assert complete("submit", "x", "--priority", "=", "h") == ["high"]
    assert complete("submit", "x", "--priority", "=") == ["high", "medium", "low"]
    assert complete("submit", "--timeout", "") == []
    assert complete("history", "--event", "ca") == ["cancel"]
    assert complete("submit", "x", "--priority=h") == ["--priority=high"]  # as zsh has it
    assert complete("submit", "x", "--timeout=h") == []
    assert complete("--spool=bi") == ["--spool=bin"]


def test_the_spool_that_is_named_is_the_one_that_is_asked(
    complete: Callable[..., list[str]], root: Path
) -> None:
    assert complete("--spool", str(root), "cancel", "", SPOOL_DIR="/nonsense") == [ENTRY.id]
    assert complete("--spool", "=", str(root), "cancel", "", SPOOL_DIR="/nonsense") == [ENTRY.id]
    assert complete("cancel", "", SPOOL_DIR="/nonsense") == []


def test_no_name_is_run_by_the_shell(complete: Callable[..., list[str]], tmp_path: Path) -> None:
    complete("submit", "")
    assert not (tmp_path / "evil").exists()


@needs("fish")
def test_fish_offers_the_same(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "spool.fish").write_text(script("fish", env))
    (tmp_path / "a-file").touch()

    def complete(line: str) -> list[str]:
        done = subprocess.run(
            ["fish", "--no-config", "-c", 'source spool.fish; complete -C "$argv"', line],
            capture_output=True, text=True, env=env, cwd=tmp_path, check=True,
        )  # fmt: skip
        assert done.stderr == ""
        return [row.partition("\t")[0] for row in done.stdout.splitlines()]

    assert set(complete("spool ")) == set(VERBS)
    assert complete("spool submit ") == ["mail.send", "thumb.make"]
    assert complete("spool submit x --priority ") == ["high", "low", "medium"]
    assert complete("spool cancel ") == [ENTRY.id]
    assert complete("spool retry ") == sorted([ENTRY.id, GONE.id])
    assert complete("spool watch ") == ["mill", "shop"]
    assert complete("spool cron ru") == ["run"]
    assert complete("spool cron run ") == ["nightly"]
    assert complete("spool history --event ca") == ["cancel"]
    assert complete("spool submit x --prio") == ["--priority"]
    assert complete("spool pause --task ") == ["mail.send", "thumb.make"]
    events = [word for word in complete("spool cron run --e") if word.startswith("--e")]
    assert events == []  # that is of another `run`; a newer fish offers what has an e in it
    assert complete("spool run -- a-") == ["a-file"]
    here, env["SPOOL_DIR"] = env["SPOOL_DIR"], "/nonsense"
    assert complete("spool cancel ") == []
    for named in ("--spool ", "--spool="):
        assert set(complete(f"spool {named}{here} ")) == set(VERBS)
        assert complete(f"spool {named}{here} cancel ") == [ENTRY.id]
        assert complete(f"spool cancel {named}{here} ") == [ENTRY.id]
    assert not (tmp_path / "evil").exists()


@needs("zsh", "tmux")
@pytest.mark.parametrize("place", ["sourced", "in fpath"])
def test_zsh_completes_what_is_typed(env: dict[str, str], tmp_path: Path, place: str) -> None:
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions/_spool").write_text(script("zsh", env))
    start = {
        "sourced": ". ~/functions/_spool",
        "in fpath": "fpath=(~/functions $fpath); autoload -U compinit; compinit",
    }
    (tmp_path / ".zshrc").write_text(f"{start[place]}\nPS1='> '\n")
    tmux = ["tmux", "-S", str(tmp_path / "tmux")]

    def run(*words: str) -> str:
        return subprocess.run(
            [*tmux, *words], capture_output=True, text=True, check=True, env={**env, "TMUX": ""}
        ).stdout

    def shows(text: str) -> None:
        until(lambda: run("capture-pane", "-p").rstrip().endswith(text), f"{text} on the screen")

    try:
        run("-f", os.devnull, "new-session", "-d", "-x", "120", "-y", "24", "zsh", "-d")
        shows(">")
        for typed, there in {
            "spool subm": "> spool submit",
            "th": "submit thumb.make",
            "--priority h": "make --priority high",
            "--on-miss=f": "high --on-miss=fail",
        }.items():
            run("send-keys", "-l", "--", typed)
            run("send-keys", "Tab")
            shows(there)
    finally:
        subprocess.run([*tmux, "kill-server"], capture_output=True, check=False)
    assert not (tmp_path / "evil").exists()
