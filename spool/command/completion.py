"""`spool completion`: completions for a shell, made from the verbs' own parsers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from msgspec import Struct, field

from spool import layout
from spool.command import parser as options_of
from spool.command.verbs import VERBS
from spool.journal import EVENTS

if TYPE_CHECKING:
    import argparse

IDS = "ids"
LIVE = "live"  # ids of what has not ended
NAMES = "names"
PARENTS = "parents"
SCHEDULES = "schedules"
DIRS = "dirs"
ASK = {
    IDS: "ls --all --ids -n 200",
    LIVE: "ls --ids -n 200",
    **{what: f"completion {what}" for what in (NAMES, PARENTS, SCHEDULES)},
}
KINDS = {
    "ID": IDS, "TASK": NAMES, "PATTERN": NAMES, "PARENT": PARENTS, "SCHEDULE": SCHEDULES, "DIR": DIRS,
    "STATE": " ".join(layout.STATES), "EVENT": " ".join(EVENTS),
}  # fmt: skip
UNENDED = ("cancel", "hold", "release", "move", "edit")
EPILOG = """
bash:  spool completion bash > ~/.local/share/bash-completion/completions/spool
zsh:   spool completion zsh > ~/.spool-completion; echo '. ~/.spool-completion' >> ~/.zshrc
       or as the file _spool in a directory of $fpath
fish:  spool completion fish > ~/.config/fish/completions/spool.fish

`names` prints the task names that are known here, `parents` and `schedules` these: what the
completions ask for.
"""


class Known(Struct):
    """What may follow a verb.

    `options`: name -> (help, kind of its value: "" where it is not known, None where it takes none);
    `words`: the kind of the other words; `then`: of those behind the first, where that is one of a few.
    """

    options: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    words: str = ""
    then: str | None = None


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.add_argument("shell", choices=("bash", "zsh", "fish", NAMES, PARENTS, SCHEDULES))


def run(args: argparse.Namespace) -> int:
    """Print it."""
    if args.shell in (NAMES, PARENTS, SCHEDULES):
        from spool.scene import known

        print("\n".join(getattr(known, args.shell)(options_of.open_spool(args))))
    else:
        print({"bash": _bash, "zsh": _zsh, "fish": _fish}[args.shell](), end="")
    return 0


def _verbs() -> dict[str, Known]:
    found = {}
    for verb, (module, _, _) in VERBS.items():
        parser = options_of.verb_parser(verb)
        import_module(f"spool.command.{module}").options(parser)
        known = found[verb] = Known()
        for action in parser._actions:  # noqa: SLF001 - argparse tells it nowhere else
            kind = None if action.nargs == 0 else _kind(action)
            for name in action.option_strings:
                known.options[name] = ((action.help or "").replace("%%", "%"), kind)
            if action.option_strings:
                continue
            if not known.words:
                known.words = LIVE if kind == IDS and verb in UNENDED else kind or ""
            elif " " in known.words:
                known.then = kind
    return found


def _kind(action: argparse.Action) -> str:
    """IDS, NAMES, DIRS, or the words there are; nothing where that is not known."""
    if action.choices:
        return " ".join(map(str, action.choices))
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    return metavar.replace("|", " ") if metavar.islower() and "|" in metavar else KINDS.get(metavar, "")


def _bash() -> str:
    verbs = _verbs()
    cases = []
    for verb, known in verbs.items():
        long = " ".join(name for name in known.options if name.startswith("--"))
        words = f"words={_quoted(_bash_words(known.words))}"
        if known.then is not None:
            words += f'; [ -z "$first" ] || words={_quoted(_bash_words(known.then))}'
        cases.append(f"    {verb}) opts='{long}' {words} ;;\n")
    values = {
        f"{verb}:{name}": kind
        for verb, known in verbs.items()
        for name, (_, kind) in known.options.items()
        if kind is not None
    }
    by_kind: dict[str, list[str]] = {}
    for key, kind in values.items():
        by_kind.setdefault(kind, []).append(key)
    after = "".join(
        f"    {'|'.join(keys)}) words={_quoted(_bash_words(kind))}; opts= ;;\n"
        for kind, keys in by_kind.items()
    )
    return f"""\
_spool_words() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
  local verb= first= opts= words= at= whole= word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${{COMP_WORDS[i]}}
    case $word in
      --spool)
        if [ "${{COMP_WORDS[i+1]}}" = = ]; then i=$((i + 1)); fi
        i=$((i + 1)); at=${{COMP_WORDS[i]}} ;;
      --spool=*) at=${{word#*=}} ;;
      -*) ;;
      *) if [ -z "$verb" ]; then verb=$word; else first=${{first:-$word}}; fi ;;
    esac
  done
  if [ "$cur" = = ]; then cur=; elif [ "$before" = = ]; then before=${{COMP_WORDS[COMP_CWORD-2]}}; fi
  case $cur in --*=*) before=${{cur%%=*}} whole=${{cur%%=*}}= cur=${{cur#*=}} ;; esac  # zsh cuts no words
  local SPOOL_DIR=${{at:-$SPOOL_DIR}}
  [ -z "$SPOOL_DIR" ] && unset SPOOL_DIR || export SPOOL_DIR
  case $verb in
    '') opts='--spool --help --version' words='{" ".join(verbs)}' ;;
{"".join(cases)}  esac
  case $verb:$before in
    *:--spool) words='{DIRS}' opts= ;;
{after}  esac
  case $cur in -*) COMPREPLY=($(compgen -W "$opts" -- "$cur")); return ;; esac
  case $words in
    '{DIRS}') COMPREPLY=($(compgen -d -- "$cur")) ;;
    '$ '*) COMPREPLY=($(compgen -W "$(${{words#??}} 2>/dev/null)" -- "$cur")) ;;
    *) COMPREPLY=($(compgen -W "$words" -- "$cur")) ;;
  esac
  [ -z "$whole" ] || COMPREPLY=("${{COMPREPLY[@]/#/$whole}}")
}}
complete -o default -F _spool_words spool
"""


def _bash_words(kind: str) -> str:
    """The words, or `$ ` and the command that prints them."""
    return f"$ spool {ASK[kind]}" if kind in ASK else kind


def _zsh() -> str:
    return f"""\
#compdef spool
(( $+functions[compdef] )) || {{ autoload -U compinit && compinit }}
autoload -U +X bashcompinit && bashcompinit
{_bash()}
[ "$funcstack[1]" != _spool ] || _bash_complete -o default -F _spool_words
"""


FISH = """\
function __spool_is -d 'whether this is the verb, or there is none; eq: with no word yet, gt: with some'
  set -l words
  set -l skip 1
  for word in (commandline -opc)
    if test $skip = 1
      set skip 0
    else if test "$word" = --spool
      set skip 1
    else if not string match -q -- '-*' $word
      set -a words $word
    end
  end
  test "$words[1]" = "$argv[1]"; or return
  test -z "$argv[2]"; or test (count $words) -$argv[2] 1
end
function __spool_asked -d 'what spool prints, of the spool that is named'
  set -l before
  for word in (commandline -opc)
    if test "$before" = --spool
      set -x SPOOL_DIR $word
    else if string match -q -- '--spool=*' $word
      set -x SPOOL_DIR (string replace -- --spool= '' $word)
    end
    set before $word
  end
  spool $argv 2>/dev/null
end
complete -c spool -f
complete -c spool -n '__spool_is run' -F
complete -c spool -l spool -r -a '(__fish_complete_directories)'
"""


def _fish() -> str:
    lines = []
    for verb, (_, _, text) in VERBS.items():
        lines.append(f"complete -c spool -n __spool_is -a {verb} -d {_quoted(text)}")
    for verb, known in _verbs().items():
        seen = f"-n '__spool_is {verb}'"
        first = seen if known.then is None else f"-n '__spool_is {verb} eq'"
        if known.words:
            lines.append(f"complete -c spool {first} -a {_fish_words(known.words)}")
        if known.then:
            lines.append(f"complete -c spool -n '__spool_is {verb} gt' -a {_fish_words(known.then)}")
        for name, (said, kind) in known.options.items():
            if not name.startswith("--"):
                continue
            value = f" -x -a {_fish_words(kind)}" if kind else "" if kind is None else " -r"
            lines.append(f"complete -c spool {seen} -l {name[2:]}{value} -d {_quoted(said)}")
    return FISH + "\n".join(lines) + "\n"


def _fish_words(kind: str) -> str:
    if kind == DIRS:
        return "'(__fish_complete_directories)'"
    return f"'(__spool_asked {ASK[kind]})'" if kind in ASK else _quoted(kind)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
