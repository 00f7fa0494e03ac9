"""A spool of several users: who may not, cannot; who may, does; and each says why in words."""

from __future__ import annotations

import json
import os
import pwd
from typing import TYPE_CHECKING

import pytest

from spool import layout, sysinit
from tests.e2e.live import handler, until
from tests.security.shared import (
    ANN,
    BOB,
    EVE,
    READ,
    SHOP,
    SPOOLD,
    SUBMIT,
    Shared,
    made,
    needs_users,
    python,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Shared]

pytestmark = [pytest.mark.root, needs_users]
RULES = f"""
[policy."user:{ANN}"]
tasks = ["note", "shop.*"]
priority = "high"
outboxes = ["shop"]
[policy."user:{BOB}"]
tasks = ["note"]
waiting = 3
ahead = "1d"
[policy."user:{SHOP}"]
parents = ["shop"]
"""
__all__ = ["made"]
NOTE = 'settle = "1s"\ndurability = "relaxed"\n' + RULES + handler("note", "true")


@pytest.fixture
def live(made: Make) -> Make:
    return lambda settings=NOTE, **more: made(settings, **more).start()


def refused(spool: Shared, uid: int, *words: str) -> str:
    """Why a submission of a user was refused, as its reason file and its event say."""
    told = spool.event("rejected", spool.submitted(uid, *words))
    assert told["submitted_by"] == {"uid": uid, "key": None}
    assert told["error"]["reason"]["field"] == "policy"
    return str(told["error"]["reason"]["rule"])


def test_who_may_submit_does_and_it_is_done_as_his(live: Make) -> None:
    spool = live()
    task_id = spool.submitted(ANN, "note", "n=1")
    assert spool.event("done", task_id)["submitted_by"] == {"uid": ANN, "key": None}
    (line,) = spool.journal("submit")
    assert line["uid"] == ANN
    assert f",o={ANN}.json" in line["entry"]
    assert spool.event("done", spool.submitted(BOB, "note"))


def test_the_file_system_keeps_out_who_may_not_drop_list_read_or_replace(made: Make) -> None:
    spool = made(NOTE)
    mine = spool.submitted(ANN, "note")
    stranger = spool.spool(EVE, "submit", "note", groups=())
    assert stranger.returncode == 77
    way = f"spool init --system {spool.root} --writer {EVE}"
    assert stranger.stderr == (
        f"spool: {spool.root}/tmp: uid {EVE} may not write there, group {SUBMIT} may;"
        f" or root makes you a box of your own: {way}\n"
    )
    assert spool.run(0, python(), "-m", *way.split()).returncode == 0
    assert spool.spool(EVE, "submit", "note", groups=()).returncode == 0
    tried = """
import os
def tries(what, *args, **kwargs):
    try:
        what(*args, **kwargs)
    except PermissionError:
        return
    print("could", what.__name__, args)
path = f"{root}/incoming/{mine}.json"
tries(os.listdir, f"{root}/incoming")
tries(os.listdir, f"{root}/incoming.d")
tries(open, path)
tries(os.unlink, path)
tries(os.rename, path, f"{root}/incoming/stolen.json")
open(f"{root}/tmp/.mine", "w").close()
tries(os.rename, f"{root}/tmp/.mine", path)
tries(os.link, path, f"{root}/tmp/.link")
tries(os.chmod, path, 0o666)
for name in ("pending", "done", "ids", "outbox", "outbox/shop", "journal", "rejected", "nodes", "logs"):
    tries(os.mkdir, f"{root}/{name}/x")
    tries(os.rename, f"{root}/{name}", f"{root}/y")
    tries(os.listdir, f"{root}/{name}") if name != "outbox" else tries(os.listdir, f"{root}/outbox")
tries(open, f"{root}/spool.toml")
tries(open, f"{root}/spool.toml", "w")
tries(os.rename, f"{root}/tmp/.mine", f"{root}/spool.toml")
tries(os.rename, f"{root}/tmp/.mine", f"{root}/allowed_signers")
"""
    done = spool.script(BOB, f"mine = {mine!r}\n{tried}")
    assert (done.stdout, done.stderr) == ("", "")


def test_spoold_itself_cannot_change_what_says_who_may_do_what(made: Make) -> None:
    spool = made(NOTE)
    tried = """
import os
os.listdir(f"{root}/incoming")
for name in ("spool.toml", "format"):
    for change in (lambda: open(f"{root}/{name}", "a"), lambda: os.unlink(f"{root}/{name}"),
                   lambda: os.rename(f"{root}/done", f"{root}/{name}"), lambda: os.chmod(f"{root}/{name}", 0o666)):
        try:
            change()
        except PermissionError:
            continue
        print("could change", name)
try:
    os.mkdir(f"{root}/incoming.d/0")
    print("could make a box")
except PermissionError:
    pass
"""
    done = spool.script(SPOOLD, tried, groups=())
    assert (done.stdout, done.stderr) == ("", "")


def test_a_reader_sees_all_and_changes_nothing(live: Make) -> None:
    spool = live(NOTE + handler("shop.loud", "echo heard"))
    loud = spool.submitted(ANN, "shop.loud")
    spool.event("done", loud)
    said = spool.spool(EVE, "log", loud, groups=(READ,))
    assert said.stdout == "heard\n", said.stderr
    assert json.loads(spool.spool(EVE, "status", "--json", groups=(READ,)).stdout)["alive"] is True
    task_id = spool.submitted(ANN, "note", "secret=1")
    spool.event("done", task_id, take=False)
    shown = spool.spool(EVE, "show", task_id, "--json", groups=(READ,))
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["state"] == "done"
    assert task_id in spool.spool(EVE, "history", groups=(READ,)).stdout
    assert spool.spool(EVE, "submit", "note", groups=(READ,)).returncode == 77
    kept = spool.spool(EVE, "cron", "ls", groups=(READ,))
    assert kept.stderr.endswith(f"/spool.toml: uid {EVE} may not read it, root and spoold's user may\n")
    no = spool.submitted(BOB, "shop.loud")
    spool.event("rejected", no)
    for verb in ("why", "wait", "show"):
        told = spool.spool(EVE, verb, no, groups=(READ,))
        assert "does not allow tasks named shop.loud" in told.stdout + told.stderr
    (line,) = spool.spool(EVE, "history", "--writer", str(BOB), groups=(READ,)).stdout.splitlines()
    assert line.endswith("does not allow tasks named shop.loud (tasks)")
    watched = spool.spool(EVE, "watch", "--once", "--ack", groups=(READ,))
    assert watched.returncode == 77, watched
    assert f"uid {EVE} may not change it" in watched.stderr
    assert spool.events("default", "done", task_id)
    assert spool.spool(EVE, "show", task_id, groups=()).returncode != 0
    assert spool.spool(EVE, "log", loud, groups=()).returncode != 0
    assert spool.stop() == 0
    assert json.loads(spool.spool(EVE, "status", "--json", groups=(READ,)).stdout)["alive"] is False


def test_of_who_edits_a_task_and_does_not_serve_the_spool_root_alone_takes_the_checkpoint_along(
    live: Make,
) -> None:
    """As who serves it: spoold can work with what is made."""
    rules = f'{RULES}[policy."user:0"]\ntasks = ["*"]\n'
    spool = live(rules + handler("note", "exit 1", backoff="1h"))
    visual = ("env", "VISUAL=sed -i 's/{}/{\"a\":1}/'", python(), "-m", "spool")
    for uid in (ANN, 0):
        old = spool.submitted(ANN, "note", "--priority", "low")
        until(lambda old=old: spool.records(old), "it has failed")
        kept = spool.root / layout.checkpoint(old)
        kept.parent.mkdir(0o700, exist_ok=True)
        os.chown(kept.parent, SPOOLD, READ)
        kept.write_text("7")
        os.chown(kept, SPOOLD, READ)
        groups = (SUBMIT, READ)
        done = spool.run(uid, *visual, "--spool", str(spool.root), "edit", old, groups=groups)
        assert done.returncode == 0, done.stderr
        told = f"any checkpoint of {old} stays behind: only uid {SPOOLD}" in done.stderr
        assert spool.entry(done.stdout.strip(), "pending")
        new = spool.root / layout.checkpoint(done.stdout.strip())
        assert (told, new.exists()) == (uid != 0, uid == 0)
        fresh = spool.submitted(ANN, "note", "--at", "+1h")
        done = spool.run(uid, *visual, "--spool", str(spool.root), "edit", fresh, groups=groups)
        assert (done.returncode, "stays behind" in done.stderr) == (0, False), "it has none"
    found = [path.stat().st_uid for path in (new, new.parent, new.parent.parent)]
    assert (new.read_text(), found) == ("7", [SPOOLD] * 3)


def test_a_parent_reads_its_outbox_and_nobody_elses_and_answers_for_itself_alone(live: Make) -> None:
    spool = live(NOTE + handler("shop.*", notify="shop"))
    task_id = spool.submitted(ANN, "shop.pack", "--notify", "shop")
    until(lambda: spool.events("shop", "ready"), "the shop is told")
    read = (
        "from spool import Spool\nfor e in Spool(root).outbox('shop', follow=False): print(e.event, e.id)"
    )
    assert f"uid {EVE} may not read it, group {SHOP} may" in spool.script(EVE, read).stderr
    forged = {"action": "ack", "id": task_id, "attempt": 1, "result": "forged"}
    spool.handed_in(BOB, "forged.json", forged)
    assert f'uid {BOB} ({BOB}): [policy."user:{BOB}"] does not allow answers (parents)' in str(
        spool.refusal("forged.json")["rule"]
    )
    mine = spool.script(SHOP, read, groups=(SHOP, SUBMIT))
    assert mine.stdout == f"ready {task_id}\n", mine.stderr
    spool.handed_in(SHOP, "mine.json", {**forged, "result": "packed"})
    assert spool.event("done", task_id, "shop")["result"] == "packed"


def test_what_no_rule_allows_is_refused_in_words(live: Make) -> None:
    spool = live(NOTE + f'[policy."user:{EVE}"]\npriority = "low"\ntasks = ["note"]\n')
    bob, eve = f'uid {BOB} ({BOB}): [policy."user:{BOB}"] ', f'uid {EVE} ({EVE}): [policy."user:{EVE}"] '
    assert refused(spool, BOB, "other") == f"{bob}does not allow tasks named other (tasks)"
    assert (
        refused(spool, BOB, "note", "--priority", "high") == f"{bob}allows no higher priority than medium"
    )
    assert refused(spool, EVE, "note") == f"{eve}allows no higher priority than low"
    assert "it lifts to high" in refused(spool, BOB, "note", "--deadline", "+1h")
    assert (
        refused(spool, BOB, "note", "--at", "+2d")
        == f"{bob}allows nothing further ahead than 1 d (ahead)"
    )
    assert (
        refused(spool, BOB, "note", "--notify", "shop") == f"{bob}does not allow notify shop (outboxes)"
    )
    assert spool.events("shop") == []
    unknown = refused(spool, 60199, "note")
    assert unknown == "no rule of [policy] is about uid 60199 (60199)"
    told = spool.journal("refuse")
    assert [line["reason"]["uid"] for line in told] == [BOB, BOB, EVE, BOB, BOB, BOB, 60199]
    spool.handed_in(ANN, "run.json", {"task": "spool.run", "args": {"argv": ["id"]}})
    assert "does not allow spool.run (run)" in str(spool.refusal("run.json")["rule"])


def test_verbs_are_about_ones_own_tasks_unless_a_rule_makes_one_an_admin(live: Make) -> None:
    spool = live(NOTE + f'[policy."user:{EVE}"]\nadmin = true\n')
    his = [spool.submitted(ANN, "note", "--at", "+1h") for _ in range(3)]
    for task_id in his:
        spool.entry(task_id, "pending")
    spool.handed_in(BOB, "b.json", {"action": "cancel", "ids": [his[0]]})
    assert "does not allow it about tasks of others (admin)" in str(spool.refusal("b.json")["rule"])
    spool.handed_in(BOB, "p.json", {"action": "pause"})
    assert "does not allow pause (admin)" in str(spool.refusal("p.json")["rule"])
    spool.handed_in(BOB, "m.json", {"action": "cancel", "match": {"task": "*"}})
    until(lambda: spool.journal("match") or None, "it is found to be of others")
    assert spool.journal("match")[0]["changed"] == 0
    spool.handed_in(ANN, "a.json", {"action": "move", "ids": [his[0]], "priority": "low"})
    until(lambda: spool.journal("move") or None, "it is moved")
    spool.handed_in(ANN, "c.json", {"action": "cancel", "ids": [his[0]]})
    spool.event("cancelled", his[0])
    spool.handed_in(EVE, "e.json", {"action": "cancel", "ids": [his[1]]})
    spool.event("cancelled", his[1])
    assert [line["by"] for line in spool.journal("cancel")] == [{"uid": ANN}, {"uid": EVE}]
    assert spool.entry(his[2], "pending")


def test_a_command_is_run_for_whom_a_rule_lets_and_nobody_else(live: Make) -> None:
    spool = live(NOTE + f'[policy."user:{EVE}"]\ntasks = ["*"]\nrun = true\n')
    done = spool.spool(EVE, "run", "--", "true")
    assert done.returncode == 0, done.stderr
    spool.event("done", done.stdout.strip())
    no = spool.spool(ANN, "run", "--", "true").stdout.strip()
    assert "does not allow spool.run (run)" in str(spool.event("rejected", no)["error"]["message"])


def test_a_verb_that_no_rule_allows_is_on_record_under_its_task(live: Make) -> None:
    rules = RULES.replace("waiting = 3", 'waiting = 3\nverbs = ["cancel"]')
    spool = live(NOTE.replace(RULES, rules))
    his = spool.submitted(BOB, "note", "--at", "+1h")
    spool.entry(his, "pending")
    spool.handed_in(BOB, "b.json", {"action": "release", "ids": [his]})
    assert "does not allow release (verbs)" in str(spool.refusal("b.json")["rule"])
    (line,) = spool.journal("refuse")
    assert (line["id"], line["task"]) == (his, "note")
    spool.handed_in(BOB, "r.json", {"action": "replay", "ids": [his]})
    assert spool.refusal("r.json")["id"] == his


def test_who_may_not_look_is_not_told_that_nobody_serves(made: Make) -> None:
    spool = made()
    task_id = spool.submitted(ANN, "note", groups=(SUBMIT,))
    asked = spool.spool(ANN, "cancel", task_id, groups=(SUBMIT,))
    assert asked.stderr == "spool: not carried out yet\n"
    assert "no spoold serves" in spool.spool(0, "cancel", task_id).stderr


@pytest.mark.parametrize("groups", [(), (SUBMIT,)])
def test_who_may_not_look_asks_all_the_same_and_is_told_what_is_not_seen(
    live: Make, groups: tuple[int, ...]
) -> None:
    spool = live(writers=() if groups else (ANN,))
    mine = [spool.submitted(ANN, "note", "--at", "+1h", groups=groups) for _ in range(3)]
    spool.entry(mine[-1], "pending")
    asked = spool.spool(ANN, "cancel", mine[0], groups=groups)
    assert (asked.returncode, asked.stdout) == (0, "cancel: asked for 1 task\n"), asked.stderr
    assert f"uid {ANN} may not read it, group {READ} may: a refusal is not seen" in asked.stderr
    spool.event("cancelled", mine[0])
    surely = spool.spool(ANN, "cancel", mine[1], "--wait", "--json", groups=groups)
    assert (surely.returncode, json.loads(surely.stdout)["carried_out"]) == (77, None)
    spool.event("cancelled", mine[1])
    assert spool.spool(ANN, "cancel", "--task", "no*", groups=groups).returncode == 0
    spool.event("cancelled", mine[2])
    for words in (
        ("ls",),
        ("status",),
        ("wait", mine[0]),
        ("history",),
        ("cancel", "--all", "--dry-run"),
        ("cancel", mine[0], "--dry-run"),
    ):
        told = spool.spool(ANN, *words, groups=groups)
        assert told.returncode == 77
        assert told.stderr.endswith(f": uid {ANN} may not read it, group {READ} may\n"), told.stderr


def test_the_library_says_as_well_who_may_look(live: Make) -> None:
    spool = live()
    task_id = spool.submitted(ANN, "note", "--at", "+1h")
    looks = ("get(t)", "wait(t)", "status()", "shape()", "list().__next__()")
    script = (
        "from spool import Spool\nfrom spool.errors import NotAllowed\ns, t = Spool(root), "
        f"'{task_id}'\nfor look in {looks}:\n try: eval('s.' + look)\n"
        " except NotAllowed as told: print(told)"
    )
    told = spool.script(ANN, script)
    lines = told.stdout.splitlines()
    assert len(lines) == len(looks), told
    assert all(line.endswith(f": uid {ANN} may not read it, group {READ} may") for line in lines), lines


def test_a_writer_whose_queue_is_full_is_told_so_and_the_others_are_not_kept(live: Make) -> None:
    spool = live()
    mine = [spool.submitted(BOB, "note", "--at", "+1h") for _ in range(3)]
    for task_id in mine:
        spool.entry(task_id, "pending")
    words = "the queue is full for uid 60102 (60102): 3 of 3 tasks have not ended"
    assert refused(spool, BOB, "note").startswith(words)
    spool.event("done", spool.submitted(ANN, "note"))
    spool.handed_in(BOB, "c.json", {"action": "cancel", "ids": mine[:1]})
    spool.event("cancelled", mine[0])
    spool.event("done", spool.submitted(BOB, "note"))
    mine.append(spool.submitted(BOB, "note", "--at", "+1h"))
    spool.entry(mine[-1], "pending")
    spool.stop()
    spool.start()  # counts again: until it has, there is no limit

    def full() -> bool:
        task_id = spool.submitted(BOB, "note", "--at", "+1h")
        until(
            lambda: spool.where(task_id) or spool.events("default", "rejected", task_id) or None, "taken"
        )
        return spool.where(task_id) is None

    until(full, "the queue is full again")
    spool.handed_in(BOB, "all.json", {"tasks": [{"task": "note"}] * 4})
    words = "an action of 4 tasks is too large for uid 60102 (60102), who may have 3"
    assert words in spool.refusal("all.json")["text"]


@pytest.mark.parametrize("bulk", [True, False])
def test_what_comes_back_counts_in_the_quota_of_its_writer(live: Make, bulk: bool) -> None:
    rules = RULES.replace("waiting = 3", 'waiting = 3\nverbs = ["cancel", "retry"]')
    spool = live(NOTE.replace(RULES, rules).replace('"true"', '"sleep 60"') + "concurrency = 1\n")
    mine: list[str] = []
    for number in range(2):
        some = [spool.submitted(BOB, "note", "--at", "+1h") for _ in range(3)]
        for task_id in some:
            spool.entry(task_id, "pending")
        spool.handed_in(BOB, f"c{number}.json", {"action": "cancel", "ids": some})
        for task_id in some:
            spool.entry(task_id, "cancelled")
        mine += some
    chosen = {"match": {"task": "*", "state": "cancelled"}} if bulk else {"ids": mine}
    spool.handed_in(BOB, "r.json", {"action": "retry", **chosen})
    if not bulk:
        assert "the queue is full for uid 60102" in spool.refusal("r.json")["text"]
    until(lambda: not (spool.root / "incoming" / "r.json").exists(), "done with")
    assert len(list(spool.root.glob("cancelled/*/*.json"))) == 3


def test_what_comes_back_of_others_does_not_count_in_the_quota_of_who_asks(live: Make) -> None:
    rules = RULES.replace("waiting = 3", "waiting = 3\nadmin = true")
    spool = live(NOTE.replace(RULES, rules).replace('"true"', '"sleep 60"') + "concurrency = 1\n")

    def submitted(uid: int, count: int) -> list[str]:
        ids = [spool.submitted(uid, "note", "--at", "+1h") for _ in range(count)]
        for task_id in ids:
            spool.entry(task_id, "pending")
        return ids

    def comes(action: str, ids: list[str], *states: str) -> None:
        spool.handed_in(BOB, f"{action}.json", {"action": action, "ids": ids})
        until(lambda: not (spool.root / "incoming" / f"{action}.json").exists(), "done with")
        for task_id in ids:
            spool.entry(task_id, *states)

    ended = [*submitted(ANN, 3), *submitted(BOB, 1)]
    comes("cancel", ended, "cancelled")
    submitted(BOB, 2)
    comes("retry", ended, "pending", "running")
    comes("cancel", ended[1:2], "cancelled")
    comes("retry", ended[1:2], "pending", "running")  # his own queue is full


def test_a_box_of_ones_own_is_closed_to_the_others_and_what_strays_in_is_refused(made: Make) -> None:
    spool = made(NOTE, writers=(ANN,))
    box = spool.root / "incoming.d" / str(ANN)
    look = f"import os; os.listdir(root + '/incoming.d/{ANN}')"
    assert "PermissionError" in spool.script(BOB, look).stderr
    spool.start()
    task_id = spool.submitted(ANN, "note", groups=())
    spool.event("done", task_id)
    assert os.listdir(box) == []
    spool.handed_in(BOB, "stray.json", {"task": "note"}, box=f"incoming.d/{ANN}")
    reason = spool.refusal("stray.json")
    assert (reason["uid"], reason["rule"]) == (BOB, f"belongs to uid {BOB}, in the box of uid {ANN}")


@pytest.mark.parametrize("writers", [(), (BOB,)])
def test_a_box_that_is_made_while_spoold_serves_is_watched(live: Make, writers: tuple[int, ...]) -> None:
    spool = live(writers=writers)
    for _ in range(3):  # it has looked at what lay there, and watches
        spool.event("done", spool.submitted(BOB, "note"))
    sysinit.add_writer(str(spool.root), str(ANN))
    for _ in range(3):
        task_id = spool.submitted(ANN, "note", groups=())
        spool.event("done", task_id)


def test_a_box_that_its_user_closes_stops_nobody(made: Make) -> None:
    spool = made(NOTE, writers=(ANN, BOB))
    (spool.root / "incoming.d" / str(BOB)).chmod(0)
    spool.start()
    spool.event("done", spool.submitted(ANN, "note"))
    assert f"incoming.d/{BOB} is left alone" in spool.says()


@pytest.mark.parametrize(("mode", "wrong"), [(0o3770, "is sticky"), (0o770, "is not setgid")])
def test_a_box_that_its_user_made_useless_is_left_alone_until_it_is_mended(
    made: Make, mode: int, wrong: str
) -> None:
    """Nothing in a sticky one is run: it would be again, for as long as it lies there."""
    spool = made(f'housekeeping = "1s"\n{NOTE}', writers=(ANN, BOB))
    box = spool.root / "incoming.d" / str(BOB)
    his = spool.submitted(BOB, "note")
    box.chmod(mode)
    spool.start()
    spool.event("done", spool.submitted(ANN, "note"))
    why = f"is left alone: it {wrong}"
    spool.status(lambda s: why in s["left_alone"].get(f"incoming.d/{BOB}", ""), "it is told")
    for words in (("status",), ("doctor",)):
        assert why in spool.spool(0, *words).stdout
    assert (os.listdir(box), spool.says().count(why)) == ([f"{his}.json"], 1)
    spool.event("done", spool.submitted(BOB, "note"))  # by the way of all
    refused = spool.spool(BOB, "submit", "note", groups=())
    assert f"init --system {spool.root} --writer {BOB}" in refused.stderr
    assert f"{box} had mode {mode:04o}, now 2770" in spool.spool(0, "doctor", "--fix").stdout
    spool.event("done", his)
    spool.status(lambda s: s["left_alone"] == {}, "nothing is left alone")


@pytest.mark.parametrize("lists", [True, False])
def test_what_the_doctor_mends_is_well_in_the_same_run(
    made: Make, monkeypatch: pytest.MonkeyPatch, lists: bool
) -> None:
    if not lists:
        monkeypatch.setattr("spool.acl.write", lambda *_: False)
    spool = made(NOTE, writers=(BOB,))
    box, common = f"{spool.root}/incoming.d/{BOB}", f"{spool.root}/incoming"
    os.chown(box, -1, BOB)
    os.chmod(common, 0o3777)
    told = spool.spool(0, "doctor", "--fix").stdout.splitlines()
    now = 3770 if lists else 3730
    for one, words in ((box, f"had group {BOB}, now {SPOOLD}"), (common, f"had mode 3777, now {now}")):
        told.remove(f"ok    {one} {words}")
    assert not [line for line in told if box in line or "listed" in line or line.startswith("bad")]
    os.chown(spool.root / "spool.toml", 0, 0)  # as a restore leaves it: it says nothing of spoold's group
    spool.spool(0, "doctor", "--fix")
    assert os.stat(box).st_gid == SPOOLD
    assert os.stat(common).st_mode & 0o7777 == int(str(now), 8)


def test_spoolds_user_mends_no_mode_that_the_kernel_would_not_give_it(made: Make) -> None:
    """It takes the setgid bit from what belongs to a group of others, and says nothing."""
    spool = made(NOTE)
    (spool.root / "held").chmod(0o2770)
    told = spool.spool(SPOOLD, "doctor", "--fix", groups=()).stdout
    assert "held has mode 2770, not 2750" in told
    assert "spool doctor --fix, as root" in told
    assert "held had mode 2770, now 2750" in spool.spool(SPOOLD, "doctor", "--fix", groups=(READ,)).stdout
    assert (spool.root / "held").stat().st_mode & 0o7777 == 0o2750


def test_without_access_control_lists_a_box_is_blind_all_the_same(
    made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spool.acl.write", lambda *_: False)  # as where the file system has none
    spool = made(NOTE, writers=(BOB,))
    found = [json.loads(line) for line in spool.run(0, *doctor(spool)).stdout.splitlines()]
    assert sum("has no access control list" in check["what"] for check in found) == 2
    assert not [check for check in found if check["level"] == "bad"]
    mine = spool.submitted(ANN, "note")
    tried = """
import os
for what in (lambda: os.listdir(f"{root}/incoming"), lambda: os.unlink(f"{root}/incoming/{mine}.json"),
             lambda: os.rename(f"{root}/incoming/{mine}.json", f"{root}/incoming/x.json"),
             lambda: open(f"{root}/incoming/{mine}.json", "a")):
    try:
        what()
        print("could")
    except PermissionError:
        pass
"""
    done = spool.script(BOB, f"mine = {mine!r}\n{tried}")
    assert (done.stdout, done.stderr) == ("", "")
    assert spool.once("--until-idle") == 77
    assert f"uid {SPOOLD} is not in group {SUBMIT}: spoold cannot read" in spool.says()
    spool.groups = (SUBMIT,)
    spool.start()
    spool.event("done", mine)
    spool.event("done", spool.submitted(BOB, "note"))


@pytest.mark.parametrize(
    ("path", "mode", "owner", "words"),
    [
        ("incoming", 0o3777, SPOOLD, "incoming has mode 3777, not 3770"),
        ("incoming", 0o2770, SPOOLD, "incoming has mode 2770, not 3770"),
        ("done", 0o2770, SPOOLD, "done has mode 2770, not 2750"),
        ("outbox/default", 0o2757, SPOOLD, "outbox/default has mode 2757, not 2750"),
        ("done", 0o2750, ANN, f"done belongs to uid {ANN}, not to uid {SPOOLD}"),
        ("journal/here", 0o2777, SPOOLD, "journal/here has mode 2777, not 2750"),
        ("", 0o777, 0, "spool has mode 0777, not 0755"),
        ("", 0o755, SPOOLD, f"spool belongs to uid {SPOOLD}, not to uid 0"),
        ("spool.toml", 0o640, SPOOLD, f"spool.toml belongs to uid {SPOOLD}, not to uid 0"),
        ("..", 0o777, 0, "on the way to the spool, has mode 0777"),
    ],
)
def test_what_is_dangerous_is_not_served_until_it_is_mended(
    made: Make, path: str, mode: int, owner: int, words: str
) -> None:
    spool = made(NOTE)
    place = spool.root / path
    place.exists() or place.mkdir()
    os.chown(place, owner, -1)
    place.chmod(mode)
    assert spool.once("--until-idle") == 77
    assert words in spool.says()
    found = json.loads(
        next(
            line
            for line in spool.run(0, *doctor(spool)).stdout.splitlines()
            if words in json.loads(line)["what"]
        )
    )
    assert found["level"] == "bad"
    assert found["remedy"].startswith(("chmod", "chown"))
    if path != "..":
        spool.run(0, *doctor(spool), "--fix")
        assert spool.once("--until-idle") == 0


def test_a_group_that_is_not_the_readers_is_not_served_until_it_is_mended(made: Make) -> None:
    spool = made(NOTE)
    place = spool.root / "pending"
    os.chown(place, -1, SUBMIT)
    assert sysinit.found_users(str(spool.root)).read == READ
    words = f"pending has group {SUBMIT}, not {READ}, which may look"
    assert spool.once("--until-idle") == 77
    assert words in spool.says()
    spool.run(0, *doctor(spool), "--fix")
    assert place.stat().st_gid == READ
    assert spool.once("--until-idle") == 0


def test_a_doctor_looks_at_the_directories_of_each_day_and_class_too(made: Make) -> None:
    spool = made(NOTE)
    day = spool.root / "pending" / "2026-01-02"
    (day / "low").mkdir(parents=True)
    for place in (day, day / "low"):
        os.chown(place, SPOOLD, -1)
        place.chmod(0o2777)
    os.chown(day / "low", -1, SUBMIT)
    told = [json.loads(line) for line in spool.run(0, *doctor(spool)).stdout.splitlines()]
    bad = [row["what"].partition("pending/")[2] for row in told if row["level"] == "bad"]
    assert bad == [
        "2026-01-02 has mode 2777, not 2750",
        f"2026-01-02/low has group {SUBMIT}, not {READ}, which may look",
        "2026-01-02/low has mode 2777, not 2750",
    ]
    spool.run(0, *doctor(spool), "--fix")
    mended = [(place.stat().st_mode & 0o7777, place.stat().st_gid) for place in (day, day / "low")]
    assert mended == [(0o2750, READ)] * 2
    day.chmod(0o2640)
    done = spool.run(SPOOLD, *doctor(spool))
    assert done.stderr == ""
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert any("2026-01-02 has mode 2640" in row["what"] for row in told if row["level"] == "bad")


def doctor(spool: Shared) -> list[str]:
    return [python(), "-m", "spool", "--spool", str(spool.root), "doctor", "--json"]


@pytest.mark.parametrize("groups", [(), (SUBMIT,), (READ,), (SUBMIT, READ)])
def test_a_doctor_who_may_not_look_finds_nothing_bad_and_says_what_is_left_out(
    made: Make, groups: tuple[int, ...]
) -> None:
    spool = made(NOTE, writers=(ANN,))
    done = spool.run(ANN, *doctor(spool), groups=groups)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert not [check for check in found if check["level"] == "bad"]
    assert any(f"uid {ANN} " in check["what"] and check["remedy"] for check in found)
    assert any("shared, each place as it should be" in check["what"] for check in found)


@pytest.mark.parametrize("text", ["shared = yes please", "shared = true\ncolour = 1"])
def test_a_doctor_knows_a_shared_spool_whose_settings_are_broken(made: Make, text: str) -> None:
    spool = made(NOTE)
    (spool.root / "spool.toml").write_text(text)
    found = map(json.loads, spool.run(0, *doctor(spool), "--fix").stdout.splitlines())
    assert [check["remedy"] for check in found if check["level"] == "bad"] == [
        "mend it; `spoold --check` reads it again"
    ]
    assert spool.root.stat().st_mode & 0o777 == 0o755


def test_a_doctor_does_not_tell_who_is_kept_out_to_make_a_spool(made: Make) -> None:
    spool = made(NOTE)
    spool.root.chmod(0o700)
    (check,) = map(json.loads, spool.run(ANN, *doctor(spool)).stdout.splitlines())
    assert "may not be read" in check["what"]
    assert check["remedy"] == "as uid 0, whose it is, or root; or another --spool"


def test_who_serves_it_is_named_where_nobody_does(made: Make) -> None:
    spool = made(NOTE)
    task_id = spool.submitted(ANN, "note")
    nobody = pwd.getpwnam("nobody")
    os.chown(spool.root / "pending", nobody.pw_uid, READ)
    command = f"runuser -u nobody -- spoold --spool {spool.root}"
    assert command in spool.run(0, *doctor(spool)).stdout
    for verb in (("status",), ("why", task_id), ("pause",)):
        done = spool.spool(0, *verb)
        assert command in done.stdout + done.stderr, verb


def test_what_init_is_given_is_known_before_anything_is_made(made: Make) -> None:
    spool = made(NOTE)
    place = spool.root.parent / "another"
    names = ("--owner", str(SPOOLD), "--submit", str(SUBMIT), "--read", str(READ))
    for more in (("--writer", "nobody-here"), ("--outbox", "shop=nobody-here"), ("--outbox", "shop")):
        done = spool.run(0, python(), "-m", "spool", "init", "--system", str(place), *names, *more)
        assert (done.returncode, place.exists()) == (65, False), done


@pytest.mark.parametrize("mode", [0o660, 0o600])
def test_settings_that_will_not_do_are_mended_as_spoold_says(made: Make, mode: int) -> None:
    spool = made(NOTE)
    file = spool.root / "spool.toml"
    file.chmod(mode)
    serve = [python(), "-m", "spoold", "--spool", str(spool.root), "--until-idle"]
    assert f"is served by uid {SPOOLD}, not by uid {ANN}" in spool.run(ANN, *serve).stderr
    told = spool.run(SPOOLD, *serve)
    assert told.returncode == 77
    way = f"chown 0:{SPOOLD} {file}; chmod 0640 {file}"
    assert told.stderr.endswith(f"; {way}, or spool doctor --fix, as root\n")
    assert spool.run(0, "sh", "-c", way).returncode == 0
    assert spool.once("--until-idle") == 0


def test_a_shared_spool_is_not_served_by_root_nor_by_anybody_else(made: Make) -> None:
    spool = made(NOTE)
    serve = [python(), "-m", "spoold", "--spool", str(spool.root), "--until-idle"]
    assert "does not serve it as root" in spool.run(0, *serve).stderr
    done = spool.run(ANN, *serve)
    assert done.returncode == 77
    assert "Traceback" not in done.stderr
