"""What a pass tells of refusals, and that nothing of a pass depends on it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler import tally
from reconciler.bypass import BypassError, Wish, close_vif, open_vif
from reconciler.execute import ApplyError
from reconciler.refusals import owners, publish
from reconciler.violations import Owner
from state.nft import LIST_WHOLE
from state.run import Completed, ReadError, Runner
from tests.model.strategies import desired_of
from tests.model.world import World, make_world

FILES = {
    "hosts/dom0-a/host.yaml": (
        "Host",
        "dom0-a",
        {
            "mode": "enforce",
            "bridges": [{"name": "xenbr0", "uplinks": ["eth0"]}],
            "guard": {"mode": "audit"},
        },
    ),
    "networks/a.yaml": (
        "Network",
        "a",
        {"subnet": "172.16.39.0/24", "gateway": "172.16.39.1", "bridge": "xenbr0"},
    ),
    "hosts/dom0-a/domus/vm01.yaml": (
        "DomU",
        "vm01",
        {
            "type": "pv",
            "memory": "64MiB",
            "boot": {"run": {"kernel": "/srv/xen/vmlinuz"}},
            "vifs": [
                {"name": "vm01", "mac": "00:16:3e:00:53:01", "bridge": "xenbr0", "ips": ["172.16.39.101"]},
                {"mac": "00:16:3e:00:53:02", "bridge": "xenbr0", "ips": ["172.16.39.102"]},
            ],
        },
    ),
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A host on which one audited domU runs, with a vif that has a name and one that has none."""
    made = make_world(tmp_path)
    documents = {
        path: json.dumps({"apiVersion": "domgit/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
        for path, (kind, name, spec) in FILES.items()
    }
    assert made.apply(desired_of(documents)).outcome.failed == ()
    return made


def test_a_pass_tells_monitoring_and_remembers_since_when_what_is_audited(world: World) -> None:
    publish(world.dom0)

    text = world.paths.metrics.read_text(encoding="utf-8")
    assert "domgit_guard_loaded 1\n" in text
    assert 'domgit_guard_vifs{mode="audit"} 2\n' in text
    known = tally.load(world.paths.tally, world.host.toolstack.now_s)
    assert known is not None
    assert known.time == "2030-01-01T00:00:00Z"
    assert known.audited["vm01"] == tally.Since("2030-01-01T00:00:00Z", "00:16:3e:00:53:01", "audit")


def test_what_was_told_a_moment_ago_is_not_told_again_where_nobody_needs_it(world: World) -> None:
    publish(world.dom0)
    world.paths.metrics.unlink()

    publish(world.dom0, unless_within_s=600)
    assert not world.paths.metrics.exists()
    world.host.toolstack.now_s += 601
    publish(world.dom0, unless_within_s=600)
    assert world.paths.metrics.exists()


def test_without_its_table_the_guard_shows_as_not_loaded_and_nothing_is_remembered(world: World) -> None:
    world.dom0.runner.run(["nft", "-f", "-"], stdin="table bridge domgit\ndelete table bridge domgit\n")

    publish(world.dom0)

    assert "domgit_guard_loaded 0\n" in world.paths.metrics.read_text(encoding="utf-8")
    assert not world.paths.tally.exists()


def test_what_cannot_be_told_is_logged_and_the_pass_goes_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.paths.metrics.mkdir(parents=True)

    with caplog.at_level(logging.WARNING):
        publish(world.dom0)

    assert [record.getMessage() for record in caplog.records] == ["refusals not told"]


def test_a_port_without_a_name_of_its_own_is_whose_the_host_says(world: World) -> None:
    (domid,) = [int(each.partition(".")[0].removeprefix("vif")) for each in _unnamed(world)]

    found = owners(world.dom0, [f"vif{domid}.1"])

    assert found == {"vm01": Owner("vm01", 0), f"vif{domid}.1": Owner("vm01", 1)}
    assert owners(world.dom0, ["vm01"]) == {"vm01": Owner("vm01", 0)}


def test_nothing_was_applied_yet_and_nobody_is_known(tmp_path: Path) -> None:
    fresh = make_world(tmp_path)

    assert owners(fresh.dom0, ["vm01"]) == {}


def _unnamed(world: World) -> list[str]:
    listing = world.dom0.runner.run(["nft", "-s", "list", "table", "bridge", "domgit"]).stdout
    return sorted({word.strip('"') for word in listing.split() if word.startswith('"vif')} - {"vif*"})


# ---------------------------------------------------------------- opening a vif


class Busy:
    """A runner whose nft cannot list for a while, as while a pass loads rules."""

    def __init__(self, runner: Runner, times: int) -> None:
        self._runner, self.left = runner, times

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        timeout_s: float = 15.0,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        """See Runner."""
        if tuple(argv) == LIST_WHOLE and self.left:
            self.left -= 1
            return replace(self._runner.run(argv), rc=1, stdout="", stderr="Error: Interrupted system call\n")
        return self._runner.run(argv, stdin=stdin, timeout_s=timeout_s, environment=environment)


class Refusing:
    """A runner whose nft loads nothing, and says so or does not."""

    def __init__(self, runner: Runner, *, silent: bool) -> None:
        self._runner, self._silent = runner, silent

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        timeout_s: float = 15.0,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        """See Runner."""
        if stdin:
            return replace(self._runner.run(LIST_WHOLE), rc=0 if self._silent else 1, stdout="")
        return self._runner.run(argv, timeout_s=timeout_s, environment=environment)


WISH = Wish("vm01", 3600, " ticket 4711 ", "noc@dom0-a")


def test_a_vif_is_opened_also_while_a_pass_loads_rules(world: World) -> None:
    host = world.dom0
    host.runner = Busy(host.runner, 3)

    until = open_vif(host, WISH)

    assert until == "2030-01-01T01:00:00Z"
    (record,) = [each for each in host.journal().records() if each["type"] == "bypass"]
    assert (record["until"], record["reason"], record["by"]) == (until, "ticket 4711", "noc@dom0-a")
    listed = host.runner.run(["nft", "-s", "list", "table", "bridge", "domgit"]).stdout
    assert '"vm01" . 00:16:3e:00:53:01 timeout 3600s comment "until 2030-01-01T01:00:00Z"' in listed


def test_a_vif_is_closed_before_its_time_and_only_once(world: World) -> None:
    host = world.dom0
    open_vif(host, WISH)
    later = open_vif(host, replace(WISH, seconds=60))

    close_vif(host, "vm01", "root@dom0-a")

    assert later == "2030-01-01T00:01:00Z"
    with pytest.raises(BypassError, match="'vm01' is not bypassed"):
        close_vif(host, "vm01", "root@dom0-a")
    records = [each for each in host.journal().records() if each["type"] == "bypass"]
    assert [each["what"] for each in records] == ["open", "open", "end"]
    assert records[-1]["by"] == "root@dom0-a"


@pytest.mark.parametrize("wish", [WISH, None])
def test_what_nft_refuses_is_said_and_what_cannot_be_read_back_too(world: World, wish: Wish | None) -> None:
    host = world.dom0
    open_vif(host, WISH)
    for silent in (False, True):
        host.runner = Refusing(world.dom0.runner, silent=silent)
        with pytest.raises(ApplyError):
            close_vif(host, "vm01", "root") if wish is None else open_vif(host, replace(wish, seconds=60))


def test_a_vif_is_not_opened_while_nft_cannot_say_what_there_is(world: World) -> None:
    host = world.dom0
    host.runner = Busy(host.runner, 99)

    with pytest.raises(ReadError):
        open_vif(host, WISH)

    assert [each for each in host.journal().records() if each["type"] == "bypass"] == []
