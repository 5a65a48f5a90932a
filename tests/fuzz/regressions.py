"""Inputs that were once neither read nor refused as declared: (target, input), with what they did before.

What the fuzzer prints of a finding goes here, together with what mends it.
"""

from __future__ import annotations

_HEADER = b"Name                                        ID   Mem VCPUs\tState\tTime(s)\n"
_DOM0 = b"Domain-0                                     0  1024     8     r-----       0.0\n"
_LONG = b'[{"domid": 1, "config": {"c_info": {"type": "pv", "uuid": "52234ac4-0786-5d16-9df3-145647962c6b"}, "b_info": {%s}%s}}]'
_PORT = b'[{"ifname": "vm01", "master": "xenbr0", "learning": true, "isolated": false, "locked": %s}]'
_LINK = b'[{"ifname": "lo", "ifindex": 1, "flags": [], "mtu": %s}]'
_VIF = b"/local/domain/0/backend/vif/1/0"
_SHA = b"0123456789abcdef0123456789abcdef01234567"

_ANSWER = (
    b'{"source": {"revision": "%s", "parents": [], "author": "", "committer": "", "committed_at": "", "subject": "",'
    b' "descends": null}, "files": 0, "hosts": [], "valid": true, "diagnostics": [], "view": null, "taken": null,'
    b' "learnt": ["%%s"], "outdated": []}' % _SHA
)

CASES: tuple[tuple[str, bytes], ...] = (
    ("xl-list", _HEADER + _DOM0 + b" " * 200_000 + b"x\n"),  # OvertimeError: grew with the square of the blanks
    ("xl-list", _HEADER + _DOM0 + b"vm01 " + b"7" * 4400 + b" 256 1 -b---- 0.0\n"),  # ValueError: 4300 digits
    ("xl-list", _HEADER + _DOM0 + b"a 1 2 2 ---s-- 0.0\na 1 6 2 -b---- 0.0\n"),  # TypeError: None < 'poweroff'
    ("xl-list", _HEADER + _DOM0 + "a \N{ARABIC-INDIC DIGIT THREE} 2 2 ------ 0.0\n".encode()),  # domain 3
    ("xl-vm-list", b"UUID\n00000000-0000-0000-0000-000000000000 00\n"),  # Domain-0 was a domU
    ("xl-vm-list", b"UUID\n52234ac4-0786-5d16-9df3-145647962c6b 12"),  # cut behind "12": domain 12, or 123?
    ("xl-list-long", b"[" * 100_000),  # RecursionError
    ("xl-list-long", b'[{"domid": "vif", "config": {}}]'),  # a domid that is a text
    ("xl-list-long", _LONG % (b'"max_memkb": Infinity', b"")),  # OverflowError
    ("xl-list-long", _LONG % (b'"max_vcpus": [4]', b"")),  # a list for a number
    ("xl-list-long", _LONG % (b'"kernel": null', b"")),  # null for a text
    ("xl-list-long", _LONG % (b"", b', "nics": [{"devid": 0, "mac": "00:16:3e"}]')),  # half a MAC
    ("xl-list-long", _LONG % (b"", b', "on_crash": ["preserve"]')),  # a list for a text
    ("xenstore-ls", _VIF + b'/frontend = "x"\n' + _VIF + b'/handle = "0"\n' + _VIF + b'/mac = ""\n'),  # no MAC
    ("xenstore-ls", b"/local/domain/0/backend/vif/" + b"7" * 4400 + b'/0/mac = ""\n'),  # ValueError
    ("xenstore-ls", _VIF + b'/feature-gso-tcpv4 = "1"\n'),  # a real netback's key: the host could not be read
    ("ip-link", _LINK % b'"no"'),  # a text for a number
    ("ip-link", _LINK % (b"[" * 30_000)),  # RecursionError
    ("bridge-link", _PORT % b"1.5"),  # a number for a flag
    ("bridge-link", b'[{"ifname": "eth0", "master": "xenbr0", "hwmode": "VEB"}]'),  # a card with a switch: refused
    ("bridge-fdb", b'[{"ifname": "eth0", "mac": ":39:01", "flags": [], "master": "xenbr0", "state": ""}]'),  # no MAC
    ("nft-list-table", b"table bridge domgit {\n" + b"\tset a {\n" * 20_000 + b"\n}\n"),  # OvertimeError
    ("nft-list-tables", b"libnftables: something else\n"),  # was no table, and nothing was said
    ("ip-route-get", b"[" * 100_000),  # RecursionError
    ("stderr", b"error: " + b"x" * 100_000),  # a message of 100 kB
    ("yaml", b"&" + b"m" * 3000 + b" x\n"),  # a message of 3 kB
    ("fleet", b'{"":t,d: [{x: e}],"\\n":1}'),  # a message of two lines, the second of which is the author's
    ("reader-answer", b"0"),  # TypeError
    ("reader-answer", b'{"error": ' + b"[" * 100_000),  # RecursionError
    ("reader-answer", _ANSWER % b"\\ud800"),  # UnicodeEncodeError: could not be remembered
    ("fetcher-answer", b'{"revision": "", "changed": true}'),  # a revision that is none
    ("git-ls-tree", b"100644 blob " + _SHA + b"89       0\tprofiles/x.yaml\0"),  # an object id of 42 digits
    ("git-ls-tree", b"100644 blob " + _SHA + b"       -\tprofiles/x.yaml\0"),  # ValueError
    ("git-cat-file", b""),  # ValueError
    ("git-cat-file", _SHA + b" blob \n"),  # ValueError
    ("git-cat-file", _SHA + b" blob 500\ncut"),  # three bytes for 500
    ("git-cat-file", b"\xb0\n"),  # UnicodeDecodeError
    ("git-log", b""),  # ValueError
    ("git-log", b"\0\0\0\0\0\0"),  # ValueError
    ("url", b"ssh://["),  # ValueError
    ("url", b"ssh://[]-"),  # ValueError
    ("url", b"ssh://git.example.net:99999/x"),  # ValueError
    ("url", b"file:///srv/%00"),  # ValueError: embedded null byte
    ("plan-file", b"[" * 100_000),  # once a RecursionError
    ("ledger", b"\xa0"),  # UnicodeDecodeError
    ("ledger", b'{"format": 1, "owned": {"u": {"name": false}}}'),  # a truth value for a name
    ("ledger", b'{"format": 1, "owned": {"u": {"name": "a", "disks": ""}}}'),  # a text for disks
    ("ledger", b'{"format": 1, "owned": {"u": {"name": "a", "protect": {}}}}'),  # an object for a truth value
    ("ledger", b"[" * 100_000),  # RecursionError
    ("last-good", b"\x85"),  # UnicodeDecodeError
    ("guard-pending", b"# domgit 1 " + b'{"a":' * 100_000 + b"\n# end\n"),  # RecursionError
    ("mountinfo", b"2"),  # IndexError
    ("iptables-save", b":\n# Completed on "),  # IndexError
    (
        "nft-counters",
        b'table bridge domgit {\n\tset bypassed {\n\t\ttype ifname . ether_addr\n\t\telements = { "vm01" . 00:16:3e:7c:1f:65 '
        b"timeout 1h expires " + b"9" * 5000 + b"m }\n\t}\n}\n",
    ),  # ValueError: more digits than Python reads
    ("xl-cfg", b'name = "caf\xe9"\n'),  # UnicodeEncodeError: no plan any more
)  # fmt: skip
