"""Marking functions and submitting them: what is checked, what is refused, what a type checker finds."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Required, TypedDict, Unpack

import orjson
import pytest
from msgspec import Meta

from spool import Invalid, Retry, Snooze, current, task
from spool.tasks import registry, use
from spool.tasks.context import Context
from spool.worker.ends import Times, raised, result_end

ROOT = Path(__file__).parents[2]


@dataclass
class Score:
    value: float


APP = """
from spool import task

@task("email.welcome", retries=5, timeout="30s", priority="high", version=2)
def welcome(to: str, copies: int = 1) -> dict[str, str]:
    return {"sent": to}

@task
async def plain(n: int) -> int:
    return n

welcome.submit("ada@example.org", copies=2)
welcome.with_options(at="+2h", priority="low").submit(to="ada@example.org")
result: dict[str, str] = welcome("ada@example.org")
document: dict[str, object] = welcome.document("ada@example.org", copies=2)
@welcome.upgrade(from_version=1)
def _(args: dict[str, object]) -> dict[str, object]:
    return args
"""
WRONG = {
    "welcome.submit(to=7)": "arg-type",
    "welcome.submit()": "call-arg",
    "welcome.document(to=7)": "arg-type",
    'welcome.with_options(at="+2h").submit("a", nonsense=1)': "call-arg",
    'welcome.with_options(prio="high")': "call-arg",
    'welcome.with_options(priority="urgent")': "arg-type",
    'n: int = welcome("a")': "assignment",
    'task("x", retries="many")': "call-overload",
}  # fmt: skip


def test_mypy_strict_finds_a_wrong_argument_and_nothing_else(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP + "\n".join(WRONG) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file=", str(app)],
        cwd=tmp_path, env={"MYPYPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    first = len(APP.splitlines()) + 1
    errors = {}
    for line in done.stdout.splitlines():
        if ": error:" in line:
            assert line.startswith("app.py"), line
            errors[int(line.split(":")[1]) - first] = line
    assert sorted(errors) == list(range(len(WRONG))), done.stdout
    for at, kind in enumerate(WRONG.values()):
        assert f"[{kind}]" in errors[at], errors[at]


def test_importing_spool_and_marking_functions_stay_light() -> None:
    code = """
    import sys
    import spool
    assert not {"msgspec", "asyncio", "spool.tasks"} & set(sys.modules)
    from spool import task
    @task("light")
    def light(n: int) -> int: return n
    import spool.worker.__main__, spool.worker.serve
    assert not {"asyncio", "watchdog", "psutil"} & set(sys.modules)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, env={"PYTHONPATH": str(ROOT)}
    )


def test_a_marked_function_is_called_as_before() -> None:
    @task("call.it")
    def add(a: int, b: int = 1) -> int:
        """Add."""
        return a + b

    assert (add(1), add(1, b=2), add.__doc__, add.__name__) == (2, 3, "Add.", "add")


def test_a_name_belongs_to_one_function() -> None:
    @task("own.name")
    def first() -> None: ...

    with pytest.raises(Invalid, match="two functions"):

        @task("own.other", aliases=["own.name"])
        def other() -> None: ...

    assert "own.other" not in registry.REGISTRY


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "no blanks"}, "letters"),
        ({"name": "x" * 65}, "1 to 64"),
        ({"name": "bad.alias", "aliases": ["a b"]}, "letters"),
        ({"name": "bad.version", "version": -1}, "integer"),
        ({"name": "bad.version", "version": True}, "integer"),
        ({"name": "bad.aliases", "aliases": "old"}, "aliases `old`: must be a list of names"),
        ({"name": "bad.aliases", "aliases": 7}, "aliases `7`: must be a list of names"),
        ({"name": "bad.alias", "aliases": [7]}, "letters"),
        (
            {"name": "bad.retry", "retry_on": int},
            "retry_on .*int.*: must be exception classes",
        ),
        (
            {"name": "bad.retry", "retry_on": "ValueError"},
            "retry_on `ValueError`: must be exception classes",
        ),
        ({"name": "bad.retry", "retry_on": ["ValueError"]}, "retry_on .*: must be exception classes"),
        ({"name": "bad.retry", "retry_on": [ValueError()]}, "retry_on .*: must be exception classes"),
        ({"name": "bad.fail", "fail_on": [int]}, "fail_on .*: must be exception classes"),
        ({"name": "bad.fail", "fail_on": None}, "fail_on"),
        ({"name": "bad.option", "prio": "high"}, "priority"),
        ({"name": "bad.option", "timeout": "soon"}, "timeout"),
        ({"name": "bad.option", "args": {}}, "args `{}`: is no option of a submission"),
        ({"name": "bad.option", "id": "0" * 32}, "id .*: is of one submission alone"),
        ({"name": "bad.option", "ref": "a"}, "ref .*: is of one submission alone"),
    ],
)
def test_what_cannot_be_marked_is_refused(options: dict[str, Any], words: str) -> None:
    options = dict(options)
    name = options.pop("name")
    with pytest.raises(Invalid, match=words):
        task(name, **options)(lambda: 1)


@pytest.mark.parametrize("name", ["task", "args", "version", "every", "action", "tasks", "then"])
def test_an_option_replaces_nothing_that_was_checked(name: str) -> None:
    marked = task("opt.it")(lambda: 1)
    with pytest.raises(Invalid, match=f"^{name} `x`: is no option of a submission"):
        marked.with_options(priority="high").with_options(**{name: "x"})  # type: ignore[misc]


def test_a_path_is_no_spool(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"^spool `.+`: must be a Spool, as Spool\(path\) is"):
        task("opt.spool")(lambda: 1).with_options(spool=str(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(Invalid, match=r"^spool"):
        use(tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [None, "call.able"])
def test_what_is_called_but_no_function_is_refused(name: str | None) -> None:
    with pytest.raises(Invalid, match=r"^task `.+`: must be a function: write one that calls it"):
        task(name)(functools.partial(print, 1))


def test_one_exception_class_is_as_good_as_a_list_of_one() -> None:
    policy = task("one.class", retry_on=OSError, fail_on=[KeyError])(lambda: 1).policy
    assert (policy.retry_on, policy.fail_on) == ((OSError,), (KeyError,))


def test_a_generator_is_no_task() -> None:
    def some() -> Any:
        yield 1

    async def others() -> Any:
        yield 1

    for function in (some, others):
        with pytest.raises(Invalid, match=r"task `bad\.yields`: must return its result, not yield"):
            task("bad.yields")(function)
    assert "bad.yields" not in registry.REGISTRY


def test_a_version_has_one_upgrade() -> None:
    marked = task("up.twice", version=3)(lambda: 1)
    marked.upgrade(from_version=1, to_version=3)(dict)
    with pytest.raises(Invalid, match="from_version `1`: has an upgrade already"):
        marked.upgrade(from_version=1)
    assert marked.takes() == {1, 3}


def test_an_upgrade_must_lead_upwards() -> None:
    marked = task("up.it", version=3)(lambda: 1)
    for start, end in ((3, None), (1, 4), (2, 2)):
        with pytest.raises(Invalid, match="later version"):
            marked.upgrade(from_version=start, to_version=end)
    marked.upgrade(from_version=1)(dict)
    assert marked.takes() == {3}  # 1 leads to 2, and 2 nowhere
    marked.upgrade(from_version=2)(dict)
    assert marked.takes() == {1, 2, 3}


def test_an_upgrade_leads_to_a_number() -> None:
    marked = task("up.text", version=3)(lambda: 1)
    with pytest.raises(Invalid, match=r"^to_version `a`: must be an integer"):
        marked.upgrade(from_version="a", to_version="a")  # type: ignore[arg-type]


def test_parameters_of_every_kind_go_through() -> None:
    def every(a: int, /, b: str = "b", *, c: Literal["x", "y"] = "x", **rest: Any) -> Any: ...

    marked = task("every.kind")(every)
    packed = marked.signature.pack((1,), {"c": "y", "more": [1, {"k": None}]})
    assert packed == {"a": 1, "c": "y", "more": [1, {"k": None}]}
    assert marked.signature.unpack(packed) == ([1], {"c": "y", "more": [1, {"k": None}]})
    with pytest.raises(Invalid, match=r"args\.c"):
        marked.signature.unpack({"a": 1, "c": "z"})


def test_the_values_of_other_arguments_fit_their_annotation() -> None:
    def rest(a: str = "", **rest: list[int]) -> None: ...

    signature = task("every.rest")(rest).signature
    assert signature.pack(("x",), {"one": [1], "two": []}) == {"a": "x", "one": [1], "two": []}
    for wrong, where in (({"one": 1}, r"args\.one `1`"), ({"b": [1, "x"]}, r"args\.b\[1\]")):
        with pytest.raises(Invalid, match=where + r".*: must fit its annotation: expected"):
            signature.pack((), wrong)

    def bad(**rest: Path | complex) -> None: ...

    with pytest.raises(Invalid, match="annotation JSON cannot fill"):
        task("every.bad")(bad).signature.compiled()


class Colour(Enum):
    RED = "r"
    BLUE = "b"


@dataclass
class Paint:
    colours: list[Colour | None]

    def __post_init__(self) -> None:
        if not self.colours:
            raise KeyError("bare")


def test_what_does_not_fit_is_told_by_its_parameter() -> None:
    def paint(
        paint: Paint | None = None, colour: Colour = Colour.RED, size: Literal[1, 2] | None = None
    ) -> None: ...

    pack = task("fit.paint")(paint).signature.pack
    for wrong, told in (
        ({"colour": "x"}, r"args\.colour `x`: .*; allowed are 'r', 'b'$"),
        ({"size": 3}, r"args\.size `3`: .*; allowed are 1, 2$"),
        ({"paint": {"colours": ["b", "x"]}}, r"args\.paint\.colours\[1\] .*; allowed are 'r', 'b'$"),
        ({"paint": {"colours": []}}, r"args\.paint .*: must fit its annotation: KeyError: 'bare'"),
    ):
        with pytest.raises(Invalid, match=told):
            pack((), wrong)


def test_what_cannot_be_a_parameter_is_told_by_its_name() -> None:
    def many(ok: int, bad: list[int] | tuple[int, ...]) -> None: ...

    with pytest.raises(Invalid, match=r"task par\.many `bad`: has an annotation JSON cannot fill"):
        task("par.many")(many).signature.compiled()

    def number(ok: int, bad: 5 = 1) -> None: ...  # type: ignore[valid-type]

    with pytest.raises(Invalid, match=r"task par\.number `bad`: has an annotation JSON cannot fill"):
        task("par.number")(number).signature.compiled()
    with pytest.raises(Invalid, match=r"task par\.private `__y`: must not begin with two underscores"):
        task("par.private")(lambda __y: 1)


LATER = """
from dataclasses import dataclass
from spool import task

@task("par.later")
def later(given: Later) -> Later: ...

@dataclass
class Later:
    number: int

@task("par.never")
def never(given: Never): ...
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are read where they stand")
def test_an_annotation_may_name_what_comes_later_and_one_of_nothing_is_told() -> None:
    exec(compile(LATER, "later", "exec", dont_inherit=True), names := {"__name__": "later"})
    pack = names["later"].signature.pack
    assert pack((names["Later"](3),), {}) == pack((), {"given": {"number": 3}})
    with pytest.raises(Invalid, match=r"args\.given\.number .*: expected `int`, got `str`"):
        pack((), {"given": {"number": "x"}})
    with pytest.raises(Invalid, match=r"task par\.never: .*cannot be read at run time: name 'Never'"):
        names["never"].signature.compiled()


class Sizes(TypedDict, total=False):
    width: Required[int]
    height: Annotated[int, Meta(gt=0)]
    when: date


def test_other_arguments_may_be_spelled_out() -> None:
    def spelled(a: str, **rest: Unpack[Sizes]) -> None: ...

    signature = task("every.spelled")(spelled).signature
    packed = signature.pack(("x",), {"width": 1, "when": date(2027, 1, 2)})
    assert signature.unpack(packed) == ([], {"a": "x", "width": 1, "when": date(2027, 1, 2)})
    for wrong, where in (
        ({}, r"args\.width: is required"),
        ({"width": "1"}, r"args\.width"),
        ({"width": 1, "height": 0}, r"args\.height"),
        ({"width": 1, "heigth": 1}, r"args\.heigth.*no parameter.*did you mean 'height'"),
    ):
        with pytest.raises(Invalid, match=where):
            signature.pack(("x",), wrong)


def test_a_document_is_what_would_be_submitted() -> None:
    @task("doc.it", priority="high")
    def it(n: int) -> None: ...

    assert it.document(1) == it.with_options().document(1)
    assert it.document(1) == {"task": "doc.it", "args": {"n": 1}, "version": 1, "priority": "high"}


def test_an_argument_may_have_the_name_of_those_that_have_none() -> None:
    def every(**rest: int) -> Any: ...

    assert task("every.named")(every).signature.unpack({"rest": 1}) == ([], {"rest": 1})


def test_no_argument_takes_the_place_of_one_that_is_given_by_position() -> None:
    @task("every.placed")
    def placed(a: int = 0, /, **rest: int) -> None: ...

    for args in ((1,), ()):
        with pytest.raises(Invalid, match="position"):
            placed.document(*args, a=2)
    assert placed.document(1, rest=2)["args"] == {"a": 1, "rest": 2}


def test_current_says_where_it_works() -> None:
    with pytest.raises(RuntimeError, match="no task runs here"):
        current()


@pytest.mark.parametrize(
    ("outcome", "named"),
    [
        (Retry("busy", after="a while"), "Retry: after `a while`: must be seconds"),
        (Snooze(after="a while"), "Snooze: after `a while`: must be seconds"),
        (Snooze(until="noon"), "Snooze: until `noon`: must be a time such as"),
    ],
)
def test_an_outcome_that_breaks_a_rule_names_what_does(outcome: Retry | Snooze, named: str) -> None:
    end = raised(outcome, None, Times())
    assert not end["final"]
    assert end["error"]["message"].startswith(named)


def test_a_wait_that_is_over_by_now_is_none() -> None:
    for after in (-1, -0.2, timedelta(seconds=-3)):
        assert raised(Retry("busy", after=after), None, Times())["delay"] == 0


def test_a_local_time_of_an_outcome_is_of_the_zone_of_the_spool_and_others_go_by_the_clock() -> None:
    times = Times(lambda: 4e9, "Asia/Tokyo")
    assert raised(Snooze(until="2090-01-01 09:00"), None, times)["until"] == 3786912000 * 10**6
    assert raised(Snooze(until="+1h"), None, times)["until"] == (4 * 10**9 + 3600) * 10**6


class Point(NamedTuple):
    x: int
    name: str


def test_a_named_tuple_is_a_result_as_it_is_an_argument() -> None:
    @task("tuple.it")
    def it(point: Point) -> Point:
        return point

    end = result_end({"p": Point(1, "a")}, 100, Times())
    assert orjson.loads(orjson.dumps(end["result"])) == {"p": [1, "a"]}
    assert it.signature.unpack({"point": [1, "a"]}) == ([], {"point": Point(1, "a")})
    assert "NaN" in result_end(Point(1, math.nan), 100, Times())["error"]["message"]  # type: ignore[arg-type]


@dataclass
class Node:
    value: float | None
    _parent: object = None


def test_what_is_not_written_is_not_looked_at() -> None:
    node = Node(None, math.inf)
    node._parent = [node, math.nan]
    assert result_end(node, 100, Times())["outcome"] == "done"


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": {"b": -math.inf}}, Score(math.nan)])
def test_what_json_cannot_hold_is_no_result(value: object) -> None:
    end = result_end(value, 100, Times())
    assert end["error"]["message"] == "the result is not JSON: it holds NaN or infinity"
    assert result_end(Score(1.5), 100, Times())["outcome"] == "done"


def test_progress_is_told_once_a_second_and_the_end_of_it_at_once() -> None:
    told: list[float] = []
    context = Context(
        id="i", attempt=1, task="t", at=0, deadline=None, tell=lambda told_: told.append(told_["percent"])
    )
    for part in (0, 0.1, 1, 1, 1):
        context.progress(part)
    assert told == [0, 100]


@pytest.mark.parametrize("part", ["0.5", None, -0.1, 1.1, math.nan])
def test_progress_that_is_no_part_is_refused_in_words(part: Any) -> None:
    context = Context(id="i", attempt=1, task="t", at=0, deadline=None)
    with pytest.raises(ValueError, match="progress: must be a number from 0 to 1, not "):
        context.progress(part)


def test_progress_tells_any_number_and_any_note_as_json() -> None:
    told: list[dict[str, Any]] = []
    for part in (Decimal("0.5"), Fraction(1, 2), True):
        context = Context(id="i", attempt=1, task="t", at=0, deadline=None, tell=told.append)
        context.progress(part, "half \ud800")  # type: ignore[arg-type]
    assert [(one["percent"], one["note"]) for one in map(orjson.loads, map(orjson.dumps, told))] == [
        (50, "half \\ud800"), (50, "half \\ud800"), (100, "half \\ud800"),
    ]  # fmt: skip
