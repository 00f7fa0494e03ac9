"""The doctor sees what is not well, names the remedy, and takes it where it is told to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from spool import folders, layout, modes, probes
from spool.command.main import main
from spool.daemons import start_hint
from spool.disk import DiskFull, Exists, Info, RealDisk
from spool.doctor import examine
from spool.errors import NotAllowed
from spool.folders import Folder
from spool.init import init
from spool.mounts import Mount, mount_of
from spool.names import DAY_US, date_of, event_name, new_id
from spool.probes import BAD, OK, WARN, Check, kernel, mount_options, steps, tried
from spool.settings import load
from spoold.guard import guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "a [s]pool*"
    init(str(place))
    return place


def bad(root: Path) -> list[Check]:
    return [check for check in examine(str(root)) if check.level == BAD]


def test_a_new_spool_is_well_but_for_the_daemon(root: Path) -> None:
    checks = list(examine(str(root)))
    assert not [c for c in checks if c.level == BAD]
    served = [c for c in checks if "no spoold" in c.what]
    assert [c.level for c in served] == [WARN]
    assert all(c.remedy for c in checks if c.level != OK)
    assert os.listdir(root / "tmp") == os.listdir(root / "incoming") == []


def test_what_is_no_spool_is_told_with_the_remedy(tmp_path: Path) -> None:
    (check,) = examine(str(tmp_path))
    assert check.level == BAD
    assert check.remedy.startswith("spool init")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_format_that_is_no_file_is_told_and_not_waited_for(
    root: Path, make: Callable[[Path], None]
) -> None:
    (root / "format").unlink()
    make(root / "format")
    (check,) = examine(str(root))
    assert "has a damaged format file" in check.what


@pytest.mark.parametrize(
    ("name", "mode", "level"),
    [
        ("", 0o755, BAD),
        ("done", 0o710, BAD),
        ("incoming", 0o777, BAD),
        ("held", 0o500, BAD),
        ("spool.toml", 0o644, WARN),
        ("spool.toml", 0o620, BAD),
    ],
)
def test_a_wrong_mode_is_named_with_its_command_and_mended(
    root: Path, name: str, mode: int, level: str
) -> None:
    path = root / name
    path.chmod(mode)
    found = [c for c in examine(str(root)) if f"{mode:04o}" in c.what]
    assert [c.level for c in found] == [level]
    assert found[0].remedy.startswith("chmod 0")
    assert not [c for c in examine(str(root), fix=True) if c.level == BAD]
    assert path.stat().st_mode & 0o7777 == (0o600 if name == "spool.toml" else 0o700)


def test_what_a_daemon_said_of_a_place_before_it_was_mended_is_not_told(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"alive": True, "left_alone": {"tmp": "is left alone"}}
    monkeypatch.setattr("spool.daemons.nodes", lambda *_: {"here": said})
    (root / "tmp").chmod(0o777)

    def told(*, fix: bool) -> bool:
        return any("left alone" in check.what for check in examine(str(root), fix=fix))

    assert [told(fix=fix) for fix in (False, True, True)] == [True, False, True]


def test_the_unit_that_serves_a_spool_is_what_starts_it(tmp_path: Path) -> None:
    (tmp_path / "spoold.service").write_text("[Service]\nExecStart=/usr/bin/spoold --spool /srv/spool\n")

    def hint(root: str, systemd: Path = tmp_path) -> str:
        return start_hint(root, units=("/nowhere", str(tmp_path)), systemd=str(systemd))

    assert hint("/srv/spool") == "systemctl start spoold"
    assert "spoold --spool /srv/other" in hint("/srv/other")
    assert "spoold --spool /srv/spool" in hint("/srv/spool", tmp_path / "not-booted-with-it")


def test_a_task_that_stands_nowhere_is_told(root: Path) -> None:
    """As in a copy that was made while it moved."""
    task = "0193a5b27c4d7e8f9a0b1c2d3e4f5a6b"
    own, place = root / layout.own_copy(task), root / "held" / f"143000.123456,{task},note.json"
    own.parent.mkdir()
    own.touch()
    place.hardlink_to(own)
    assert not [check for check in examine(str(root)) if "stand nowhere" in check.what]
    place.unlink()
    (found,) = [check for check in examine(str(root)) if "stand nowhere" in check.what]
    assert (found.level, found.remedy) == (WARN, "stop spoold, then spool fsck --repair")


def test_a_directory_that_is_missing_is_named(root: Path) -> None:
    (root / "held").rmdir()
    assert any("held is missing" in c.what for c in bad(root))


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes a shared spool")
@pytest.mark.parametrize("data", [None, b"\xff", b"["])
def test_a_shared_spool_is_one_where_its_settings_are_lost(
    root: Path, monkeypatch: pytest.MonkeyPatch, data: bytes | None
) -> None:
    (root / "spool.toml").unlink()
    if data is not None:
        (root / "spool.toml").write_bytes(data)
    asked = []
    monkeypatch.setattr("spool.doctor.modes.serving", lambda *_, is_shared: asked.append(is_shared) or 5)
    list(examine(str(root)))
    assert asked
    assert all(asked)


@pytest.mark.parametrize(
    ("toml", "hint"),
    [
        ("retries = -1\n", "retries"),
        ("colour = 1\n", "colour"),
        ('[handlers."x"]\nexec = ["/no/such/program"]\n', "/no/such/program"),
        ('[handlers."x"]\nexec = ["/etc/passwd"]\n', "/etc/passwd"),
        ('[handlers."x"]\nexec = ["nonsense-program"]\n', "nonsense-program"),
        ('[handlers."x"]\nexec = ["true"]\ncwd = "/no/such/place"\n', "/no/such/place"),
        ('min_free_bytes = "1000TiB"\n', "MiB"),
    ],
)
def test_settings_that_cannot_work_are_bad(root: Path, toml: str, hint: str) -> None:
    (root / "spool.toml").write_text(toml)
    found = bad(root)
    assert len(found) == 1
    assert hint in found[0].what
    assert found[0].remedy


def test_a_schedule_of_commands_where_none_may_run_draws_a_warning(root: Path) -> None:
    made = '[recurring.nightly]\nevery = "1d"\ntask = "spool.run"\nargs = { argv = ["true"] }\n'
    for more, warned in (("", False), ("allow_run = false\n", True), ("shared = true\n", True)):
        found = [check.remedy for check in probes.rules(load(more + made)) if "nightly" in check.what]
        assert ["allow_run" in remedy for remedy in found] == [True] * warned


def test_a_handler_that_no_task_can_have_draws_a_warning() -> None:
    text = "".join(f'[handlers."{p}"]\nexec = ["true"]\n' for p in ("spool.*", "spool.a", "spoolx", "*"))
    found = [check.what for check in probes.rules(load(text + '[alerts]\nexec = ["true"]\n'))]
    assert [what.partition(" is for nothing")[0] for what in found] == [
        '[handlers."spool.*"]',
        '[handlers."spool.a"]',
    ]
    (one,) = probes.rules(load('[handlers."spool.alert"]\nexec = ["true"]\n'))  # without [alerts]
    assert one.what.startswith('[handlers."spool.alert"] is for nothing')


def test_a_rule_for_somebody_that_nobody_is_draws_a_warning(root: Path) -> None:
    (root / "spool.toml").write_text("".join(
        f'[policy."{who}"]\ntasks = ["*"]\n'
        for who in ("user:no-such", "user:root", "user:4711", "group:no-such", "group:root", "key:ci")
    ))  # fmt: skip
    found = [check.what for check in examine(str(root)) if "policy" in check.what]
    assert found == [
        f'[policy."{kind}:no-such"] is for nobody: this machine knows no {kind} no-such'
        for kind in ("user", "group")
    ]
    done = subprocess.run(
        [sys.executable, "-m", "spoold", "--check", "--spool", root],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found[0] in done.stderr


def test_a_spool_of_signers_without_a_name_of_its_own_draws_a_warning(root: Path) -> None:
    def warned() -> list[str]:
        return [check.remedy for check in examine(str(root)) if "signed for" in check.what]

    assert not warned()
    (root / "allowed_signers").touch(0o600)
    assert warned() == ["give it a name of its own: name in spool.toml"]
    (root / "spool.toml").write_text('name = "jobs"')
    assert not warned()


def test_boxes_of_writers_in_a_spool_of_one_user_are_told(root: Path) -> None:
    (root / "incoming.d" / "1001").mkdir(parents=True)
    (found,) = [check for check in examine(str(root)) if "incoming.d" in check.what]
    assert (found.level, found.what.partition(":")[0]) == (WARN, "incoming.d/ is not looked at")
    done = subprocess.run(
        [sys.executable, "-m", "spoold", "--until-idle", "--spool", root],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{found.what}; {found.remedy}" in done.stderr
    (root / "spool.toml").write_text("shared = true\n")
    assert not [check for check in examine(str(root)) if "is not looked at" in check.what]


def test_a_tz_that_is_no_zone_draws_a_warning_where_it_counts(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> list[str]:
        return [check.what for check in examine(str(root)) if "TZ" in check.what]

    monkeypatch.setenv("TZ", "EST5EDT,M3.2.0,M11.1.0")
    assert told() == []
    monkeypatch.setenv("TZ", "Bogus/X")
    (what,) = told()
    assert what.startswith("TZ=Bogus/X is no time zone that is known here: the clock is that of ")
    done = subprocess.run(
        [sys.executable, "-m", "spoold", "--until-idle", "--spool", root],
        capture_output=True,
        text=True,
        check=True,
    )
    assert what in done.stderr
    (root / "spool.toml").write_text('timezone = "Asia/Tokyo"\n')
    assert told() == []


def test_handlers_that_can_run_are_well(root: Path) -> None:
    (root / "spool.toml").write_text(
        '[handlers."x"]\nexec = ["/bin/sh"]\n[handlers."y"]\nexec = ["sh"]\n'
    )
    assert bad(root) == []


def test_a_disk_that_makes_a_name_twice_is_bad(root: Path) -> None:
    class Careless(RealDisk):
        def write(self, path: str, data: bytes, *, private: bool = False) -> None:
            try:
                super().write(path, data, private=private)
            except Exists:
                pass

    assert next(steps(Careless(str(root)), "tmp", "incoming")).level == BAD


def test_a_disk_without_links_is_bad_and_nothing_of_the_trial_is_left(root: Path) -> None:
    class NoLinks(RealDisk):
        def link(self, source: str, target: str) -> None:
            raise PermissionError(1, "Operation not permitted", source, None, target)

    (check,) = steps(NoLinks(str(root)), "tmp", "incoming")
    assert check.level == BAD
    assert os.listdir(root / "tmp") == os.listdir(root / "incoming") == []


@pytest.mark.parametrize("name", ["tmp", "incoming"])
def test_nothing_is_tried_out_where_a_link_leads(root: Path, name: str) -> None:
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    (root / name).rmdir()
    (root / name).symlink_to(elsewhere)
    made = elsewhere.stat().st_mtime_ns
    assert "nothing is tried out: tmp/ or incoming/ is no directory" in [c.what for c in bad(root)]
    assert elsewhere.stat().st_mtime_ns == made


@pytest.mark.parametrize("make", [Path.touch, partial(Path.symlink_to, target="incoming")])
@pytest.mark.parametrize("name", ["tmp", "pending"])
def test_what_is_no_directory_is_told_once_and_with_what_helps(
    root: Path, name: str, make: Callable[[Path], None]
) -> None:
    (root / name).rmdir()
    make(root / name)
    first, *others = bad(root)
    assert first.what.startswith((f"{root}/{name} is no directory", f"{root}/{name} is a symbolic link"))
    assert first.remedy.startswith(("move it elsewhere", "rm "))
    assert all("tried out" in one.what for one in others)


def test_a_place_that_may_not_be_opened_is_told_in_words(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(top: Folder, name: str) -> Folder:
        raise PermissionError(13, "Permission denied", name)

    disk = RealDisk(str(root))
    monkeypatch.setattr(Folder, "inner", refused)
    (check,) = tried(disk, Folder(str(root), disk.fd))
    assert check.level == BAD
    assert check.what == "it cannot be tried out: tmp: Permission denied"


def test_without_proc_nothing_is_said_of_the_rest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "OPEN", "/nowhere")
    (check,) = bad(root)
    assert check.what.startswith("/nowhere is not there")
    assert "mount" in check.remedy


@pytest.mark.parametrize("place", [layout.WRITERS, layout.OUTBOX])
def test_a_box_that_goes_while_it_is_looked_at_is_none(
    root: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / place / "60199").mkdir(parents=True)
    before = Folder.within

    def gone(self: Folder, name: str) -> Iterator[tuple[Folder, str]]:
        for found in before(self, name):
            if found[1] == "60199":
                (root / place / "60199").rmdir()
            yield found

    monkeypatch.setattr(Folder, "within", gone)
    with folders.opened(str(root)) as top:
        assert not [c for c in modes.check(top, is_shared=True, deep=True) if "60199" in c.what]


def test_a_full_disk_is_not_called_one_that_cannot_do_it(root: Path) -> None:
    class Full(RealDisk):
        def write(self, path: str, data: bytes, *, private: bool = False) -> None:
            raise DiskFull(28, "No space left on device", path)

    (check,) = steps(Full(str(root)), "tmp", "incoming")
    assert check.what.startswith("the disk is full: ")
    assert "make room" in check.remedy


def test_a_place_where_nothing_can_be_written_is_named_by_the_doctor_and_by_spoold(root: Path) -> None:
    cover = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    closed = ["unshare", "--mount", "sh", "-c", cover, str(root)]
    if subprocess.run([*closed, "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")

    def run(program: str, *words: str) -> tuple[int, str]:
        words = (*closed, sys.executable, "-m", program, "--spool", str(root), *words)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    status, said = run("spoold", "--until-idle")
    assert status == NotAllowed.exit_code
    assert "is read-only" in said
    status, said = run("spool", "doctor")
    assert status == 69
    assert "is read-only" in said
    assert "no spoold serves" in said, "it goes on to the end"


def test_what_the_kernel_lets_users_do_to_each_other_is_named_with_its_command(tmp_path: Path) -> None:
    assert list(kernel(str(tmp_path))) == [], "an old kernel has no such settings"
    names = ("protected_hardlinks", "protected_symlinks", "protected_fifos", "protected_regular")
    for name in names:
        (tmp_path / name).write_text("0\n")
    found = list(kernel(str(tmp_path)))
    assert [check.level for check in found] == [BAD, WARN, WARN, WARN]
    for name, check in zip(names, found, strict=True):
        assert f"fs.{name} is 0" in check.what
        assert check.remedy.startswith(f"sysctl -w fs.{name}=1")
        (tmp_path / name).write_text("2\n")
    assert list(kernel(str(tmp_path))) == []


def test_a_shared_spool_on_a_network_wants_signatures_and_is_not_served_without(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = Mount("/srv", "nfs4", frozenset({"rw", "hard"}))
    monkeypatch.setattr("spool.probes.mount_of", lambda _: far)
    words = "is on nfs4, where a uid is what each client says"
    (root / "spool.toml").write_text("shared = true\n")
    (check,) = (check for check in bad(root) if words in check.what)
    assert 'signatures = "required"' in check.remedy
    monkeypatch.setattr("spoold.guard.modes.check", lambda *_, **__: ())
    with pytest.raises(NotAllowed, match=words):
        guard(str(root), load("shared = true"))
    (root / "spool.toml").write_text('shared = true\nsignatures = "required"\n')
    assert not [check for check in bad(root) if words in check.what]


def test_what_was_put_aside_and_what_nobody_reads_is_told(root: Path) -> None:
    (root / "corrupt" / "x").touch()
    (root / "corrupt" / "x.reason.json").touch()
    (root / "outbox" / "shop").mkdir()
    for number in range(1000):
        (root / "outbox" / "shop" / event_name(number, new_id(), "note", "done")).touch()
        (root / "outbox" / "shop" / f"{number}").touch()  # no event
    told = [c.what for c in examine(str(root)) if c.level == WARN]
    assert any(what.startswith("1 damaged") for what in told)
    assert any("1000 events for shop" in what for what in told)
    shutil.rmtree(root / "corrupt")
    assert any("1000 events for shop" in c.what for c in examine(str(root)))


MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:40 / /srv rw,noatime shared:1 - nfs4 host:/srv rw,soft
31 30 8:2 / /srv/a\\040disk ro - xfs /dev/sdb rw
32 22 0:41 / /tmp rw - tmpfs tmpfs rw
33 22 0:42 / /tmp rw - fuse.sshfs host: rw
34 22 0:43 / /any rw - fuse any rw
35 22 8:3 / /windows rw - fuseblk /dev/sdc1 rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/nonsense/x", "ext4", False),
        ("/srv/x", "nfs4", True),
        ("/srv/a disk/x", "xfs", False),
        ("/srv/a disk2", "nfs4", True),
        ("/tmp", "fuse.sshfs", True),
        ("/any", "fuse", True),
        ("/windows", "fuseblk", False),
    ],
)
def test_the_mount_is_the_nearest_above_and_the_last_on_its_place(
    tmp_path: Path, path: str, kind: str, network: bool
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS)
    mount = mount_of(path, mountinfo=str(table))
    assert mount is not None
    assert (mount.type, mount.network) == (kind, network)
    assert ("soft" in mount.options) == (kind == "nfs4")
    assert mount_of(path, mountinfo="/no/such/file") is None


def test_the_command_exits_69_where_something_is_bad(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--spool", str(root)]) == 0
    capsys.readouterr()
    (root / layout.SETTINGS).write_text("nonsense")
    assert main(["doctor", "--spool", str(root), "--json"]) == 69
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["level"] for row in rows} <= {OK, WARN, BAD}
    assert main(["doctor", "--spool", str(root)]) == 69
    assert "bad   " in capsys.readouterr().out


class Squashing(RealDisk):
    """As what a file server shows whose export has root_squash."""

    def info(self, path: str) -> Info | None:
        info = super().info(path)
        return info and replace(info, uid=65534)


def test_a_file_server_that_squashes_users_is_told(root: Path) -> None:
    first = next(steps(Squashing(str(root)), "tmp", "incoming"))
    assert first.level == BAD
    assert "belongs to uid 65534" in first.what
    assert "no_root_squash" in first.remedy


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        ("rw,hard,vers=4.2,proto=tcp,sec=sys,local_lock=none", ["ok"]),
        ("rw,hard,vers=3,proto=tcp,sec=sys,local_lock=none", ["ok", "warn"]),
        ("rw,vers=4.2,nocto,actimeo=600", ["ok", "bad", "warn"]),
        ("rw,vers=3,nolock,local_lock=all", ["ok", "warn", "warn"]),
    ],
)
def test_mount_options_that_nodes_suffer_from_are_told(options: str, levels: list[str]) -> None:
    found = list(mount_options(Mount("/srv/spool", "nfs4", frozenset(options.split(",")))))
    assert [check.level for check in found] == levels
    assert all(check.remedy for check in found if check.level != "ok")


def test_tasks_that_are_dated_ahead_of_the_clock_draw_a_warning(root: Path) -> None:
    def told() -> list[Check]:
        return [check for check in examine(str(root)) if "are dated ahead" in check.what]

    now = time.time_ns() // 1000
    (root / "ids" / date_of(now)).mkdir()
    assert told() == []
    (root / "ids" / date_of(now + 2 * DAY_US)).mkdir()
    (check,) = told()
    assert check.level == WARN
    assert "spool move" in (check.remedy or "")
