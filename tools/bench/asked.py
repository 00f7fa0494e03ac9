"""How long people wait who ask: history of a long journal, status with many waiting, what is signed.

python tools/bench/asked.py [--lines N] [--waiting N] [--signed N] [--dir DIR]

0 leaves a part out. The tasks that wait are made by hand: see backlog.py.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

from backlog import fill

from spool.bench.figures import Figures, environment, table
from spool.bench.served import Served, Stamp, as_installed
from spool.init import init
from spool.names import new_id
from spool.signing import Key
from spool.times import format_utc

DAYS = 10
EVENTS = ("submit", "claim", "succeed")
NAMES = ("thumb.make", "mail.send", "report.build", "order.late")
START = 1_790_000_000_000_000


def took(words: list[str]) -> float:
    """Seconds of a command, its output thrown away; it must succeed."""
    return _cost(words)[0]


def _cost(words: list[str]) -> tuple[float, float]:
    """(seconds, CPU seconds) of a command."""
    env, before, begun = as_installed(os.environ), os.times(), time.monotonic()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=env)
    took, after = time.monotonic() - begun, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return took, used


def spool(root: Path, *words: str) -> list[str]:
    """The words of the command spool."""
    return [sys.executable, "-m", "spool", "--spool", str(root), *words]


def journal(root: Path, number: int) -> str:
    """A journal of so many lines over ten days; one of its ids."""
    folder = root / "journal" / "bench"
    folder.mkdir()
    task_id = ""
    for day in range(DAYS):
        first = START + day * 86_400_000_000
        with (folder / f"{format_utc(first)[:10]}.jsonl").open("w") as file:
            for line in range(number // DAYS):
                if line % len(EVENTS) == 0:
                    task_id = new_id()
                file.write(json.dumps(_line(first + line, line, task_id), separators=(",", ":")) + "\n")
    return task_id


def _line(at: int, number: int, task_id: str) -> dict[str, Any]:
    task = NAMES[number // len(EVENTS) % len(NAMES)]
    entry = f"120000.{number % 1_000_000:06},{task_id},{task}.json"
    return {
        "at": format_utc(at), "event": EVENTS[number % len(EVENTS)], "id": task_id, "task": task,
        "from": "pending", "to": "running", "entry": entry, "node": "bench",
    }  # fmt: skip


def history(figures: Figures, root: Path, number: int, repetitions: int) -> None:
    """The same questions to the command, to jq and to grep."""
    task_id = journal(root, number)
    files = sorted(str(path) for path in (root / "journal" / "bench").iterdir())
    asked = {
        "spool history, all of it": spool(root, "history", "--json"),
        "jq, all of it": ["jq", "-c", ".", *files],
        "spool history --task": spool(root, "history", "--json", "--task", "mail.*"),
        "jq --task": ["jq", "-c", 'select(.task | startswith("mail."))', *files],
        "spool history ID": spool(root, "history", "--json", task_id),
        "jq ID": ["jq", "-c", f'select(.id == "{task_id}")', *files],
        "grep ID": ["grep", "-h", task_id, *files],
    }
    for _ in range(repetitions):
        for name, words in asked.items():
            if shutil.which(words[0]) is not None:
                figures.add("history", f"{name}, {number:,} lines", "s", took(words))


def seen(figures: Figures, daemon: Served, number: int, repetitions: int) -> None:
    """What is answered while so many wait, before a daemon has counted them and after it."""
    fill(daemon.root, "ready", number)
    last = max((daemon.root / "pending").glob("*/*/*")).name.split(",")[1]
    asked = {"status": ["status"], "shape": ["shape"], "why ID": ["why", last]}

    def ask(when: str) -> None:
        for _ in range(repetitions):
            figures.add("seen", "python -c pass", "ms", took([sys.executable, "-c", "pass"]) * 1000)
            for verb, words in asked.items():
                name = f"spool {verb}, {number:,} waiting, {when}"
                seconds, used = _cost(spool(daemon.root, *words, "--json"))
                figures.add("seen", name, "ms", seconds * 1000)
                figures.add("seen", f"{name}: CPU", "ms", used * 1000)

    daemon.spool.act({"action": "pause"})
    ask("never counted")
    daemon.start()
    try:
        while not list((daemon.root / "nodes").glob("*.shape")):
            time.sleep(0.1)
        time.sleep(1)
        ask("counted")
    finally:
        daemon.stop()


def signed(figures: Figures, place: Path, number: int, repetitions: int) -> None:
    """Tasks for tomorrow until they are taken in, signed and not; the signing is not counted."""
    key = place / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    daemon = Served(place / "signed", "relaxed", Stamp(place))
    public = key.with_suffix(".pub").read_text()
    (daemon.root / "allowed_signers").write_text(f'me@x namespaces="spool" {public}')
    (daemon.root / "allowed_signers").chmod(0o600)
    plain = json.dumps({"task": "noop", "at": "+1d"}).encode()
    daemon.start()
    for _ in range(repetitions):
        for name, seal in (("signed", Key(str(key), "me@x", "signed").seal), ("unsigned", bytes)):
            made = []
            for _ in range(number):
                made.append(daemon.root / "tmp" / f".{new_id()}")
                made[-1].write_bytes(seal(plain))
            begun = time.monotonic()
            for path in made:
                path.rename(daemon.root / "incoming" / f"{path.name[1:]}.json")
            while os.listdir(daemon.root / "incoming"):
                time.sleep(0.002)
            rate = number / (time.monotonic() - begun)
            figures.add("signed", f"taken in, {name}, relaxed", "actions/s", rate)
    daemon.stop()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--waiting", type=int, default=1_000_000)
    parser.add_argument("--signed", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--dir", default="/var/tmp")
    args = parser.parse_args()
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="spool-bench-", dir=args.dir) as found:
        place = Path(found)
        about = environment(place)
        print(" · ".join(f"{name}: {value}" for name, value in about.items()))
        init(str(place / "history"))
        (place / "many").mkdir()
        many = Served(place / "many" / "spool", "relaxed", Stamp(place / "many"))
        try:
            if args.lines:
                history(figures, place / "history", args.lines, args.repetitions)
            if args.signed:
                signed(figures, place, args.signed, args.repetitions)
            seen(figures, many, args.waiting, args.repetitions)
        finally:
            print(table(figures.rows()))


if __name__ == "__main__":
    main()
