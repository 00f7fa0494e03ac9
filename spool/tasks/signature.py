"""The arguments of a task: a call becomes JSON, JSON becomes a call, both checked by the annotations."""

from __future__ import annotations

import inspect
import re
import sys
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from spool.errors import Invalid
from spool.results import named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHOWN = 20  # values of an enum
Call = tuple[list[Any], dict[str, Any]]


class Signature:
    """The parameters of one function. `args` of a task are an object: parameter -> value."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function = function
        self.name = name
        signature = _signature(function)
        self.parameters, self._bind = signature.parameters, signature.bind
        self._struct: Any = None
        for parameter in self.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                raise Invalid(f"task {name}", f"*{parameter.name}", "must have a name for every argument")
            if parameter.name.startswith("__"):
                raise Invalid(f"task {name}", parameter.name, "must not begin with two underscores")

    def pack(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """A call as the `args` of a task; Invalid names the parameter that does not fit."""
        import msgspec

        try:
            bound = self._bind(*args, **kwargs)
        except TypeError as problem:
            raise Invalid(f"args of {self.name}", None, str(problem)) from None
        given: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if self.parameters[name].kind is not inspect.Parameter.VAR_KEYWORD:
                given[name] = value
                continue
            for other in self.parameters.keys() & value.keys() - {name}:
                rule = f"must be given by position: {self.name} has a parameter of this name"
                raise Invalid(f"args.{other}", value[other], rule)
            given |= value
        packed: dict[str, Any] = {}
        for name, value in given.items():
            try:
                packed[name] = msgspec.to_builtins(value, str_keys=True)
            except (TypeError, RecursionError) as problem:
                raise Invalid(f"args.{name}", value, f"must be JSON: {problem}") from None
        if not named(packed):  # what a result will be is not known yet
            self.fits(packed)
        return packed

    def fits(self, args: dict[str, Any]) -> None:
        """Invalid names the parameter that does not fit, or whose class raises anything itself."""
        try:
            self.unpack(args)
        except Invalid:
            raise
        except Exception as problem:  # noqa: BLE001 - a class that checks itself may raise anything
            kinds = {name: kind for name, kind, _ in self._expected()}
            rule = f"must fit its annotation: {type(problem).__name__}: {problem}"
            for name, value in args.items():
                try:
                    self._alone(name, kinds.get(name, self._others), args)
                except Exception:  # noqa: BLE001 - as above
                    raise Invalid(f"args.{name}", value, rule) from None
            raise Invalid("args", None, rule) from None

    def unpack(self, args: object) -> Call:
        """The call that the `args` of a task stand for; Invalid names the parameter.

        What a class of the application raises to check itself is raised: it may pass.
        """
        if not isinstance(args, dict):
            raise Invalid("args", args, f"must be an object with the parameters of {self.name}")
        import msgspec

        struct = self._struct or self.compiled()
        extra: dict[str, Any] = {}
        if self._open:
            every = {*self._order[0], *self._order[1]}
            extra = {k: v for k, v in args.items() if k not in every}
        known = {k: v for k, v in args.items() if k not in extra} if extra else args
        extra = {name: self._alone(name, self._others, extra) for name in extra}
        try:
            found = msgspec.convert(known, struct, strict=True, str_keys=True)
        except msgspec.ValidationError as problem:
            raise self._misfit(str(problem), known) from None
        positional, named = self._order
        have = found.__struct_fields__
        values = {n: v for n in have if (v := getattr(found, n)) is not msgspec.UNSET}
        plain = [values.pop(n) for n in positional if n in values]
        return plain, {n: values[n] for n in named if n in values} | extra

    def compiled(self) -> Any:
        """The check itself, made on first use; Invalid where an annotation cannot be checked."""
        import msgspec

        fields: list[Any] = []
        try:
            for name, kind, required in self._expected():
                if required:
                    fields.append((name, kind))
                else:  # left to the function itself
                    fields.append((name, kind | msgspec.UnsetType, msgspec.UNSET))
            struct = msgspec.defstruct(
                "args", fields, kw_only=True, forbid_unknown_fields=True, frozen=True
            )
            for kind in (struct, self._others):
                _probe(kind)
        except (TypeError, ValueError) as problem:
            told = ((name, _trouble(kind)) for name, kind, _ in self._expected())
            at, why = next((row for row in told if row[1]), (None, problem))
            rule = f"has an annotation JSON cannot fill: {' '.join(str(why).split())}"
            raise Invalid(f"task {self.name}", at, rule) from None
        kinds = {p.name: p.kind for p in self.parameters.values()}
        first = [n for n, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_ONLY]
        self._order = first, [field[0] for field in fields if field[0] not in first]
        self._struct = struct
        return struct

    def _expected(self) -> Iterator[tuple[str, Any, bool]]:
        """The arguments by name: annotation, and whether each is required."""
        hints = self._hints(self.function)
        for parameter in self.parameters.values():
            kind = hints.get(parameter.name, Any)
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                yield parameter.name, kind, parameter.default is inspect.Parameter.empty
            elif _form(kind) == "Unpack":
                yield from self._spelled(get_args(kind)[0])
            else:
                self._open, self._others = True, kind

    def _spelled(self, table: Any) -> Iterator[tuple[str, Any, bool]]:
        """Those of `**name: Unpack[table]`, a TypedDict."""
        for name, kind in self._hints(table).items():
            form = _form(kind)
            if form in ("Required", "NotRequired"):
                yield name, get_args(kind)[0], form == "Required"
            else:
                yield name, kind, name in table.__required_keys__

    def _alone(self, name: str, kind: Any, args: dict[str, Any]) -> Any:
        """One of these arguments as its annotation says."""
        import msgspec

        try:
            return msgspec.convert(args[name], kind, strict=True, str_keys=True)
        except msgspec.ValidationError as problem:
            what, _, where = str(problem).partition(" - at `$")
            raise self._misfit(f"{what} - at `$.{name}{where or '`'}", args) from None

    def _hints(self, of: Any) -> dict[str, Any]:
        try:
            return get_type_hints(of, include_extras=True)
        except Exception as problem:  # noqa: BLE001 - an annotation may be any expression
            rule = f"has an annotation that cannot be read at run time: {problem}"
            raise Invalid(f"task {self.name}", None, rule) from None

    def _misfit(self, text: str, args: dict[str, Any]) -> Invalid:
        """What msgspec says, with the parameter's name in front."""
        what, _, where = text.partition(" - at `$")
        if "unknown field" in what or "missing required field" in what:
            name = what.split("`")[1]
            if not where or where == "`":
                if name in args:
                    from spool.fields import nearest

                    rule = f"is no parameter of {self.name}"
                    near = nearest(name, self._struct.__struct_fields__)
                    return Invalid(f"args.{name}", args[name], rule, near)
                return Invalid(f"args.{name}", None, "is required")
        path = where.rstrip("`").lstrip(".")
        name = path.partition(".")[0].partition("[")[0]
        rule = f"must fit its annotation: {what[:1].lower()}{what[1:]}"
        if what.startswith("Invalid enum value"):
            kinds = {one: kind for one, kind, _ in self._expected()}
            below = re.sub(r"\[[^]]*\]", "", path).split(".")[1:]
            allowed = dict.fromkeys(map(repr, _allowed(kinds.get(name, self._others), below)))
            if allowed:
                more = ", ..." if len(allowed) > SHOWN else ""
                rule += f"; allowed are {', '.join(islice(allowed, SHOWN))}{more}"
        return Invalid(f"args.{path}" if path else "args", args.get(name), rule)

    _open = False  # whether there are others than the named ones, of this annotation
    _others: Any = Any
    _order: tuple[list[str], list[str]] = ([], [])


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """Its parameters; since Python 3.14 an annotation may name what is defined later."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def _probe(kind: Any) -> None:
    """Whether msgspec takes an annotation: it is looked at when it is used first."""
    import msgspec

    msgspec.convert({}, msgspec.defstruct("probe", [("args", kind | None, None)]))


def _trouble(kind: Any) -> Exception | None:
    try:
        _probe(kind)
    except (TypeError, ValueError) as problem:
        return problem
    return None


def _allowed(kind: Any, path: list[str]) -> list[Any]:
    """What the enums and literals of an annotation allow, at the fields of this path in it."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [one.value for one in kind]
    if path and getattr(kind, "__annotations__", None):
        return _allowed(get_type_hints(kind).get(path[0]), path[1:])
    return [one for inner in get_args(kind) for one in _allowed(inner, path)]


def _form(kind: Any) -> str | None:
    """The name of a special form, of typing or typing_extensions."""
    return getattr(get_origin(kind), "_name", None)
