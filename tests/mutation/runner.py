"""A pytest plugin that runs the tests on each mutant; see `tests.mutation.run`."""

import argparse
import ast
import functools
import gc
import json
import os
import resource
import select
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import CodeType, FunctionType

import coverage
import pytest

from tests.mutation.mutants import Mutant

ROOT = Path(__file__).parents[2]
PACKAGES = ("edits", "maths", "steering")
OPTIONS = ("-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
MEMORY = 4 * 2**30
"""Bytes that a mutant may take."""
SURVIVED, KILLED, LATE = "survived", "killed", "timeout"


class Runner:
    """A pytest plugin that runs the tests on each mutant, in place of once."""

    def __init__(self, mutants: list[Mutant], results: Path, given: argparse.Namespace) -> None:
        self.mutants, self.results, self.jobs, self.limit, self.control = mutants, results, given.jobs, given.limit, given.control
        self.failed = ""
        self.seconds: dict[str, float] = {}
        self.reached: dict[str, dict[int, list[str]]] = {}
        self.live: dict[tuple[str, str], list[FunctionType]] = defaultdict(list)

    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings

        settings.register_profile("mutation", database=None, derandomize=True, deadline=None, phases=[Phase.explicit, Phase.generate])
        settings.load_profile("mutation")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        self.measure(session)
        children: dict[int, tuple[Mutant, int, float]] = {}
        waiting = iter(self.mutants)
        while True:
            while len(children) < self.jobs and (mutant := next(waiting, None)) is not None:
                gc.freeze()
                ours, theirs = os.pipe()
                if not (child := os.fork()):
                    self.try_out(mutant, theirs)
                os.close(theirs)
                children[child] = mutant, ours, time.time()
            if not children:
                return True
            child, status = os.wait()
            if child in children:
                self.note(*children.pop(child), status)

    def measure(self, session: pytest.Session) -> None:
        """Run the tests on the code as it is."""
        watch = coverage.Coverage(data_file=None, include=[f"{ROOT}/lenssteer/{package}/*" for package in PACKAGES])
        watch.start()
        for nodeid, item in self.items.items():
            watch.switch_context(nodeid)
            began = time.process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=_Top(session))
            self.seconds[nodeid] = time.process_time() - began
        watch.stop()
        if self.failed:
            pytest.exit(f"{self.failed} fails without any mutant", returncode=2)
        found = watch.get_data()
        self.reached = {file: found.contexts_by_lineno(file) for file in found.measured_files()}
        for one in gc.get_objects():
            if type(one) is FunctionType:
                self.live[one.__code__.co_filename, one.__code__.co_qualname].append(one)

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Tests that reach the lines, or else the function, the quickest first, up to the limit."""
        lines, tests = self.reached.get(str(mutant.path), {}), set[str]()
        for inside in (range(mutant.first, mutant.last + 1), mutant.inside):
            tests = tests or {test for line in inside for test in lines.get(line, []) if test}
        chosen, total = [], 0.0
        for test in sorted(tests, key=lambda test: self.seconds[test]):
            total += self.seconds[test]
            if chosen and total > self.limit:
                break
            chosen.append(test)
        return chosen

    def try_out(self, mutant: Mutant, theirs: int) -> None:
        """In the child: 1 where a test fails, 0 where none does."""
        code = 1
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            tests = self.tests_of(mutant)
            bound(5 * sum(self.seconds[test] for test in tests) + 5)
            self.failed = ""
            if tests:
                self.put(mutant)
                self.run(tests)
            code = 1 if self.failed else 0
        except BaseException as error:
            self.failed = self.failed or f"{type(error).__name__} {error}"
        finally:
            os.write(theirs, self.failed[:2000].encode())
            os._exit(code)

    def put(self, mutant: Mutant) -> None:
        """Let the functions that are there run the mutant's code."""
        functions = self.live[str(mutant.path), mutant.function]
        source = mutant.source(self.control)
        loader = sys.modules[functions[0].__module__].__spec__.loader
        code = next(each for each in _codes(loader.source_to_code(source.encode(), str(mutant.path)))
                    if each.co_qualname == mutant.function)
        told = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)
                    and node.name == mutant.function.split(".")[-1] and code.co_firstlineno in range(node.lineno - 3, node.lineno + 1))
        for one in functions:
            def value(node: ast.expr, names: dict = one.__globals__) -> object:
                return eval(compile(ast.Expression(node), "default", "eval"), names)

            one.__code__ = code
            one.__defaults__ = tuple(map(value, told.args.defaults)) or None
            one.__kwdefaults__ = {a.arg: value(d) for a, d in zip(told.args.kwonlyargs, told.args.kw_defaults) if d is not None} or None
            for cached in vars(sys.modules[one.__module__]).values():
                if isinstance(cached, functools._lru_cache_wrapper):
                    cached.cache_clear()

    def run(self, tests: list[str]) -> None:
        for test in tests:
            item = self.items[test]
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=_Top(item.session))
            if self.failed:
                return

    def note(self, mutant: Mutant, ours: int, began: float, status: int) -> None:
        """In the parent: keep what came of it."""
        by = os.read(ours, 4000).decode() if select.select([ours], [], [], 0)[0] else ""
        os.close(ours)
        signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        result = LATE if signalled in (signal.SIGPROF, signal.SIGALRM) else SURVIVED if status == 0 else KILLED
        line = {"key": mutant.key, "module": mutant.path.relative_to(ROOT).as_posix(), "line": mutant.first,
                "function": mutant.function, "change": mutant.change, "result": result, "by": by or (signalled and f"signal {signalled}"),
                "seconds": round(time.time() - began, 2)}
        with self.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(".sT"[(KILLED, SURVIVED, LATE).index(result)], end="", file=sys.stderr, flush=True)


class _Top:
    """In place of a next test: only what the whole session shares stays set up."""

    def __init__(self, session: pytest.Session) -> None:
        self.session = session

    def listchain(self) -> list[pytest.Session]:
        return [self.session]


def _codes(code: CodeType) -> list[CodeType]:
    own = [const for const in code.co_consts if isinstance(const, CodeType)]
    return [code, *(inner for one in own for inner in _codes(one))]


def bound(seconds: float) -> None:
    """End this process when it takes longer, or too much memory."""
    for timer, number, factor in ((signal.ITIMER_PROF, signal.SIGPROF, 1), (signal.ITIMER_REAL, signal.SIGALRM, 8)):
        signal.signal(number, signal.SIG_DFL)
        signal.setitimer(timer, seconds * factor)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
