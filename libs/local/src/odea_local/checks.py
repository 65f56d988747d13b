"""`odea test`: every check of the project, one after the other, with what each found and how long it took."""

import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import msgspec
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from odea_local.errors import EXIT_FAILURE
from odea_local.imports import find_undeclared

PYTEST_NO_TESTS = 5
_PYTEST = ("-m", "pytest")
# By whole files, as their servers are shared.
_SIDE_BY_SIDE = ("--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check: a name to choose it by, and the module or script that does it."""

    name: str
    title: str
    command: tuple[str, ...] = ()
    """Arguments for the interpreter; empty for the check that runs inside this process."""
    paths: tuple[str, ...] = ()
    """The folders of the tests, for pytest."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How a check ended."""

    check: Check
    passed: bool
    took_s: float
    last_line: str


CHECKS = (
    Check(name="format", title="Format", command=("-m", "ruff", "format", "--check")),
    Check(name="lint", title="Lint", command=("-m", "ruff", "check")),
    Check(name="types", title="Types", command=("-m", "basedpyright", "--pythonpath", sys.executable)),
    Check(name="layers", title="Import rules", command=(str(Path(sysconfig.get_path("scripts")) / "lint-imports"),)),
    Check(name="imports", title="Undeclared imports"),
    Check(
        name="unit",
        title="Unit and contract tests",
        command=(*_PYTEST, *_SIDE_BY_SIDE),
        paths=("tests/unit", "tests/contract"),
    ),
    Check(
        name="integration",
        title="Integration tests",
        command=(*_PYTEST, *_SIDE_BY_SIDE),
        paths=("tests/integration",),
    ),
    # Alone: they bound how long anybody waits, and a stack is as wide as the machine.
    Check(name="e2e", title="End-to-end tests", command=_PYTEST, paths=("tests/e2e",)),
)


def choose(root: Path, words: Sequence[str]) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """The checks to run, and what pytest gets besides.

    Leading names choose checks; the rest is for pytest and alone chooses the tests. If it names a file or folder, that
    replaces the usual ones.
    """
    known = {check.name: check for check in CHECKS}
    names = tuple(takewhile(known.__contains__, words))
    extra = tuple(words[len(names) :])
    if any((root / word.partition("::")[0]).exists() for word in extra):
        return (Check(name="tests", title="Tests", command=_PYTEST),), extra
    if extra and not names:
        names = tuple(check.name for check in CHECKS if check.paths)
    return tuple(check for check in CHECKS if not names or check.name in names), extra


def run(root: Path, checks: Sequence[Check], pytest_arguments: Sequence[str] = ()) -> int:
    """Run the checks in this order, also after one has failed.

    Returns:
        0 if all passed, else 1.
    """
    console = Console(highlight=False)
    results: list[Result] = []
    for check in checks:
        console.print(Rule(Text(check.title, style="bold"), align="left"))
        began = time.monotonic()
        passed, last_line = _run(console, root, check, pytest_arguments)
        results.append(Result(check=check, passed=passed, took_s=time.monotonic() - began, last_line=last_line))
    console.print(Rule(Text("Summary", style="bold"), align="left"))
    console.print(_summary(results))
    return 0 if all(result.passed for result in results) else EXIT_FAILURE


def _run(console: Console, root: Path, check: Check, pytest_arguments: Sequence[str]) -> tuple[bool, str]:
    if not check.command:
        return _check_imports(console, root)
    command = [sys.executable, *check.command]
    if "pytest" in check.command:
        folders = [path for path in check.paths if (root / path).is_dir()]
        colour = ["--color=yes"] if console.is_terminal else []
        command += [*folders, *colour, *pytest_arguments]
    status, last_line = _stream(console, root, command)
    nothing_matched = bool(pytest_arguments) and status == PYTEST_NO_TESTS
    return status == 0 or nothing_matched, last_line


def _check_imports(console: Console, root: Path) -> tuple[bool, str]:
    faults = find_undeclared(root)
    for fault in faults:
        console.print(str(fault), soft_wrap=True, markup=False)
    last_line = f"{len(faults)} undeclared imports" if faults else "every import is declared"
    if not faults:
        console.print(last_line)
    return not faults, last_line


def _stream(console: Console, root: Path, command: Sequence[str]) -> tuple[int, str]:
    """Run a command, show its output as it comes, and keep its last line for the summary."""
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if console.is_terminal:
        environ |= {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1"}
    last_line = ""
    with subprocess.Popen(
        command, cwd=root, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        try:
            for line in process.stdout or ():
                sys.stdout.write(line)
                sys.stdout.flush()
                last_line = ANSI.sub("", line).strip(" =\n") or last_line
        except KeyboardInterrupt:
            # The terminal has told it too; let it clean up, so that it leaves no server behind.
            process.wait()
            raise
    return process.returncode, last_line


def _summary(results: Sequence[Result]) -> Table:
    table = Table.grid(padding=(0, 2))
    for result in results:
        mark = Text("✓", style="green") if result.passed else Text("✗", style="red")
        took = Text(f"{result.took_s:.1f} s", justify="right")
        table.add_row(
            mark, result.check.title, took, Text(result.last_line, style="dim", no_wrap=True, overflow="ellipsis")
        )
    return table
