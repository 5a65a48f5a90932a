"""Killed anywhere, run for long, walked at random: the host always gets there and rests."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.dom0.toolstack import domids, run, wait_until, xl
from tests.end_to_end.provider import Provider, booted, mac, vif

pytestmark = [pytest.mark.dom0, pytest.mark.long]
KILLS = 20
WALKS = 30
SEED = int(os.environ.get("DOMGIT_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)


def test_an_apply_killed_anywhere_is_finished_by_the_next(provider: Provider) -> None:
    dice = random.Random(SEED)  # noqa: S311  # reproducible, not secret
    print("DOMGIT_SEED", SEED)
    for kill in range(KILLS):
        provider.domu(
            "vm01", 1, memory=f"{100 + kill}MiB", vifs=[vif("vm01", 1, ips=[f"172.16.39.{100 + kill}"])]
        )
        provider.domu(
            "vm02",
            2,
            state="running" if kill % 2 else "halted",
            vifs=[vif("vm02", 2, ips=[f"172.16.39.{150 + kill}"])],
        )
        provider.commit()
        process = subprocess.Popen(
            provider.argv("apply", "--yes"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        with suppress(subprocess.TimeoutExpired):
            process.wait(dice.uniform(0.5, 2.5))  # the moment of the kill is the test's own randomness
        process.send_signal(signal.SIGKILL)
        process.wait()

    provider.settled()

    assert provider.domgit("drift").code == 0
    assert provider.domgit("history").code == 0


def test_the_daemon_follows_commits_and_leaves_guests_alone_when_it_ends(provider: Provider) -> None:
    provider.domu("vm01", 1)
    provider.commit()
    daemon = subprocess.Popen(
        provider.argv("run"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: "vm01" in domids(), "the first commit")
        provider.domu("vm02", 2)
        provider.commit()
        wait_until(lambda: "vm02" in domids(), "the second commit, on its own event")
    finally:
        daemon.terminate()
        log = daemon.communicate(timeout=30)[1]

    assert daemon.returncode == 0
    assert "because=start" in log
    assert set(domids()) == {"vm01", "vm02"}
    guest = booted("vm01")
    guest.reboot()  # its monitor has outlived the daemon
    guest.wait_booted()
    assert guest.ping("172.16.39.1")


def released(output: str) -> None:
    """Wait for the disks that an apply left alone: a backend closes a moment after its domain has gone."""
    images = re.findall(r"its disk is in use: (\S+) by /dev/loop", output)
    wait_until(
        lambda: not any(run("losetup", "--associated", image).stdout for image in images),
        "the disks' backends",
    )


def test_random_walks_over_specifications_and_mishaps_always_come_to_rest(provider: Provider) -> None:
    dice = random.Random(SEED)  # noqa: S311  # reproducible, not secret
    print("DOMGIT_SEED", SEED)
    provider.host(extra="limits: {absent: 9, detach: 100%}")
    mishaps: list[Callable[[], object]] = [
        lambda: run("nft", "flush", "ruleset"),
        lambda: run("nft", "delete", "table", "bridge", "domgit"),
        lambda: [xl("destroy", name) for name in list(domids())[:1]],
        lambda: [xl("mem-set", str(domid), "96") for domid in domids().values()],
        lambda: [
            run("bridge", "link", "set", "dev", name, "learning", "on", "locked", "off") for name in domids()
        ],
        lambda: None,
    ]
    for _ in range(WALKS):
        for number in (1, 2, 3):
            name = f"vm0{number}"
            interface = vif(name, number, ips=[f"172.16.39.{100 + 3 * dice.randrange(3) + number}"])
            if dice.random() < 0.2:
                interface["mac"] = mac(60 + number)
            if dice.random() < 0.3:
                interface["rate"] = dice.choice(["1Mb/s", "10Mb/s"])
            vifs = [interface] if dice.random() < 0.8 else []
            state = dice.choices(["running", "halted", "absent"], [8, 2, 1])[0]
            provider.domu(
                name,
                number,
                state=state,
                memory=f"{dice.randrange(96, 200)}MiB",
                vifs=vifs,
                disks=[
                    {"vdev": "xvda", "path": f"/srv/xen/images/{name}.img", "size": "8MiB", "adopt": True}
                ],
            )
        dice.choice(mishaps)()
        done = provider.apply("--disruption", "reboot")
        if "its disk is in use" in done.out:
            released(done.out)
            done = provider.apply("--disruption", "reboot")
        assert done.code == 0, (SEED, done.out, done.err)
    again = provider.domgit("plan", "--detailed-exitcode")

    assert again.last.startswith(("No changes", "Plan: 0 to add, 0 to change, 0 to remove")), (
        SEED,
        again.out,
    )
    assert "0 blocked" in again.last or again.code == 0
