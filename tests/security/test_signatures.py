"""A signed action counts by its key, once, here and now; any other is refused in its own words."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from spool import Spool, envelope
from spool.command.main import main
from spool.disk import RealDisk
from spool.errors import Invalid, NotAllowed
from spool.init import init
from spool.names import new_id
from spool.settings import load
from spool.signing import Key
from spool.times import DAY, MINUTE, format_utc, parse_utc
from spoold.core.values import Now
from spoold.sources.signatures import Signatures
from tests.e2e.live import Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Make = Callable[..., Live]

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
RULES = """
signatures = "required"
[policy."key:good@x"]
tasks = ["note"]
[policy."key:boss@x"]
admin = true
"""
NOTE = 'settle = "1s"\n' + RULES + handler("note", "true")
KINDS = ("good", "boss", "old", "new", "revoked", "other", "stranger")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("keys")
    lines = []
    for kind in KINDS:
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", kind, "-f", str(place / kind)],
            check=True,
        )
        public = (place / f"{kind}.pub").read_text()
        option = {"old": ',valid-before="20200101"', "new": ',valid-after="20900101"'}.get(kind, "")
        if kind != "stranger":
            names = "file" if kind == "other" else "spool,other"
            lines.append(f'{kind}@x namespaces="{names}"{option} {public}')
    (place / "allowed_signers").write_text("".join(lines))
    (place / "revoked_keys").write_text((place / "revoked.pub").read_text())
    return place


@pytest.fixture
def live(tmp_path: Path, keys: Path) -> Iterator[Make]:
    made: list[Live] = []

    def make(settings: str = NOTE) -> Live:
        spool = Live(tmp_path, settings)
        made.append(spool)
        for name in ("allowed_signers", "revoked_keys"):
            (spool.root / name).write_bytes((keys / name).read_bytes())
            (spool.root / name).chmod(0o600)
        return spool.start()

    yield make
    for spool in made:
        spool.close()


def key(keys: Path, kind: str = "good", **more: Any) -> Key:
    return Key(str(keys / kind), f"{kind}@x", "spool", **more)


def sealed(keys: Path, doc: dict[str, Any], kind: str = "good", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(key(keys, kind, **more).seal(json.dumps(doc).encode()))
    return found


def signed(keys: Path, text: str, kind: str = "good", namespace: str = "spool") -> dict[str, Any]:
    """An envelope around any text at all."""
    done = subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(keys / kind)],
        input=text.encode(),
        capture_output=True,
        check=True,
    )
    return {"signed": text, "signature": done.stdout.decode(), "signer": f"{kind}@x"}


def text(doc: dict[str, Any], *, created: int = 0, lasts: int = DAY, spool: str = "spool") -> str:
    now = time.time_ns() // 1000
    return json.dumps(envelope.fields(spool, now + created, lasts) | doc)


def call(spool: Live, names: str, key: Path, *, first: bool = False) -> None:
    """Further names of a key, behind those that are listed or before them."""
    path = spool.root / "allowed_signers"
    known, more = path.read_text(), f"{names} {key.read_text()}"
    path.write_text(more + known if first else known + more)


def why(spool: Live, doc: object) -> str:
    """Drop it; what is said of it."""
    name = f"{new_id()}.json"
    spool.put(name, doc if isinstance(doc, bytes) else json.dumps(doc).encode())
    reason = spool.refusal(name)
    return f"{reason['field']} {reason['rule']}"


def test_what_is_signed_is_done_as_its_key_has_it_and_the_journal_says_so(live: Make, keys: Path) -> None:
    spool = live()
    with Spool(spool.root, key=key(keys)) as client:
        ids = [client.submit("note"), *client.submit_many([{"task": "note"}, {"task": "note"}])]
    for task_id in ids:
        assert spool.event("done", task_id)["submitted_by"]["key"] == "good@x"
    assert {line["signer"] for line in spool.journal("submit")} == {"good@x"}
    with Spool(spool.root, key=replace(key(keys), signer=None)) as client:  # found by its key
        assert spool.event("done", client.submit("note"))["submitted_by"]["key"] == "good@x"


def test_no_file_is_larger_when_it_is_signed_than_spoold_takes(tmp_path: Path, keys: Path) -> None:
    init(str(tmp_path / "spool"))
    client = Spool(tmp_path / "spool", key=key(keys))
    ids = client.submit_many([{"task": "note", "args": {"a": ['"\n'] * 100}}] * 1500)
    files = [file.read_bytes() for file in (tmp_path / "spool" / "incoming").iterdir()]
    assert len(files) == 2
    assert max(map(len, files)) < client.max_action_bytes
    found = [task["id"] for file in files for task in json.loads(json.loads(file)["signed"])["tasks"]]
    assert sorted(found) == sorted(ids)
    large = {"task": "note", "args": {"n": 1, "a": ['"'] * 200_000}}
    for name, submit in (
        ("args.a", lambda: client.preview(large)),
        ("args.a", lambda: client.submit_one(large)),
        (r"tasks\[1\].args.a", lambda: client.submit_many([{"task": "note"}, large])),
    ):
        with pytest.raises(Invalid, match=f"^{name}: must leave .* when it is signed"):
            submit()
    assert len(list((tmp_path / "spool" / "incoming").iterdir())) == 2


def test_every_wrong_signature_is_refused_in_its_own_words(live: Make, keys: Path) -> None:
    spool = live()
    doc = {"task": "note"}
    good = sealed(keys, doc)
    wrong = {
        "signature is required here": doc,
        "does not fit the text": {**good, "signed": good["signed"].replace("note", "n0te")},
        "was made for another purpose: sign with -n spool": signed(keys, text(doc), namespace="other"),
        "has for other namespaces": sealed(keys, doc, "other"),
        "allowed_signers has for other namespaces": {
            k: v for k, v in sealed(keys, doc, "other").items() if k != "signer"
        },
        "key that has expired": sealed(keys, doc, "old"),
        "key that is not valid yet": sealed(keys, doc, "new"),
        "key that is revoked": sealed(keys, doc, "revoked"),
        "is by no key that allowed_signers has for stranger@x": sealed(keys, doc, "stranger"),
        "is by no key that allowed_signers has for boss@x": {**good, "signer": "boss@x"},
        "is by a key that is not in allowed_signers": {
            k: v for k, v in sealed(keys, doc, "stranger").items() if k != "signer"
        },
        "signer must be a name such as": {**good, "signer": "-f /etc/passwd"},
        "signature must be what ssh-keygen -Y sign writes": {**good, "signature": "foo"},
        "is no SSH signature": {**good, "signature": f"{envelope.START}\nfoo\n"},
        "signature must be ASCII of at most": {**good, "signature": envelope.START + "x" * 20_000},
        "signed must be the exact text": {**good, "signed": {"task": "note"}},
        "task must not stand in an envelope": {**good, "task": "note"},
        "is another spool than this one": signed(keys, text(doc, spool="elsewhere")),
        "is over by": signed(keys, text(doc, created=-2 * DAY)),
        "not valid yet": signed(keys, text(doc, created=10 * MINUTE)),
        "at most 7 d after it": signed(keys, text(doc, lasts=8 * DAY)),
        "created must stand in what is signed": signed(keys, json.dumps({**doc, "spool": "spool"})),
        "created must be a time with offset such as": signed(keys, text(doc).replace("Z", "X")),
        "document must be JSON": signed(keys, '{"task": note}'),
        "policy key good@x": sealed(keys, {"task": "other"}),
        "prio is no field of submit": sealed(keys, {**doc, "prio": 1}),
    }
    for words, one in wrong.items():
        assert words in why(spool, one), words
    spool.put("good.json", json.dumps(good).encode())
    assert spool.event("done")["submitted_by"]["key"] == "good@x"


def test_who_signed_a_task_is_shown(live: Make, keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool = live()
    with Spool(spool.root, key=key(keys)) as client:
        task_id = client.submit("note")
        by = spool.event("done", task_id)["submitted_by"]
        assert client.get(task_id).plain()["submitted_by"] == by == {"uid": os.getuid(), "key": "good@x"}
    assert main(["--spool", str(spool.root), "show", task_id]) == 0
    assert re.search(r"^signed by +good@x$", capsys.readouterr().out, re.MULTILINE)


def test_a_text_counts_once_and_a_task_that_is_sent_again_is_the_same_task(
    live: Make, keys: Path
) -> None:
    spool = live()
    nameless, named = sealed(keys, {"task": "note"}), sealed(keys, {"task": "note", "id": new_id()})
    for one in (nameless, named):
        spool.put(f"{new_id()}.json", json.dumps(one).encode())
        spool.event("done")
    assert "under a text that was used before" in why(spool, nameless)
    spool.put("again.json", json.dumps(named).encode())
    until(lambda: not (spool.root / "incoming" / "again.json").exists(), "the resend is taken")
    verb = sealed(keys, {"action": "pause"}, "boss")
    spool.put("pause.json", json.dumps(verb).encode())
    until(lambda: spool.journal("pause") or None, "it is paused")
    spool.put("resume.json", json.dumps(sealed(keys, {"action": "resume"}, "boss")).encode())
    until(lambda: spool.journal("resume") or None, "it goes on")
    spool.kill9()
    spool.start()
    assert "under a text that was used before" in why(spool, verb)
    assert spool.count("done") == 2
    assert len(spool.journal("pause")) == 1


def test_a_text_counts_once_for_a_key_whatever_it_is_called_and_other_keys_leave_it(
    live: Make, keys: Path
) -> None:
    spool = live(NOTE + '[policy."key:any@x"]\ntasks = ["note"]\n')
    call(spool, '*@x namespaces="spool"', keys / "good.pub")
    one = text({"task": "note"})
    assert "does not allow tasks named note" in why(spool, signed(keys, one, "boss"))
    spool.put("mine.json", json.dumps(signed(keys, one)).encode())
    assert spool.event("done")["submitted_by"]["key"] == "good@x"
    for name in ("good@x", "any@x"):
        again = {**signed(keys, one), "signer": name}
        assert "under a text that was used before" in why(spool, again), name


@pytest.mark.parametrize("doc", [{"task": "note"}, {"action": "pause"}])
def test_who_carries_a_text_cannot_use_it_up_under_another_name_of_its_key(
    live: Make, keys: Path, doc: dict[str, Any]
) -> None:
    spool = live()
    kind = "good" if "task" in doc else "boss"
    call(spool, 'weak@x namespaces="spool"', keys / f"{kind}.pub")
    one = signed(keys, text(doc), kind)
    assert why(spool, {**one, "signer": "weak@x"}).startswith("policy no rule of [policy] is about")
    spool.put("mine.json", json.dumps(one).encode())
    until(lambda: not (spool.root / "incoming" / "mine.json").exists(), "taken in")
    assert not [*spool.root.glob("rejected/*/mine.json")]
    assert "under a text that was used before" in why(spool, one)


def test_who_carries_an_answer_cannot_use_it_up_under_a_name_that_may_answer_nobody(
    live: Make, keys: Path
) -> None:
    policy = '[policy."key:good@x"]\ntasks = ["order"]\nparents = ["shop"]\noutboxes = ["shop"]\n'
    policy += '[policy."key:weak@x"]\ntasks = ["order"]\n'
    spool = live(f'signatures = "required"\n[handlers.order]\nnotify = "shop"\n{policy}')
    call(spool, "weak@x,none@x", keys / "good.pub")
    with Spool(spool.root, key=key(keys)) as client:
        task_id = client.submit("order")
    spool.event("ready", task_id, parent="shop")
    one = signed(keys, text({"action": "ack", "id": task_id, "attempt": 1}))
    assert "policy no rule of [policy] is about" in why(spool, {**one, "signer": "none@x"})
    assert "does not allow answers (parents)" in why(spool, {**one, "signer": "weak@x"})
    spool.put("mine.json", json.dumps(one).encode())
    assert spool.event("done", task_id, parent="shop")


def test_a_text_that_names_its_signer_counts_under_no_other_name_of_the_key(
    live: Make, keys: Path
) -> None:
    spool = live(NOTE + '[policy."key:weak@x"]\ntasks = ["note"]\nwaiting = 1\n')
    call(spool, "weak@x", keys / "good.pub", first=True)
    one = sealed(keys, {"task": "note"})
    again = {name: one[name] for name in ("signed", "signature")}
    for other in ({**one, "signer": "weak@x"}, again):
        rule = "signer is signed for, and the envelope is taken as that of weak@x"
        assert why(spool, other) == rule
    spool.put("mine.json", json.dumps(one).encode())
    assert spool.event("done")["submitted_by"]["key"] == "good@x"


def test_the_mark_of_a_text_that_was_used_before_keys_were_in_it_holds(live: Make, keys: Path) -> None:
    spool = live()
    one = sealed(keys, {"task": "note"})
    day = format_utc(parse_utc(json.loads(one["signed"])["expires"]) + envelope.SKEW)[:10]
    mark = spool.root / "signed" / day / f"{hashlib.sha256(one['signed'].encode()).hexdigest()}.json"
    mark.parent.mkdir(parents=True)
    mark.write_text('{"path":"incoming/x.json","ino":1,"ctime":1}')
    assert "under a text that was used before" in why(spool, one)
    mark.write_text('{"path":"inc')  # by a power cut
    spool.put("now.json", json.dumps(one).encode())
    spool.event("done")


def test_a_key_has_the_rights_of_its_rules_over_its_own_tasks(live: Make, keys: Path) -> None:
    spool = live()
    with Spool(spool.root, key=key(keys)) as client, Spool(spool.root, key=key(keys, "boss")) as boss:
        task_id = client.submit("note", at="+1h")
        spool.entry(task_id, "pending")
        assert "does not allow tasks named note" in why(spool, sealed(keys, {"task": "note"}, "boss"))
        client.cancel(task_id)
        assert spool.event("cancelled", task_id)
        other = client.submit("note", at="+1h")
        spool.entry(other, "pending")
        boss.cancel(other)
        assert spool.event("cancelled", other)
        assert [line["by"]["key"] for line in spool.journal("cancel")] == ["good@x", "boss@x"]


def test_where_signatures_are_optional_a_wrong_one_is_refused_all_the_same(
    live: Make, keys: Path
) -> None:
    spool = live(handler("note", "true"))
    spool.event("done", spool.submit("note"))
    with Spool(spool.root, key=key(keys, "boss")) as client:
        assert spool.event("done", client.submit("note"))["submitted_by"]["key"] == "boss@x"
    assert "does not fit the text" in why(spool, {**sealed(keys, {"task": "note"}), "signed": "{}"})
    (spool.root / "revoked_keys").unlink()
    (spool.root / "revoked_keys").symlink_to("nowhere")
    assert "or revoked_keys cannot be read" in why(spool, sealed(keys, {"task": "note"}))
    (spool.root / "allowed_signers").unlink()
    assert "this spool has no allowed_signers" in why(spool, sealed(keys, {"task": "note"}))


def test_the_command_signs_and_says_why_where_it_cannot(live: Make, keys: Path) -> None:
    spool = live()

    def submit(path: Path) -> Any:
        words = ["--spool", str(spool.root), "submit", "note", "--sign", str(path), "--signer", "good@x"]
        return subprocess.run(
            [sys.executable, "-m", "spool", *words], capture_output=True, text=True, check=False
        )

    task_id = submit(keys / "good").stdout.strip()
    assert spool.event("done", task_id)["submitted_by"]["key"] == "good@x"
    wrong = submit(Path("/no/such/key"))
    assert wrong.returncode == NotAllowed.exit_code
    assert "cannot sign with /no/such/key" in wrong.stderr
    shutil.copy(keys / "good", spool.place / "open")
    (spool.place / "open").chmod(0o644)
    assert "are too open: chmod 600 it" in submit(spool.place / "open").stderr


class Beside(RealDisk):
    """Another daemon forgets the same signatures, as soon as this one has listed a directory."""

    def __init__(self, root: str, listed: str) -> None:
        super().__init__(root)
        self.listed = listed

    def names(self, path: str) -> list[str]:
        found = super().names(path)
        if path == self.listed:
            tidied(RealDisk(self.root))
        return found


def tidied(disk: RealDisk) -> None:
    Signatures(disk, disk.root, load("")).tidy(Now(parse_utc("2026-11-21T12:00:00Z"), 0))


@pytest.mark.parametrize("listed", ["signed", "signed/2026-01-01"])
def test_two_daemons_forget_the_same_signatures(disk: RealDisk, listed: str) -> None:
    disk.make_dir("signed/2026-01-01")
    for number in range(3):
        disk.write(f"signed/2026-01-01/{number}.json", b"{}")
    tidied(Beside(disk.root, listed))
    assert disk.names("signed") == []
