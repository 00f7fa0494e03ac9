"""Build a Debian package of spool with everything it needs, for the Python of this machine.

    python tools/deb.py [DIRECTORY]

An environment of its own in /usr/lib/spool, as Debian's libraries are older than what spool takes;
`spool` and `spoold` in /usr/bin, manual pages, completions, units. Needs dpkg-deb and /usr/bin/python3.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = "/usr/bin/python3"
HOME = "usr/lib/spool"
EXTRAS = "top,dash"
CONTROL = """\
Package: spool
Version: {version}
Architecture: {architecture}
Maintainer: the authors of spool <spool@localhost>
Section: admin
Priority: optional
Depends: python3 (>= {low}), python3 (<< {high})
Recommends: systemd
Description: task queue that is a directory
 Whoever may create a file can submit work: a shell, cron, any language. One
 daemon takes the files in, runs what is due in strict order of priority,
 retries it, and tells the parent by a file in its outbox.
"""
AFTER = """\
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers spool.conf
else
    for group in spool-submit spool-read; do
        getent group $group >/dev/null || groupadd --system $group
    done
    getent passwd spool >/dev/null ||
        useradd --system --user-group --home-dir /var/spool/spool --shell /usr/sbin/nologin spool
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    [ -z "$2" ] || systemctl try-restart spoold.service # upgraded: the old code is gone
fi
"""
BEFORE = """\
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now spoold.path spoold.service
fi
"""
GONE = """\
#!/bin/sh
set -e
[ ! -d /run/systemd/system ] || systemctl daemon-reload
"""
PLACES = {
    "share/man": "usr/share/man",
    "share/bash-completion": "usr/share/bash-completion",
    "share/fish": "usr/share/fish",
    "share/zsh/site-functions": "usr/share/zsh/vendor-completions",
    "share/spool/units/system": "usr/lib/systemd/system",
    "share/spool/units/user": "usr/lib/systemd/user",
    "share/spool/units/sysusers.d": "usr/lib/sysusers.d",
    "share/spool/units/tmpfiles.d": "usr/lib/tmpfiles.d",
}


def main() -> int:
    """Build it, and say where it is."""
    for needed in ("dpkg-deb", PYTHON):
        if shutil.which(needed) is None:
            print(f"deb: {needed} is needed", file=sys.stderr)
            return 1
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "dist")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        stage = Path(name) / "stage"
        stage.mkdir(mode=0o755)
        made = fill(stage)
        target = out / f"spool_{made['version']}_{made['architecture']}.deb"
        run("dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(stage), str(target))
    print(target)
    return 0


def fill(stage: Path) -> dict[str, str]:
    """All files of the package; what its control file says."""
    home = stage / HOME
    run(PYTHON, "-m", "venv", "--without-pip", str(home))
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--python",
        str(home / "bin/python"),
    ]
    run(*pip, "install", "-q", "--no-compile", f"{ROOT}[{EXTRAS}]")
    for script in ("spool", "spoold"):
        path = home / "bin" / script
        path.write_text(re.sub(r"\A#!.*", f"#!/{HOME}/bin/python -I", path.read_text()))
        (stage / "usr/bin").mkdir(exist_ok=True)
        (stage / "usr/bin" / script).symlink_to(f"/{HOME}/bin/{script}")
    for path in (home / "bin").iterdir():
        if not path.name.startswith("python") and path.name not in ("spool", "spoold"):
            path.unlink()
    (home / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    compiled = ["-m", "compileall", "-q", "-s", str(stage), "-p", "/"]  # nothing is written where it runs
    run(PYTHON, *compiled, str(home / "lib"))
    for source, place in PLACES.items():
        (stage / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(home / source, stage / place)
    shutil.rmtree(home / "share")
    strict = stage / "usr/lib/systemd/system/spoold-strict.conf"
    (stage / "usr/share/doc/spool").mkdir(parents=True)
    shutil.move(strict, stage / "usr/share/doc/spool/spoold-strict.conf")
    for name in ("README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, stage / "usr/share/doc/spool" / name)
    shutil.copy(ROOT / "LICENSE", stage / "usr/share/doc/spool/copyright")
    return control(stage, home)


def control(stage: Path, home: Path) -> dict[str, str]:
    """DEBIAN/, with what it is for."""
    code = "import sys, importlib.metadata as m; print(*sys.version_info[:2], m.version('spool'))"
    major, minor, version = run(str(home / "bin/python"), "-c", code).split()
    facts = {
        "version": version,
        "architecture": run("dpkg", "--print-architecture").strip(),
        "low": f"{major}.{minor}",
        "high": f"{major}.{int(minor) + 1}",
    }
    debian = stage / "DEBIAN"
    debian.mkdir()
    (debian / "control").write_text(CONTROL.format(**facts))
    for name, text in (("postinst", AFTER), ("prerm", BEFORE), ("postrm", GONE)):
        (debian / name).write_text(text)
        (debian / name).chmod(0o755)
    return facts


def run(*command: str) -> str:
    """A command that must succeed; what it printed."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
