"""Who may do what in the tree: a spool is made closed, and what is looser is not served."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from spool import folders, modes
from spool.doctor import examine
from spool.errors import NotAllowed
from spool.init import init
from spool.probes import BAD, Check
from spool.settings import load
from spoold.guard import guard


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "spool"
    init(str(place))
    return place


def seen(root: Path) -> list[Check]:
    with folders.opened(str(root)) as top:
        return list(modes.check(top, is_shared=False))


@pytest.mark.parametrize("umask", ["000", "022", "077", "277", "777"])
def test_a_new_spool_is_closed_whatever_the_umask(tmp_path: Path, umask: str) -> None:
    place = tmp_path / "state" / "of" / "spool"
    make = "import os, sys; os.umask(int(sys.argv[1], 8)); from spool.init import init; init(sys.argv[2])"
    done = subprocess.run(
        [sys.executable, "-c", make, umask, str(place)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for path in (place, place.parent, place.parent.parent, *place.rglob("*")):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    guard(str(place), load(""))


@pytest.mark.parametrize("name", ["", "incoming", "tmp", "pending", "outbox", "nodes"])
@pytest.mark.parametrize("mode", [0o701, 0o710, 0o740, 0o755, 0o777, 0o1777, 0o3730])
def test_a_looser_mode_is_not_served_until_the_doctor_has_mended_it(
    root: Path, name: str, mode: int
) -> None:
    (root / name).chmod(mode)
    with pytest.raises(NotAllowed, match=f"mode {mode:04o}.*chmod 0700.*spool doctor --fix"):
        guard(str(root), load(""))
    assert any("now 0700" in check.what for check in examine(str(root), fix=True))
    guard(str(root), load(""))


def test_settings_that_others_may_write_are_not_served_and_those_they_may_read_are_only_told(
    root: Path,
) -> None:
    (root / "spool.toml").chmod(0o644)
    guard(str(root), load(""))
    assert [c.level for c in seen(root) if "spool.toml" in c.what] == ["warn"]
    (root / "spool.toml").chmod(0o660)
    with pytest.raises(NotAllowed, match=r"spool.toml has mode 0660"):
        guard(str(root), load(""))


def test_a_link_in_the_place_of_a_directory_is_not_served(root: Path, tmp_path: Path) -> None:
    (root / "done").rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (root / "done").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotAllowed, match="symbolic link"):
        guard(str(root), load(""))


def test_a_file_that_is_a_link_is_to_be_put_there_itself(root: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("ssh-ed25519 AAAA\n")
    (tmp_path / "keys").chmod(0o600)
    link = root / "revoked_keys"
    link.symlink_to(tmp_path / "keys")
    with pytest.raises(NotAllowed, match="symbolic link") as told:
        guard(str(root), load(""))
    remedy = str(told.value).partition("put the file itself there: ")[2]
    subprocess.run(shlex.split(remedy), check=True)
    assert link.read_text() == "ssh-ed25519 AAAA\n"
    guard(str(root), load(""))


def test_whoever_may_replace_a_directory_on_the_way_is_named(tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir()
    init(str(above / "spool"))
    above.chmod(0o777)
    found = [c for c in seen(above / "spool") if str(above) in c.what]
    assert [c.remedy.split(",")[0] for c in found] == [f"chmod go-w {above}"]
    above.chmod(0o1777)
    assert seen(above / "spool") == []


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a spool to somebody else")
def test_nobody_serves_the_spool_of_another_user(root: Path) -> None:
    for path in (root, *root.rglob("*")):
        os.chown(path, 12345, 12345)
    assert [c for c in seen(root) if c.level == BAD] == []
    with pytest.raises(NotAllowed, match="served by uid 12345, not by uid 0"):
        guard(str(root), load(""))


def test_a_check_has_a_remedy(root: Path) -> None:
    (root / "held").chmod(0o777)
    checks = seen(root)
    assert checks
    assert all(check.remedy for check in checks)


OVERLAY = """
mount -t tmpfs none "$1" && mkdir "$1/u" "$1/w" "$1/all" || exit 99
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/u,workdir=$1/w" "$1/all" || exit 99
exec "$3" -c 'import sys; from spool import folders, modes
with folders.opened(sys.argv[1]) as top:
    print(*(c.what for c in modes.check(top, is_shared=False)), sep="\\n")' "$1/all/q"
"""


def test_a_file_of_overlayfs_is_on_no_other_file_system(tmp_path: Path) -> None:
    """There a file has the device number of its layer, and a directory that of the whole."""
    for name in ("top", "low"):
        (tmp_path / name).mkdir()
    init(str(tmp_path / "low/q"))
    words = [
        "unshare",
        "-m",
        "sh",
        "-c",
        OVERLAY,
        "sh",
        tmp_path / "top",
        tmp_path / "low",
        sys.executable,
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode in (1, 99):  # of unshare, or of mount
        pytest.skip("no overlayfs can be mounted here")
    assert done.returncode == 0, done.stderr
    assert "another file system" not in done.stdout
