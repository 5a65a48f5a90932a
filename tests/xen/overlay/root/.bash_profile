# `make xen`: the second disk says what there is to try. ssh, by which tests come, has another terminal or none.
[ "$(tty)" != /dev/hvc0 ] || [ ! -e /mnt/domgit/welcome ] || . /mnt/domgit/welcome
