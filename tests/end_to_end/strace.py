"""A command under strace: every system call that may change something, of it and of all that it starts.

Source: strace 6.1, options -ff, -yy, --seccomp-bpf and -e write=all.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# These change nothing but the calling process itself, and are not even stopped at. All others are traced, the unknown too.
HARMLESS = """
access alarm arch_prctl brk capget capset chdir clock_getres clock_gettime clock_nanosleep close close_range
dup dup2 dup3 epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 exit exit_group faccessat faccessat2 fadvise64 fchdir
fcntl fstat fstatfs futex get_robust_list getcwd getdents64 getegid geteuid getgid getgroups getpeername getpgrp getpid
getppid getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr
listen lgetxattr lseek lstat madvise membarrier memfd_create mmap mprotect mremap munmap nanosleep newfstatat pidfd_open pipe pipe2 poll ppoll prctl
pread64 preadv prlimit64 pselect6 read readlink readlinkat readv recvfrom recvmmsg recvmsg restart_syscall rseq
rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait sched_getaffinity sched_yield select
set_robust_list set_tid_address setgid setgroups setitimer setpgid setregid setresgid setresuid setreuid setrlimit setsid
setuid shutdown sigaltstack socketpair stat statfs statx sysinfo time times umask uname wait4 waitid
""".split()  # noqa: SIM905  # a table, not a hundred quotes
# These say who started whom.
STARTS = {"clone", "clone3", "fork", "vfork"}
TRACE_S = 120.0
_CALL = re.compile(r"(?P<name>\w+)\((?P<arguments>.*?)(?:\) += (?P<result>.*))?")
_FIRST = re.compile(r"-?\d+<(?P<leads_to>(?:[^<>]|<[^<>]*>)*)>")
_PATH = re.compile(r'"(?P<path>(?:[^"\\]|\\.)*)"')
_DUMP = re.compile(r" \| [0-9a-f]+  (?P<bytes>.{49})")


@dataclass(slots=True)
class Call:
    """One system call. `descriptor` is what its first argument leads to, `data` the bytes that it handed over.

    `apart`: of a process in a network namespace that was made for it, so that nothing it says to the kernel is about the host's.
    """

    program: str
    name: str
    text: str
    descriptor: str
    result: str
    data: bytearray = field(default_factory=bytearray)
    apart: bool = False

    @property
    def path(self) -> str:
        """The path that it names, as far as it was written out; where it led to for one that was opened."""
        opened = _FIRST.match(self.result)
        if opened is not None:
            return opened["leads_to"]
        named = _PATH.search(self.text)
        return "" if named is None else named["path"]


@dataclass(frozen=True, slots=True)
class Traced:
    """How a command ended, and what it did on its way."""

    code: int
    out: str
    err: str
    calls: Sequence[Call]


def traced(argv: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Traced:
    """The end of a command, with all calls that are not harmless; `folder`, made for it, keeps the raw trace.

    Raises:
        AssertionError: strace has not followed it to its end.
    """
    folder.mkdir(parents=True)
    quiet = f"trace=!{','.join(f'?{name}' for name in HARMLESS)}"
    strace = ["strace", "-ff", "-yy", "-s", "256", "--seccomp-bpf", "-e", quiet, "-e", "write=all"]
    done = subprocess.run(
        [*strace, "-o", str(folder / "trace"), "--", *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=TRACE_S,
        env=environment,
    )
    files = sorted(folder.glob("trace.*"), key=lambda path: int(path.suffix[1:]))
    assert files, done.stderr
    processes = {int(path.suffix[1:]): [*parsed(path.read_text("utf-8", "replace"))] for path in files}
    return Traced(done.returncode, done.stdout, done.stderr, [*_told_apart(processes)])


def _told_apart(processes: Mapping[int, Sequence[Call]]) -> Iterator[Call]:
    """All calls but those that start processes, each with whether it was made apart. A process starts where its parent is by then."""
    started: dict[int, bool] = {}
    waiting = dict(processes)
    while waiting:
        # Numbers may come round: who is started stands in the trace of who starts it, which is looked at before.
        pid = next((each for each in waiting if each in started), min(waiting))
        apart = started.get(pid, False)
        for call in waiting.pop(pid):
            if call.name in STARTS:
                if call.result.isdecimal():
                    started[int(call.result)] = apart
                continue
            call.apart = apart
            yield call
            apart = apart or (call.name == "unshare" and "CLONE_NEWNET" in call.text and call.result == "0")


def parsed(text: str) -> Iterator[Call]:
    """The calls of one process, in order.

    Raises:
        AssertionError: a line is none that strace writes, or the process was not followed to its end.
    """
    program, call = "", None
    lines = text.splitlines()
    assert lines
    assert lines[-1].startswith("+++ "), f"not followed to its end: {lines[-1]!r}"
    for line in lines:
        dump, found = _DUMP.match(line), _CALL.fullmatch(line)
        if dump is not None:
            assert call is not None, line
            call.data += bytes.fromhex(dump["bytes"])
        elif found is None:
            # Heads of dumps, signals that arrived, the end.
            assert line.startswith((" * ", "--- ", "+++ ")), line
        elif found["name"] in {"execve", "execveat"}:
            if (found["result"] or "").startswith("0"):
                program = _PATH.findall(line)[0].rsplit("/", 1)[-1]
        else:
            if call is not None:
                yield call
            first = _FIRST.match(found["arguments"])
            leads_to = "" if first is None else first["leads_to"]
            call = Call(program, found["name"], line, leads_to, found["result"] or "")
    if call is not None:
        yield call
