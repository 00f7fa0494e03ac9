"""`spool completion`: completions for a shell, generated from the verbs' own parsers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from spool import layout
from spool.command.verbs import VERBS

if TYPE_CHECKING:
    import argparse

IDS = "spool ls --all --ids -n 200 2>/dev/null"
TAKES_IDS = (
    "show",
    "why",
    "log",
    "wait",
    "history",
    "cancel",
    "retry",
    "hold",
    "release",
    "move",
    "edit",
    "replay",
)
EPILOG = """
bash:  spool completion bash > ~/.local/share/bash-completion/completions/spool
zsh:   spool completion zsh > ~/.spool-completion; echo '. ~/.spool-completion' >> ~/.zshrc
fish:  spool completion fish > ~/.config/fish/completions/spool.fish
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def run(args: argparse.Namespace) -> int:
    """Print it."""
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[args.shell](), end="")
    return 0


def _options() -> dict[str, list[argparse.Action]]:
    """The options of each verb."""
    from spool.command.parser import verb_parser

    found = {}
    for verb, (module, _, _) in VERBS.items():
        parser = verb_parser(verb)
        import_module(f"spool.command.{module}").options(parser)
        found[verb] = [action for action in parser._actions if action.option_strings]  # noqa: SLF001
    return found


def _long(actions: list[argparse.Action]) -> list[str]:
    return [name for action in actions for name in action.option_strings if name.startswith("--")]


def _bash() -> str:
    cases = "".join(f"    {v}) opts='{' '.join(_long(a))}' ;;\n" for v, a in _options().items())
    return f"""\
_spool() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} verb= opts= word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${{COMP_WORDS[i]}}
    if [ "$word" = --spool ]; then i=$((i + 1)); continue; fi
    case $word in -*) ;; *) verb=$word; break ;; esac
  done
  if [ "${{COMP_WORDS[COMP_CWORD-1]}}" = --spool ]; then
    COMPREPLY=($(compgen -d -- "$cur")); return
  fi
  case $verb in
    '') COMPREPLY=($(compgen -W '{" ".join(VERBS)} --spool --help --version' -- "$cur")); return ;;
{cases}  esac
  case $cur in -*) COMPREPLY=($(compgen -W "$opts" -- "$cur")); return ;; esac
  case $verb in
    {"|".join(TAKES_IDS)}) COMPREPLY=($(compgen -W "$({IDS})" -- "$cur")) ;;
    ls) COMPREPLY=($(compgen -W '{" ".join(layout.STATES)}' -- "$cur")) ;;
    completion) COMPREPLY=($(compgen -W 'bash zsh fish' -- "$cur")) ;;
    init) COMPREPLY=($(compgen -d -- "$cur")) ;;
  esac
}}
complete -o default -F _spool spool
"""


def _zsh() -> str:
    return f"autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n{_bash()}"


def _fish() -> str:
    lines = ["complete -c spool -f", "complete -c spool -l spool -r -a '(__fish_complete_directories)'"]
    for verb, (_, _, text) in VERBS.items():
        lines.append(f"complete -c spool -n __fish_use_subcommand -a {verb} -d {_quoted(text)}")
    for verb, actions in _options().items():
        seen = f"-n '__fish_seen_subcommand_from {verb}'"
        for action in actions:
            said = _quoted((action.help or "").replace("%%", "%"))
            value = " -r" if action.nargs != 0 else ""
            lines += [
                f"complete -c spool {seen} -l {name[2:]}{value} -d {said}"
                for name in action.option_strings
                if name.startswith("--")
            ]
    lines.append(f"complete -c spool -n '__fish_seen_subcommand_from {' '.join(TAKES_IDS)}' -a '({IDS})'")
    lines.append(f"complete -c spool -n '__fish_seen_subcommand_from ls' -a '{' '.join(layout.STATES)}'")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
