"""The manual and the code say the same: names on both sides, or the test says which one is missing."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import spool
import spoold
from spool import (
    errors,
    failures,
    fields,
    fingerprint,
    fsck,
    heldfor,
    journal,
    knobs,
    layout,
    names,
    records,
    times,
)
from spool.command import main, wait
from spool.command import parser as command_parser
from spool.command.verbs import VERBS
from spool.owncopy import decode_task
from spool.settings import Settings, load
from spool.tasks.define import OF_ONE, Options
from spoold import daemon
from spoold.core import table
from spoold.effects.store import ENDING
from spoold.reload import PATIENCE
from tests.docs import mdoc
from tests.docs.mdoc import MAN, PAGES, ROOT, items, section, words
from tests.e2e.live import Live, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.fields import Field

KIB = 1024
PACKAGES = (Path(spool.__file__).parent, Path(spoold.__file__).parent)


def tool(name: str) -> Any:
    """A module of tools/, which is no package."""
    path = ROOT / "tools" / f"{name}.py"
    sys.path.insert(0, str(path.parent))
    try:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


# The pages themselves.


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_a_page_is_clean_for_mandoc(page: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run(
        ["mandoc", "-Tlint", "-W", "warning", str(page)], capture_output=True, text=True, check=False
    )
    assert done.stdout + done.stderr == ""


def test_pages_refer_to_pages_that_exist() -> None:
    ours = {tuple(page.name.rsplit(".", 1)) for page in PAGES}
    ours_by_name = {name for name, _ in ours}
    for page in PAGES:
        for name, number in re.findall(r"^\.Xr (\S+) (\d)", page.read_text(), flags=re.MULTILINE):
            assert name not in ours_by_name or (name, number) in ours, f"{page.name}: {name}({number})"


@pytest.mark.parametrize("name", ["transitions", "actions", "crash table"])
def test_what_is_generated_is_what_the_code_says_today(name: str) -> None:
    manual = tool("manual")
    page, made = manual.BLOCKS[name]
    assert tool("between").find((MAN / page).read_text(), name) == made(), manual.ADVICE


def test_the_steps_on_disk_are_those_of_the_store() -> None:
    text = section("spool.5", "STEPS ON DISK").partition("\n.Ss ")[0]
    shown = re.findall(r"^\.It\n(\w+)", text, flags=re.MULTILINE)
    code = (PACKAGES[1] / "effects" / "store.py").read_text()
    steps = re.findall(r"self\._(\w+),", code.partition("self._steps = (")[2].partition(")\n")[0])
    assert [word.lower() for word in shown] == [step.removesuffix("_dirs") for step in steps]


def test_the_diagram_can_be_drawn() -> None:
    dot = tool("diagram").dot()
    for state, events in table.TABLE.items():
        assert state in dot
        assert all(event in dot for event in events)


# Settings.


def bounds(row: Field) -> list[str]:
    """The bounds of a setting as the manual puts them."""
    if row.low is None or row.high is None:
        return []
    if row.kind == "size":
        return [_size(row.low), _size(row.high)]
    if row.kind in ("duration", "keep", "later"):
        low = "more than 0" if row.low == 1 else times.format_span(row.low) if row.low else "0"
        return [low, times.format_span(row.high)]
    return [str(row.low), str(row.high)]


def _size(size: int) -> str:
    for unit, name in ((KIB**4, "TiB"), (KIB**3, "GiB"), (KIB**2, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return str(size)


def test_every_setting_is_in_the_manual_with_its_default_and_bounds() -> None:
    found = items(section("spool.toml.5", "SETTINGS"), "Va")
    assert set(found) == set(knobs.ROWS)
    for name, row in knobs.ROWS.items():
        head, body = found[name].split("\n", 1)
        default = knobs.sample(row).replace('"', "\\(dq")
        assert head == f"Va {name} No = {default}"
        assert all(bound in body for bound in bounds(row)), (name, bounds(row))
        assert all(f"Cm {choice}" in body for choice in row.choices), name


def test_every_setting_of_admission_is_in_the_manual_with_its_default_and_bounds() -> None:
    found = items(section("spool.toml.5", "ADMISSION"), "Va")
    assert set(found) == set(knobs.ADMISSION_ROWS)
    for name, row in knobs.ADMISSION_ROWS.items():
        head, body = found[name].split("\n", 1)
        default = knobs.sample(row).replace('"', "\\(dq")
        assert head == f"Va {name} No = {default}"
        assert all(bound in body for bound in bounds(row)), (name, bounds(row))


def test_every_key_of_alerts_is_in_the_manual_with_its_bounds() -> None:
    found = items(section("spool.toml.5", "ALERTS"), "Va")
    assert set(found) == set(knobs.ALERT_ROWS)
    for name, row in knobs.ALERT_ROWS.items():
        assert all(bound in found[name] for bound in bounds(row)), (name, bounds(row))


def test_every_key_of_a_rule_is_in_the_manual_with_its_bounds_and_default() -> None:
    found = items(section("spool.toml.5", "POLICY"), "Va")
    assert set(found) == set(knobs.POLICY_ROWS)
    for name, row in knobs.POLICY_ROWS.items():
        assert all(bound in found[name] for bound in bounds(row)), (name, bounds(row))
        assert all(f"Cm {choice}" in found[name] for choice in row.choices), name
        assert row.kind != "count" or f"default {row.default}" in found[name], name


def test_every_key_of_a_schedule_is_in_the_manual_with_its_bounds_and_default() -> None:
    found = items(section("spool.toml.5", "RECURRING"), "Va")
    assert set(found) == set(knobs.RECURRING_ROWS)
    for name, row in knobs.RECURRING_ROWS.items():
        assert all(bound in found[name] for bound in bounds(row)), (name, bounds(row))
        assert all(f"Cm {choice}" in found[name] for choice in row.choices), name


def test_every_key_of_a_handler_is_in_the_manual_with_its_bounds() -> None:
    found = items(section("spool.toml.5", "HANDLERS"), "Va")
    assert set(found) == set(knobs.HANDLER_ROWS)
    for name, row in knobs.HANDLER_ROWS.items():
        assert all(bound in found[name] for bound in bounds(row)), (name, bounds(row))
        assert all(f"Cm {choice}" in found[name] for choice in row.choices), name


def test_the_manual_says_which_settings_do_nothing_yet() -> None:
    """A value that nothing in the daemon looks at, and only such a value, is said to be kept."""
    code = "".join(
        path.read_text()
        for package in PACKAGES
        for path in package.rglob("*.py")
        if path.name not in {"knobs.py", "settings.py"}
    )
    text = {**items(section("spool.toml.5", "SETTINGS"), "Va")}
    text.update({f"handler {k}": v for k, v in items(section("spool.toml.5", "HANDLERS"), "Va").items()})
    for name, body in text.items():
        used = re.search(rf"\.{name.rpartition(' ')[2]}\b", code) is not None
        assert used or "Read and kept" in body or "Reserved" in body, name


def test_the_example_of_spool_toml_is_valid() -> None:
    text = section("spool.toml.5", "EXAMPLES").partition("indent\n")[2].partition(".Ed")[0]
    found = load(mdoc.plain(text))
    assert isinstance(found, Settings)
    assert set(found.handlers) == {"thumb.*", "order.*"}


def test_every_option_of_a_task_in_python_is_in_the_manual() -> None:
    text = section("spool-python.7", "MARKING FUNCTIONS")
    (defaults,) = (line for line in text.splitlines() if line.startswith(".It Va at "))
    assert set(re.findall(r"\w+", defaults)) - {"It", "Va"} == Options.__optional_keys__ - OF_ONE
    assert words(section("spool-python.7", "SUBMITTING"), "Va") >= OF_ONE


def test_every_method_of_the_client_is_in_the_manual() -> None:
    heads = re.findall(
        r"^\.It (.*)|^\.Li (\w+)\(", section("spool-python.7", "THE CLASS SPOOL"), re.MULTILINE
    )
    told = {word for head in heads for word in re.findall(r"[a-z_]+", " ".join(head))}
    methods = {
        name for name, what in inspect.getmembers(spool.Spool, inspect.isfunction) if name[0] != "_"
    }
    assert methods - told == {"control", "preview"}  # what the others and the command are made of


def test_the_environment_of_a_program_is_in_the_manual() -> None:
    code = (PACKAGES[1] / "effects" / "handlers.py").read_text()
    shown = items(section("spool.toml.5", "PROGRAMS"), "Ev")
    assert {name for name in shown if name.startswith("SPOOL_")} == set(
        re.findall(r'"(SPOOL_[A-Z_]+)"', code)
    )


# Actions.


def test_every_action_is_in_the_manual() -> None:
    text = section("spool.5", "ACTIONS").partition("\n.Ss Fields")[0]
    assert set(items(text, "Cm")) == set(fields.ACTIONS)


def test_every_field_of_an_action_is_in_the_manual() -> None:
    found = items(section("spool.5", "Fields", below="Ss"), "Cm")
    assert set(found) == {row.name for row in fields.FIELDS}
    for row in fields.FIELDS:
        body = found[row.name]
        assert all(f"Cm {choice}" in body for choice in row.choices), row.name
        if row.kind in {"count", "text"} and row.high and row.name != "attempt":
            assert str(row.high) in body, row.name


# Names.


def test_every_event_is_in_the_manual() -> None:
    assert set(items(section("spool.5", "EVENTS"), "Cm")) == set(names.EVENTS)


def test_every_directory_and_state_is_in_the_manual() -> None:
    shown = {word.split("/")[0] for word in items(section("spool.5", "The tree", below="Ss"), "Pa")}
    known = {*layout.TREE, *layout.MADE_WHEN_NEEDED, layout.FORMAT, *fsck.OF_OTHERS}
    assert shown == known
    assert set(layout.STATES) == set(table.TABLE) - {table.NEW, table.CORRUPT}


ODD = {
    "prio": "low", "base": "high", "deadline": 1, "lead": 1, "fails": 1, "lost": 1, "interrupted": 1,
    "among": 1, "front": True, "why": "asked", "miss": "drop", "timeout": 1, "lifted": 1,
}  # fmt: skip


def test_every_field_of_an_entry_is_in_the_manual() -> None:
    known = set(names.Entry.__struct_fields__)
    assert known == {*ODD, "time", "id", "task", "extra"}, "tell this test of the new field"
    more = (("g", "0" * 12), ("o", "1000"))  # of limited tasks, and of shared spools alone
    entry = names.Entry(time=0, id=names.new_id(), task="x", extra=more, **ODD)
    name = names.entry_name(entry, dated=True)
    letters = {part[:2] for part in name.removesuffix(".json").split(",")[3:]}
    shown = items(section("spool.5", "Entries", below="Ss"), "Cm")
    assert {item for item in shown if item.endswith("=")} == letters


def _constants(name: str) -> Iterator[str]:
    """Every text that is given, in the core, as the keyword `name` to replace(), or is its default."""
    for path in (PACKAGES[1] / "core").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "replace":
                given = [k.value for k in node.keywords if k.arg == name]
            elif isinstance(node, ast.FunctionDef):
                both = zip(reversed(node.args.args), reversed(node.args.defaults), strict=False)
                given = [default for arg, default in both if arg.arg == name]
            else:
                continue
            yield from (v.value for v in given if isinstance(v, ast.Constant) and v.value)


def test_every_reason_to_be_held_is_in_the_manual() -> None:
    shown = items(section("spool.5", "Entries", below="Ss"), "Cm")
    assert {item for item in shown if not item.endswith("=")} == {
        *_constants("why"),
        *heldfor.WORDS,
        ENDING,
    }


def test_every_transition_is_explained_in_the_manual() -> None:
    shown = set(items(section("spool.7", "TRANSITIONS"), "Cm"))
    assert shown == {event for row in table.TABLE.values() for event in row}
    assert shown <= set(journal.EVENTS)


def test_every_other_event_of_the_journal_is_in_the_manual() -> None:
    assert {"refuse", "shed", "gate", *fields.CONTROLS} <= words(
        section("spool.5", "The journal", below="Ss"), "Cm"
    )


def test_every_outcome_is_in_the_manual() -> None:
    body = items(section("spool.5", "An attempt record and an event", below="Ss"), "Cm")["outcome"]
    assert set(records.OUTCOMES) <= words(body, "Cm")


def test_every_word_of_the_glossary_stands_once_and_in_order() -> None:
    found = re.findall(r"^\.It (.*)$", section("spool.7", "GLOSSARY"), flags=re.MULTILINE)
    assert found == sorted(set(found))
    assert set(layout.STATES) <= {word for line in found for word in line.split(", ")}


# Programs.


def options_of(parser: Any) -> set[str]:
    """The long options of a parser."""
    return {o for action in parser._actions for o in action.option_strings if o.startswith("--")}


def shown_options(text: str) -> set[str]:
    """The long options that are items of a list."""
    heads = re.findall(r"^\.It (.*)$", text, flags=re.MULTILINE)
    return {f"-{o}" for head in heads for o in re.findall(r"(?:^Fl|,| Fl) (-[a-z][a-z-]*)", head)}


def test_every_option_of_spoold_is_in_the_manual() -> None:
    assert shown_options(section("spoold.8", "DESCRIPTION")) == options_of(daemon.parser())


def shown_exits(page: str) -> set[int]:
    return {int(n) for n in re.findall(r"^\.It (\d+)", section(page, "EXIT STATUS"), flags=re.MULTILINE)}


def raised(*paths: Path) -> set[int]:
    """The exit statuses of the errors that are named in these files."""
    found: set[int] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            kind = getattr(errors, node.id, None) if isinstance(node, ast.Name) else None
            if isinstance(kind, type) and kind is not errors.SpoolError:
                found.add(kind.exit_code)
    return found


def test_every_exit_status_of_spoold_is_in_the_manual() -> None:
    own = raised(
        PACKAGES[1] / "daemon.py",
        PACKAGES[1] / "guard.py",
        PACKAGES[1] / "reload.py",
        PACKAGES[0] / "init.py",
        PACKAGES[0] / "settings.py",
    )
    own.discard(errors.EX_DATAERR)  # Invalid, which becomes a ConfigError
    own.update(
        getattr(errors, name)
        for name in re.findall(r"\bEX_[A-Z]+\b", (PACKAGES[1] / "daemon.py").read_text())
    )
    assert own | {0, 1} <= shown_exits("spoold.8")
    assert shown_exits("spoold.8") <= own | {0, 1, 2, errors.EX_USAGE}
    assert f"within {PATIENCE:g} s" in section("spoold.8", "EXIT STATUS")


def test_wrong_options_of_spoold_end_as_the_manual_says() -> None:
    command = [sys.executable, "-m", "spoold", "--bogus"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    body = section("spoold.8", "EXIT STATUS")
    assert re.search(rf"^\.It {done.returncode}\nThe options are wrong", body, flags=re.MULTILINE)


def verb_sections() -> dict[str, str]:
    """What spool(1) says of each verb; some share a place."""
    found: dict[str, str] = {}
    for title in ("SUBMITTING", "LOOKING", "CHANGING", "KEEPING"):
        for part in re.split(r"^\.Ss ", section("spool.1", title), flags=re.MULTILINE)[1:]:
            head, _, body = part.partition("\n")
            found.update(dict.fromkeys(head.split(", "), body))
    return found


def verb_parser(verb: str) -> Any:
    """The parser of a verb, with all its options."""
    found = command_parser.verb_parser(verb)
    importlib.import_module(f"spool.command.{VERBS[verb][0]}").options(found)
    return found


def test_every_verb_is_in_the_manual() -> None:
    assert set(verb_sections()) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_a_verb_is_in_the_manual(verb: str) -> None:
    common = shown_options(section("spool.1", "DESCRIPTION"))
    assert shown_options(verb_sections()[verb]) | common == options_of(verb_parser(verb))


@pytest.mark.parametrize("verb", VERBS)
def test_every_short_option_of_a_verb_is_in_the_manual(verb: str) -> None:
    short = {o for a in verb_parser(verb)._actions for o in a.option_strings if len(o) == 2}
    shown = set(re.findall(r"(?:Fl|,) ([a-z])\b", verb_sections()[verb]))
    assert {f"-{letter}" for letter in shown} | {"-h"} == short


def test_every_exit_status_of_spool_is_in_the_manual() -> None:
    """Those of errors, and those that the command's own modules give a name to."""
    paths = [*(PACKAGES[0] / "command").glob("*.py"), *PACKAGES[0].glob("*.py")]
    own = raised(*(path for path in paths if path.name not in {"settings.py", "knobs.py", "errors.py"}))
    for path in (PACKAGES[0] / "command").glob("*.py"):
        own.update(getattr(errors, name) for name in re.findall(r"\bEX_[A-Z]+\b", path.read_text()))
    assert own <= shown_exits("spool.1")
    named = {wait.DONE, wait.FAILED, wait.CANCELLED, main.INTERRUPTED, main.BROKEN_PIPE}
    assert shown_exits("spool.1") == own | named


@pytest.mark.parametrize(
    ("words", "status"), [((), 64), (("--bogus",), 64), (("bogus",), 64), (("ls", "-x"), 64)]
)
def test_wrong_words_end_as_the_manual_says(words: tuple[str, ...], status: int) -> None:
    assert main.main(words) == status


# What a run leaves is what the manual shows.

TOML = """
[handlers."work.*"]
exec = ["/bin/sh", "-c", "echo hello"]
[handlers."wait.*"]
exec = ["/bin/sleep", "60"]
[handlers."order.*"]
notify = "shop"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A spool in which everything has happened that the manual has an example of."""
    live = Live(tmp_path_factory.mktemp("manual"), TOML).start()
    live.submit("work.one")
    live.submit("wait.one")
    order = live.submit("order.ship")
    later = {"at": "+1d", "deadline": "+2d", "lead": "1h", "on_miss": "drop", "position": "front"}
    live.submit("work.one", **later)
    live.submit("work.two", priority="high", at="+1d")
    live.drop({"task": "work.one", "prioritty": "high"})
    live.drop({"action": "pause", "task": "report.*", "who": "ann", "why": "upgrade", "until": "+1h"})
    until(lambda: any(live.root.glob("outbox/shop/*ready*")), "the order is ready")
    live.drop({"action": "progress", "id": order, "attempt": 1, "percent": 40, "note": "packing"})
    until(lambda: any(live.root.glob("outbox/shop/*progress*")), "progress is told")
    until(lambda: any(live.root.glob("rejected/*/*.reason.json")), "the bad one is refused")
    until(lambda: any(live.root.glob("attempts/*/*.json")), "work.one is done")
    until((live.root / "nodes/pauses.json").exists, "the pause is kept")

    def told() -> bool:
        status = live.status_now()
        if not (status and status["pauses"] and status["next"]):
            return False
        return any(task["progress"] for task in status["running"])

    until(told, "the status tells all of it")
    yield live
    live.close()


def shown(title: str) -> Any:
    """The first JSON example of a subsection; lines that were broken in a text are joined."""
    text = section("spool.5", title, below="Ss").partition("indent\n")[2].partition("\n.Ed")[0]
    text = mdoc.plain(text)
    joined = re.sub(r"(?<=[^,{}\[\]:\s])\n\s+", "", text)
    return json.JSONDecoder().raw_decode(joined)[0]


ANY_JSON = {"args", "meta", "result"}


def shape(value: Any) -> Any:
    """The names in a value, at every level."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items() if key not in ANY_JSON}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return None


def read(live: Live, pattern: str) -> Any:
    return json.loads(min(live.root.glob(pattern)).read_bytes())


def test_the_status_has_the_fields_the_manual_shows(run: Live) -> None:
    status = run.status_now()
    assert status
    status["running"].sort(key=lambda task: task["progress"] is not None)  # as the manual shows it
    assert shape(shown("Status")) == shape(status)


def test_the_pauses_have_the_fields_the_manual_shows(run: Live) -> None:
    assert shape(shown("Pauses")) == shape(read(run, "nodes/pauses.json"))


def test_a_reason_has_the_fields_the_manual_shows(run: Live) -> None:
    assert shape(shown("A refusal")) == shape(read(run, "rejected/*/*.reason.json"))


def test_a_refusal_is_told_with_what_the_manual_says_of_its_reason(run: Live) -> None:
    kept = read(run, "rejected/*/*.reason.json")
    told = read(run, "outbox/default/*rejected*")["error"]["reason"]
    assert told.pop("file") == f"incoming/{kept['name']}"
    assert told == {name: value for name, value in kept.items() if name not in {"id", "name", "uid"}}
    text = section("spool.5", "An attempt record and an event", below="Ss")
    text = re.split(r"^\.Cm reason", text, flags=re.MULTILINE)[1]
    assert words(text, "Cm") == {*told, "action", "file"}


def test_a_record_has_the_fields_the_manual_shows(run: Live) -> None:
    title = "An attempt record and an event"
    found = read(run, "attempts/*/*.json")
    assert shape(shown(title)) == shape(found)
    progress = read(run, "outbox/shop/*progress*")
    known = {*found, *progress, "by"}
    assert set(items(section("spool.5", title, below="Ss"), "Cm")) == known


def test_a_group_of_errors_has_the_fields_the_manual_shows() -> None:
    example = shown("A group of errors")
    assert failures.decode(json.dumps(example).encode()).plain() == example
    fingerprint.fingerprint(example["task"], example)
    assert list(fingerprint.place(example)) == example["place"]


def test_an_own_copy_has_the_fields_the_manual_shows(run: Live) -> None:
    example = shown("An entry and its own copy")
    assert shape(example) == shape(read(run, "pending/*/medium/*.json"))
    assert decode_task(json.dumps(example).encode()).extra == {}


def test_entries_in_the_manual_are_entries() -> None:
    text = (MAN / "spool.5").read_text()
    found = re.findall(r"\b\d{6}\.\d{6},[0-9a-f]{32},\s*[a-z.]+[a-z0-9=,TZ-]*\.json", text)
    assert len(found) > 4
    for name in found:
        joined = re.sub(r"\s", "", name)
        dated = None if ",s=" in joined else "2026-11-21"
        names.parse_entry(joined, date=dated)


# README.


def readme_words() -> list[str]:
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def test_what_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    tops = {path.name for path in ROOT.iterdir()}
    for word in readme_words():
        if word.startswith("make "):
            assert word.split()[1] in targets, word
        elif word.startswith(("spool ", "spoold ")):
            assert word.startswith("spoold") or word.split()[1] in VERBS, word
        elif re.fullmatch(r"[\w.*-]+(/[\w.*-]*)*", word) and word.partition("/")[0] in tops:
            assert list(ROOT.glob(word.rstrip("/"))), word
    linked = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
    assert all((ROOT / path).exists() for path in linked), linked


def test_every_module_that_lies_flat_is_in_the_readme_once() -> None:
    part = (ROOT / "README.md").read_text().partition("What lies flat in")[2].partition("\n\n`make")[0]
    told = re.findall(r"`(\w+)`", part)
    flat = {path.stem for path in PACKAGES[0].glob("*.py")} - {"__init__", "__main__"}
    assert sorted(told) == sorted(flat)
