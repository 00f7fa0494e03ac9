"""Options of the command: the parser, what all verbs share, options made from the action's fields."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from spool.command.verbs import VERBS
from spool.errors import EX_USAGE
from spool.layout import STATES

if TYPE_CHECKING:
    from spool.client import Spool
    from spool.fields import Field
    from spool.signing import Key
    from spool.spools import Spools

ID_HELP = "id of a task; - reads ids from standard input, one a line"


class Parser(argparse.ArgumentParser):
    """argparse with our exit status and our way to say what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit with EX_USAGE."""
        near = self._meant(message)
        hint = f"did you mean {near}?" if near else f"see `{self.prog} --help`"
        self.exit(EX_USAGE, f"{self.prog.split()[0]}: {message}; {hint}\n")

    def _meant(self, message: str) -> str | None:
        """The option that somebody probably meant by the first one that is none."""
        from spool.fields import nearest

        head, _, words = message.partition("arguments: ")
        wrong = next((word for word in words.split() if word.startswith("--")), "")
        if head == "unrecognized " and not wrong and os.path.isdir(words):
            return f"--spool {shlex.quote(words)}"
        if head != "unrecognized " or not wrong:
            return None
        known = [name for name in self._option_string_actions if "_" not in name]
        return nearest(wrong.partition("=")[0], known)


def verb_parser(verb: str) -> Parser:
    """The parser of one verb, with what all of them take; the verb's module adds the rest."""
    text = VERBS[verb][2]
    found = Parser(
        prog=f"spool {verb}",
        description=f"{text[0].upper()}{text[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    found.add_argument("--spool", metavar="DIR", help="the spool (default: $SPOOL_DIR, else your own)")
    found.set_defaults(verb=verb)
    return found


def add_json(parser: argparse._ActionsContainer, text: str = "print JSON, for programs") -> None:
    """The option --json."""
    parser.add_argument("--json", action="store_true", help=text)


def add_ids(parser: argparse.ArgumentParser) -> None:
    """One or more ids, or -."""
    parser.add_argument("ids", nargs="+", metavar="ID", help=ID_HELP)


def ids_of(words: list[str]) -> list[str]:
    """The ids that were named, those on standard input in place of -; each once."""
    found: list[str] = []
    for word in words:
        found += sys.stdin.read().split() if word == "-" else [word]
    return list(dict.fromkeys(found))


def add_id(parser: argparse.ArgumentParser, text: str) -> None:
    """One id, or -."""
    parser.add_argument("id", metavar="ID", help=f"{text}; - reads it from standard input")


def one_id(args: argparse.Namespace) -> str:
    """The id that was named, or the one on standard input in place of -."""
    found = ids_of([args.id])
    if len(found) != 1:
        usage(args, f"takes one ID, and {len(found)} came on standard input")
    return found[0]


def ids_to_change(words: list[str]) -> list[str]:
    """The same; whoever expects a change is told where none were named."""
    found = ids_of(words)
    if not found:
        print("spool: no id came on standard input", file=sys.stderr)
    return found


def add_match(parser: argparse.ArgumentParser) -> None:
    """Tasks by their ids, or by what they are."""
    parser.add_argument("ids", nargs="*", metavar="ID", help=ID_HELP)
    parser.add_argument("--task", metavar="PATTERN", help="those of these names; * for any characters")
    parser.add_argument("--state", choices=STATES, metavar="STATE", help="those in this state")
    parser.add_argument("--error", metavar="FP", help="those whose newest failure has this fingerprint")
    parser.add_argument("--after", metavar="ID", help="those that wait, or have waited, for this task")
    parser.add_argument("--key", metavar="KEY", help="those with this key")
    parser.add_argument("--since", metavar="TIME", help="those from then on; 2h: two hours ago")
    parser.add_argument("--until", metavar="TIME", help="those before then; 2h: two hours ago")
    parser.add_argument("--all", action="store_true", help="all that there are, if nothing else is said")
    parser.add_argument("--dry-run", action="store_true", help="print the ids of those it is about")


def match_of(args: argparse.Namespace, spool: Spool) -> dict[str, Any] | None:
    """What the options of `add_match` say, as an action writes it; None where there are ids."""
    from spool.errorgroups import expand
    from spool.times import format_utc

    names = ("task", "state", "after", "key")
    found = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    for name in ("since", "until"):
        us = instant(getattr(args, name), f"--{name}", spool)
        if us is not None:
            found[name] = format_utc(us)
    if args.error is not None:
        found["error"] = expand(spool.disk, args.error)
    if args.ids:
        if found or args.all:
            usage(args, "ids and filters do not go together")
        return None
    if not found and not args.all:
        usage(args, "name tasks by ID or by filter, or say --all")
    return found or {"task": "*"}


def open_spool(args: argparse.Namespace) -> Spool:
    """The spool that --spool names, else the default one."""
    from spool.client import Spool

    return Spool(args.spool, key=_key(args, args.spool))


def open_spools(args: argparse.Namespace) -> Spools:
    """All that --spool names, with colons between them."""
    from spool.client import Spool
    from spool.spools import Spools

    paths = places(args)
    by: Any = getattr(args, "by", None) or "hash"
    return Spools([Spool(path, key=_key(args, path)) for path in paths], by=by)


def places(args: argparse.Namespace) -> list[str]:
    """The spools that --spool or $SPOOL_DIR name; what is a directory as a whole is one. Invalid."""
    from spool.errors import Invalid
    from spool.init import default_dir

    text = str(args.spool or default_dir(os.environ))
    if ":" not in text or os.path.isdir(text):
        return [text]
    found = text.split(":")
    if len({os.path.abspath(path) for path in found if path}) < len(found):
        raise Invalid("--spool", text, "must be DIR:DIR:..., each spool once")
    return found


def add_key(parser: argparse.ArgumentParser) -> None:
    """The options of a signature; every verb takes them from the environment as well."""
    parser.add_argument("--sign", metavar="KEY", help="sign with this SSH key ($SPOOL_SIGN_KEY)")
    parser.add_argument("--signer", metavar="NAME", help="whose key it is ($SPOOL_SIGNER)")
    parser.add_argument("--audience", metavar="NAME", help="the spool's name ($SPOOL_AUDIENCE)")


def _key(args: argparse.Namespace, spool: str | None) -> Key | None:
    """The key to sign with, where one is named; by default a spool is called as its directory."""
    path = getattr(args, "sign", None) or os.environ.get("SPOOL_SIGN_KEY")
    if not path:
        return None
    from spool.init import default_dir
    from spool.signing import Key

    named = os.path.basename(os.path.abspath(spool or default_dir(os.environ)))
    audience = getattr(args, "audience", None) or os.environ.get("SPOOL_AUDIENCE") or named
    return Key(path, getattr(args, "signer", None) or os.environ.get("SPOOL_SIGNER"), audience)


def instant(text: str | None, option: str, spool: Spool) -> int | None:
    """The instant an option names, us UTC: a time, or a duration such as 2h, that long ago. Invalid.

    A local time is one in the spool's zone, where that is known.
    """
    import time

    from spool.errors import Invalid
    from spool.machine import zone_of
    from spool.times import parse_duration, parse_time

    if text is None:
        return None
    now = time.time_ns() // 1000
    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    try:
        return parse_time(number(text), now_us=now, zone=spool.zone or zone_of(""))
    except ValueError as problem:
        raise Invalid(option, text, f"{problem}, or a duration, that long ago") from None


def usage(args: argparse.Namespace, message: str) -> NoReturn:
    """Say what is wrong with the options and exit with EX_USAGE."""
    verb_parser(args.verb).error(message)


def add_fields(parser: argparse.ArgumentParser, action: str, leave: tuple[str, ...]) -> None:
    """One option for each field of an action, but those in `leave`."""
    from spool.fields import TAKES

    for row in TAKES[action].values():
        if row.name in leave:
            continue
        option = parser.add_argument(
            f"--{row.name.replace('_', '-')}",
            dest=f"field_{row.name}",
            metavar="|".join(row.choices) or _METAVARS.get(row.name) or _METAVARS.get(row.kind, "TEXT"),
            action="append" if row.kind in ("meta", "after") else "store",
            help=row.text.replace("%", "%%"),
        )
        # Spelt as the field it is taken as well; argparse would show a second name in every help.
        parser._option_string_actions[f"--{row.name}"] = option  # noqa: SLF001


def given_fields(args: argparse.Namespace, action: str) -> dict[str, Any]:
    """The fields that options were given for, as an action writes them."""
    from spool.fields import TAKES

    found = {}
    for row in TAKES[action].values():
        text = getattr(args, f"field_{row.name}", None)
        if text is not None:
            found[row.name] = _value(row, text)
    return found | _position(args, found)


def _position(args: argparse.Namespace, found: dict[str, Any]) -> dict[str, str]:
    """The place in its class, which --front and --back say as well as --position."""
    ends = {f"--{end}": end for end in ("front", "back") if getattr(args, end, False)}
    if "position" in found:
        ends[f"--position {found['position']}"] = found["position"]
    if len(set(ends.values())) > 1:
        usage(args, f"{' and '.join(ends)} do not go together")
    return {"position": ends.popitem()[1]} if ends else {}


def pairs(words: list[str], what: str) -> dict[str, Any]:
    """key=value words as an object: a value that is JSON is that, any other is text. Raises Invalid."""
    from spool.errors import Invalid

    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise Invalid(what, word, "must be key=value")
        if key in found:
            raise Invalid(what, key, "must be given once, not twice")
        found[key] = json_or_text(text, key)
    return found


def json_or_text(text: str, name: str) -> Any:
    """What a text says as JSON, else the text; a number JSON cannot carry exactly stays text.

    Invalid where it is an object or a list that an action would not take; `name`: what it is of.
    """
    import orjson

    from spool.strict import decode_value

    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    if isinstance(found, float) and not set(text) & set(".eE"):
        return text  # an integer beyond 64 bits
    return decode_value(text, name) if isinstance(found, dict | list) else found


_METAVARS = {
    "time": "TIME",
    "ahead": "TIME",
    "duration": "DURATION",
    "count": "N",
    "id": "ID",
    "zone": "ZONE",
    "backoff": "DURATION|JSON",
    "version": "VERSION",
    "name": "NAME",
    "notify": "PARENT",
    "trace": "TRACEPARENT",
    "meta": "KEY=VALUE|JSON",
    "after": "ID",
    "scope": "PATTERN",
}


def _value(row: Field, text: Any) -> Any:
    match row.kind:
        case "time" | "ahead" | "duration" | "count" | "version":
            return number(text, whole=row.kind == "version")
        case "backoff":
            return json_or_text(text, row.name) if text[:1] == "{" else number(text)
        case "meta":
            return _meta(text)
        case _:
            return text


def number(text: str, *, whole: bool = False) -> Any:
    """A number where it is one; any other text stays, and the rule of the field decides."""
    if text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 18:
        return int(text)
    if not whole and text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    return text


def _meta(texts: list[str]) -> dict[str, Any]:
    from spool.errors import Invalid

    found: dict[str, Any] = {}
    for text in texts:
        value = json_or_text(text, "meta") if text[:1] == "{" else None
        more = value if isinstance(value, dict) else pairs([text], "meta")
        if twice := found.keys() & more.keys():
            raise Invalid("meta", min(twice), "must be given once, not twice")
        found |= more
    return found
