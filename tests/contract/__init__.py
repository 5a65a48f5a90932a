"""What the product believes of Xen 4.17, held to the dom0 under it: the simulated one, or a real one, by the same tests.

    .venv/bin/python -m tests.dom0 -- .venv/bin/python -m pytest -m dom0 tests/contract   # the simulated dom0
    .venv/bin/python -m pytest -m dom0 tests/contract                                     # a real one, as root in it

`tests/model` holds the dom0 in memory to the simulated one, and this holds the simulated one to Xen: what a command
answers (exit status, words), and what `xl list`, `vm-list`, `list --long` and xenstore say behind it. All of it is read
with the product's own parsers.

What is not compared, because one of the two cannot show it:

- HVM and PVH, QEMU, VNC and other frame buffers of running domUs (a dry run is), save and migration, pygrub, PCI;
- what is a kernel: any file is one for the simulation, and no real one starts from what Xen cannot load;
- coredump-* reactions: the simulated hypervisor dumps no memory;
- figures: processor time, free memory to the mebibyte, how long a start takes, event channels and rings;
- whether a paused guest answers: a simulated one lends dom0's kernel, which is not paused;
- how often a paused domain was paused: Xen counts, and wants as many unpauses;
- what a guest keeps over its reboots: the real one has no disk that it starts from;
- the peer of a veth in `ip link` (`ct-run@...`), and /sys/class/net/PORT/device, which a real vif alone has;
- the file systems inside, and whether a rate holds: netback shapes, a veth does not;
- which xenstored runs: Debian prefers the one in OCaml, the simulation has the one in C;
- a frontend that does not let go, and so the 10 s and 20 s that xl waits for it.
"""
