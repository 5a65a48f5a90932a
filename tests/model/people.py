"""What administrators and guests do to the dom0 in memory behind domgit's back, by name.

Each act finds its target by dice among what is there; with nothing to do it to, it does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from reconciler.hotplug import PATH, TEMPLATES
from reconciler.render_xl import render_xl
from state.desired import Desired
from state.files import USERDATA
from tests.model.domain import Domain
from tests.model.host import BRIDGES, Host
from tests.model.strategies import IMAGE_MIB, SLOTS, image, uuid_of_slot
from tests.model.xl_config import DomainConfig, NicConfig, parse_config

STRANGER = "5eed5eed-0000-4000-8000-00000000ffff"
Act = Callable[[Host, Random], None]


def bring_a_stranger(host: Host) -> None:
    """A domain that no specification knows, on the bridge that domgit guards, started by hand long ago."""
    nic = NicConfig("00:16:3e:00:53:ee", ifname="strange0", script="vif-bridge", rate=(1000, 50_000))
    host.files.make_image("/srv/xen/images/stranger.img", 1 << 20)
    config = DomainConfig("stranger", STRANGER, 64, max_memory_mib=64, nics={0: nic})
    host.toolstack.create(config, "/etc/xen/stranger.cfg")


def run_by_hand(host: Host, desired: Desired) -> None:
    """What a dom0 looks like on which somebody has run these domUs for years, with files and scripts of his own."""
    for domu in desired.domus:
        if domu.state != "running":
            continue
        for disk in domu.disks:
            host.files.make_image(disk.path, IMAGE_MIB << 20)
        path, text = f"/etc/xen/{domu.name}.cfg", render_xl(domu).partition("\n")[2]
        host.files.write(
            path, text.replace("script=vif-domgit", "script=vif-bridge").replace("preserve", "destroy"), 0o644
        )
        host.run(["xl", "create", "-q", "-f", path])


def let_all_reboot(host: Host) -> None:
    """Every guest reboots, and is back."""
    for domain in _domains(host):
        host.toolstack.reboot(domain)
    host.toolstack.settle()


def _domains(host: Host) -> list[Domain]:
    return [each for _, each in sorted(host.toolstack.domains.items()) if each.uuid != STRANGER]


def _one(host: Host, dice: Random) -> Domain | None:
    running = [each for each in _domains(host) if each.runs]
    return dice.choice(running) if running else None


def _with_domid(*words: str) -> Act:
    """An xl command on a running domU: DOMID stands for its number."""

    def act(host: Host, dice: Random) -> None:
        domain = _one(host, dice)
        if domain is not None:
            host.run([word.replace("DOMID", str(domain.domid)) for word in words])

    return act


def _with_port(*words: str) -> Act:
    """A command on the port of some vif: PORT and MAC stand for its own."""

    def act(host: Host, dice: Random) -> None:
        nics = [nic for each in _domains(host) for nic in each.nics.values() if nic.interface]
        if nics:
            nic = dice.choice(nics)
            found = {"PORT": str(nic.interface), "MAC": nic.config.mac}
            host.run([found.get(word, word) for word in words])

    return act


def _with_rate(host: Host, dice: Random) -> None:
    domain = _one(host, dice)
    if domain is not None and domain.nics:
        index = dice.choice(sorted(domain.nics))
        path = f"/local/domain/0/backend/vif/{domain.domid}/{index}/rate"
        host.run(["xenstore-write", path, "1000,50000"] if dice.random() < 0.5 else ["xenstore-rm", path])


def _detach(host: Host, dice: Random) -> None:
    domain = _one(host, dice)
    if domain is not None and domain.nics:
        host.run(["xl", "network-detach", str(domain.domid), str(dice.choice(sorted(domain.nics)))])


def _attach(host: Host, dice: Random) -> None:
    domain = _one(host, dice)
    if domain is not None:
        number = dice.randrange(100)
        host.run(
            [
                *("xl", "network-attach", str(domain.domid), f"mac=00:16:3e:00:54:{number:02x}"),
                *(
                    "bridge=xenbr0",
                    f"vifname=extra{number}",
                    f"script={dice.choice(('vif-bridge', 'vif-domgit'))}",
                ),
            ]
        )


def _run(*argv: str) -> Act:
    def act(host: Host, _: Random) -> None:
        host.run(argv)

    return act


def _delete_element(host: Host, dice: Random) -> None:
    sets = host.nftables.tables["domgit"].sets if "domgit" in host.nftables.tables else {}
    found = [(name, key) for name, each in sets.items() for key in each.elements]
    if found:
        name, key = dice.choice(sorted(found))
        host.run(["nft", "delete", "element", "bridge", "domgit", name, f"{{ {key} }}"])


def _add_element(host: Host, dice: Random) -> None:
    keys = sorted(host.nftables.elements("own_mac"))
    if keys:
        address = f"172.16.39.{dice.randrange(20, 30)}"
        host.run(
            ["nft", "add", "element", "bridge", "domgit", "own_v4", f"{{ {dice.choice(keys)} . {address} }}"]
        )


def _configurations(host: Host) -> list[str]:
    return sorted(path for path in host.files.texts if path.startswith("/etc/xen/") and path.endswith(".cfg"))


def _with_file(act: Callable[[Host, str], None], *, prefix: str = "/etc/xen/", suffix: str = ".cfg") -> Act:
    def on_one(host: Host, dice: Random) -> None:
        paths = sorted(path for path in host.files.texts if path.startswith(prefix) and path.endswith(suffix))
        if paths:
            act(host, dice.choice(paths))

    return on_one


def _edit(host: Host, path: str) -> None:
    host.files.texts[path] += "# by hand\n"


def _delete(host: Host, path: str) -> None:
    host.files.remove(path)


def _move_aside(host: Host, path: str) -> None:
    host.files.texts[path.replace("/etc/xen/", "/etc/xen/old-")] = host.files.texts.pop(path)


def _create(host: Host, path: str) -> None:
    # Two domains of one uuid cannot be told apart: that host is not read at all until somebody has ended one.
    if host.toolstack.of_uuid(parse_config(host.files.texts[path]).uuid) is not None:
        return
    host.run(["xl", "create", "-q", "-f", path])


def _kill_create(host: Host, path: str) -> None:
    host.toolstack.create_half(parse_config(host.files.texts[path]))


def _delete_image(host: Host, dice: Random) -> None:
    host.files.images.pop(image(dice.choice(SLOTS), dice.choice("ab")), None)


def _make_image(host: Host, dice: Random) -> None:
    host.files.make_image(image(dice.choice(SLOTS), dice.choice("ab")), 8 << 20)


def _stage_something(host: Host, dice: Random) -> None:
    domain, paths = _one(host, dice), _configurations(host)
    if domain is not None and paths:
        host.files.texts[host.toolstack.staged_path(domain)] = (
            f"{host.files.texts[dice.choice(paths)]}# staged by hand\n"
        )


def _leave_staging(host: Host, dice: Random) -> None:
    host.files.texts[
        f"{USERDATA}/userdata-d.{900 + dice.randrange(9)}.{uuid_of_slot(dice.choice(SLOTS))}.xl"
    ] = "x\n"


def _move_the_gateway(host: Host, dice: Random) -> None:
    """A router among the guests, or the one behind the uplink again."""
    ports = sorted(nic.interface for each in _domains(host) for nic in each.nics.values() if nic.interface)
    bridge = dice.choice(sorted(BRIDGES))
    host.gateways[bridge] = dice.choice([*ports, "strange0", BRIDGES[bridge], BRIDGES[bridge]])


def _kill_monitor(host: Host, dice: Random) -> None:
    domain = _one(host, dice)
    if domain is not None:
        domain.watched = None


def _let_zombies(host: Host, _: Random) -> None:
    host.toolstack.zombies = True


def _guest(act: str) -> Act:
    def by_itself(host: Host, dice: Random) -> None:
        domain = _one(host, dice)
        if domain is not None:
            getattr(host.toolstack, act)(domain)

    return by_itself


def _temper(host: Host, dice: Random) -> None:
    host.toolstack.temper[uuid_of_slot(dice.choice(SLOTS))] = dice.choice(
        ("obeys", "ignores", "reboots", "deaf")
    )


def _bind_by_hand(host: Host, dice: Random) -> None:
    """The rules of the days before domgit: lines for some of the guests, and a last one that drops all else."""
    lines = ["*filter", ":FORWARD ACCEPT [0:0]"]
    for key in sorted(host.nftables.elements("own_v4")):
        port, _, address = (part.strip(' "') for part in key.split(" . "))
        if dice.random() < 0.7:
            lines += [
                f"-A FORWARD -m state --state RELATED,ESTABLISHED -m physdev --physdev-out {port} -j ACCEPT",
                f"-A FORWARD -s {address}/32 -m physdev --physdev-in {port} -j ACCEPT",
                f"-A FORWARD -d {address}/32 -m physdev --physdev-out {port} -j ACCEPT",
            ]
    host.load_firewall("\n".join([*lines, "-A FORWARD -j DROP", "COMMIT", ""]))


def _unbind_by_hand(host: Host, _: Random) -> None:
    host.load_firewall("")


ADMINISTRATORS: Mapping[str, Act] = {
    "destroys a domU": _with_domid("xl", "destroy", "DOMID"),
    "renames a domU": _with_domid("xl", "rename", "DOMID", "renamed"),
    "sets its memory": _with_domid("xl", "mem-set", "DOMID", "80"),
    "sets its vcpus": _with_domid("xl", "vcpu-set", "DOMID", "2"),
    "limits a vif": _with_rate,
    "detaches a vif": _detach,
    "attaches a vif": _attach,
    "takes a port off its bridge": _with_port("ip", "link", "set", "dev", "PORT", "nomaster"),
    "takes a port down": _with_port("ip", "link", "set", "dev", "PORT", "down"),
    "puts a port on another bridge": _with_port("ip", "link", "set", "dev", "PORT", "master", "xenbr1"),
    "unlocks a port": _with_port("bridge", "link", "set", "dev", "PORT", "learning", "on", "locked", "off"),
    "locks a port": _with_port("bridge", "link", "set", "dev", "PORT", "learning", "off", "locked", "on"),
    "forgets a pinned MAC": _with_port("bridge", "fdb", "del", "MAC", "dev", "PORT", "master"),
    "flushes the rules": _run("nft", "flush", "ruleset"),
    "deletes the table": _run("nft", "delete", "table", "bridge", "domgit"),
    "inserts a rule": _run("nft", "insert", "rule", "bridge", "domgit", "from_guest", "accept"),
    "deletes an element": _delete_element,
    "adds an element": _add_element,
    "edits a file": _with_file(_edit),
    "deletes a file": _with_file(_delete),
    "moves a file aside": _with_file(_move_aside),
    "starts a domU": _with_file(_create),
    "kills a start midway": _with_file(_kill_create),
    "edits the script": _with_file(_edit, prefix=PATH, suffix=""),
    "deletes the script": _with_file(_delete, prefix=PATH, suffix=""),
    "deletes a template": _with_file(_delete, prefix=TEMPLATES, suffix=".nft"),
    "deletes an image": _delete_image,
    "makes an image": _make_image,
    "stages something": _stage_something,
    "leaves stale staging": _leave_staging,
    "kills a monitor": _kill_monitor,
    "moves the gateway": _move_the_gateway,
    "has foreign mappings": _let_zombies,
    "binds by hand": _bind_by_hand,
    "binds by hand no more": _unbind_by_hand,
}
GUESTS: Mapping[str, Act] = {
    "reboots": _guest("reboot"),
    "powers off": _guest("power_off"),
    "crashes": _guest("crash"),
    "changes its temper": _temper,
}
ACTS: Mapping[str, Act] = {**ADMINISTRATORS, **GUESTS}
