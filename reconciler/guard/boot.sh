#!/bin/sh
# Loads the guard as it was last applied, whole, before there is a network: no Python, no git, no domgit.
#
#     boot.sh [FILE]
#
# domgit writes this program and the file beside it, each whole, when it has changed the guard. A file that is damaged is
# not loaded, not even in part; what nft refuses, neither. Without the guard vif-domgit lets no guest start, and that is
# what the exit status and the log say.
set -uf # the words of a command are split at blanks, and stand for nothing else
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 077
file=${1:-${0%/*}/boot.nft}
# Through a pipe, a tool would load the first half of what a writer gives it that was killed meanwhile.
copy=$file.loading

fail() {
    rm -f -- "$copy" "$copy.part"
    echo "domgit: the guard is not loaded, and no guest of ours starts: $1" >&2
    logger -t domgit -p daemon.crit -- "the guard is not loaded, and no guest of ours starts: $1" 2>/dev/null
    exit 1
}

commands() { # what stands between two marks goes to the command of the first; see reconciler/guard/runnable.py
    echo '# end' >>"$copy"
    grep -a -n -e '^# run ' -e '^# try ' -e '^# end$' -- "$copy" | {
        begun= first=0
        while IFS=: read -r line mark; do
            case $begun in '# '*)
                : >"$copy.part"
                [ "$((line - first))" -lt 2 ] || sed -n "$((first + 1)),$((line - 1))p" -- "$copy" >"$copy.part" || exit 1
                ${begun#'# '????} <"$copy.part" || case $begun in '# run '*) exit 1 ;; esac
                ;;
            esac
            begun=$mark first=$line
        done
    }
}

read -r hash name kind version sum facts 2>/dev/null <"$file" || fail "there is no $file"
[ "$hash $name $kind $version" = '# domgit guard 3' ] || fail "$file is not of this version"
[ "$(tail -n 1 -- "$file")" = '# end' ] || fail "$file was cut short"
sed '1d;$d' -- "$file" >"$copy" || fail "cannot write $copy"
[ "$({ printf '%s\n' "$facts"; cat <"$copy"; } | sha256sum)" = "$sum  -" ] || fail "$file is not as it was written"
boot=${facts%% *} by=${facts##* }
read -r now </proc/sys/kernel/random/boot_id
every=
if [ "$boot" = "boot=$now" ]; then
    every=$(sed '1,/^# of this boot alone$/d' -- "$copy" | head -n 1)
else
    # What stands behind that line is called after a domid, and that is somebody else's by now.
    sed -n '/^# of this boot alone$/q;p' -- "$file" | sed 1d >"$copy" || fail "cannot write $copy"
fi
case $by in
    by=nftables)
        [ "$(head -n 1 -- "$copy")" = 'table bridge domgit' ] || fail "cannot write $copy"
        answer=$(nft -f "$copy" 2>&1) || fail "nft: $answer"
        ;;
    by=iptables-*)
        if [ -n "$every" ]; then
            sed '1,/^# of this boot alone$/d' -- "$file" | sed '$d' >"$copy" || fail "cannot write $copy"
        fi
        answer=$(commands 2>&1) || fail "$answer"
        ;;
    *) fail "$file is not of this version" ;;
esac
rm -f -- "$copy" "$copy.part"
logger -t domgit -p daemon.info -- "the guard is loaded as it was last applied" 2>/dev/null
exit 0
