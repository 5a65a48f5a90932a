# The two commands a newcomer needs are `make demo` and `make test`, as root on a fresh Debian 12. Each installs
# what it needs (apt and pip; Xen's packages are only unpacked under build/), and is safe to repeat.

SHELL := /bin/sh
PYTHON := .venv/bin/python
DOM0 := $(PYTHON) -m tests.dom0
# Debian packages. No Xen package is among them: installing those would change how the machine boots.
PACKAGES := python3 python3-venv git gcc libc6-dev iproute2 iputils-ping nftables iptables ipset conntrack kmod util-linux \
	mount procps e2fsprogs xfsprogs btrfs-progs fdisk strace tcpdump
XEN_PACKAGES := mmdebstrap qemu-system-x86 qemu-utils openssh-client

.PHONY: help demo test campaign test-xen xen check mutation shell bench bench-antispoof deb lock clean setup setup-tools setup-python setup-deb setup-dom0 setup-xen fuzz-guard

help:
	@echo 'make demo    watch a commit become running, guarded VPSs in a simulated dom0 (root, about a minute)'
	@echo 'make test    what proves it, but for random histories and real Xen (root, ten minutes)'
	@echo 'make campaign  thousands of random histories of a host, in memory (no root, some minutes)'
	@echo 'make test-xen  installs the product on real Xen, emulated by QEMU, and tests it there (root, half an hour; the first time minutes more)'
	@echo 'make xen     that machine on this terminal: a dom0 to try domgit on (root)'
	@echo 'make check   lint, types and unit tests (no root, a minute)'
	@echo 'make deb     the Debian package, dist/domgit_VERSION_amd64.deb (no root, half a minute)'
	@echo 'make bench   how long things take, beside what people would use instead (root, some minutes; see docs/performance.md)'
	@echo 'make bench-antispoof  the same forged and legal frames through the rules of other systems and ours (root, half a minute)'
	@echo 'make mutation  one mistake at a time in the core, and whether a test notices it (root, hours; goes on where it was)'
	@echo 'make fuzz-guard  a million drawn frames through the guard, each held against an oracle (root, some minutes; FRAMES= SEED= SHARD=I/N)'
	@echo 'make shell   a shell inside the simulated dom0 with domgit, xl, two guests and the repository (root)'

demo: setup
	@$(DOM0) -- $(CURDIR)/$(PYTHON) -m tests.demo

bench: setup
	@$(PYTHON) -m benchmarks.load
	@$(PYTHON) -m benchmarks.dataplane

bench-antispoof: setup
	@$(PYTHON) -m benchmarks.antispoof

shell: setup
	@$(DOM0) -- $(CURDIR)/$(PYTHON) -m tests.demo --shell

test: setup
	@$(PYTHON) -m tests

# Real Xen: QEMU and what makes its disk are installed for these two alone.
test-xen: setup-xen deb
	@$(PYTHON) -m tests.xen

xen: setup-xen deb
	@$(PYTHON) -m tests.xen --shell

campaign: setup-python
	@$(PYTHON) -m tests --stage campaign

check: setup-python
	@$(PYTHON) -m tests --fast

deb: setup-python
	@$(PYTHON) -m deb

# --thorough and --packets look again at what survived only.
mutation: setup-python
	@nice -n 15 $(PYTHON) -m tests.mutation
	@nice -n 15 $(PYTHON) -m tests.mutation --packets
	@nice -n 15 $(PYTHON) -m tests.mutation --thorough

FRAMES := 1000000
SEED := 1
SHARD := 0/1
fuzz-guard: setup-python
	@nice -n 15 $(PYTHON) -m tests.packets.fuzz --frames $(FRAMES) --seed $(SEED) --shard $(SHARD)

lock:
	@.ci/lock

clean:
	rm -rf build dist .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The two downloads have nothing to do with each other.
setup: setup-tools
	@$(MAKE) --no-print-directory -j2 setup-deb setup-dom0

setup-xen: setup-python
	@.ci/setup tools $(PACKAGES) $(XEN_PACKAGES)

setup-tools:
	@.ci/setup tools $(PACKAGES)

setup-python:
	@.ci/setup python

# What the package is made of: its tests need no network after this.
setup-deb: setup-python
	@$(PYTHON) -m deb --fetch

setup-dom0:
	@/usr/bin/python3 -m tests.dom0.fetch
