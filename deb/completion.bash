# bash completion for domgit. Made by the build of the package from the command line's own parser.

# TABLES

_domgit_applied() { # names of domUs, or of their vifs, as last applied here; only root may read that
    local indent='    '
    [[ $1 == NAME ]] || indent='      '
    # The record has one space for each level: 4 deep are domUs, 6 deep what they hold, of which vifs alone have a name.
    sed -n "s/^$indent\"name\": \"\([A-Za-z0-9._-]*\)\",\{0,1\}\$/\1/p" "${DOMGIT_LAST_GOOD:-/var/lib/domgit/last-good.json}" \
        2>/dev/null || true # then nothing is offered, and no file either
}

_domgit() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} verb='' values each
    local -i at
    local arguments=0
    for ((at = 1; at < COMP_CWORD; at++)); do
        each=${COMP_WORDS[at]}
        if [[ $each == -* ]]; then
            ! _domgit_takes_value "$each" || at+=1
        elif [[ -z $verb ]]; then
            verb=$each
        elif _domgit_is_group "$verb"; then
            verb+=" $each"
        else
            arguments=1
        fi
    done
    COMPREPLY=()
    if [[ $before == -* ]] && _domgit_takes_value "$before"; then
        if values=$(_domgit_values "$before"); then
            mapfile -t COMPREPLY < <(compgen -W "$values" -- "$word")
        else
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
        fi
    elif [[ $word == -* || -z $verb ]] || _domgit_is_group "$verb"; then
        mapfile -t COMPREPLY < <(compgen -W "$(_domgit_words "$verb")" -- "$word")
    elif [[ $arguments == 0 ]] && values=$(_domgit_names "$verb"); then
        mapfile -t COMPREPLY < <(compgen -W "$values" -- "$word")
    else
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
}

complete -F _domgit domgit
