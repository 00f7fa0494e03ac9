"""spool.toml: every key is known, every value bounded, every error names file, key and rule."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from spool import knobs, times
from spool.backoff import Backoff
from spool.errors import ConfigError
from spool.settings import DEFAULT_TOML, Admission, Alerts, Handler, Recurring, Rule, Settings, load

MEBI = 1 << 20


def test_an_empty_file_means_the_defaults() -> None:
    settings = load("")
    assert settings.durability == "durable"
    assert settings.retries == 3
    assert settings.backoff == Backoff(base=10 * times.SECOND, factor=2, max=times.HOUR)
    assert (settings.timeout, settings.lease) == (times.HOUR, 0)
    assert (settings.log_limit, settings.min_free_bytes) == (10 * MEBI, 64 * MEBI)
    assert settings.handlers == {}


def test_every_line_of_the_sample_file_is_true() -> None:
    assert load(DEFAULT_TOML) == load("")
    head, admission, alerts, policy, recurring, handlers = DEFAULT_TOML.split("\n\n")
    uncommented = [line[2:] for line in head.splitlines() if " = " in line.split("#")[1]]
    assert load("\n".join(uncommented)) == load("")
    assert len(uncommented) == len(knobs.ROWS)
    lines = [line[2:] for line in admission.splitlines()[1:]]
    assert load("\n".join(lines)) == load("")
    assert len(lines) == 1 + len(knobs.ADMISSION_ROWS)
    lines = [line[2:] for line in alerts.splitlines()[1:]]
    found = load("\n".join(lines))
    assert found.alerts == replace(load("").alerts, exec=("/usr/local/bin/tell-me",))
    assert found.handlers["spool.alert"].exec == found.alerts.exec
    lines = [line[2:] for line in policy.splitlines()[1:]]
    assert len(lines) == 1 + len(knobs.POLICY_ROWS)
    (rule,) = load("\n".join(lines)).policy
    assert replace(rule, who="*") == load('[policy."*"]').policy[0]
    lines = [line[2:] for line in recurring.splitlines()[1:]]
    (schedule,) = load("\n".join(lines)).recurring
    assert schedule == load("\n".join(lines[:3])).recurring[0]
    lines = [line[2:] for line in handlers.splitlines()[1:]]
    assert load("\n".join(lines)).handler_for("thumb.make")


def test_every_row_is_a_field_and_every_field_a_row() -> None:
    public = {name for name in Settings.__struct_fields__ if not name.startswith("_")}
    assert public == {*knobs.ROWS, "handlers", "admission", "alerts", "policy", "recurring"}
    assert set(Recurring.__struct_fields__) == {*knobs.RECURRING_ROWS, "name", "extra"}
    assert set(Rule.__struct_fields__) == {*knobs.POLICY_ROWS, "who"}
    assert set(Admission.__struct_fields__) == set(knobs.ADMISSION_ROWS)
    assert set(Alerts.__struct_fields__) == set(knobs.ALERT_ROWS)
    assert set(Handler.__struct_fields__) == {*knobs.HANDLER_ROWS, "pattern"}


def test_every_row_has_a_text() -> None:
    tables = (knobs.ROWS, knobs.ADMISSION_ROWS, knobs.ALERT_ROWS, knobs.HANDLER_ROWS, knobs.POLICY_ROWS)
    tables += (knobs.RECURRING_ROWS,)
    assert all(row.text for table in tables for row in table.values())


def test_a_rule_is_typed_and_what_is_none_is_refused_by_its_name() -> None:
    text = '[policy."key:zoe@example.org"]\ntasks = ["thumb.*"]\nahead = "2d"\nwaiting = 7\nadmin = true'
    (rule,) = load(text).policy
    assert (rule.who, rule.tasks, rule.ahead, rule.waiting, rule.admin, rule.verbs) == (
        "key:zoe@example.org", ("thumb.*",), 2 * times.DAY, 7, True,
        ("cancel", "hold", "release", "retry", "move"),
    )  # fmt: skip
    assert not load("").guarded
    assert load(text).guarded
    assert load("shared = true").guarded
    for wrong, words in (
        ("[policy.zoe]\ntasks = []", 'must be "\\*", or user:, group: or key: and a name'),
        ('[policy."user:a b"]', "user:, group: or key:"),
        ('[policy."*"]\nverbs = ["delete"]', "must be a list of some of cancel"),
        ('[policy."*"]\ntask = ["x"]', "is no setting of a rule; did you mean 'tasks'"),
        ('[policy."*"]\nrate = 0', "must be from 1"),
        ('[policy."key:a@x"]\nrate = 5', "goes by who drops the file"),
        ("policy = 3", "must be tables such as"),
    ):
        with pytest.raises(ConfigError, match=words):
            load(wrong)


def test_admission_is_typed() -> None:
    found = load("[admission]\nenabled = false\nmemory = [95, 80.5]\nbattery = [5, 10]").admission
    assert (found.enabled, found.memory, found.battery) == (False, (95.0, 80.5), (5.0, 10.0))
    assert found.load == (2.5, 2.0)


def test_a_handler_is_typed() -> None:
    settings = load(
        """
        timezone = "Europe/Rome"
        [handlers."thumb.*"]
        exec = ["/usr/local/bin/thumb", "--fast"]
        timeout = "30s"
        retries = 5
        backoff = {base = 1, factor = 3, max = "1m"}
        concurrency = 2
        priority = "low"
        env = {LANG = "C"}
        cwd = "/srv"
        memory = "512MiB"
        cpu = "90s"
        nice = 10
        ionice = "idle"
        oom_score_adj = 500
        replayable = true
        versions = [1, "2.0"]
        [handlers."order.*"]
        notify = "shop"
        """
    )
    assert settings.timezone == "Europe/Rome"
    plain = load('[handlers."thumb.*"]\nexec = ["/usr/local/bin/thumb", "--fast"]').handlers["thumb.*"]
    assert plain.exec == ("/usr/local/bin/thumb", "--fast")
    assert settings.handlers["thumb.*"] == replace(
        plain, timeout=30 * times.SECOND, retries=5, concurrency=2, priority="low", env={"LANG": "C"},
        backoff=Backoff(base=times.SECOND, factor=3, max=times.MINUTE), cwd="/srv",
        memory=512 * MEBI, cpu=90 * times.SECOND, nice=10, ionice="idle", oom_score_adj=500,
        versions=(1, "2.0"),
    )  # fmt: skip
    assert settings.handlers["order.*"].notify == "shop"
    assert settings.handlers["order.*"].timeout is None


@pytest.mark.parametrize(
    ("task", "pattern"),
    [
        ("a.b", "a.b"),
        ("a.d", "a.*"),
        ("a.cc", "a.*c"),
        ("x.ab", "*.ab"),
        ("zz", "*"),
        ("k1m", "k*m"),
        ("kt", "*t"),
    ],
)
def test_the_most_specific_handler_wins(task: str, pattern: str) -> None:
    names = ("*", "a.*", "a.b", "a.*c", "*.ab", "k*", "k*m", "*t")
    settings = load("\n".join(f'[handlers."{name}"]\nnotify = "p"' for name in names))
    for _ in range(2):
        found = settings.handler_for(task)
        assert found is not None
        assert found.pattern == pattern


def test_no_handler_is_none_and_the_cache_stays_bounded() -> None:
    settings = load('[handlers.a]\nnotify = "p"')
    assert all(settings.handler_for(f"t{n}") is None for n in range(10_000))
    assert len(settings._found) <= 4096
    assert settings.handler_for("a") is not None


def test_a_pattern_of_many_stars_is_matched_at_once() -> None:
    settings = load(f'[handlers."{"*a" * 31}*b"]\nnotify = "p"')
    assert settings.handler_for("a" * 64) is None


@pytest.mark.parametrize(
    ("text", "key", "near"),
    [
        ("retires = 3", "retires", "retries"),
        ("[recuring.x]", "recuring", "recurring"),
        ('[handler."x"]', "handler", "handlers"),
        ("[admision]", "admision", "admission"),
        ("retries = true", "retries", None),
        ("retries = 3.0", "retries", None),
        ("admission = 3", "admission", None),
        ("admission.memry = [2, 1]", "admission.memry", "memory"),
        ("admission.memory = 90", "admission.memory", None),
        ("admission.memory = [90]", "admission.memory", None),
        ("admission.memory = [true, false]", "admission.memory", None),
        ("admission.memory = [85, 90]", "admission.memory", None),
        ("admission.memory = [101, 90]", "admission.memory", None),
        ("admission.battery = [20, 10]", "admission.battery", None),
        ("retries = -1", "retries", None),
        ("retries = 1001", "retries", None),
        ('durability = "fast"', "durability", None),
        ('timezone = "Mars"', "timezone", None),
        ("timezone = 1", "timezone", None),
        ('name = "a b"', "name", None),
        ('timeout = "0s"', "timeout", None),
        ("timeout = nan", "timeout", None),
        ("timeout = inf", "timeout", None),
        ("timeout = 2026-11-21", "timeout", None),
        ('[recurring.a]\nevery = 60\ntask = "t"\nargs = {x = [nan]}', "recurring.a.args", None),
        ('[recurring.a]\nevery = 60\ntask = "t"\nmeta = {x = inf}', "recurring.a.meta", None),
        ('housekeeping = "61s"', "housekeeping", None),
        ('log_limit = "10MB"', "log_limit", None),
        ("log_limit = -1", "log_limit", None),
        ("log_limit = 1.5", "log_limit", None),
        ("allow_run = 1", "allow_run", None),
        ("backoff = {base = 1, factor = 0}", "backoff.factor", None),
        ("x = [", "", None),
        ("x = " + "9" * 5000, "", None),
        ("handlers = 3", "handlers", None),
        ("[handlers]\na = 3", 'handlers."a"', None),
        ('[handlers."a b"]', "handlers", None),
        ('allow_run = false\n[handlers."spool.run"]\nexec = ["x"]', "handlers", None),
        ("[handlers.a]", 'handlers."a"', None),
        ('[handlers.a]\nexec = ["x"]\nnotify = "p"', 'handlers."a"', None),
        ('[handlers.a]\npython = "m-x"', 'handlers."a".python', None),
        ('[handlers.a]\nnotify = "p"\nidle = 3', 'handlers."a".idle', None),
        ('[handlers.a]\nexec = "ls"', 'handlers."a".exec', None),
        ("[handlers.a]\nexec = []", 'handlers."a".exec', None),
        ('[handlers.a]\nexec = [""]', 'handlers."a".exec', None),
        ('[handlers.a]\nexec = ["a", 1]', 'handlers."a".exec[1]', None),
        ('[handlers.a]\nnotify = "a/b"', 'handlers."a".notify', None),
        ('[handlers.a]\nnotify = "p"\ntimeot = 1', 'handlers."a".timeot', "timeout"),
        ('[handlers.a]\nnotify = "p"\ncwd = "x"', 'handlers."a".cwd', None),
        ('[handlers.a]\nnotify = "p"\nenv = {SPOOL_ID = "x"}', 'handlers."a".env', None),
        ('[handlers.a]\nnotify = "p"\nenv = {A = 1}', 'handlers."a".env.A', None),
        ('[handlers.a]\nnotify = "p"\nversions = [true]', 'handlers."a".versions', None),
        ('[handlers.a]\nnotify = "p"\nmemory = "1KiB"', 'handlers."a".memory', None),
    ],
)
def test_a_bad_setting_is_refused_by_file_key_and_rule(text: str, key: str, near: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text, path="/srv/q/spool.toml")
    error = caught.value
    assert (error.path, error.key, error.near) == ("/srv/q/spool.toml", key, near)
    assert error.rule
    assert str(error).startswith("/srv/q/spool.toml: ")


@pytest.mark.parametrize(
    ("written", "size"), [("64MiB", 64 * MEBI), ("0", 0), (7, 7), ("1 GiB", 1024 * MEBI)]
)
def test_a_size_means_what_it_says(written: object, size: int) -> None:
    assert knobs.parse_size(written) == size


def test_how_much_is_kept_is_a_duration_or_a_table() -> None:
    found = load(
        'keep_done = { count = 10 }\nkeep_failed = "2d"\n'
        '[handlers."a"]\nexec = ["x"]\nkeep = { bytes = "1KiB" }\n[handlers."b"]\nexec = ["x"]\nkeep = 60\n'
    )
    assert (found.keep_done.age, found.keep_done.count, found.keep_done.bytes) == (
        14 * times.DAY,
        10,
        None,
    )
    assert (found.keep_failed.age, found.keep_failed.limited) == (2 * times.DAY, False)
    assert (found.keep_cancelled.age, found.keep_cancelled.limited) == (14 * times.DAY, False)
    own, plain = found.handlers["a"].keep, found.handlers["b"].keep
    assert own is not None
    assert plain is not None
    assert (own.age, own.count, own.bytes) == (None, None, 1024)
    assert (plain.age, plain.limited) == (60 * 1_000_000, False)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("keep_done = { cuont = 1 }", "keep_done.cuont"),
        ("keep_done = { count = -1 }", "keep_done.count"),
        ("keep_done = { count = 1.5 }", "keep_done.count"),
        ('keep_done = { bytes = "x" }', "keep_done.bytes"),
        ('keep_done = { age = "4000d" }', "keep_done.age"),
        ('keep_done = "4000d"', "keep_done"),
        ("keep_done = [1]", "keep_done"),
        ('[handlers."a"]\nexec = ["x"]\nkeep = { count = true }', 'handlers."a".keep.count'),
    ],
)
def test_a_limit_that_is_none_is_refused_by_its_name(line: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(line)
    assert caught.value.key == key
    if "cuont" in line:
        assert caught.value.near == "count"
