"""Runs the tests of a mutant in a process of its own, which ends at the first that fails.

pytest collects once. Every mutant is then a fork in which the functions of the module get other code: whoever has
imported them has them changed. What runs at import cannot be changed so; those mutants get a fresh process that has not
imported the product yet, and whose loader compiles the changed tree.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import PathFinder, SourceFileLoader
from inspect import CO_NEWLOCALS
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import coverage
import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase, settings

from tests.mutation.mutants import Mutant

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "mutation"
MARKS = "not git and not netns and not dom0 and not machine and not campaign"
# Tests that read the sources, and those of this package, know nothing of a changed process.
PASSED_OVER = (
    "tests/unit/test_house.py",
    "tests/unit/test_docs.py",
    "tests/unit/test_shares.py",  # about how tests are run
    "tests/mutation",
    "tests/fuzz",
)
# They see little that the others do not, take as long as all of them, and reach nearly everything: for what survived those alone.
LAST = (
    "tests/model",
    "tests/unit/test_saved_plans.py",
    "tests/unit/test_plan_cases.py::test_a_plan_breaks_no_rule",
)
# A test that takes so many times its usual time, and some seconds more, will not end: a loop has lost its exit.
SLOWER, GRACE_S = 10, 5.0
WALL_S = 1800  # for what waits without using the processor, which on a busy machine may be a good test that has to wait
MEMORY_BYTES = 2 * 1024**3
READY = "make_ready"  # stands among the tests for what was run beforehand
KILLED, SURVIVED, TIMEOUT = "killed", "survived", "timeout"

Result = tuple[str, str]  # how it ended, and the test that saw it
Functions = Mapping[tuple[str, int], list[FunctionType]]  # by name and first line


def source_of(module: str) -> Path:
    """The file of a module, without importing it."""
    return ROOT / f"{module.replace('.', '/')}.py"


class Session:
    """A plugin for pytest that runs something else in place of all tests, once they are collected."""

    def __init__(self, then: Callable[[list[pytest.Item]], None]) -> None:
        self._then = then

    def pytest_collection(self) -> None:
        """The same examples every time, none kept, and none made smaller: that it fails is enough."""
        profile = settings(
            settings.get_profile("domgit"),
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
        )
        settings.register_profile("mutation", profile)
        settings.load_profile("mutation")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """The campaign itself."""
        passed_over = tuple(str(ROOT / each) for each in PASSED_OVER)
        self._then([item for item in session.items if not str(item.path).startswith(passed_over)])
        return True


def with_tests(
    then: Callable[[list[pytest.Item]], None], files: Sequence[str] = ("tests",), marks: str = MARKS
) -> None:
    """Collect the tests and do that with them; what it raises ends the session."""
    options = ["-q", "-m", marks, "--assert=plain", "--tb=no", "-p", "no:cacheprovider", *files]
    code = pytest.main(options, plugins=[Session(then)])
    if code not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        raise RuntimeError(f"pytest ended with {code!r}")


def first_failure(items: Sequence[pytest.Item], usual_s: Mapping[str, float]) -> str | None:
    """The first of these tests that fails; the process is killed by SIGPROF where one goes on for ever."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        limit_s = GRACE_S + SLOWER * usual_s.get(item.nodeid, 1.0)
        signal.setitimer(signal.ITIMER_PROF, limit_s)
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
            return item.nodeid
    return None


def apart(work: Callable[[], None]) -> None:
    """Do that in a fork of this process, for what it leaves behind elsewhere."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001  # the parent has to know, whatever it was
            traceback.print_exc()
            os._exit(1)
        finally:
            sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError("the tests of the mutants could not be run")


def situations(items: Sequence[pytest.Item]) -> Any:
    """What gives a golden case its situation, and keeps it."""
    cases = [item for item in items if item.path.name == "test_plan_cases.py"]
    return cases[0].module.met if cases else cache(str)  # type: ignore[attr-defined]  # a test function has one


def make_ready(items: Sequence[pytest.Item]) -> None:
    """Make the situations of all golden cases: half of what they cost, and the same for most mutants."""
    met = situations(items)
    for item in items:
        if item.path.name == "test_plan_cases.py":
            met(item.callspec.params["case"])  # type: ignore[attr-defined]  # all of its tests have a case


def in_child(work: Callable[[], Result]) -> Result:
    """What a fork of this process finds; TIMEOUT when it used up its time, or more memory than there may be."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    made = tempfile.mkdtemp(prefix="mutation-")
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            tempfile.tempdir = made
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            signal.setitimer(signal.ITIMER_REAL, WALL_S)
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(null, descriptor)
            os.write(writing, json.dumps(work()).encode())
        except BaseException as exc:  # noqa: BLE001  # whatever a mutant does, its process ends here
            os.write(writing, json.dumps((KILLED, f"{type(exc).__name__}: {exc}"[:200])).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    shutil.rmtree(made, ignore_errors=True)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return SURVIVED, "cut off"  # whatever it waited for, no test has noticed it
    if os.WIFSIGNALED(status) or not said:
        return TIMEOUT, ""
    how, by = json.loads(said)
    return how, by


def functions_of(module: ModuleType) -> dict[tuple[str, int], list[FunctionType]]:
    """The functions of a module by name and line, also those inside properties and caches."""
    found: dict[tuple[str, int], list[FunctionType]] = {}
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename == module.__file__:
            found.setdefault((each.__code__.co_qualname, each.__code__.co_firstlineno), []).append(each)
    return found


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of functions and methods, not of what is made anew inside them."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and constant.co_flags & CO_NEWLOCALS:
            yield constant
        elif isinstance(constant, CodeType):  # the body of a class
            yield from _codes(constant)


def patched(tree: ast.Module, file: str, functions: Mapping[tuple[str, int], list[FunctionType]]) -> None:
    """Give the functions of a loaded module the code of this tree."""
    for code in _codes(compile(tree, file, "exec")):
        for function in functions.get((code.co_qualname, code.co_firstlineno), ()):
            function.__code__ = code


def attempt(  # what pytest has, and what is known of it
    mutant: Mutant,
    tree: ast.Module,
    functions: Functions,
    items: Sequence[pytest.Item],
    usual_s: Mapping[str, float],
    *,
    cold: bool,
) -> Result:
    """Whether one of the tests notices the mutant; `cold`: what was made ready for them was made by the changed code too."""

    def work() -> Result:
        if cold:
            situations(items).cache_clear()
        mutant.apply()
        patched(tree, str(source_of(mutant.module)), functions)
        by = first_failure(items, usual_s)
        return (SURVIVED, "") if by is None else (KILLED, by)

    return in_child(work)


class _Loader(SourceFileLoader):
    tree: ast.Module

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  # the interface's
        return compile(self.tree, self.path, "exec")


def attempt_at_import(
    mutant: Mutant, tree: ast.Module, files: Sequence[str], usual_s: Mapping[str, float]
) -> Result:
    """The same for what runs when the module is imported. Only in a process that has not imported it."""

    class Finder(PathFinder):
        @classmethod
        def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> Any:
            spec = super().find_spec(fullname, path, target)
            if fullname == mutant.module and spec is not None:
                spec.loader = _Loader(fullname, str(spec.origin))
                spec.loader.tree = tree
            return spec

    def work() -> Result:
        mutant.apply()
        sys.meta_path.insert(0, Finder)
        seen: list[Result] = []

        def then(items: list[pytest.Item]) -> None:
            by = first_failure(items, usual_s)
            seen.append((SURVIVED, "") if by is None else (KILLED, by))

        for file in files:
            with_tests(then, [file])  # a module that cannot be imported ends this with an exception
            if seen and seen[-1][0] == KILLED:
                break
        return seen[-1] if seen else (SURVIVED, "no test")

    return in_child(work)


@dataclass(slots=True)
class Known:
    """Which tests run which lines: by file and line, bit N for the test at place N of `usual_s`, which says how long each takes."""

    usual_s: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[int, int]] = field(default_factory=dict)

    def tests(self, file: str, lines: Iterable[int]) -> list[str]:
        """Those that run one of the lines."""
        mask = 0
        for line in lines:
            mask |= self.lines.get(file, {}).get(line, 0)
        return [test for place, test in enumerate(self.usual_s) if mask >> place & 1]

    def save(self, path: Path) -> None:
        """As JSON."""
        lines = {file: {line: hex(mask) for line, mask in each.items()} for file, each in self.lines.items()}
        path.write_text(json.dumps({"usual_s": self.usual_s, "lines": lines}), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Known:
        """See `save`; nothing where there is no such file."""
        if not path.exists():
            return cls()
        said = json.loads(path.read_text(encoding="utf-8"))
        lines = {
            file: {int(line): int(mask, 16) for line, mask in each.items()}
            for file, each in said["lines"].items()
        }
        return cls(said["usual_s"], lines)

    def measure(self, modules: Iterable[str], path: Path) -> None:
        """Run the tests that are not known yet, and save."""
        files = [str(source_of(module)) for module in modules]

        def then(items: list[pytest.Item]) -> None:
            measuring = coverage.Coverage(data_file=None, include=files, config_file=False)
            measuring.start()
            measuring.switch_context(READY)
            make_ready(items)
            situations(items).cache_clear()
            self.usual_s[READY] = 0.0
            new = [
                item for item in items if item.nodeid not in self.usual_s and not item.nodeid.startswith(LAST)
            ]
            for item, following in zip(new, [*new[1:], None], strict=True):
                measuring.switch_context(item.nodeid)
                started = time.process_time()
                if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
                    raise RuntimeError(f"{item.nodeid} fails without any mutant")
                self.usual_s[item.nodeid] = time.process_time() - started
            measuring.stop()
            bits = {test: 1 << place for place, test in enumerate(self.usual_s)}
            data = measuring.get_data()
            for file in data.measured_files():
                lines = self.lines.setdefault(str(Path(file).relative_to(ROOT)), {})
                for line, contexts in data.contexts_by_lineno(file).items():
                    for context in {*contexts} - {""}:
                        lines[line] = lines.get(line, 0) | bits[context]
            self.save(path)

        apart(lambda: with_tests(then))


class Order:
    """Which tests a mutant gets, likely killers first: those that saw others of the same function, then the quick ones."""

    def __init__(self, usual_s: Mapping[str, float]) -> None:
        self._usual_s = usual_s
        self._seen: dict[str, Counter[str]] = {}

    def saw(self, mutant: Mutant, test: str) -> None:
        """That test killed that mutant."""
        for key in (mutant.module, f"{mutant.module}:{mutant.function}"):
            self._seen.setdefault(key, Counter())[test] += 1

    def of(self, mutant: Mutant, tests: Iterable[str]) -> list[str]:
        """The tests in order."""
        near = self._seen.get(f"{mutant.module}:{mutant.function}", Counter())
        far = self._seen.get(mutant.module, Counter())
        return sorted(tests, key=lambda test: (-near[test], -far[test], self._usual_s.get(test, 1.0), test))
