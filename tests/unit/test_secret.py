"""Passwords appear in configuration files and nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.diff import make_plan
from reconciler.plan_document import plan_document
from reconciler.plan_text import plan_text
from reconciler.policy import Policy
from reconciler.render_xl import SECRET_PLACEHOLDER, render_xl
from reconciler.secret import ANOTHER, known, masked, recognised, revealed
from state.files import digest
from state.run import ReadError
from state.xl import SavedDomain
from tests.unit.deviations import situation
from tests.unit.worlds import desired, saved

PLACEHOLDER = SECRET_PLACEHOLDER.format("vm01-vnc")


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    path = folder / "vm01-vnc"
    path.write_text("s3cret+/=\n")
    path.chmod(0o600)
    return folder


def rendered() -> str:
    console = {"vnc": {"listen": "127.0.0.1", "display": "5", "passwordSecret": "vm01-vnc"}}
    return render_xl(desired({"vm01": {"console": console}}).domus[0])


def test_a_rendered_configuration_names_the_secret_and_does_not_hold_it() -> None:
    assert f"vncpasswd={PLACEHOLDER}" in rendered()


def test_what_is_revealed_for_the_file_is_masked_when_it_is_read_back(secrets: Path) -> None:
    text = revealed(rendered(), secrets)

    assert "vncpasswd=s3cret+/=" in text
    assert masked(text, known(secrets)) == rendered()


def test_the_password_of_an_hvm_guest_is_a_key_of_its_own_and_comes_and_goes_like_any(secrets: Path) -> None:
    text = f'vncpasswd = "{PLACEHOLDER}"\n'

    assert revealed(text, secrets) == 'vncpasswd = "s3cret+/="\n'
    assert masked(revealed(text, secrets), known(secrets)) == text


def test_a_command_line_may_say_anything_and_is_left_as_it_is(secrets: Path) -> None:
    text = 'cmdline = "vncpasswd=s3cret+/="\n'

    assert masked(text, known(secrets)) == text


def test_a_text_without_a_password_is_left_as_it_is(secrets: Path) -> None:
    text = "memory = 256\nextra = 's3cret+/='\n"

    assert revealed(text, secrets) == text
    assert masked(text, known(secrets)) == text


def test_a_secret_that_is_empty_masks_nothing(secrets: Path) -> None:
    (secrets / "empty").write_text("\n")

    assert masked('vfb = ["vncpasswd=other"]', known(secrets)) == 'vfb = ["vncpasswd=other"]'


def test_of_two_domus_with_one_password_each_has_its_own(secrets: Path) -> None:
    (secrets / "aa-vnc").write_text("s3cret+/=\n")
    text = revealed(rendered(), secrets)

    assert masked(text, known(secrets), "vm01-vnc") == rendered()
    assert masked(text, known(secrets), "aa-vnc") == rendered().replace("vm01-vnc", "aa-vnc")
    assert "s3cret" not in masked(text, known(secrets))


def test_a_secret_that_begins_like_another_is_not_taken_for_it(secrets: Path) -> None:
    (secrets / "longer").write_text("s3cret+/=more")

    assert (
        masked('"vncpasswd=s3cret+/=more"', known(secrets))
        == f'"vncpasswd={SECRET_PLACEHOLDER.format("longer")}"'
    )


@pytest.mark.parametrize(
    "line",
    ['vncpasswd = "hunter2"', "vfb = ['vnc=1,vncpasswd=hunter2,vncdisplay=3']", "spicepasswd='hunter2'"],
)
def test_a_password_that_somebody_wrote_by_hand_is_in_no_plan(line: str) -> None:
    words = {"git": {"vm01": {}}, "live": {"files": {"/etc/xen/vm01.cfg": f"memory = 1\n{line}\n"}}}

    document = plan_document(make_plan(situation(words), Policy()), timestamp="")

    assert "hunter2" not in json.dumps(document)
    assert "(hidden)" in plan_text(document)


def test_without_a_folder_of_secrets_nothing_is_known(tmp_path: Path) -> None:
    assert masked('vfb = ["vncpasswd=x"]', known(tmp_path / "none")) == 'vfb = ["vncpasswd=x"]'


def test_a_secret_that_is_missing_stops_the_write(secrets: Path) -> None:
    (secrets / "vm01-vnc").unlink()

    with pytest.raises(ReadError, match="vm01-vnc: No such file"):
        revealed(rendered(), secrets)


def test_what_lies_among_the_secrets_and_is_none_is_a_read_error(secrets: Path) -> None:
    (secrets / "vm01-vnc").write_bytes(b"\xff")
    for ask in (lambda: revealed(rendered(), secrets), lambda: known(secrets)):
        with pytest.raises(ReadError, match="vm01-vnc: no text"):
            ask()
    (secrets / "a-folder").mkdir()
    with pytest.raises(ReadError, match="a-folder: Is a directory"):
        known(secrets)


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_secret_that_others_can_read_is_refused(secrets: Path, mode: int) -> None:
    (secrets / "vm01-vnc").chmod(mode)

    with pytest.raises(ReadError, match="others can read it"):
        revealed(rendered(), secrets)


@pytest.mark.parametrize("value", ["", "a,b", 'a"b', "a b", "a\nb", "x" * 65])
def test_a_secret_that_would_break_out_of_its_place_is_refused_without_being_told(
    secrets: Path, value: str
) -> None:
    (secrets / "vm01-vnc").write_text(value)

    with pytest.raises(ReadError, match="no secret that an xl configuration can hold") as refused:
        revealed(rendered(), secrets)

    assert value == "" or value not in str(refused.value).replace(str(secrets), "")


def test_a_placeholder_anywhere_but_behind_the_password_stays_one(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("topsecret\n")
    (tmp_path / "other").chmod(0o600)
    text = f'cmdline = "k={SECRET_PLACEHOLDER.format("other")}"\n'

    assert revealed(text, tmp_path) == text


def living(password: str) -> SavedDomain:
    """A domain whose VNC server asks for this password, as libxl tells it."""
    console = {"vnc": {"listen": "127.0.0.1", "display": "5"}}
    found = saved(desired({"vm01": {"console": console}}).domus[0], 1)
    assert found.vnc is not None
    return replace(found, vnc=replace(found.vnc, password=digest(password) if password else ""))


def told(domain: SavedDomain) -> str:
    assert domain.vnc is not None
    return domain.vnc.password


def test_a_living_password_is_told_by_the_name_of_its_secret(secrets: Path) -> None:
    (secrets / "aa-vnc").write_text("s3cret+/=\n")
    names = known(secrets)

    assert told(recognised(living("s3cret+/="), names)) == "aa-vnc"
    assert told(recognised(living("s3cret+/="), names, "vm01-vnc")) == "vm01-vnc"
    assert told(recognised(living("other"), names, "vm01-vnc")) == ANOTHER
    assert told(recognised(living(""), names, "vm01-vnc")) == ""
    assert "s3cret" not in repr(living("s3cret+/="))


def test_one_without_a_server_has_no_password(secrets: Path) -> None:
    found = saved(desired({"vm01": {}}).domus[0], 1)

    assert recognised(found, known(secrets)) == found
