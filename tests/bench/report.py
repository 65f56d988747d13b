"""The report: Markdown with tables and charts."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.figures import Figures, Machine
from bench.house import SERVICES, SUPERVISOR
from bench.money import Verdict
from bench.speed import BARE, LITELLM, ODEA, UPSTREAM, Run

LISTED_MAX = 10
MEMORY_GOAL_MB = 450
_METHOD = """\
Everything runs on this one machine, the load generator and the upstream included. The generator (`bench.load`, Python
on uvloop, a process of its own) keeps each connection busy with one request after the other, and writes down each
request with its id. The upstream (`bench.upstream`) answers 16 KiB of audio in four chunks and counts the characters
that it synthesised, by request id. The bare chain (`bench.bare`) has the same hops and nothing else: Litestar on
Granian with one worker, nats-py, a hold and its settlement in batches through asyncpg with fsync, httpx with the
aiohttp transport, all on uvloop, as Odea is. All targets are asked in turn, under the same load, by the same generator.
Odea runs as `./odea up` runs it, one process a service, with everything on: keys, quota, events through JetStream, the
request log in PostgreSQL, JSON logs with a line for each request, metrics. Warm-up is not measured."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One line of the table of goals."""

    what: str
    goal: str
    measured: str
    met: bool | None


def report(run: Run, machine: Machine, title: str, note: str = "") -> str:
    """All of it."""
    parts = [
        f"# {title}\n",
        f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC. {note}\n",
        "## Goals\n",
        _goals_table(goals(run)),
        "## Money\n",
        money(run.verdict) if run.verdict else "Not checked.\n",
        "## Latency and throughput\n",
        _figures_table(run.figures),
        _charts(run),
        "## Processor time\n",
        "Milliseconds for one request (which is seconds for 1,000), by process, servers with all their children.\n",
        _costs_table(run.figures),
        "## Memory\n",
        "PSS in MB after each load.\n",
        _memory_table(run.figures),
        "## Method\n",
        _METHOD + "\n",
        "## Machine\n",
        _machine_list(machine),
    ]
    return "\n".join(parts)


def goals(run: Run) -> list[Goal]:
    """What was aimed at, and what came of it."""
    found: list[Goal] = []
    if (mine := run.of(ODEA, 500, 0)) and (bare := run.of(BARE, 500, 0)):
        share = mine.per_s / bare.per_s if bare.per_s else 0.0
        found.append(
            Goal(
                what="throughput, 500 connections, upstream 0 ms, of the bare chain's",
                goal="≥ 70 %",
                measured=f"{share:.0%} ({mine.per_s:,.0f} of {bare.per_s:,.0f}/s)",
                met=share >= 0.7,
            )
        )
    if (mine := run.of(ODEA, 1, 0)) and (bare := run.of(BARE, 1, 0)):
        added = mine.total_ms[0] - bare.total_ms[0]
        measured = f"{added:+.1f} ms ({mine.total_ms[0]:.1f} against {bare.total_ms[0]:.1f})"
        found.append(Goal(what="one connection, p50 added", goal="≤ 2 ms", measured=measured, met=added <= 2))
    if mine := run.of(ODEA, 500, 200):
        measured = f"{mine.total_ms[2]:.0f} ms, {mine.errors} errors"
        met = mine.total_ms[2] < 500 and not mine.errors
        found.append(
            Goal(what="500 connections, upstream 200 ms: p95", goal="< 500 ms, no error", measured=measured, met=met)
        )
    if mine := run.of(ODEA, 2000, 200):
        measured = f"{mine.unasked} others, {mine.errors} refused; p95 of the served {mine.total_ms[2]:.0f} ms"
        goal = "no error but 429/503 with `Retry-After`"
        found.append(
            Goal(what="2,000 connections, upstream 200 ms", goal=goal, measured=measured, met=not mine.unasked)
        )
    if run.figures and (memory := _last_memory(run.figures)):
        measured = f"{memory:.0f} MB"
        what = "PSS of the four services and the supervisor after the run"
        found.append(Goal(what=what, goal=f"< {MEMORY_GOAL_MB} MB", measured=measured, met=memory < MEMORY_GOAL_MB))
    if run.started_s:
        measured = f"{run.started_s:.1f} s, a fresh folder"
        found.append(Goal(what="`./odea up` to ready", goal="≤ 8 s", measured=measured, met=run.started_s <= 8))
    for peer in sorted({f.target for f in run.figures} - {ODEA, BARE, UPSTREAM}):
        found += _goals_against(run, peer)
    return found


def money(verdict: Verdict) -> str:
    """The verdict in words, every write-off by its id."""
    rows = (
        ("synthesised by the upstream, characters", f"{verdict.synthesised:,}"),
        ("charged", f"{verdict.charged:,}"),
        ("written off", f"{sum(verdict.written_off.values()):,} for {len(verdict.written_off):,} requests"),
        ("received whole / left early and charged", f"{verdict.whole:,} / {verdict.left:,} speeches"),
        ("charged, the end not delivered", f"{len(verdict.undelivered):,}"),
        ("accounts seen over their limit", f"{verdict.over} in {verdict.looks:,} looks at the balances"),
    )
    lines = ["| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows), ""]
    if verdict.good:
        lines.append(
            "**It adds up**, request by request. Records, entries, balances and the events in JetStream agree, no hold"
            " is open, and the ledger's own audit finds nothing.\n"
        )
    else:
        lines.append(f"**It does not add up**: {len(verdict.faults):,} faults.\n")
        lines += [f"- {fault}" for fault in verdict.faults[: LISTED_MAX * 3]]
    if verdict.written_off:
        lines += ["<details><summary>Written off, by request</summary>\n"]
        lines += [
            ", ".join(f"`{name}` {units}" for name, units in sorted(verdict.written_off.items())),
            "\n</details>\n",
        ]
    if verdict.undelivered:
        lines += [f"Charged, the end not delivered: {', '.join(f'`{name}`' for name in verdict.undelivered)}\n"]
    return "\n".join(lines)


def _goals_against(run: Run, peer: str) -> list[Goal]:
    found: list[Goal] = []
    if (mine := run.of(ODEA, 50, 0)) and (theirs := run.of(peer, 50, 0)):
        times = mine.per_s / theirs.per_s if theirs.per_s else float("inf")
        share = mine.total_ms[2] / theirs.total_ms[2]
        rates = f"{times:.1f} times ({mine.per_s:,.0f} against {theirs.per_s:,.0f}/s)"
        tails = f"{share:.2f} ({mine.total_ms[2]:.0f} against {theirs.total_ms[2]:.0f} ms)"
        found.append(
            Goal(what=f"{peer}: throughput, 50 connections", goal="at least 8 times", measured=rates, met=times >= 8)
        )
        found.append(Goal(what=f"{peer}: p95, 50 connections", goal="≤ ¼", measured=tails, met=share <= 0.25))
    return found


def _last_memory(figures: Iterable[Figures]) -> float:
    last = [f for f in figures if f.target == ODEA][-1:]
    return sum(f.pss_bytes.get(name, 0) for f in last for name in (*SERVICES, SUPERVISOR)) / 1e6


def _goals_table(found: Sequence[Goal]) -> str:
    marks = {True: "yes", False: "**no**", None: ""}
    lines = ["| What | Goal | Measured | Met |", "|---|---|---|---|"]
    lines += [f"| {goal.what} | {goal.goal} | {goal.measured} | {marks[goal.met]} |" for goal in found]
    return "\n".join(lines) + "\n"


def _figures_table(figures: Iterable[Figures]) -> str:
    lines = [
        "Milliseconds to the last byte; of those that were whole. `first` is to the first byte of audio.\n",
        "| Upstream | Connections | Target | per s | p50 | p90 | p95 | p99 | max | first p50 | p95 | Not whole |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for f in figures:
        times = " | ".join(f"{value:,.1f}" for value in (*f.total_ms, *f.first_ms))
        other = ", ".join(f"{count:,} {end}" for end, count in sorted(f.ends.items()) if end != "whole") or "0"
        lines.append(f"| {f.upstream_ms} ms | {f.connections:,} | {f.target} | {f.per_s:,.0f} | {times} | {other} |")
    return "\n".join(lines) + "\n"


def _charts(run: Run) -> str:
    targets = [target for target in (ODEA, BARE, LITELLM) if any(f.target == target for f in run.figures)]
    counts = sorted({f.connections for f in run.figures if f.upstream_ms == 0 and f.target == ODEA})
    rates = {target: [_or_nothing(run.of(target, count, 0), "per_s") for count in counts] for target in targets}
    tails = {target: [_or_nothing(run.of(target, count, 0), "p95") for count in counts] for target in targets}
    names = " and ".join(targets)
    return _chart(f"Speeches a second ({names}, upstream 0 ms)", counts, rates, "bar") + _chart(
        f"p95 in ms ({names}, upstream 0 ms)", counts, tails, "line"
    )


def _or_nothing(figures: Figures | None, what: str) -> float:
    if figures is None:
        return 0.0
    return figures.per_s if what == "per_s" else figures.total_ms[2]


def _chart(title: str, counts: Sequence[int], series: dict[str, list[float]], kind: str) -> str:
    highest = max((value for values in series.values() for value in values), default=1.0)
    lines = [
        "```mermaid",
        "xychart-beta",
        f'    title "{title}"',
        f'    x-axis "connections" [{", ".join(map(str, counts))}]',
        f"    y-axis 0 --> {max(1, round(highest * 1.1))}",
        *(f"    {kind} [{', '.join(f'{value:.1f}' for value in values)}]" for values in series.values()),
        "```\n",
    ]
    return "\n".join(lines)


def _costs_table(figures: Iterable[Figures]) -> str:
    lines = ["| Target | Upstream | Connections | by process | together |", "|---|---|---|---|---|"]
    for f in figures:
        parts = ", ".join(f"{name} {cost:.2f}" for name, cost in f.cpu_s.items())
        lines.append(f"| {f.target} | {f.upstream_ms} ms | {f.connections:,} | {parts} | {sum(f.cpu_s.values()):.2f} |")
    return "\n".join(lines) + "\n"


def _memory_table(figures: Iterable[Figures]) -> str:
    lines = ["| Target | Upstream | Connections | by process | services and supervisor |", "|---|---|---|---|---|"]
    for f in figures:
        parts = ", ".join(f"{name} {pss / 1e6:.0f}" for name, pss in f.pss_bytes.items())
        own = f"{_last_memory([f]):.0f}" if f.target == ODEA else ""
        lines.append(f"| {f.target} | {f.upstream_ms} ms | {f.connections:,} | {parts} | {own} |")
    return "\n".join(lines) + "\n"


def _machine_list(machine: Machine) -> str:
    return (
        f"- {machine.cores} cores of {machine.processor}, {machine.memory_gib:.0f} GiB, {machine.system};"
        f" load averages at the end {machine.load}\n"
        f"- Python {machine.python}; {machine.servers}\n"
        f"- {machine.packages}\n"
    )
