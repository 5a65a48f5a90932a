"""What a child gives up before it looks at anything that others made: rights, memory, time and files."""

from __future__ import annotations

import ctypes
import resource

# 10,000 DomUs take 2 s and 100 MB here on a slow machine; a bomb is stopped well before it hurts the host.
CPU_LIMIT_S = 60
MEMORY_LIMIT_BYTES = 2 * 1024**3
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, _PR_SET_NO_NEW_PRIVS, _PR_SET_DUMPABLE = 47, 4, 38, 4
_CAPABILITY_VERSION_3 = 0x20080522


def confine(
    *,
    keep_capabilities: bool,
    file_limit_bytes: int = 0,
    cpu_limit_s: int = CPU_LIMIT_S,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    shut: bool = False,
) -> None:
    """Bound memory, time and files; give up the right to read everything unless the repository is root's.

    It was needed until here to import this program from a folder that only root can enter. `shut`: from here on nothing
    more can be opened, no file and no socket, and no process started.
    """
    # The hard limit later: at the soft one the signal says what it was.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_limit_s, cpu_limit_s + 5))
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit_bytes, memory_limit_bytes))
    # The reader writes to its pipes and to no file, the fetcher its mirror.
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit_bytes, file_limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # setpriv set it already when root started us
    if shut:
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # nor looked into by another of its user
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    if keep_capabilities:
        return
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    if libc.capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")
