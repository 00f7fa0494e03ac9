"""What can go wrong, one class for each thing a caller can do about it."""

from __future__ import annotations

EX_USAGE = 64
EX_DATAERR = 65
EX_NOINPUT = 66
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_CANTCREAT = 73
EX_IOERR = 74
EX_TEMPFAIL = 75
EX_NOPERM = 77
EX_CONFIG = 78
NO_CWD = "the current directory has been removed: cd to one that is there"


class SpoolError(Exception):
    """Base of every error this package raises on purpose; `exit_code` is a sysexits(3) number."""

    exit_code = EX_SOFTWARE


class Invalid(SpoolError):
    """Input that breaks a rule: change the input. Fields: field, value, rule, near."""

    exit_code = EX_DATAERR

    def __init__(self, field: str, value: object, rule: str, near: str | None = None) -> None:
        super().__init__(field, value, rule, near)
        self.field = field
        self.value = value
        self.rule = rule
        self.near = near

    def __str__(self) -> str:
        shown = "" if self.value is None else f" {_short(self.value)}"
        hint = f"; did you mean {self.near!r}?" if self.near else ""
        return f"{self.field}{shown}: {self.rule}{hint}"


class Damaged(Invalid):
    """A file of the spool is not what its place says: `spool fsck --repair`. Fields: path, rule."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, None, why)
        self.path = path


class ConfigError(SpoolError):
    """spool.toml breaks a rule: mend the file. Fields: path, key, value, rule, near."""

    exit_code = EX_CONFIG

    def __init__(self, path: str, key: str, value: object, rule: str, near: str | None = None) -> None:
        super().__init__(path, key, value, rule, near)
        self.path = path
        self.key = key
        self.value = value
        self.rule = rule
        self.near = near

    def __str__(self) -> str:
        shown = "" if self.value is None else f" = {_short(self.value)}"
        where = f"{self.key}{shown}: " if self.key else ""
        hint = f"; did you mean {self.near!r}?" if self.near else ""
        return f"{self.path}: {where}{self.rule}{hint}"


class NotASpool(SpoolError):
    """The directory is no spool (or of a newer format): make one, or name another. Fields: path, why."""

    exit_code = EX_NOINPUT

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return f"{self.path} {self.why}"


class NotMade(NotASpool):
    """No spool can be made there: choose another place. Fields: path, why."""

    exit_code = EX_CANTCREAT

    def __str__(self) -> str:
        return f"cannot make a spool at {self.path}: {self.why}"


class NoSuchTask(SpoolError):
    """No task has this id: check the id. Fields: id."""

    exit_code = EX_NOINPUT

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.id = task_id

    def __str__(self) -> str:
        return f"no task has the id {_short(self.id)}; `spool ls --all` lists what there is"


class Past(NoSuchTask):
    """A task has ended, and can be shown no more. Fields: id, rule (why, and what there is to do)."""

    def __init__(self, task_id: str, rule: str) -> None:
        super().__init__(task_id)
        self.rule = rule

    def __str__(self) -> str:
        return f"{self.id} {self.rule}"


class PutAside(NoSuchTask):
    """A task, or how it ended, was damaged, and is in corrupt/ with the reason. Fields: id, path."""

    def __init__(self, task_id: str, path: str) -> None:
        super().__init__(task_id)
        self.path = path

    @property
    def rule(self) -> str:
        """What is said of it behind its id."""
        return f"was damaged: see {self.path}, and the reason beside it"

    def __str__(self) -> str:
        return f"{_short(self.id)} {self.rule}"


class Unrecorded(NoSuchTask):
    """A task has ended, and the record of how is damaged or gone.

    Fields: id, path (its entry; None where it is packed).
    """

    def __init__(self, task_id: str, path: str | None) -> None:
        super().__init__(task_id)
        self.path = path

    def __str__(self) -> str:
        if self.path is None:
            return f"{_short(self.id)} has ended and is packed, and the record of how was damaged or gone"
        why = "the record of how is damaged or gone (spool fsck --repair)"
        return f"{_short(self.id)} has ended, see {self.path}: {why}"


class Refused(SpoolError):
    """spoold looked at an action and refused it.

    Fields: id, reason (the text of the refusal), each (task id -> why, of an action on tasks).
    """

    exit_code = EX_DATAERR

    def __init__(self, task_id: str, reason: str, each: dict[str, str] | None = None) -> None:
        super().__init__(task_id, reason, each)
        self.id = task_id
        self.reason = reason
        self.each = each or {}

    def __str__(self) -> str:
        return f"{self.id} was refused: {self.reason}"


class Full(SpoolError):
    """The disk has no room (or no inode) for it; its text says what was submitted: try again later."""

    exit_code = EX_TEMPFAIL


class Busy(SpoolError):
    """Another daemon serves this spool under this node name. Fields: path, node, pid (0: not known)."""

    exit_code = EX_TEMPFAIL

    def __init__(self, path: str, node: str, pid: int = 0) -> None:
        super().__init__(path, node, pid)
        self.path = path
        self.node = node
        self.pid = pid

    def __str__(self) -> str:
        who = f" (pid {self.pid})" if self.pid else ""
        return (
            f"{self.path}: a spoold already runs as node {self.node!r}{who}; stop it, or start this one"
            " with another --node"
        )


class Elsewhere(SpoolError):
    """Another directory has the path of a spool that is served, or none. Fields: path."""

    exit_code = EX_TEMPFAIL

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} was renamed, removed or mounted over: start spoold again where the spool is"


class NotServed(SpoolError):
    """No daemon serves the spool as this node: start one. Fields: path, node."""

    exit_code = EX_UNAVAILABLE

    def __init__(self, path: str, node: str) -> None:
        super().__init__(path, node)
        self.path = path
        self.node = node

    def __str__(self) -> str:
        return f"{self.path}: no daemon serves it as node {self.node!r}; start one"


class NotAllowed(SpoolError):
    """The file system says no: ask whoever owns the spool. The message names path and user."""

    exit_code = EX_NOPERM


class NotListening(SpoolError):
    """Nothing can listen at an address: choose another one."""

    exit_code = EX_UNAVAILABLE


def unlistened(given: str, problem: OSError) -> SpoolError:
    """Why nothing listens at the address that was given."""
    kind = NotAllowed if isinstance(problem, PermissionError) else NotListening
    return kind(f"--listen {given}: {problem.strerror or problem}; choose another one")


class Unprinted(SpoolError):
    """It is done, and could not be printed: do it no second time. Fields: done, why."""

    exit_code = EX_IOERR

    def __init__(self, done: str, why: str) -> None:
        super().__init__(done, why)
        self.done = done
        self.why = why

    def __str__(self) -> str:
        return f"{self.done}, but it could not be printed: {self.why}"


class TimedOut(SpoolError):
    """What was waited for did not happen in the time given."""

    exit_code = EX_TEMPFAIL


def _as_json(value: object) -> str:
    """As it stands in the file; what no JSON can hold as Python shows it."""
    import json  # only a refusal needs it

    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        return repr(value)
    except RecursionError:
        return "..."


def _is_json(text: str) -> bool:
    import orjson  # as above

    try:
        orjson.loads(text)
    except ValueError:
        return False
    return True


def _short(value: object, limit: int = 60) -> str:
    """The value as it was written, bounded and free of control characters.

    Text that would read as another value, such as a number, stands in quotes.
    """
    bare = isinstance(value, str) and not _is_json(value)
    text = str(value) if bare else _as_json(value)
    shown = repr(text[:limit])[1:-1] if bare else text[:limit]
    return f"`{shown}...`" if len(text) > limit else f"`{shown}`"
