"""`python -m bench VERB`: measurements that count only if the money adds up; if it does not they exit with 1."""

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from bench.bare.chain import bare_chain
from bench.chaos import chaos
from bench.faults import schedule, short_schedule
from bench.figures import machine
from bench.house import odea
from bench.peers import PEER_NOTES, WORKERS, install, litellm
from bench.processes import upstream
from bench.report import money, report
from bench.soak import soak, soak_report
from bench.speed import (
    BARE,
    BESIDE_LITELLM,
    FULL,
    LITELLM,
    LITELLM_WORKERS,
    QUICK,
    UPSTREAM,
    Run,
    measure,
    measure_others,
)


@click.group()
def main() -> None:
    """Measure a whole stack of its own, in a temporary folder."""
    # So that whatever was started is ended, too, when we are asked to end.
    signal.signal(signal.SIGTERM, _leave)


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(1)


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
            asyncio.run(measure(QUICK if quick else FULL, stack, {BARE: bare, UPSTREAM: voice}, voice, run))
    conclude(report(run, machine(), "Odea under load"), output, good=run.verdict is not None and run.verdict.good)


@main.command()
@click.option("--keep", type=click.Path(path_type=Path), help="Install here, and find it there the next time.")
@click.option("--workers", "counts", multiple=True, type=int, default=WORKERS, help="Numbers of workers to try.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the report there, too.")
def peers(keep: Path | None, counts: tuple[int, ...], output: Path | None) -> None:
    """Odea beside LiteLLM's proxy, with as many workers as serve that best."""
    run, told = Run(), ""
    with folder() as home, upstream() as voice:
        place = keep or home / "litellm"
        version = install(place)
        rates: dict[int, float] = {}
        for workers in counts if len(counts) > 1 else ():
            tried = Run()
            with litellm(place, home, voice, workers) as peer:
                asyncio.run(measure_others(LITELLM_WORKERS, {LITELLM: peer}, voice, tried))
            rates[workers] = tried.figures[0].per_s
        best = max(counts, key=lambda count: rates.get(count, 0.0))
        seen = ", ".join(f"{rate:,.0f}/s with {workers}" for workers, rate in rates.items()) or "no other was tried"
        told = f"LiteLLM {version}, {best} workers; at 50 connections {seen}. {PEER_NOTES}"
        # Both are up, and asked in turn under each load: these machines become faster and slower within minutes.
        with litellm(place, home, voice, best) as peer, odea(home / "odea", voice, {}) as stack:
            asyncio.run(measure(BESIDE_LITELLM, stack, {LITELLM: peer}, voice, run))
    text = report(run, machine(), "Odea beside LiteLLM", told)
    conclude(text, output, good=run.verdict is not None and run.verdict.good)


@main.command("chaos")
@click.option("--seed", default=1, help="Decides what happens when.")
@click.option("--rounds", default=1, help="Each fault on each part, so often.")
@click.option("--short", is_flag=True, help="One fault of each kind.")
@click.option("--connections", default=20)
def chaos_command(seed: int, rounds: int, short: bool, connections: int) -> None:
    """Kill, stop and restart everything under load, cut and slow the upstream."""
    faults = short_schedule(seed, pause_s=2) if short else schedule(seed, rounds=rounds, pause_s=4)
    click.echo("\n".join(f"{place}. {fault}" for place, fault in enumerate(faults, 1)), err=True)
    with (
        folder() as home,
        upstream() as voice,
        odea(home / "odea", voice, {}, first_audio_s=2, next_audio_s=2) as stack,
    ):
        found = asyncio.run(chaos(faults, stack, voice, connections=connections, seed=seed))
    ends = "".join(f"| {end} | {count:,} |\n" for end, count in sorted(found.ends.items()))
    facts = (
        f"Seed {seed}, {len(faults)} faults, {connections} connections. The longest wait: {found.slowest_s:.1f} s."
        f" The last request that failed: {found.healed_s:.1f} s after the last fault.\n"
    )
    text = f"# Odea in chaos\n\n{facts}\n| Ended as | Requests |\n|---|---|\n{ends}\n{money(found.verdict)}\n"
    conclude(text + "".join(f"- {fault}\n" for fault in found.faults[:20]), None, good=not found.faults)


@main.command("soak")
@click.option("--minutes", default=10.0)
@click.option("--connections", default=40)
def soak_command(minutes: float, connections: int) -> None:
    """The same load for minutes; nothing may be more at the end than after the first one."""
    with (
        folder() as home,
        upstream() as voice,
        odea(home / "odea", voice, {}, first_audio_s=2, next_audio_s=2) as stack,
    ):
        found = asyncio.run(soak(stack, voice, minutes=minutes, connections=connections))
    text = f"{soak_report(found)}\n{money(found.verdict)}\n"
    conclude(text + "".join(f"- {fault}\n" for fault in found.faults[:20]), None, good=not found.faults)


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
