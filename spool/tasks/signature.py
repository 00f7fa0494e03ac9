"""The arguments of a task: a call becomes JSON, JSON becomes a call, both checked by the annotations."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from spool.errors import Invalid
from spool.results import named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Call = tuple[list[Any], dict[str, Any]]


class Signature:
    """The parameters of one function. `args` of a task are an object: parameter -> value."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function = function
        self.name = name
        self.parameters = inspect.signature(function).parameters
        self._bind = inspect.signature(function).bind
        self._struct: Any = None
        for parameter in self.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                raise Invalid(f"task {name}", f"*{parameter.name}", "must have a name for every argument")

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
            self.unpack(packed)
        return packed

    def unpack(self, args: object) -> Call:
        """The call that the `args` of a task stand for; Invalid names the parameter."""
        if not isinstance(args, dict):
            raise Invalid("args", args, f"must be an object with the parameters of {self.name}")
        import msgspec

        struct = self._struct or self.compiled()
        extra: dict[str, Any] = {}
        if self._open:
            every = {*self._order[0], *self._order[1]}
            extra = {k: v for k, v in args.items() if k not in every}
        known = {k: v for k, v in args.items() if k not in extra} if extra else args
        extra = {name: self._other(name, value) for name, value in extra.items()}
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
        for name, kind, required in self._expected():
            if required:
                fields.append((name, kind))
            else:  # left to the function itself
                fields.append((name, kind | msgspec.UnsetType, msgspec.UNSET))
        try:
            struct = msgspec.defstruct(
                "args", fields, kw_only=True, forbid_unknown_fields=True, frozen=True
            )
            for kind in (struct, self._others):
                msgspec.convert({}, msgspec.defstruct("probe", [("args", kind | None, None)]))
        except (TypeError, ValueError) as problem:
            text = " ".join(str(problem).split())
            raise Invalid(
                f"task {self.name}", None, f"has an annotation JSON cannot fill: {text}"
            ) from None
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

    def _other(self, name: str, value: Any) -> Any:
        """A value of `**name` as its annotation says."""
        import msgspec

        try:
            return msgspec.convert(value, self._others, strict=True, str_keys=True)
        except msgspec.ValidationError as problem:
            what, _, where = str(problem).partition(" - at `$")
            raise self._misfit(f"{what} - at `$.{name}{where or '`'}", {name: value}) from None

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
        return Invalid(f"args.{path}" if path else "args", args.get(name), rule)

    _open = False  # whether there are others than the named ones, of this annotation
    _others: Any = Any
    _order: tuple[list[str], list[str]] = ([], [])


def _form(kind: Any) -> str | None:
    """The name of a special form, of typing or typing_extensions."""
    return getattr(get_origin(kind), "_name", None)
