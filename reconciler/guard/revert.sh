#!/bin/sh
# The watchdog of one change of the guard: takes the change back unless domgit confirms it in time.
#
#     revert.sh FILE.new DEADLINE         DEADLINE: seconds since boot, as /proc/uptime has them
#
# domgit starts it before it changes anything, and then may be killed at any moment. It needs sh and the tools that load
# rules, nothing of domgit's: the file has the commands and their input, as reconciler/guard/runnable.py writes them. The name of the file says who has it: .new nobody yet, .armed the change may be made and domgit removes the
# file when it is confirmed, .reverting the watchdog has it and a confirmation comes too late, .reverted it is done.
# Each step is one rename, so that exactly one of the two gets it.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C.UTF-8
export PATH LC_ALL
umask 077
exec </dev/null >/dev/null 2>&1
trap '' HUP
file=${1%.new}
deadline=$2

say() {
    logger -t domgit -p "daemon.$1" -- "$2"
}

load() { # what stands between two marks goes to the command of the first
    grep -a -n -e '^# run ' -e '^# try ' -e '^# end$' -- "$1" | {
        begun= first=0
        while IFS=: read -r line mark; do
            case $begun in '# '*)
                # Through a pipe, a tool would load the first half of what a writer gives it that was killed meanwhile.
                : >"$1.part"
                [ "$((line - first))" -lt 2 ] || sed -n "$((first + 1)),$((line - 1))p" -- "$1" >"$1.part" || exit 1
                ${begun#'# '????} <"$1.part" || case $begun in '# run '*) exit 1 ;; esac
                ;;
            esac
            begun=$mark first=$line
        done
    }
    set -- "$1" $?
    rm -f -- "$1.part"
    return "$2"
}

set -f # the words of a command are split at blanks, and stand for nothing else
mv -T -- "$file.new" "$file.armed" || exit 1
while [ -e "$file.armed" ]; do
    read -r up _ </proc/uptime
    if [ "${up%.*}" -lt "$deadline" ]; then
        sleep 0.5
        continue
    fi
    mv -T -- "$file.armed" "$file.reverting" || exit 0
    for _ in 1 2 3 4 5; do
        # A file that was cut short must not run halfway.
        if [ "$(tail -n 1 -- "$file.reverting")" = "# end" ] && load "$file.reverting"; then
            mv -T -- "$file.reverting" "$file.reverted"
            say warning "a change of the guard was not confirmed in time: taken back"
            exit 0
        fi
        sleep 1
    done
    say crit "a change of the guard was not confirmed, and cannot be taken back: see $file.reverting"
    exit 1
done
