"""The measurement: Odea, the bare chain and the upstream itself, in turn, under the same loads by the same generator.

It ends with the money: two more loads on Odea, one with a tenant whose limit runs out in the middle, one in which
upstream and clients fail in every way, and then every request of the whole run is accounted for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bench.bare.chain import READY_ID, BareChain
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


class Bench:
    """Everything that a programme needs, running."""

    def __init__(self, house: House, bare: BareChain, upstream: UpstreamHandle) -> None:
        self.house = house
        self._bare = bare
        self._upstream = upstream
        self._numbers = 0
        self._others = {_plan_of(READY_ID)}
        """Plans whose requests were none of Odea's."""

    async def measure(self, run: Run, phase: Phase, seconds: float) -> None:
        """Put a phase's load on each of its targets."""
        for target in phase.targets:
            url, callers = self._place(target, phase.connections)
            plan = LoadPlan(name=self._name(target), url=url, callers=callers, seconds=seconds)
            await self._upstream.control(Control(first_s=phase.upstream_ms / 1000))
            before = self._costs(target)
            result = await load(plan)
            run.figures.append(figures(target, phase.upstream_ms, result, before, self._costs(target)))
            if target == ODEA:
                run.records += result.records
            else:
                self._others.add(plan.name)

    async def run_out(self, run: Run, seconds: float) -> None:
        """A tenant's limit runs out while others go on."""
        await self._upstream.control(Control())
        tight = await self.house.tight(TIGHT_UNITS, 20)
        callers = (*self.house.callers(20), tight)
        plan = LoadPlan(name=self._name("out"), url=self.house.url, callers=callers, seconds=seconds)
        run.records += (await load(plan)).records

    async def trouble(self, run: Run, seconds: float) -> None:
        """Everything goes wrong that an upstream and a client can do."""
        await self._upstream.control(Control(first_s=0.05, between_s=0.02, sigma=0.5))
        plan = LoadPlan(
            name=self._name("bad"), url=self.house.url, callers=self.house.callers(40), seconds=seconds, wishes=TROUBLE
        )
        run.records += (await load(plan)).records

    async def settle(self, run: Run, watch: Watch) -> None:
        """Account for every request."""
        counts = await self._upstream.counts()
        made = {request_id: count for request_id, count in counts.items() if _plan_of(request_id) not in self._others}
        books = await read_books(self.house)
        run.verdict = judge(run.records, made, books, limits=self.house.limits, watch=watch)

    def _place(self, target: str, connections: int) -> tuple[str, tuple[Caller, ...]]:
        if target == ODEA:
            return self.house.url, self.house.callers(connections)
        if target == BARE:
            return self._bare.url, self._bare.callers(connections)
        return self._upstream.url, (Caller(tenant_id=UPSTREAM, key="bench", connections=connections),)

    def _costs(self, target: str) -> dict[str, Cost]:
        own = {UPSTREAM: alone(self._upstream.pid)}
        if target == ODEA:
            return {**self.house.costs(), **own}
        return {**self._bare.costs(), **own} if target == BARE else own

    def _name(self, target: str) -> str:
        self._numbers += 1
        return f"{target}-{self._numbers}"


def _plan_of(request_id: str) -> str:
    return request_id.partition(".")[0]


async def measure(
    programme: Programme, stack: EmbeddedStack, bare: BareChain, upstream: UpstreamHandle, run: Run
) -> None:
    """Do it all."""
    async with opened(stack) as house, watching(house) as watch:
        bench = Bench(house, bare, upstream)
        for phase in programme.phases:
            await bench.measure(run, phase, programme.seconds)
        await bench.run_out(run, programme.seconds)
        await bench.trouble(run, programme.seconds)
        await upstream.control(Control())
        await bench.settle(run, watch)
