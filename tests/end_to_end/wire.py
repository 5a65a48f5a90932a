"""What was said to the kernel over netlink, and to xenstored: messages as bytes, by name.

Source: linux/netlink.h, linux/rtnetlink.h, linux/netfilter/nfnetlink.h and nf_tables.h; xen/include/public/io/xs_wire.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
FIRST_OF_A_PROTOCOL = 16  # below: the protocol's own signals
NETFILTER = 12
NFTABLES = 10  # the subsystem; 0 is nfnetlink's own, which begins and ends batches
BATCH_BEGIN, BATCH_END = 16, 17
NFT = """
NEWTABLE GETTABLE DELTABLE NEWCHAIN GETCHAIN DELCHAIN NEWRULE GETRULE DELRULE NEWSET GETSET DELSET NEWSETELEM GETSETELEM
DELSETELEM NEWGEN GETGEN TRACE NEWOBJ GETOBJ DELOBJ GETOBJ_RESET NEWFLOWTABLE GETFLOWTABLE DELFLOWTABLE GETRULE_RESET
""".split()  # noqa: SIM905  # a table, not a hundred quotes
XENSTORE = struct.Struct("=IIII")  # type, request, transaction, length
XS = """
CONTROL DIRECTORY READ GET_PERMS WATCH UNWATCH TRANSACTION_START TRANSACTION_END INTRODUCE RELEASE GET_DOMAIN_PATH WRITE MKDIR
RM SET_PERMS WATCH_EVENT ERROR IS_DOMAIN_INTRODUCED RESUME SET_TARGET RESTRICT RESET_WATCHES DIRECTORY_PART
""".split()  # noqa: SIM905  # a table, not a hundred quotes
XS_READS = """
DIRECTORY READ GET_PERMS WATCH UNWATCH TRANSACTION_START TRANSACTION_END GET_DOMAIN_PATH IS_DOMAIN_INTRODUCED DIRECTORY_PART
""".split()  # noqa: SIM905  # a table, not a hundred quotes


def netlink_changes(protocol: str, data: bytes) -> Iterator[str]:
    """What of the messages in one send is more than a question, by name."""
    kinds = [*_kinds(data)]
    if protocol == "ROUTE":
        # RTM_* come in fours: new, delete, get, set.
        yield from (
            f"RTM {('NEW', 'DEL', 'GET', 'SET')[kind % 4]} {kind}"
            for kind in kinds
            if kind >= FIRST_OF_A_PROTOCOL and kind % 4 != 2
        )
    elif protocol == "NETFILTER":
        # A batch without an end is what `nft --check` sends: the kernel looks at it and takes all of it back.
        checked = kinds[:1] == [BATCH_BEGIN] and BATCH_END not in kinds
        for kind in kinds:
            name = _nft(kind)
            asks = name.startswith("GET") and not name.endswith("_RESET")
            if not (asks or kind == BATCH_BEGIN or (checked and kind >> 8 == NFTABLES)):
                yield f"NFT {name}"
    elif kinds:
        yield f"messages of an unknown protocol ({protocol})"


def _kinds(data: bytes) -> Iterator[int]:
    offset = 0
    while offset < len(data):
        length, kind, *_ = HEADER.unpack_from(data, offset)
        if length < HEADER.size:
            # Here the kernel stops reading. `bridge fdb show` hands over more than it fills.
            assert not any(data[offset:]), data
            return
        yield kind
        offset += (length + 3) & ~3


def _nft(kind: int) -> str:
    system, message = kind >> 8, kind & 0xFF
    if kind in {BATCH_BEGIN, BATCH_END}:
        return "BATCH_BEGIN" if kind == BATCH_BEGIN else "BATCH_END"
    return NFT[message] if system == NFTABLES and message < len(NFT) else f"{message} of subsystem {system}"


def xenstore_changes(data: bytes) -> Iterator[str]:
    """What of the messages on one connection, from its beginning, is more than a question, by name with its path."""
    offset = 0
    while offset < len(data):
        kind, _, _, length = XENSTORE.unpack_from(data, offset)
        payload = data[offset + XENSTORE.size :][:length]
        name = XS[kind] if kind < len(XS) else str(kind)
        if name not in XS_READS:
            yield f"XS {name} {payload.split(bytes(1))[0].decode('utf-8', 'replace')}"
        offset += XENSTORE.size + length


def ruleset_generation() -> int:
    """The number that every committed change of any nftables rule makes one higher."""
    request = HEADER.pack(20, NFTABLES << 8 | NFT.index("GETGEN"), 1, 0, 0) + bytes(4)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as kernel:
        kernel.bind((0, 0))
        kernel.send(request)
        answer = kernel.recv(65536)
    # Behind nfgenmsg: attribute NFTA_GEN_ID, big-endian.
    length, kind = struct.unpack_from("=HH", answer, 20)
    assert (length, kind) == (8, 1), answer
    number: int = struct.unpack_from(">I", answer, 24)[0]
    return number
