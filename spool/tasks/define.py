"""`@task`: a function that can be called, or submitted to run later in a worker."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypedDict, TypeVar, overload

from spool.body import encoded, fields
from spool.errors import Invalid
from spool.names import is_task
from spool.peek import MAX_ACTION_BYTES
from spool.tasks import registry
from spool.tasks.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Literal, Unpack

    from spool.body import Backoff, Span, When
    from spool.client import Spool

P = ParamSpec("P")
R = TypeVar("R")
Args = dict[str, Any]


Raised = type[BaseException] | Sequence[type[BaseException]]


class Options(TypedDict, total=False):
    """What a submission may say beside its arguments: the fields of spool(5)."""

    at: When
    deadline: When
    lead: Span
    tz: str
    priority: Literal["high", "medium", "low"]
    position: Literal["front", "back"]
    retries: int
    backoff: Backoff
    timeout: Span
    notify: str
    on_miss: Literal["run", "drop", "fail"]
    trace: str
    key: str
    key_for: Span
    on_duplicate: Literal["keep", "replace", "reject", "extend"]
    after: Sequence[str]
    on_failure: Literal["wait", "cancel", "run", "only"]
    ref: str
    files: Mapping[str, str]
    meta: Mapping[str, Any]
    id: str


OF_ONE = frozenset(("id", "ref"))  # of these options, and no default of all


class Task(Generic[P, R]):
    """A function marked with `@task`. Calling it runs it plainly, here and now."""

    def __init__(
        self,
        function: Callable[P, R],
        name: str,
        version: int,
        options: Options,
        policy: Policy,
    ) -> None:
        self.function = function
        self.name = name
        self.version = version
        self.options = options
        self.policy = policy
        self.aliases = policy.aliases
        self.where = f"{function.__module__}.{function.__qualname__}"
        self.is_async = inspect.iscoroutinefunction(function)
        self.signature = Signature(function, name)
        self._upgrades: dict[int | str, tuple[int, Callable[[Args], Args]]] = {}
        update_wrapper(self, function)
        registry.register(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name!r} version {self.version}: {self.where}>"

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Submit a call of this function and return the id of the task: 32 hex digits.

        Raises Invalid, naming the parameter, where an argument does not fit its annotation or is
        not JSON; Full, NotAllowed, NotASpool as Spool.submit does.
        """
        return Bound(self, {}, None).submit(*args, **kwargs)

    def document(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """The action that `submit` would drop, for `Spool.submit_many`; Invalid as there."""
        return Bound(self, {}, None).document(*args, **kwargs)

    def with_options(self, *, spool: Spool | None = None, **options: Unpack[Options]) -> Bound[P, R]:
        """The same task with other options for one submission: at="+2h", priority="high", ...

        `spool`: where it goes; default: what `use` has set, else $SPOOL_DIR, else the user's own.
        """
        return Bound(self, options, spool)

    # What was submitted by other versions of the code.

    def upgrade(
        self, *, from_version: int | str, to_version: int | None = None
    ) -> Callable[[Callable[[Args], Args]], Callable[[Args], Args]]:
        """Mark a function that turns the args of one version into those of a later one.

        It gets the object of arguments and returns one. `to_version`: from_version + 1, where that
        is a number, else this task's version. Upgrades are chained until the version of the task.
        """
        if from_version in self._upgrades:
            raise Invalid("from_version", from_version, "has an upgrade already")
        default = from_version + 1 if isinstance(from_version, int) else self.version
        target = default if to_version is None else to_version
        if type(target) is not int:
            raise Invalid("to_version", target, "must be an integer: only what came before has others")
        if target > self.version or (isinstance(from_version, int) and target <= from_version):
            rule = f"must lead to a later version, at most {self.version}, not to {target}"
            raise Invalid("from_version", from_version, rule)

        def mark(function: Callable[[Args], Args]) -> Callable[[Args], Args]:
            self._upgrades[from_version] = (target, function)
            return function

        return mark

    def takes(self) -> set[int | str]:
        """The versions that can be run: this one, and those an upgrade leads to it from."""
        return {self.version} | {v for v in self._upgrades if self._leads(v)}

    def _leads(self, version: int | str) -> bool:
        while version in self._upgrades:
            version = self._upgrades[version][0]
        return version == self.version

    def upgraded(self, args: Any, version: int | str | None) -> Any:
        """The args of another version as this one takes them."""
        while version is not None and version != self.version:
            version, step = self._upgrades[version]
            args = step(args)
        return args


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a task says about its own failures and names."""

    retry_on: tuple[type[BaseException], ...] | None = None  # only these; None: all but fail_on
    fail_on: tuple[type[BaseException], ...] = ()
    aliases: tuple[str, ...] = ()


def _check(options: Options, but: frozenset[str] = frozenset()) -> None:
    """Only options: what is checked otherwise, such as `args`, is not replaced unseen."""
    known = Options.__optional_keys__
    for name, value in options.items():
        if name in but:
            raise Invalid(name, value, "is of one submission alone: with_options sets it")
        if name not in known and name[:2] != "x-":
            from spool.fields import nearest

            raise Invalid(name, value, "is no option of a submission", nearest(name, known))


@dataclass(frozen=True, slots=True)
class Bound(Generic[P, R]):
    """A task with options for one submission."""

    task: Task[P, R]
    options: Options
    spool: Spool | None = field(default=None)

    def __post_init__(self) -> None:
        _check(self.options)
        _check_spool(self.spool)

    def with_options(self, *, spool: Spool | None = None, **options: Unpack[Options]) -> Bound[P, R]:
        """The same with further options."""
        return replace(self, options={**self.options, **options}, spool=spool or self.spool)

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Submit a call and return the id of the task; see Task.submit."""
        return (self.spool or here()).submit_one(self.document(*args, **kwargs))

    def document(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """The action that `submit` would drop, for `Spool.submit_many`; Invalid as there."""
        task = self.task
        packed = task.signature.pack(args, kwargs)
        said: dict[str, Any] = {**task.options, **self.options}
        return {"task": task.name, "args": packed, "version": task.version, **fields(**said)}


@overload
def task(name: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    name: str | None = None,
    /,
    *,
    version: int = 1,
    aliases: Sequence[str] = (),
    retry_on: Raised | None = None,
    fail_on: Raised = (),
    **options: Unpack[Options],
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(
    name: str | Callable[..., Any] | None = None,
    /,
    *,
    version: int = 1,
    aliases: Sequence[str] = (),
    retry_on: Raised | None = None,
    fail_on: Raised = (),
    **options: Unpack[Options],
) -> Any:
    """Mark a function, or an `async def`, as a task.

    `name`: default MODULE.FUNCTION. `version`: goes up when the arguments change their meaning.
    `aliases`: former names. `retry_on`: only these exceptions are tried again; `fail_on`: these
    never are. The other options are the defaults of each submission. Raises Invalid.
    """
    if callable(name):
        return task()(name)
    if type(version) is not int or version < 0:
        raise Invalid("version", version, "must be an integer, 0 or more")
    if options:  # as the first submission would find out
        _check(options, OF_ONE)
        encoded({"task": "any", **fields(**options)}, MAX_ACTION_BYTES, time.time_ns() // 1000)
    if isinstance(aliases, str) or not isinstance(aliases, Iterable):
        raise Invalid("aliases", aliases, "must be a list of names")
    policy = Policy(
        retry_on=None if retry_on is None else _exceptions("retry_on", retry_on),
        fail_on=_exceptions("fail_on", fail_on),
        aliases=tuple(aliases),
    )

    def mark(function: Callable[P, R]) -> Task[P, R]:
        if not callable(function) or not hasattr(function, "__qualname__"):
            raise Invalid("task", str(name or function), "must be a function: write one that calls it")
        own = name or f"{function.__module__}.{function.__qualname__}"
        for one in (own, *policy.aliases):
            if not isinstance(one, str) or not is_task(one):
                rule = (
                    "must be 1 to 64 letters, digits, dots, dashes or underscores; name it: @task(NAME)"
                )
                raise Invalid("task", one, rule)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise Invalid("task", own, "must return its result, not yield")
        return Task(function, own, version, options, policy)

    return mark


def _exceptions(option: str, given: Any) -> tuple[type[BaseException], ...]:
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(one, type) and issubclass(one, BaseException) for one in found):
        raise Invalid(option, given, "must be exception classes")
    return found


_chosen: Spool | None = None
_found: tuple[str | None, Spool] | None = None


def _check_spool(spool: object) -> None:
    if spool is not None and not hasattr(spool, "submit_one"):
        raise Invalid("spool", str(spool), "must be a Spool, as Spool(path) is")


def use(spool: Spool | None) -> None:
    """Set the spool that tasks of this process are submitted to; None: $SPOOL_DIR, else the user's."""
    global _chosen  # noqa: PLW0603 - one for the process is what it is for
    _check_spool(spool)
    _chosen = spool


@contextmanager
def using(spool: Spool | None) -> Iterator[None]:
    """The same for a while."""
    before = _chosen
    use(spool)
    try:
        yield
    finally:
        use(before)


def chosen() -> Spool | None:
    """What `use` has set."""
    return _chosen


def here() -> Spool:
    """The spool that tasks are submitted to."""
    global _found  # noqa: PLW0603 - kept open
    if _chosen is not None:
        return _chosen
    where = os.environ.get("SPOOL_DIR")
    if _found is None or _found[0] != where:
        from spool.client import Spool

        _found = (where, Spool())
    return _found[1]
