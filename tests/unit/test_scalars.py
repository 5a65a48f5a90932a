"""The values that may stand in a specification: what is taken, what is refused, and that canonical forms are stable."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas import address, scalars
from schemas.scalars import Plain

KINDS: dict[str, TypeAdapter[Any]] = {
    name: TypeAdapter(getattr(scalars, name, None) or getattr(address, name))
    for name in [
        "Boolean",
        "CommandLine",
        "Cron",
        "DiskDevice",
        "DiskSize",
        "DomUName",
        "Duration",
        "HostIp",
        "HostName",
        "Integer",
        "InterfaceName",
        "Ip",
        "Label",
        "LabelKey",
        "ListenIp",
        "LogPrefix",
        "LogRate",
        "Mac",
        "MachineId",
        "Memory",
        "Name",
        "Path",
        "Percent",
        "Rate",
        "SecretName",
        "Subnet",
        "Text",
        "TimeZone",
        "Uuid",
        "VolumeGroup",
    ]
}
STRINGS = sorted(set(KINDS) - {"Integer", "Boolean"})
any_text = st.text() | st.text(alphabet="0123456789abcdefABCDEF:./%-_ @smhdKMGTiB\n\0vif")


def read(kind: str, value: object) -> Any:
    return KINDS[kind].validate_python(value)


def refused(kind: str, value: object) -> bool:
    try:
        read(kind, value)
    except ValidationError:
        return True
    return False


@pytest.mark.parametrize(
    "text",
    [
        "010",
        "08",
        "1_0",
        "1.0",
        "+1",
        "-1",
        "1e3",
        "0x10",
        "0o7",
        " 1",
        "1 ",
        "",
        "true",
        "\u0661",
        "1\n",
        "\uff19",
    ],
)
def test_an_unquoted_text_that_is_no_canonical_decimal_is_no_integer(text: str) -> None:
    assert refused("Integer", Plain(text))


def test_a_quoted_number_is_a_text_and_an_integer_of_json_is_an_integer() -> None:
    assert refused("Integer", "1")
    assert refused("Integer", True)
    assert refused("Integer", 1.0)
    assert read("Integer", 1) == read("Integer", Plain("1")) == 1


@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "y", "tRue", "1", "", "null"])
def test_booleans_are_those_of_the_core_schema_only(text: str) -> None:
    assert refused("Boolean", Plain(text))


def test_a_quoted_true_is_a_text() -> None:
    assert refused("Boolean", "true")
    assert read("Boolean", Plain("TRUE")) is True
    assert read("Boolean", False) is False


@pytest.mark.parametrize("text", ["no", "on", "null", "true", "a1e3"])
def test_where_a_name_is_wanted_an_unquoted_word_is_a_name(text: str) -> None:
    assert read("DomUName", Plain(text)) == text


@pytest.mark.parametrize(
    ("text", "mib"), [("1MiB", 1), ("512MiB", 512), ("1GiB", 1024), ("999999999MiB", 999_999_999)]
)
def test_memory_is_whole_mebibytes(text: str, mib: int) -> None:
    assert read("Memory", Plain(text)) == mib
    assert KINDS["Memory"].dump_python(mib) == f"{mib}MiB"


@pytest.mark.parametrize(
    "text",
    [
        "256",
        "0MiB",
        "1.5GiB",
        "256mib",
        "256 MiB",
        "256MB",
        "256M",
        "-1MiB",
        "01MiB",
        "1KiB",
        "\uff11MiB",
        "1MiB\n",
        "976563GiB",  # the canonical form has nine digits of MiB
        "1000000000MiB",
    ],
)
def test_memory_needs_a_unit_and_no_fraction(text: str) -> None:
    assert refused("Memory", Plain(text))


@pytest.mark.parametrize(
    ("text", "size", "canonical"),
    [
        ("5GiB", 5 * 1024**3, "5GiB"),
        ("5243928576B", 5_243_928_576, "5001MiB"),
        ("5GB", 5 * 10**9, "5000000000B"),
        ("1024GiB", 1024**4, "1TiB"),
        ("2kB", 2000, "2000B"),
    ],
)
def test_disk_sizes_are_bytes_with_binary_and_decimal_units(text: str, size: int, canonical: str) -> None:
    assert read("DiskSize", Plain(text)) == size
    assert KINDS["DiskSize"].dump_python(size) == canonical


@given(st.integers(min_value=1, max_value=2**62))
def test_every_disk_size_is_written_as_it_is_read(size: int) -> None:
    assert read("DiskSize", scalars.canonical_disk_size(size)) == size


@given(st.binary(min_size=6, max_size=6))
def test_a_mac_is_unicast_and_has_one_spelling(raw: bytes) -> None:
    text = raw.hex(":")

    if raw[0] & 1 or raw == bytes(6) or text == "fe:ff:ff:ff:ff:ff":
        assert refused("Mac", text)
    else:
        assert read("Mac", text) == read("Mac", Plain(text.upper())) == text


@pytest.mark.parametrize(
    "text",
    [
        "00-16-3e-7c-1f-6e",
        "0:16:3e:1:2:3",
        "00163e7c1f6e",
        "00:16:3e:7c:1f",
        "00:16:3e:7c:1f:6e:00",
        "00:16:3e:7c:1f:6g",
    ],
)
def test_a_mac_has_six_bytes_of_two_digits(text: str) -> None:
    assert refused("Mac", text)


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_every_address_is_read_the_same_in_every_spelling_or_refused_in_all(
    address: IPv4Address | IPv6Address,
) -> None:
    spellings = [str(address), address.exploded, str(address).upper(), f"{address}/{address.max_prefixlen}"]
    found = {refused("Ip", text) for text in spellings}

    assert len(found) == 1
    if found == {False}:
        assert {read("Ip", Plain(text)) for text in spellings} == {ip_network(address)}
        assert KINDS["Ip"].dump_python(read("Ip", str(address)), mode="json") == str(address)


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.010", "1", "10.1", "0x0a000001", "10.0.0.5/24", "10.0.0.0/024", "10.0.0.0/255.255.255.0", "10.0.0.1/",
        "fe80::1%eth0", "fe80::1%e\n-j ACCEPT", "10.0.0.1\n", " 10.0.0.1", "::ffff:10.0.0.1", "::ffff:0:0/96",
        "::fffe:0:0/95", "0.0.0.0/0", "::/0", "127.0.0.1", "224.0.0.1", "192.0.0.0/2", "255.255.255.255", "::", "::1",
        "ff02::1", "\u0660.0.0.1",
    ],
)  # fmt: skip
def test_what_is_no_address_of_a_guest_is_refused(text: str) -> None:
    assert refused("Ip", text)


def _as_the_library_reads(text: str) -> object:
    if re.fullmatch(r"[0-9A-Fa-f.:]{2,45}(/(0|[1-9][0-9]{0,2}))?", text, re.ASCII) is None:
        return None
    try:
        network = ip_network(text)
    except ValueError:
        return None
    mapped = isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None
    return None if mapped else network


_HEXTETS = st.one_of(st.from_regex(r"[0-9a-fA-F]{0,5}", fullmatch=True), st.integers(0, 300).map(str))


@given(
    st.one_of(
        st.lists(
            st.one_of(st.integers(0, 300).map(str), st.sampled_from(["01", "00", ""])), min_size=3, max_size=5
        ).map(".".join),
        st.lists(_HEXTETS, min_size=2, max_size=10).map(":".join),
        st.builds(
            "{}{}".format,
            st.sampled_from(["::ffff:", "::", "1:2:3:4:5:6:", "1::", ":"]),
            st.ip_addresses(v=4),
        ),
        st.ip_addresses().map(str),
    ),
    st.one_of(st.just(""), st.integers(0, 130).map("/{}".format)),
)
def test_an_address_is_one_exactly_when_the_library_says_so(head: str, length: str) -> None:
    try:
        read: object = address._network(f"{head}{length}")
    except ValueError:
        read = None

    assert read == _as_the_library_reads(f"{head}{length}")


def test_a_display_listens_on_one_address_of_dom0() -> None:
    assert not refused("ListenIp", "127.0.0.1")
    assert not refused("ListenIp", "::1")
    assert all(
        refused("ListenIp", text) for text in ("0.0.0.0", "::", "10.0.0.0/8", "224.0.0.1", "255.255.255.255")
    )


@pytest.mark.parametrize(
    "text",
    [
        "7",
        "",
        "Domain-0",
        "domain-0",
        "a/b",
        ".",
        "..",
        "-n",
        "--help",
        "con fig",
        "a" * 64,
        "x--incoming",
        "vm\n",
    ],
)
def test_a_domu_name_is_one_that_every_tool_takes_for_a_name(text: str) -> None:
    assert refused("DomUName", text)


@pytest.mark.parametrize(
    "text",
    [
        "vif+",
        "vif*",
        "a;b",
        "$(id)",
        "-j",
        "a,b",
        ".",
        "..",
        "lo",
        "all",
        "default",
        "a" * 16,
        "a b",
        "a/b",
        "a\n",
    ],
)
def test_an_interface_name_is_one_that_no_tool_reads_as_more(text: str) -> None:
    assert refused("InterfaceName", text)


@pytest.mark.parametrize(
    "text",
    [
        "x", "phy:/dev/sda", "nbd:/x", "/x,format=raw", "/a b", "/a'b", '/a"b', "/a\\b", "/a\n", "/", "/a/", "//a",
        "/a//b", "/a/./b", "/a/../b", "/a=b", "/" + "a" * 255, "/ä",
    ],
)  # fmt: skip
def test_a_path_is_absolute_normalised_and_without_what_splits_a_disk_string(text: str) -> None:
    assert refused("Path", text)


@pytest.mark.parametrize("text", ['a"b', "a\\b", "a\nb", "a\tb", "a\0b", "ä", "a" * 256])
def test_a_command_line_cannot_leave_its_quotes(text: str) -> None:
    assert refused("CommandLine", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10Mb/s", (62_500, 50_000)),
        ("250KB/s", (12_500, 50_000)),
        ("1MB/s@20ms", (20_000, 20_000)),
        ("8b/s@1s", (1, 10**6)),
    ],
)
def test_a_rate_means_what_xl_makes_of_it(text: str, expected: tuple[int, int]) -> None:
    assert scalars.parse_rate(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "10",
        "10Mb",
        "0Mb/s",
        "10mb/s",
        "10Mb/s@",
        "1b/s",
        "9999999GB/s",
        "10Mb/s,x=y",
        "8b/s@4295s",
        "8b/s@4294968ms",
    ],
)
def test_a_rate_that_xl_would_guess_at_or_stop_at_is_refused(text: str) -> None:
    assert refused("Rate", text)


@pytest.mark.parametrize("text", ["xvda", "xvdzz99", "hda", "hdd63", "sda", "sdp15"])
def test_a_virtual_disk_is_one_that_libxl_has_a_number_for(text: str) -> None:
    assert read("DiskDevice", text) == text


@pytest.mark.parametrize(
    "text", ["hde", "hdd64", "hda99", "sdq", "sda16", "xvda0", "xvda100", "xvdaaa", "vda", "xvd"]
)
def test_a_virtual_disk_that_libxl_would_refuse_when_the_domu_starts_is_refused_before(text: str) -> None:
    assert refused("DiskDevice", text)


@pytest.mark.parametrize("text", ["::102:304", "::1.2.3.4", "::ffff", "::ffff:0", "::/95", "::1:0/112"])
def test_an_address_that_tools_write_as_ipv4_and_as_ipv6_is_no_guests(text: str) -> None:
    assert refused("Ip", text)


@pytest.mark.parametrize("text", ["0 3 * * *", "*/5 0-6 1,15 * 1-5", "59 23 31 12 7", "0-30/10 * * * *"])
def test_a_cron_expression_has_five_fields_within_their_ranges(text: str) -> None:
    assert read("Cron", text) == text


@pytest.mark.parametrize(
    "text",
    [
        "0 3 * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "5-1 * * * *",
        "@daily",
        "a * * * *",
        "0  3 * * *",
    ],
)
def test_a_cron_expression_that_never_comes_true_is_refused(text: str) -> None:
    assert refused("Cron", text)


@given(st.integers(min_value=1, max_value=999_999), st.sampled_from("smhd"))
def test_a_duration_is_written_as_it_is_read(number: int, unit: str) -> None:
    seconds = read("Duration", f"{number}{unit}")

    assert read("Duration", KINDS["Duration"].dump_python(seconds)) == seconds


@given(any_text)
def test_a_string_type_reads_a_quoted_and_an_unquoted_text_alike(text: str) -> None:
    for kind in STRINGS:
        assert refused(kind, text) == refused(kind, Plain(text)), kind


@given(any_text)
def test_what_is_taken_is_printable_ascii_and_its_canonical_form_is_stable(text: str) -> None:
    for kind in set(STRINGS) - {"Text"}:
        if not refused(kind, text):
            value = read(kind, text)
            canonical = KINDS[kind].dump_python(value, mode="json")

            assert canonical.isascii()
            assert not canonical or canonical.isprintable()
            assert read(kind, canonical) == value, kind


@given(
    st.one_of(st.none(), st.floats(), st.binary(), st.lists(st.text()), st.dictionaries(st.text(), st.text()))
)
def test_nothing_but_scalars_is_a_scalar(value: object) -> None:
    assert all(refused(kind, value) for kind in KINDS)


def test_messages_show_letters_that_look_like_others() -> None:
    adapter = TypeAdapter(Annotated[str, scalars.matching("[a-z]+", "a word")])

    with pytest.raises(ValidationError, match=r"v\\u043el"):
        adapter.validate_python("v\u043el")
