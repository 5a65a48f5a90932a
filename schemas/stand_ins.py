"""What stands in for a value that is wrong or missing while the rest of its document is checked. Pure.

By its key; `[]`: for an item of that list. Nothing that follows from a stand-in is told.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.scalars import Plain

STAND_INS: Mapping[str, object] = {
    "name": Plain("x"),
    "mac": Plain("02:00:00:00:00:01"),
    "bridge": Plain("x"),
    "ips[]": Plain("192.0.2.1"),
    "address": Plain("192.0.2.1"),
    "reserved[]": Plain("192.0.2.1"),
    "subnet": Plain("192.0.2.0/24"),
    "vdev": Plain("xvdzz"),
    "path": Plain("/x"),
    "kernel": Plain("/x"),
    "bootloader": Plain("pygrub"),
    "firmware": Plain("pvgrub"),
    "listen": Plain("127.0.0.1"),
    "display": Plain("0"),
    "uplinks[]": Plain("x"),
    "shared[]": Plain("/x"),
    "roots[]": Plain("/x"),
    "kernels[]": Plain("/x"),
    "volumeGroups[]": Plain("x"),
    "cron": Plain("0 0 * * *"),
    "duration": Plain("1h"),
}
