#!/bin/sh
# Loads the guard as it was last applied, whole, before there is a network: no Python, no git, no domgit.
#
#     boot.sh [FILE]
#
# domgit writes this program and the file beside it, each whole, when it has changed the guard. A file that is damaged, or
# that nft refuses, is not loaded, not even in part. Without the guard vif-domgit lets no guest start, and that is what
# the exit status and the log say.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 077
file=${1:-${0%/*}/boot.nft}
# Through a pipe, nft would load the first half of a script whose writer was killed meanwhile.
copy=$file.loading

fail() {
    rm -f -- "$copy"
    echo "domgit: the guard is not loaded, and no guest of ours starts: $1" >&2
    logger -t domgit -p daemon.crit -- "the guard is not loaded, and no guest of ours starts: $1" 2>/dev/null
    exit 1
}

read -r hash name kind version sum boot _ 2>/dev/null <"$file" || fail "there is no $file"
[ "$hash $name $kind $version" = '# domgit guard 1' ] || fail "$file is not of this version"
[ "$(tail -n 1 -- "$file")" = '# end' ] || fail "$file was cut short"
sed '1d;$d' -- "$file" >"$copy" || fail "cannot write $copy"
[ "$(sha256sum <"$copy")" = "$sum  -" ] || fail "$file is not as it was written"
read -r now </proc/sys/kernel/random/boot_id
if [ "$boot" != "boot=$now" ]; then
    # What stands behind that line is called after a domid, and that is somebody else's by now.
    sed -n '/^# of this boot alone$/q;p' -- "$file" | sed 1d >"$copy" || fail "cannot write $copy"
    [ "$(head -n 1 -- "$copy")" = 'table bridge domgit' ] || fail "cannot write $copy"
fi
answer=$(nft -f "$copy" 2>&1) || fail "nft: $answer"
rm -f -- "$copy"
logger -t domgit -p daemon.info -- "the guard is loaded as it was last applied" 2>/dev/null
exit 0
