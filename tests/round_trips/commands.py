"""What each command of a plan may look like, word by word: an oracle that knows the tools' syntax and nothing of how plans are made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.step import Run, Step, StopDomain, WriteFile, commands

_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_DOMID, _INDEX, _COUNT = r"[1-9][0-9]{0,4}", r"[0-9]{1,3}", r"[1-9][0-9]*"
_NAME = r"[A-Za-z][A-Za-z0-9._-]{0,62}"
_MAC = r"[0-9a-f]{2}(:[0-9a-f]{2}){5}"
_PORT = r"(?!\.{1,2}\Z)[A-Za-z0-9_.][A-Za-z0-9_.-]{0,14}"
_V4, _V6 = r"[0-9]{1,3}(\.[0-9]{1,3}){3}(/[0-9]{1,2})?", r"[0-9a-f:]{2,39}(/[0-9]{1,3})?"
_ADDRESS = rf"({_V4}|{_V6})"
_CONFIG = rf"/etc/xen/{_NAME}\.cfg"
_TEMPLATE = rf"/var/lib/domgit/vifs/{_UUID}\.{_INDEX}\.nft"
_PATH = r"(/[A-Za-z0-9._:@+-]+)+"
_RATE_NODE = rf"/local/domain/0/backend/vif/{_DOMID}/{_INDEX}/rate"
_VIF = (
    rf"mac={_MAC}",
    rf"bridge={_PORT}",
    rf"(vifname={_PORT})?",
    "script=vif-domgit",
    rf"(ip={_ADDRESS}( {_ADDRESS})*)?",
    r"(rate=[1-9][0-9]{0,8}[KMG]?[Bb]/s(@[1-9][0-9]{0,6}(us|ms|s))?)?",
)
_MARK = ("ip", "link", "set", "dev", _PORT, "group")
# A word that may be left out matches "", too.
FORMS: tuple[tuple[str, ...], ...] = (
    ("xl", "create", "-q", "-f", _CONFIG),
    ("xl", "destroy", _DOMID),
    ("xl", "shutdown", rf"({_DOMID}|None)"),
    ("xl", "config-update", _DOMID, _CONFIG),
    ("xl", "rename", _DOMID, _NAME),
    ("xl", "mem-set", _DOMID, _COUNT),
    ("xl", "vcpu-set", "-i", _DOMID, _COUNT),
    ("xl", "network-detach", _DOMID, _INDEX),
    ("xl", "network-attach", _DOMID, rf"devid={_INDEX}", *_VIF),
    ("xenstore-rm", _RATE_NODE),
    ("xenstore-write", _RATE_NODE, rf"{_COUNT},{_COUNT}"),
    ("nft", "-f", "-"),
    ("bridge", "fdb", "replace", _MAC, "dev", _PORT, "master", "static", "sticky"),
    ("bridge", "fdb", "del", _MAC, "dev", _PORT, "master"),
    ("bridge", "link", "set", "dev", _PORT, "learning", "(on|off)", "locked", "(on|off)"),
    (*_MARK, "6582125", "type", "bridge_slave", "group_fwd_mask", "16384"),
    (*_MARK, "default", "type", "bridge_slave", "group_fwd_mask", "0"),
    ("ip", "link", "set", "dev", _PORT, "type", "bridge_slave", "fdb_flush"),
    ("ip", "link", "set", "dev", _PORT, "up"),
    ("domgit:after", r"[0-9]+s", "xl", "destroy", rf"({_DOMID}|None)"),
    (
        "domgit:write",
        rf"({_CONFIG}|/etc/xen/scripts/vif-domgit|{_TEMPLATE}|/var/lib/domgit/kept/{_NAME}\.cfg)",
        "0[0-7]{3}",
        "sha256:[0-9a-f]{64}",
    ),
    (
        "domgit:remove",
        rf"({_CONFIG}|{_TEMPLATE}|/etc/xen/scripts/vif-domgit|/var/lib/xen/userdata-d\.{_DOMID}\.{_UUID}\.xl)",
    ),
    ("domgit:create-image", _PATH, _COUNT, "(sparse|allocated)"),
    ("domgit:remember", _UUID, "(owned|released|protect|powered-off|disk|install)", r"[^\n\"]*"),
)
_ELEMENT = {
    "bridges": rf'"{_PORT}"',
    "audited": rf'"{_PORT}"',
    "ports": rf'"{_PORT}"( : (accept|goto from_guest|goto refused_unknown))?',
    "own_mac": rf'"{_PORT}" \. {_MAC}',
    "own_v4": rf'"{_PORT}" \. {_MAC} \. [0-9.]+',
    "own_v6": rf'"{_PORT}" \. {_MAC} \. [0-9a-f:]+',
    "own_net4": rf'"{_PORT}" \. {_MAC} \. ({_V4}(-{_V4})?)',
    "own_net6": rf'"{_PORT}" \. {_MAC} \. ({_V6}(-{_V6})?)',
    "own_target": rf'"{_PORT}" \. 0x[0-9a-f]+',
    "own_target_net": rf'"{_PORT}" \. 0x[0-9a-f]+-0x[0-9a-f]+',
    "own_inner_mac": rf'"{_PORT}" \. 0x[0-9a-f]+',
}
_STATEMENT = re.compile(r"(add|delete) element bridge domgit (?P<name>\w+) \{ (?P<members>.*) \}")


@dataclass(frozen=True, slots=True)
class _Form:
    """One form, its words compiled."""

    words: tuple[re.Pattern[str], ...]

    def takes(self, argv: Sequence[str]) -> bool:
        """Whether every word of a command is what stands in its place, left-out ones aside."""
        given = iter(argv)
        word = next(given, None)
        for pattern in self.words:
            if word is not None and pattern.fullmatch(word):
                word = next(given, None)
            elif not pattern.fullmatch(""):
                return False
        return word is None


_FORMS = tuple(_Form(tuple(re.compile(word, re.ASCII) for word in form)) for form in FORMS)


def wrong_with(step: Step) -> str:
    """Why a step is none of those that a plan may hold; "" for one that is."""
    for argv in commands(step):
        if not any(form.takes(argv) for form in _FORMS):
            return f"no such command: {argv}"
    if isinstance(step, Run) and step.argv[0] == "nft":
        return _wrong_script(step.stdin)
    if isinstance(step, Run) and step.stdin:
        return f"{step.argv} gets an input"
    if isinstance(step, WriteFile) and step.path.endswith(".nft"):
        return _wrong_script(step.text.replace("@PORT@", "port"))
    return (
        "" if not isinstance(step, StopDomain) or re.fullmatch(_UUID, step.uuid) else f"stops {step.uuid!r}"
    )


def _wrong_script(script: str) -> str:
    """What is wrong with the statements that change elements; rules are compared with the kernel's listing elsewhere."""
    for line in script.splitlines():
        if " element " not in line:
            continue
        match = _STATEMENT.fullmatch(line)
        if match is None:
            return f"no such statement: {line[:200]!r}"
        pattern = re.compile(_ELEMENT[match["name"]], re.ASCII)
        for member in match["members"].split(", "):
            if not pattern.fullmatch(member):
                return f"no element of {match['name']}: {member!r}"
    return ""
