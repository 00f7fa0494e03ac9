"""A spool that root has touched: restored, written into, repaired. Whose it is stays, and spoold can work."""

from __future__ import annotations

import os
from itertools import count, islice
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from spool import Spool, layout, modes
from spool.command.main import main
from spool.doctor import examine
from spool.errors import NotAllowed
from spool.init import init
from spool.names import new_id
from spool.probes import BAD
from tests.e2e.live import handler, needs_log
from tests.security.shared import ANN, BOB, READ, SPOOLD, SUBMIT, Shared, made, needs_users, python

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., Shared]

pytestmark = [pytest.mark.root, needs_users]
NOTE = f'[policy."user:{ANN}"]\ntasks = ["note"]\n' + handler("note", "true")
__all__ = ["made"]


def owners(root: Path, *, but: tuple[str, ...] = ("incoming.d", "spool.toml", "format")) -> set[int]:
    """Whose is what stands in a spool, aside from what is root's in a shared one."""
    found = (path for path in root.rglob("*") if path.relative_to(root).parts[0] not in but)
    return {path.lstat().st_uid for path in found}


def mended(root: Path) -> list[str]:
    """What is bad after the doctor has mended what he can."""
    list(examine(str(root), fix=True))
    return [check.what for check in examine(str(root)) if check.level == BAD]


@pytest.fixture
def anns(tmp_path: Path) -> Path:
    """A user's own spool."""
    root = tmp_path / "spool"
    init(str(root))
    for path in (root, *root.rglob("*")):
        os.chown(path, ANN, ANN)
    return root


def test_root_drops_nothing_into_the_own_spool_of_a_user_and_repairs_nothing_there(
    anns: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Spool(anns) as spool, pytest.raises(NotAllowed, match=f"the own spool of uid {ANN}"):
        spool.submit("note")
    for words in (["submit", "note"], ["cancel", new_id()], ["fsck", "--repair"]):
        assert main(["--spool", str(anns), *words]) == 77
        assert f"uid {ANN}" in capsys.readouterr().err
    assert main(["--spool", str(anns), "fsck"]) == 0
    assert os.listdir(anns / "tmp") == os.listdir(anns / "incoming") == []


def test_what_the_user_of_a_spool_could_not_read_is_refused_at_once(made: Make) -> None:
    spool = made()
    own = spool.root.parent / "own"
    init(str(own))
    for path in (own, *own.rglob("*")):
        os.chown(path, ANN, ANN)
    for path in (own, own / "incoming", own / "tmp"):
        path.chmod(0o777)
    (own / "format").chmod(0o644)
    done = spool.run(BOB, python(), "-m", "spool", "--spool", str(own), "submit", "note")
    assert (done.returncode, done.stdout) == (77, "")
    assert f"is the own spool of uid {ANN}" in done.stderr
    assert "spool init --system" in done.stderr
    assert os.listdir(own / "tmp") == os.listdir(own / "incoming") == []


def test_what_root_drops_into_a_spool_of_several_users_is_read(made: Make) -> None:
    spool = made(NOTE + '[policy."user:root"]\ntasks = ["*"]\n').start()
    assert spool.event("done", spool.submitted(0, "note", groups=()))["submitted_by"]["uid"] == 0


def test_what_root_has_restored_into_the_own_spool_of_a_user_is_that_users_again(anns: Path) -> None:
    for path in anns.rglob("*"):
        os.chown(path, 0, 0)
    assert main(["--spool", str(anns), "doctor", "--fix"]) in (0, 69)
    assert owners(anns, but=()) == {ANN}


def test_where_root_has_the_directory_of_what_waits_the_others_tell_whose_it_is(made: Make) -> None:
    spool = made(NOTE)
    os.chown(spool.root / "pending", 0, 0)
    assert modes.serving(str(spool.root), is_shared=True) == SPOOLD
    assert mended(spool.root) == []
    assert owners(spool.root) == {SPOOLD}


def test_where_all_is_roots_nothing_is_given_away_and_the_remedy_makes_it_well(
    made: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after `cp -r` by root: files deep inside and outboxes too."""
    spool = made(NOTE).start()
    task = spool.submitted(ANN, "note")
    spool.event("done", task, take=False)
    spool.stop()
    for path in (spool.root, *spool.root.rglob("*")):
        os.chown(path, 0, 0)
    (bad, *_) = mended(spool.root)
    assert bad == f"all of {spool.root} belongs to root: spoold must have a user of its own"
    assert owners(spool.root) == {0}
    remedies = [c.remedy for c in examine(str(spool.root)) if c.what == bad]
    assert remedies == [f"spool init --system --owner USER {spool.root}, then spool doctor --fix"]
    words = ["init", "--system", "--owner", str(SPOOLD), "--submit", str(SUBMIT), "--read", str(READ)]
    assert main([*words, str(spool.root)]) == 0
    capsys.readouterr()
    assert any("journal/" in check.what for check in examine(str(spool.root)) if check.level == BAD)
    assert mended(spool.root) == []
    assert owners(spool.root) == {SPOOLD}
    spool.start()
    spool.event("done", spool.submitted(ANN, "note"))
    assert spool.spool(ANN, "show", task, groups=(READ,)).returncode == 0


def test_a_private_spool_keeps_its_owner_whose_top_is_roots(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    main(["init", str(root)])
    for path in root.rglob("*"):
        os.chown(path, ANN, ANN)
    stray = root / "attempts" / "2026-11-21"
    stray.mkdir()
    (root / "nodes" / "vm.lock").touch(0o600)
    assert mended(root) == []
    assert owners(root, but=()) == {ANN}
    assert root.stat().st_uid == ANN


def of_root(place: Path) -> list[tuple[int, int, int]]:
    """Whose everything in a tree of root's is, its group and mode."""
    found = (path.lstat() for path in (place, *place.rglob("*")))
    return [(one.st_uid, one.st_gid, one.st_mode) for one in found]


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """A tree of root's, which looks like a part of a spool."""
    place = tmp_path / "etc"
    for name in ("high", "keys", "pending/2026-11-22", "running/n", "outbox/shop", "incoming.d/7"):
        (place / name).mkdir(parents=True)
    (place / "keys" / "secret").touch(0o600)
    return place


@pytest.mark.parametrize("name", ["pending", "pending/2026-11-22", "running", "outbox", "ids"])
def test_the_doctor_of_root_follows_no_link_that_spoolds_user_puts_in_his_way(
    made: Make, roots: Path, name: str
) -> None:
    spool = made(NOTE)
    before = of_root(roots)
    for day in ("pending/2026-11-21", "pending/2026-11-22"):
        (spool.root / day).mkdir(0o777)
    for step in examine(str(spool.root), fix=True):
        place = spool.root / name
        if "2026-11-21 " in step.what and not place.is_symlink():  # it has been listed
            place.rename(spool.root / "tmp" / "away")
            place.symlink_to(roots)
    place.unlink()  # it was there
    assert of_root(roots) == before


def test_the_doctor_of_root_stays_in_the_spool_of_a_user_who_puts_another_in_its_place(
    anns: Path, roots: Path
) -> None:
    before = of_root(roots)
    for number in count(1):
        for name in ("held/stray", "outbox/stray"):
            (anns / name).touch()
        (anns / "done").chmod(0o777)
        steps = examine(str(anns), fix=True)
        if len(list(islice(steps, number))) < number:
            break
        anns.rename(anns.parent / "away")
        anns.symlink_to(roots)
        list(steps)
        anns.unlink()
        (anns.parent / "away").rename(anns)
        assert of_root(roots) == before
        assert owners(anns, but=()) == {ANN}


def test_what_has_a_name_elsewhere_is_not_given_to_the_user_of_a_spool(anns: Path, roots: Path) -> None:
    secret = roots / "keys" / "secret"
    for name in ("done/a", "outbox/b", "allowed_signers"):
        (anns / name).hardlink_to(secret)
    told = " ".join(check.what for check in examine(str(anns), fix=True))
    assert secret.stat().st_uid == 0
    assert f"{anns}/done/a: not of uid {ANN}, and left, as it may have a name" in told
    assert f"{anns}/allowed_signers belongs to uid 0, not to uid {ANN}; it has a second name" in told


def test_what_has_all_its_names_in_the_spool_of_a_user_is_given_to_him(anns: Path) -> None:
    task = anns / "outbox" / "task"
    task.touch()
    for name in ("ids/task", "pending/task"):
        (anns / name).hardlink_to(task)
    os.chown(task, BOB, BOB)
    assert mended(anns) == []
    assert (task.stat().st_uid, task.stat().st_gid) == (ANN, ANN)


def test_what_others_have_made_in_an_outbox_stays_theirs_under_two_names_as_well(anns: Path) -> None:
    read = anns / "outbox" / "read"
    read.touch()
    os.chown(read, BOB, BOB)
    (anns / "outbox" / "kept").hardlink_to(read)
    assert not [check.what for check in examine(str(anns), fix=True) if "outbox/" in check.what]
    assert read.stat().st_uid == BOB


def test_what_he_may_write_is_not_given_to_the_user_of_a_spool_who_moves_its_name_meanwhile(
    anns: Path, roots: Path
) -> None:
    shared = roots / "keys" / "secret"
    os.chown(shared, 0, ANN)
    shared.chmod(0o660)
    (anns / "pending" / "a").hardlink_to(shared)
    (anns / "pending" / "stray").touch()
    told = []
    for step in examine(str(anns), fix=True):
        told.append(step.what)
        if "pending/stray belonged" in step.what:
            (anns / "pending" / "a").rename(anns / "held" / "a")
    assert shared.stat().st_uid == 0
    assert f"{anns}/pending/a: not of uid {ANN}, and left" in " ".join(told)


def test_a_new_spool_of_several_users_names_nobody_that_is_not_there(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    numbers = ["--owner", str(SPOOLD), "--submit", str(SUBMIT), "--read", str(READ)]
    assert main(["init", "--system", *numbers, str(root)]) == 0
    assert not [check.what for check in examine(str(root)) if "policy" in check.what]
    assert f'# [policy."group:{SUBMIT}"]' in (root / "spool.toml").read_text()


def test_the_own_spool_of_root_is_not_made_one_of_several_users(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "spool"
    main(["init", str(root)])
    numbers = ["--owner", str(SPOOLD), "--submit", str(SUBMIT), "--read", str(READ)]
    assert main(["init", "--system", *numbers, str(root)]) == 66
    assert "root's own spool" in capsys.readouterr().err
    assert owners(root, but=()) == {0}


def test_what_writers_have_dropped_stays_theirs(made: Make) -> None:
    spool = made(NOTE)
    name = f"{spool.submitted(ANN, 'note')}.json"
    assert mended(spool.root) == []
    assert (spool.root / "incoming" / name).stat().st_uid == ANN


@pytest.mark.parametrize(
    "name", ["nodes/vm.lock", "nodes/redo", "pending/2026-11-21", "running/vm", "journal/vm"]
)
def test_what_is_not_spoolds_ends_it_with_one_line_that_says_what_to_do(made: Make, name: str) -> None:
    spool = made(NOTE)
    spool.node = "vm"
    place = spool.root / name
    if name == layout.REDO:
        needs_log(spool.root)
    place.touch(0o600) if name.startswith("nodes") else place.mkdir(0o700)
    assert spool.once("--until-idle") == 77
    *_, line = spool.says().splitlines()
    assert "Traceback" not in spool.says()
    way = f"chown {SPOOLD} {place}, or spool doctor --fix, as root"
    assert line == f"spoold: {place} belongs to uid 0, not to uid {SPOOLD}; {way}"
    assert mended(spool.root) == []
    assert spool.once("--until-idle") == 0


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_settings_in_the_group_of_root_are_given_that_of_spoold(
    made: Make, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    spool = made(NOTE)
    place = spool.root / "spool.toml"
    os.chown(place, 0, 0)
    place.chmod(mode)
    assert spool.once("--until-idle") == 77
    assert f"chown 0:{SPOOLD} {place}; chmod 0640 {place}, or" in spool.says()
    user = SimpleNamespace(pw_name="nobody-has-it", pw_gid=SPOOLD)
    monkeypatch.setattr(modes.pwd, "getpwuid", lambda _: user)
    assert mended(spool.root) == []
    assert spool.once("--until-idle") == 0


def test_what_is_not_spoolds_ends_it_in_the_middle_of_its_work_as_well(made: Make) -> None:
    spool = made(NOTE).start()
    task = spool.submitted(ANN, "note")
    spool.event("done", task)
    (day,) = (spool.root / "attempts").iterdir()
    os.chown(day, 0, 0)
    task = spool.submitted(ANN, "note")
    assert spool.wait_exit() == 77
    assert f"{day} belongs to uid 0" in spool.says()
    assert "Traceback" not in spool.says()
    assert mended(spool.root) == []
    spool.start()
    spool.event("done", task)
