"""Several spools used as one: where a task goes, and that it is found there again."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from spool import Invalid, NoSuchTask, layout
from spool.command.main import main
from spool.errors import NotASpool
from spool.init import check_format, init
from spool.names import event_name, new_id
from spool.spools import Spools

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    found = [tmp_path / name for name in "abc"]
    for root in found:
        init(str(root))
    return found


@pytest.fixture
def three(roots: list[Path]) -> Iterator[Spools]:
    with Spools(roots) as made:
        yield made


def lying(roots: list[Path]) -> list[int]:
    return [len(list((root / layout.INCOMING).iterdir())) for root in roots]


def places(spools: Spools, ids: list[str]) -> dict[str, str]:
    return {task_id: spools.find(task_id).path for task_id in ids}


def told(root: Path, number: int) -> str:
    task_id = new_id()
    place = root / layout.OUTBOX / "shop"
    place.mkdir(parents=True, exist_ok=True)
    record = {"id": task_id, "event": "done", "task": "a", "attempt": 1}
    name = event_name(1_790_000_000_000_000 + number, task_id, "a", "done")
    (place / name).write_text(json.dumps(record))
    return task_id


def test_tasks_are_spread_and_each_is_in_one_spool(three: Spools, roots: list[Path]) -> None:
    for _ in range(60):
        three.submit("a", {"x": 1})
    assert sum(lying(roots)) == 60
    assert min(lying(roots)) > 5


def test_the_same_id_goes_to_the_same_spool_whoever_sends_it_again(roots: list[Path]) -> None:
    task_id = new_id()
    for by in ("hash", "waiting"):
        with Spools(roots, by=by) as spools:  # type: ignore[arg-type]
            spools.submit("a", id=task_id)
            spools.submit_many([{"task": "a", "id": task_id}])
    assert sorted(lying(roots)) == [0, 0, 4]


def test_an_id_that_is_none_is_one_that_was_left_out(three: Spools, roots: list[Path]) -> None:
    for _ in range(60):
        three.submit("a", id=None)
    assert min(lying(roots)) > 5


def test_what_is_no_task_is_refused_and_none_is_submitted(three: Spools, roots: list[Path]) -> None:
    with pytest.raises(Invalid, match=r"tasks\[1\]"):
        three.submit_many([{"task": "a"}, "b"])  # type: ignore[list-item]
    assert lying(roots) == [0, 0, 0]


def test_tasks_of_one_key_meet_in_one_spool(three: Spools, roots: list[Path]) -> None:
    for _ in range(9):
        three.submit("a", key="report of today")
    assert sorted(lying(roots)) == [0, 0, 9]


def test_a_task_goes_where_the_one_is_that_it_waits_for(three: Spools) -> None:
    first = [three.submit("a") for _ in range(9)]
    then = [three.submit("b", after=[one]) for one in first]
    assert [three.find(one).path for one in first] == [three.find(one).path for one in then]
    with pytest.raises(NoSuchTask):
        three.submit("b", after=[new_id()])


def test_the_least_waiting_gets_the_next(roots: list[Path]) -> None:
    with Spools(roots, by="waiting") as spools:
        for _ in range(6):
            spools.spools[0].submit("a")
        for _ in range(12):
            spools.submit("b")
    assert lying(roots) == [6, 6, 6]


def test_many_keep_their_order_and_a_spool_more_takes_its_own_share_alone(
    three: Spools, roots: list[Path]
) -> None:
    ids = three.submit_many([{"task": "a", "args": {"n": n}} for n in range(30)])
    assert len(set(ids)) == 30
    before = {task_id: three._hashed(task_id).path for task_id in ids}
    with Spools(roots[:2]) as two:
        after = {task_id: two._hashed(task_id).path for task_id in ids}
    moved = {task_id for task_id in ids if before[task_id] != after[task_id]}
    assert {before[task_id] for task_id in moved} == {str(roots[2])}


def test_events_of_all_are_read_and_deleted_when_they_have_been_handled(
    three: Spools, roots: list[Path]
) -> None:
    for number, root in enumerate(roots * 2):
        told(root, number)
    seen = Counter(event.id for event in three.outbox("shop", timeout=0))
    assert len(seen) == 6
    assert set(seen.values()) == {1}
    assert list(three.outbox("shop", follow=False)) == []


def test_no_spool_or_another_way_to_choose_is_refused(roots: list[Path]) -> None:
    with pytest.raises(Invalid, match="at least one"):
        Spools([])
    with pytest.raises(Invalid, match="hash or waiting"):
        Spools(roots, by="chance")  # type: ignore[arg-type]
    with Spools(roots) as spools, pytest.raises(NoSuchTask):
        spools.wait(new_id())


# The command with a list of spools.


@pytest.fixture
def listed(roots: list[Path], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SPOOL_DIR", found := ":".join(map(str, roots)))
    return found


def test_the_command_submits_to_the_spool_where_the_least_waits(
    listed: str, roots: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(6):
        assert main(["submit", "--by", "waiting", "a"]) == 0
    batch = roots[0].parent / "batch"
    batch.write_text(json.dumps({"tasks": [{"task": "a"}, {"task": "b"}]}))
    assert main(["submit", "--spool", listed, "--file", str(batch)]) == 0
    lines = "".join(f'{{"task": "a", "id": "{new_id()}"}}\n' for _ in range(9))
    batch.write_text(lines)
    assert main(["submit", "--file", str(batch)]) == 0
    assert sum(lying(roots)) >= 8
    assert min(lying(roots)) >= 2
    assert len(capsys.readouterr().out.split()) == 6 + 2 + 9


def test_what_waits_for_a_task_of_the_same_file_goes_where_that_goes(
    listed: str, roots: list[Path], three: Spools
) -> None:
    ids = [new_id() for _ in range(12)]
    docs = [{"task": "a", "id": task_id} for task_id in ids]
    then = [{"task": "b", "id": new_id(), "after": [task_id]} for task_id in ids]
    (roots[0].parent / "all").write_text("".join(f"{json.dumps(doc)}\n" for doc in docs + then))
    assert main(["submit", "--file", str(roots[0].parent / "all")]) == 0
    for doc in then:
        assert three.find(str(doc["id"])).path == three.find(doc["after"][0]).path


def test_show_wait_ls_and_status_find_a_task_wherever_it_is(
    listed: str, roots: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with Spools(roots) as spools:
        ids = [spools.spools[n].submit("a") for n in (0, 1, 2)]
    assert main(["show", "--json", *ids]) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ids
    assert main(["wait", "--timeout", "0", ids[2]]) == 75
    assert main(["status", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["spool"], row["counts"]["incoming"]) for row in found] == [(str(r), 1) for r in roots]
    assert main(["ls"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line] == [f"{r}:" for r in roots]
    assert main(["show", new_id()]) == 66


def test_watch_reads_and_deletes_the_events_of_all(
    listed: str, roots: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [told(root, number) for number, root in enumerate(roots)]
    where = roots[0].parent / "where"
    for words in (["--once", "--json"], ["--once", "--exec", f"sh -c 'echo $SPOOL_DIR >> {where}'"]):
        assert main(["watch", "shop", *words]) == 0
    seen = [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines() if line[:1] == "{"]
    assert seen == ids
    assert where.read_text().split() == [str(root) for root in roots]
    assert not [path for root in roots for path in (root / "outbox/shop").iterdir()]


def test_a_verb_that_takes_one_spool_says_so_and_names_the_remedy(
    listed: str, roots: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for verb in ("top", "init"):
        assert main([verb]) == 64
        assert f"takes one spool, and 3 are named: --spool {roots[0]}" in capsys.readouterr().err
    assert not os.path.exists(listed)
    with pytest.raises(NotASpool, match="name one of these"):
        check_format(listed)
    assert main(["ls", "--spool", f"{roots[0]}:"]) == 65
    assert main(["ls", "--spool", f"{roots[0]}:{roots[0]}/"]) == 65
    assert main(["ls", "--spool", f"{roots[0]}:{tmp_path}/none"]) != 0
    assert "spool init" in capsys.readouterr().err
    (tmp_path / "act").write_text('{"action": "pause"}')
    assert main(["submit", "--file", str(tmp_path / "act")]) == 65
    assert "goes to one spool: name it with --spool" in capsys.readouterr().err


def test_a_directory_with_a_colon_in_its_name_is_one_spool(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init(str(tmp_path / "a:b"))
    assert main(["submit", "--spool", str(tmp_path / "a:b"), "x"]) == 0
    assert main(["fsck", "--spool", str(tmp_path / "a:b")]) == 0
    assert len(list((tmp_path / "a:b" / layout.INCOMING).iterdir())) == 1
