"""The measurement: Odea, the bare chain and the upstream itself, in turn, under the same loads by the same generator.

It ends with the money: two more loads on Odea, one with a tenant whose limit runs out in the middle, one in which
upstream and clients fail in every way, and then every request of the whole run is accounted for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from bench.books import Watch, read_books, watching
from bench.figures import Figures, figures
from bench.house import TIGHT_UNITS, House, opened
from bench.money import Verdict, judge
from bench.processes import Cost, UpstreamHandle, alone, load
from bench.records import LEAVING, UPSTREAM_FAULTS, Caller, LoadPlan, Record, Wish
from bench.upstream import Control
from odea_local.embedded import EmbeddedStack

ODEA: Final = "odea"
BARE: Final = "bare"
UPSTREAM: Final = "upstream"
LITELLM: Final = "litellm"
TROUBLE: Final[Mapping[Wish, float]] = dict.fromkeys(sorted(UPSTREAM_FAULTS | LEAVING), 0.05)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One load, on some targets."""

    connections: int
    upstream_ms: int
    targets: tuple[str, ...] = (ODEA, BARE, UPSTREAM)


@dataclass(frozen=True, kw_only=True)
class Programme:
    """What is measured."""

    phases: tuple[Phase, ...]
    seconds: float


FULL: Final = Programme(
    phases=(
        *(Phase(connections=count, upstream_ms=0) for count in (1, 10, 50, 200, 500)),
        *(Phase(connections=count, upstream_ms=200, targets=(ODEA, BARE)) for count in (50, 500)),
        Phase(connections=2000, upstream_ms=200, targets=(ODEA,)),
    ),
    seconds=15,
)
QUICK: Final = Programme(
    phases=(
        *(Phase(connections=count, upstream_ms=0) for count in (1, 50, 500)),
        Phase(connections=500, upstream_ms=200, targets=(ODEA, BARE)),
        Phase(connections=2000, upstream_ms=200, targets=(ODEA,)),
    ),
    seconds=5,
)
BESIDE_LITELLM: Final = Programme(
    phases=tuple(Phase(connections=count, upstream_ms=0, targets=(ODEA, LITELLM)) for count in (1, 50, 200)),
    seconds=6,
)
LITELLM_WORKERS: Final = Programme(phases=(Phase(connections=50, upstream_ms=0, targets=(LITELLM,)),), seconds=5)
"""Which number of workers serves it best."""


@dataclass(kw_only=True)
class Run:
    """What came of a programme."""

    started_s: float = 0.0
    """From `odea up` to ready."""
    figures: list[Figures] = field(default_factory=list[Figures])
    records: list[Record] = field(default_factory=list[Record])
    """Of Odea alone."""
    verdict: Verdict | None = None

    def of(self, target: str, connections: int, upstream_ms: int) -> Figures | None:
        """One measurement."""
        wanted = (target, connections, upstream_ms)
        return next((f for f in self.figures if (f.target, f.connections, f.upstream_ms) == wanted), None)


class Target(Protocol):
    """Something that speaks, and what it costs."""

    @property
    def url(self) -> str:
        """Where it is asked."""
        ...

    def callers(self, connections: int) -> tuple[Caller, ...]:
        """Whoever may ask it, with so many connections together."""
        ...

    def costs(self) -> dict[str, Cost]:
        """What each of its processes has cost so far."""
        ...


class Bench:
    """Puts loads on targets that share an upstream."""

    def __init__(self, targets: Mapping[str, Target], upstream: UpstreamHandle) -> None:
        self._targets = targets
        self._upstream = upstream
        self._numbers = 0

    async def measure(self, run: Run, phase: Phase, seconds: float) -> None:
        """Put a phase's load on each of its targets that is there."""
        for name, target in self._targets.items():
            if name not in phase.targets:
                continue
            plan = LoadPlan(
                name=self._name(name), url=target.url, callers=target.callers(phase.connections), seconds=seconds
            )
            await self._upstream.control(Control(first_s=phase.upstream_ms / 1000))
            before = self._costs(target)
            result = await load(plan)
            run.figures.append(figures(name, phase.upstream_ms, result, before, self._costs(target)))
            if name == ODEA:
                run.records += result.records

    async def run_out(self, run: Run, house: House, seconds: float) -> None:
        """A tenant's limit runs out while others go on."""
        await self._upstream.control(Control())
        callers = (*house.callers(20), await house.tight(TIGHT_UNITS, 20))
        run.records += (
            await load(LoadPlan(name=self._name(ODEA), url=house.url, callers=callers, seconds=seconds))
        ).records

    async def trouble(self, run: Run, house: House, seconds: float) -> None:
        """Everything goes wrong that an upstream and a client can do."""
        await self._upstream.control(Control(first_s=0.05, between_s=0.02, sigma=0.5))
        plan = LoadPlan(
            name=self._name(ODEA), url=house.url, callers=house.callers(40), seconds=seconds, wishes=TROUBLE
        )
        run.records += (await load(plan)).records
        await self._upstream.control(Control())

    def _costs(self, target: Target) -> dict[str, Cost]:
        return {**target.costs(), "upstream": alone(self._upstream.pid)}

    def _name(self, target: str) -> str:
        self._numbers += 1
        return f"{target}-{self._numbers}"


async def measure(
    programme: Programme, stack: EmbeddedStack, others: Mapping[str, Target], upstream: UpstreamHandle, run: Run
) -> None:
    """Do it all, and account for every request that was made of Odea."""
    async with opened(stack) as house, watching(house) as watch:
        bench = Bench({ODEA: house, **others}, upstream)
        for phase in programme.phases:
            await bench.measure(run, phase, programme.seconds)
        await bench.run_out(run, house, programme.seconds)
        await bench.trouble(run, house, programme.seconds)
        run.verdict = await account(house, upstream, run.records, watch)


async def measure_others(
    programme: Programme, others: Mapping[str, Target], upstream: UpstreamHandle, run: Run
) -> None:
    """The same loads on others alone."""
    bench = Bench(others, upstream)
    for phase in programme.phases:
        await bench.measure(run, phase, programme.seconds)


async def account(
    house: House, upstream: UpstreamHandle, records: Sequence[Record], watch: Watch, *, killed: bool = False
) -> Verdict:
    """Hold everything that was asked of a house against what it says, and against what the upstream made for it."""
    counts = await upstream.counts()
    made = {request_id: count for request_id, count in counts.items() if request_id.startswith(f"{ODEA}-")}
    books = await read_books(house)
    return judge(records, made, books, limits=house.limits, watch=watch, killed=killed)
