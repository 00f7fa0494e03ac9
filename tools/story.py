"""Play the story of an error with the real programs, and write its transcript into spool(7).

    python tools/story.py              write it
    python tools/story.py --check      1 where the page says something else than what happens
    python tools/story.py --print      show it

A handler breaks for a while, is mended, and everything a person does about it is done by commands.
What differs from run to run (ids, times, the place) is put into one form before it is compared.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from between import find, replace  # noqa: E402

ROOT = HERE.parent
PAGE, NAME = ROOT / "man" / "spool.7", "the story of an error"
TOML = """\
concurrency = 1
[handlers."mail.*"]
exec = ["/bin/sh", "-c", "$HOME/relay"]
retries = 0
[admission]
enabled = false
[alerts]
exec = ["/bin/sh", "-c", "cat >> $HOME/alerts"]
"""
RELAY = """\
#!/bin/sh
if test -e $HOME/down; then echo "$SPOOL_ID: relay refused, try again in $$ s" >&2; exit 1; fi
echo sent
"""
PATIENCE = 60.0  # seconds
WIDTH = 92

# What is said, then commands; one that begins with @ is done and not shown.
STORY = [
    ("Mails are sent by a program, and alerts go to a file:", [
        "cat jobs/spool.toml",
        "cat relay",
        "touch down",
    ]),
    ("The relay is down, and four mails fail:", [
        "for to in zoe ann eve bob; do spool submit mail.send to=$to; done",
        "@until failed 4",
    ]),
    ("One event tells of it, and one alert, not four:", [
        "spool watch --once --ack | grep recurring-error",
        "@until alerts 1",
        r"""grep -o '"why":"[a-z]*"' alerts""",
    ]),
    ("What fails, and where:", [
        "@until group 4 open",
        "spool errors",
        "spool errors show FP | head -11",
    ]),
    ("The relay is mended, and those that failed in this way are tried again, nothing else:", [
        "rm down",
        "spool retry --error FP --why 'relay is up' --wait",
        "@until done 4",
        "spool errors resolve FP --why 'relay is up' --wait",
        "@until group 4 resolved",
        "spool errors",
    ]),
    ("What happened to the first of them, and who asked for it:", [
        "spool history ID1 | cut -c 1-35,70-",
    ]),
    ("The past runs once more, against other code, in a spool of its own:", [
        "spool init scratch",
        "sed s/relay/new-relay/ jobs/spool.toml > scratch/spool.toml",
        "spool replay --task 'mail.*' --state done --since 1h --yes --into scratch 2>&1",
        "spoold --spool scratch --node host-a --until-idle -q",
        "spool --spool scratch ls done --ids | wc -l",
    ]),
    ("It comes back, and is told again:", [
        "touch down",
        "spool submit mail.send to=zoe",
        "@until failed 1",
        "spool watch --once | grep recurring-error",
        "@until group 5 open",
        "spool errors",
    ]),
]  # fmt: skip


class Play:
    """A home directory, a spool in it, a daemon on it, a shell."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ids: list[str] = []
        self.fingerprint = ""
        bin_dir = home / "bin"
        bin_dir.mkdir()
        for name, module in (("spool", "spool.command.main"), ("spoold", "spoold.daemon")):
            code = f"import sys; from {module} import main; sys.exit(main())"
            script = bin_dir / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
            script.chmod(0o755)
        self.env = {
            "HOME": str(home), "PATH": f"{bin_dir}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
            "SPOOL_DIR": str(home / "jobs"), "TZ": "UTC", "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        for name in ("relay", "new-relay"):
            text = RELAY.replace("$HOME", str(home)) if name == "relay" else "#!/bin/sh\necho new\n"
            (home / name).write_text(text)
            (home / name).chmod(0o755)
        self.shell("spool init jobs")
        (home / "jobs" / "spool.toml").write_text(TOML.replace("$HOME", str(home)))
        self.daemon = subprocess.Popen(
            ["spoold", "--node", "host-a", "-q"], env=self.env, executable=str(bin_dir / "spoold")
        )

    def shell(self, command: str) -> str:
        done = subprocess.run(
            ["sh", "-c", command], cwd=self.home, env=self.env, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"story: {command}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def until(self, what: str) -> None:
        """Wait for `group COUNT STATE`, `alerts 1`, or so many mails in a state."""
        kind, many, *more = what.split()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if kind == "group":
                found = [json.loads(p.read_bytes()) for p in (self.home / "jobs/errors").glob("[!.]*")]
                if [(g["count"], g["state"]) for g in found] == [(int(many), *more)]:
                    return
            elif kind == "alerts":
                if (self.home / "alerts").exists() and (self.home / "alerts").stat().st_size:
                    return
            elif len(list((self.home / "jobs" / kind).glob("*/*mail.send*"))) == int(many):
                return
            time.sleep(0.02)
        sys.exit(f"story: it never came to {what}")

    def command(self, shown: str) -> str:
        """Run what is shown, with the real ids; returns what it prints, in one form."""
        words = shown.replace("FP", self.fingerprint)
        for number, task_id in enumerate(self.ids, 1):
            words = words.replace(f"ID{number}", task_id)
        return self.plain(self.shell(words))

    def plain(self, text: str) -> str:
        for task_id in re.findall(r"\b[0-9a-f]{12}7[0-9a-f]{19}\b", text):
            if task_id not in self.ids:
                self.ids.append(task_id)
            text = text.replace(
                task_id, f"0193a5b27c4d7e8f9a0b1c2d3e4f5a{self.ids.index(task_id) + 1:02d}"
            )
        self.fingerprint = self.fingerprint or next(
            iter(re.findall(r"^([0-9a-f]{16}) ", text, flags=re.MULTILINE)), ""
        )
        text = text.replace(str(self.home), "/home/zoe")
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "2026-11-21 08:00:00 UTC", text)
        text = re.sub(r"\d{8}T\d{6}\.\d{6}Z", "20261121T080000.000000Z", text)
        text = re.sub(r"\d\d:\d\d:\d\d \(", "08:00:00 (", text)
        text = re.sub(r"\b(?:\d+ (?:min|ms|s) ?)+ago\b", "now", text)
        text = re.sub(r"try again in \d+ s", "try again in 4711 s", text)
        return re.sub(r"uid \d+", "uid 1000", text)


def play() -> str:
    """The transcript, as mdoc."""
    out: list[str] = []
    place = Path(tempfile.mkdtemp(prefix="story-"))
    story = Play(place)
    try:
        for said, commands in STORY:
            out += [".Pp" if out else "", said, ".Bd -literal"]
            for command in commands:
                if command.startswith("@until "):
                    story.until(command.removeprefix("@until "))
                    continue
                printed = story.command(command)
                shown = command
                for number in range(len(story.ids), 0, -1):
                    shown = shown.replace(f"ID{number}", f"0193a5b27c4d7e8f9a0b1c2d3e4f5a{number:02d}")
                shown = shown.replace("FP", story.fingerprint[:4])
                out += [*_broken(f"$ {shown}"), *_aligned(printed)]
            out.append(".Ed")
    finally:
        story.daemon.send_signal(signal.SIGTERM)
        story.daemon.wait(PATIENCE)
        shutil.rmtree(place)
    return "\n".join(_escaped(line) for line in out if line) + "\n"


def _aligned(text: str) -> list[str]:
    """Lines whose columns are as wide as what is in them now; long ones are broken."""
    rows = [re.split(r" {2,}", line) for line in text.splitlines()]
    if rows and len({len(row) for row in rows}) == 1:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    else:
        lines = ["  ".join(row) for row in rows]
    return [part for line in lines for part in _broken(line)]


def _broken(line: str) -> list[str]:
    out = []
    while len(line) > WIDTH:
        at = line.rfind(" ", 8, WIDTH)
        out.append(line[:at])
        line = "    " + line[at + 1 :].lstrip()
    return [*out, line]


def _escaped(line: str) -> str:
    if line.startswith((".Pp", ".Bd", ".Ed")):
        return line
    text = line.rstrip().replace("\\", "\\e")
    return f"\\&{text}" if text[:1] in (".", "'") else text


def main(words: list[str]) -> int:
    made = play()
    if words == ["--print"]:
        print(made, end="")
        return 0
    old = PAGE.read_text()
    if find(old, NAME) == made:
        return 0
    if words == ["--check"]:
        print(f"{PAGE.name}: {NAME} differs from what happens: run tools/story.py")
        return 1
    PAGE.write_text(replace(old, NAME, made))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
