"""The arguments of the built-in task `spool.run`: a command line, held to what can be started."""

from __future__ import annotations

from typing import NoReturn

from spool.errors import Invalid
from spool.fields import nearest
from spool.strict import label

RUN = "spool.run"
ALERT = "spool.alert"  # the task that runs the program of [alerts]
RESERVED = "spool."  # how the names of our own tasks begin
MAX_ARGS = 1024
MAX_ARG = 64 * 1024
MAX_TOTAL = 1 << 20
MAX_ENV = 500
MAX_PATH = 4096
_PARTS = ("argv", "cwd", "env")
_NOT_SET = ("LD_", "BASH_FUNC_", "PYTHON", "SPOOL_")


def check_run_args(args: object) -> None:
    """Raise Invalid unless args is {"argv": [...], "cwd"?: "/...", "env"?: {...}} within bounds."""
    if not isinstance(args, dict):
        _refuse("args", args, 'must be an object such as {"argv": ["ls", "-l"]}')
    for part in args:
        if part not in _PARTS:
            raise Invalid("args", part, "is no argument of spool.run", nearest(part, _PARTS))
    if "argv" not in args:
        _refuse("args.argv", None, "is required")
    _check_argv(args["argv"])
    if "cwd" in args:
        check_cwd(args["cwd"], "args.cwd")
    if "env" in args:
        _check_env(args["env"])


def check_cwd(value: object, field: str) -> str:
    """An absolute path without `..`; Invalid where it is not."""
    path = _word(value, field)
    if not path.startswith("/") or ".." in path.split("/") or len(path.encode()) > MAX_PATH:
        _refuse(field, path, "must be an absolute path without .. of at most 4096 bytes")
    return path


def check_env_name(name: object, field: str) -> str:
    """A name an environment variable may have; Invalid where it is not."""
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        _refuse(field, name, "must name each variable by text without = and NUL")
    return name


def check_words(value: object, field: str) -> tuple[str, ...]:
    """A command line: a list of texts, the first not empty; Invalid where it is not."""
    if not isinstance(value, list):
        _refuse(field, value, 'must be a list of texts such as ["ls", "-l"]; no shell reads it')
    if not 1 <= len(value) <= MAX_ARGS or value[0] == "":
        _refuse(field, None, f"must be a program and its arguments, at most {MAX_ARGS} in all")
    return tuple(_word(word, f"{field}[{index}]") for index, word in enumerate(value))


def _check_argv(value: object) -> None:
    words = check_words(value, "args.argv")
    if sum(len(word.encode()) for word in words) > MAX_TOTAL:
        _refuse("args.argv", None, "must be at most 1 MiB in all")


def _check_env(value: object) -> None:
    if not isinstance(value, dict) or len(value) > MAX_ENV:
        _refuse("args.env", None, f"must be an object of at most {MAX_ENV} texts")
    total = 0
    for name, text in value.items():
        check_env_name(name, "args.env")
        if name == "NOTIFY_SOCKET" or name.startswith(_NOT_SET):
            _refuse("args.env", name, "must not set a variable that changes what is run")
        total += len(name.encode()) + len(_word(text, f"args.env.{label(name)}").encode())
    if total > MAX_TOTAL:
        _refuse("args.env", None, "must be at most 1 MiB in all")


def _word(value: object, field: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        _refuse(field, value, "must be text without NUL")
    if len(value.encode(errors="surrogatepass")) > MAX_ARG:
        _refuse(field, value, "must be at most 64 KiB")
    return value


def _refuse(field: str, value: object, rule: str) -> NoReturn:
    raise Invalid(field, value, rule)
