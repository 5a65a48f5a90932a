"""xl.cfg: what the real `xl create -n` reads in the file that we write is what the specification meant, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from reconciler.diff_config import saved_fields, secret_mode, wanted_fields
from reconciler.execute import HostDisk
from reconciler.render_xl import config_path, render_xl, vif_arguments
from reconciler.secret import known, masked, recognised, revealed
from state.desired import DomU, Vnc
from state.run import ReadError
from state.xl import parse_list_long
from tests.round_trips.accepted import SEED, SPECS, Accepted, alive, fleets
from tests.round_trips.dice import Words
from tests.round_trips.dry_run import Answer, bare_configs, dry_run
from tests.round_trips.expected import Json, addresses, expected_config, expected_nic
from tests.round_trips.scalars import Scalars
from tests.unit.worlds import desired

SLICES = 8
# A vif with more addresses than xenstore can tell is told of those that fit: into 2 KiB, the last of 43 characters.
FULL = 2048 - 43 - 1
pytestmark = [pytest.mark.dom0, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("part", range(SLICES))
def test_xl_reads_what_was_meant_and_nothing_else(tmp_path: Path, part: int) -> None:
    bare = bare_configs(tmp_path / "bare")
    seen = 0
    for number, found in enumerate(fleets(part, specs=SPECS // SLICES)):
        folder = tmp_path / str(number)
        domus = alive(found)
        passwords = write_all(found, domus, folder / "secrets")
        answers = dry_run([config_path(name) for name in domus], folder / "xl")
        for domu, answer in zip(domus.values(), answers, strict=True):
            problem = judge(found, domu, answer, bare, passwords.get(domu.name))
            assert not problem, found.told(domu, f"{problem}\n{render_xl(domu)}")
        seen += len(domus)
        shutil.rmtree(folder)
        for name in domus:
            Path(config_path(name)).unlink()

    assert seen >= SPECS // SLICES


def test_a_vif_is_plugged_live_as_it_is_started() -> None:
    seen = 0
    for found in fleets(SLICES, specs=200):
        for domu in alive(found).values():
            for vif, words in zip(domu.vifs, found.words(domu).get("vifs", ()), strict=True):
                argv = ("xl", "-N", "network-attach", "0", f"devid={vif.index}", *vif_arguments(vif))
                done = subprocess.run(argv, capture_output=True, text=True, check=False)
                assert done.returncode == 0, found.told(domu, done)
                assert not done.stderr, found.told(domu, done)
                nic = json.loads(done.stdout.removeprefix("vif: "))
                assert not untold(nic, words), found.told(domu, nic)
                assert nic == expected_nic(vif.index, words), found.told(domu, nic)
                seen += 1

    assert seen > 200


def test_a_password_of_any_bytes_is_refused_or_is_the_guests_password(tmp_path: Path) -> None:
    draw, secrets = Scalars(SEED), tmp_path / "secrets"
    secrets.mkdir()
    secret = secrets / "a-secret"
    secret.touch(mode=0o600)
    written: dict[str, str] = {}
    refused = 0
    for number in range(600):
        data = any_password(draw)
        secret.write_bytes(data)
        vnc = Vnc("127.0.0.1", 5, secret.name)
        found = replace(desired({"vm01": {}}).domus[0], vnc=vnc, type="pv" if number % 2 else "hvm")
        try:
            text = revealed(render_xl(found), secrets)
        except ReadError as exc:
            assert data.decode("latin-1").strip() not in {*str(exc).split()}  # noqa: PT017  # that it is not told
            refused += 1
            continue
        path = tmp_path / f"{number}.cfg"
        path.write_text(text)
        written[str(path)] = data.decode().strip()
    for answer, password in zip(dry_run([*written], tmp_path / "xl"), written.values(), strict=True):
        assert (answer.rc, answer.stderr) == (0, ""), password
        assert answer.config is not None
        vnc_of = answer.config["b_info"].get("type.hvm") or answer.config["vfbs"][0]
        assert vnc_of["vnc"].pop("passwd") == password
        assert vnc_of["vnc"] == {"enable": "True", "listen": "127.0.0.1", "display": 5, "findunused": "False"}

    assert refused > 100
    assert len(written) > 100


def any_password(draw: Scalars) -> bytes:
    """Mostly one that is fine, but for a byte."""
    data = draw.secret().encode()
    if draw.chance(0.6):
        place = draw.dice.randint(0, len(data))
        data = data[:place] + bytes([draw.dice.getrandbits(8)]) + data[place:]
    return data + draw.dice.choice((b"", b"\n", b"\n\n", b" "))


def write_all(found: Accepted, domus: Mapping[str, DomU], secrets: Path) -> Mapping[str, str]:
    """Every configuration written as the daemon writes it, and read back as it reads it; the passwords by domU."""
    secrets.mkdir(parents=True)
    draw = Scalars(found.seed)
    passwords = {}
    for domu in domus.values():
        if domu.vnc is not None and domu.vnc.secret is not None:
            secret = secrets / domu.vnc.secret
            secret.write_text(password_for(domu, draw))
            secret.chmod(0o600)
    for domu in domus.values():
        if domu.vnc is not None and domu.vnc.secret is not None:
            passwords[domu.name] = (secrets / domu.vnc.secret).read_text()
    disk, names = HostDisk(lambda text: revealed(text, secrets)), known(secrets)
    for domu in domus.values():
        path, text = config_path(domu.name), render_xl(domu)
        disk.write(path, text, secret_mode(domu))
        own = None if domu.vnc is None else domu.vnc.secret
        assert masked(Path(path).read_text(), names, own) == text, found.told(
            domu, "is not read back as it was written"
        )
        assert Path(path).stat().st_mode & 0o777 == (0o600 if domu.name in passwords else 0o644)
    return passwords


def password_for(domu: DomU, draw: Scalars) -> str:
    """Any; or the very word that the guest's command line has behind `vncpasswd=`."""
    assert domu.boot is not None
    word = re.search(r"vncpasswd=([A-Za-z0-9._+=@:/-]{1,64})", domu.boot.cmdline)
    return word[1] if word is not None and draw.chance(0.5) else draw.secret()


def judge(
    found: Accepted, domu: DomU, answer: Answer, bare: Mapping[str, Json], password: str | None
) -> object:
    """What differs from what was meant; nothing when nothing does."""
    words = found.words(domu)
    if answer.rc != 0 or answer.stderr or answer.config is None:
        return answer
    config = answer.config
    for nic, vif in zip(config.get("nics", ()), words.get("vifs", ()), strict=True):
        if problem := untold(nic, vif):
            return problem
    meant = expected_config(bare[domu.type], found.metadata(domu), words, password)
    if config != meant:
        return differences(config, meant)
    saved = parse_list_long(json.dumps([{"domid": 7, "config": config}]))[7]
    secret = None if domu.vnc is None else domu.vnc.secret
    names = {password: (secret,)} if password is not None and secret is not None else {}
    return differences(saved_fields(recognised(saved, names)), wanted_fields(domu))


def untold(nic: Json, vif: Words) -> str:
    """What is wrong with what `ip=` tells people of a vif; takes it out of the NIC."""
    text, wanted = nic.pop("ip", ""), addresses(vif)
    told = {ip_network(each) for each in text.split()}
    fine = told == wanted or (told < wanted and len(text) > FULL)
    return "" if fine else f"ip= tells {told ^ wanted} of {vif}"


def differences(is_now: Json, meant: Json) -> Json:
    """What stands in one and not, or otherwise, in the other: (is, meant) by key."""
    found: Json = {}
    for key in sorted(is_now.keys() | meant.keys()):
        one, other = is_now.get(key), meant.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found |= {f"{key}.{inner}": each for inner, each in differences(one, other).items()}
        elif one != other:
            found[key] = (one, other)
    return found
