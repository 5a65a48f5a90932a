"""Completion for bash: verbs and options from the parser, names from what this host last applied. No Python runs for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from deb import DEB
from deb.verbs import Verb

_TABLES = "# TABLES\n"


def script(verbs: Iterable[Verb]) -> str:
    """The file for /usr/share/bash-completion/completions."""
    text = (DEB / "completion.bash").read_text(encoding="utf-8")
    return text.replace(_TABLES, "".join(_tables(tuple(verbs))))


def _tables(verbs: tuple[Verb, ...]) -> Iterator[str]:
    yield "_domgit_words() { # what may follow these verbs\n    case $1 in\n"
    tops = " ".join(verb.words[0] for verb in verbs if len(verb.words) == 1)
    yield f"        '') echo '{tops} --help --version' ;;\n"
    for verb in verbs:
        names = [name for option in verb.options for name in option.names]
        yield f"        '{' '.join(verb.words)}') echo '{' '.join((*verb.under, *names, '--help'))}' ;;\n"
    yield "    esac\n}\n\n_domgit_values() { # what may follow this option; a file's name where nothing is said\n    case $1 in\n"
    choices = {
        (name, option.choices)
        for verb in verbs
        for option in verb.options
        for name in option.names
        if option.choices
    }
    for name, values in sorted(choices):
        yield f"        {name}) echo '{' '.join(values)}' ;;\n"
    plain = sorted(
        {
            name
            for verb in verbs
            for option in verb.options
            for name in option.names
            if option.metavar and not option.choices and option.metavar not in {"PATH", "PATH|URL"}
        }
    )
    yield f"        {' | '.join(plain)}) echo ;;\n        *) return 1 ;;\n    esac\n}}\n\n"
    yield "_domgit_takes_value() { # whether this option has a value\n"
    valued = sorted(
        {name for verb in verbs for option in verb.options for name in option.names if option.metavar}
    )
    yield f"    case $1 in {' | '.join(valued)}) ;; *) return 1 ;; esac\n}}\n\n"
    groups = " | ".join(" ".join(verb.words) for verb in verbs if verb.under)
    yield f"_domgit_is_group() {{\n    case $1 in {groups}) ;; *) return 1 ;; esac\n}}\n\n"
    yield "_domgit_names() { # what is named behind these verbs\n    case $1 in\n"
    for kind in ("NAME", "VIF"):
        # Who adds a domU wants a name that nobody has.
        naming = (verb for verb in verbs if kind in verb.arguments and verb.words != ("new",))
        named = [f"'{' '.join(verb.words)}'" for verb in naming]
        yield f"        {' | '.join(named)}) _domgit_applied {kind} ;;\n" if named else ""
    yield "        *) return 1 ;;\n    esac\n}\n"
