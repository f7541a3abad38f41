"""Shell completion: the shells' scripts, and the names and values among the candidates.

A script passes the words up to the cursor, the last one as far as it is typed. It gets one candidate a line, with its
meaning after a tab, and FILES where a file is allowed.
"""

from collections.abc import Iterable, Mapping

from b2d.config import loader
from b2d.config.settings import Settings
from b2d.shell import detect

FILES = ":files"
SHELLS = ("bash", "zsh", "fish")
SOURCES = ("debian", "boot2docker")

BASH = r"""_b2d() {
    local word
    COMPREPLY=()
    while IFS= read -r word; do
        case $word in
        :files) compopt -o default 2>/dev/null ;;
        *=) compopt -o nospace 2>/dev/null; COMPREPLY+=("$word") ;;
        *) COMPREPLY+=("${word%%$'\t'*}") ;;
        esac
    done < <("$1" completion bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _b2d b2d boot2docker
"""
ZSH = r"""(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
_b2d() {
    local line
    local -a plain open
    for line in "${(@f)$("${(Q)words[1]}" completion zsh -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $line in
        '') ;;
        :files) _files ;;
        *=) open+=("$line") ;;
        *) plain+=("${${line//:/\\:}/$'\t'/:}") ;;
        esac
    done
    (( $#plain )) && _describe -t b2d b2d plain
    (( $#open )) && compadd -S '' -a open
}
compdef _b2d b2d boot2docker
"""
FISH = r"""function __b2d_complete
    set -l words (commandline -opc)
    for line in ($words[1] completion fish -- $words[2..-1] (commandline -ct) 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path (commandline -ct)
        else
            printf '%s\n' $line
        end
    end
end
complete -c b2d -f -a '(__b2d_complete)'
complete -c boot2docker -f -a '(__b2d_complete)'
"""
SCRIPTS = dict(zip(SHELLS, (BASH, ZSH, FISH), strict=True))


def machine_names(environ: Mapping[str, str], typed: str) -> list[str]:
    """Return the machines of this home whose names begin with `typed`."""
    from b2d.machine_store.store import MachineStore

    return [name for name in MachineStore(loader.resolve_home(environ)).names() if name.startswith(typed)]


def setting_values(parameter: str, typed: str) -> list[str]:
    """Return the values for a parameter that begin with `typed`."""
    if parameter == "assignments":
        values = _assignments(typed, Settings._fields)
    elif parameter == "changes":
        from b2d.machine.reconfigure import FIELDS

        values = _assignments(typed, FIELDS)
    elif parameter in ("key", "keys"):
        values = list(Settings._fields)
    elif parameter in ("image", "source"):
        values = [*SOURCES, FILES]
    elif parameter == "original":
        values = [FILES]
    elif parameter == "shell":
        values = list(detect.FAMILIES)
    else:
        values = _values_of_setting(parameter)
    return [value for value in values if value.startswith(typed) or value == FILES]


def _assignments(typed: str, keys: Iterable[str]) -> list[str]:
    """Return KEY= for each key; once that is typed, KEY=VALUE for each of its values."""
    key, equals, _ = typed.partition("=")
    return [f"{key}={value}" for value in _values_of_setting(key)] if equals else [f"{key}=" for key in keys]


def _values_of_setting(key: str) -> list[str]:
    if isinstance(getattr(Settings(), key, None), bool):
        return ["yes", "no"]
    return list(SOURCES) if key == "image" else list(loader.CHOICES.get(key, ()))


def join_words(words: list[str]) -> tuple[list[str], str]:
    """Join the words that bash splits at `=`; return them, and the part of the last one that bash does not replace."""
    joined: list[str] = []
    prefix = ""
    for number, word in enumerate(words):
        if number and (word == "=" or words[number - 1] == "="):
            joined[-1] += word
            prefix = joined[-1][: joined[-1].rindex("=") + 1]
        else:
            joined.append(word)
            prefix = ""
    return joined, prefix
