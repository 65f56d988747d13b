"""`python -m bench VERB`: measurements that count only if the money adds up; if it does not they exit with 1."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import click

from bench.bare.chain import bare_chain
from bench.figures import machine
from bench.house import odea
from bench.processes import upstream
from bench.report import report
from bench.speed import FULL, QUICK, Run, measure


@click.group()
def main() -> None:
    """Measure a whole stack of its own, in a temporary folder."""


@main.command()
@click.option("--quick", is_flag=True, help="Fewer loads, under three minutes.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the report there, too.")
def speed(quick: bool, output: Path | None) -> None:
    """Odea beside the bare chain and the upstream itself."""
    run = Run()
    with folder() as home, upstream() as voice, bare_chain(home / "bare", voice) as bare:
        began = time.monotonic()
        with odea(home / "odea", voice, {}) as stack:
            run.started_s = time.monotonic() - began
            asyncio.run(measure(QUICK if quick else FULL, stack, bare, voice, run))
    conclude(report(run, machine(), "Odea under load"), output, good=run.verdict is not None and run.verdict.good)


@contextmanager
def folder() -> Generator[Path]:
    """A temporary folder that other users may search: run as root, the database is another user."""
    with tempfile.TemporaryDirectory(prefix="odea-bench-", ignore_cleanup_errors=True) as name:
        home = Path(name).resolve()
        home.chmod(0o711)
        yield home


def conclude(text: str, output: Path | None, *, good: bool) -> None:
    """Tell what came of it, and exit with 1 if the money does not add up."""
    click.echo(text)
    if output:
        output.write_text(text)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
