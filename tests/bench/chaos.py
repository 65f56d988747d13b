"""A load under which everything dies, stands still and comes back, and what clients and the books say of it.

Held at the end: the money adds up, nobody hung, no body looked whole that was not, and soon after the last fault every
request succeeds again.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.books import watching
from bench.faults import Fault, carry_out
from bench.house import opened
from bench.money import Verdict
from bench.processes import UpstreamHandle, load
from bench.records import End, LoadPlan, LoadResult, Record, Wish
from bench.speed import ODEA, account
from bench.upstream import Control
from odea_local.embedded import EmbeddedStack

HANG_S: Final = 5.0
HEALED_WITHIN_S: Final = 10.0
AFTERWARDS_S: Final = 12.0
"""How long the load goes on after the last fault."""
BEGIN_S: Final = 2.0
LONGEST_S: Final = 3600.0
USUAL: Final = Control(first_s=0.03, between_s=0.01, sigma=0.3)
WISHES: Final = {Wish.LEAVE: 0.02, Wish.LEAVE_EARLY: 0.02, Wish.CUT: 0.01}
TIGHT_UNITS: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class Chaos:
    """What came of it.

    Attributes:
        ends: how requests ended.
        slowest_s: the longest that a client waited for an end.
        healed_s: from the end of the last fault to the last request that failed.
        faults: everything that must not be.
        verdict: over the money.
    """

    ends: Counter[str]
    slowest_s: float
    healed_s: float
    faults: tuple[str, ...]
    verdict: Verdict


async def chaos(
    faults: Sequence[Fault], stack: EmbeddedStack, upstream: UpstreamHandle, *, connections: int, seed: int
) -> Chaos:
    """Let the faults happen under load."""
    async with opened(stack) as house, watching(house) as watch:
        await upstream.control(USUAL)
        with tempfile.TemporaryDirectory(prefix="odea-chaos-") as folder:
            stop = Path(folder) / "stop"
            plan = LoadPlan(
                name=f"{ODEA}-chaos",
                url=house.url,
                callers=(*house.callers(connections), await house.tight(TIGHT_UNITS, 2)),
                seconds=LONGEST_S,
                wishes=WISHES,
                hang_s=HANG_S,
                pause_s_max=0.1,
                stop_file=str(stop),
                seed=seed,
            )
            loading = asyncio.create_task(load(plan))
            try:
                await asyncio.sleep(BEGIN_S)
                ended = await carry_out(faults, house, upstream, USUAL)
                await asyncio.sleep(AFTERWARDS_S)
            finally:
                stop.touch()
                result = await loading
        verdict = await account(house, upstream, result.records, watch, killed=True)
    return judge_chaos(result, ended, verdict)


def judge_chaos(result: LoadResult, ended: float, verdict: Verdict) -> Chaos:
    """Hold what clients saw against what they may see."""
    faults = list(verdict.faults)
    hung = [record for record in result.records if record.end is End.HUNG]
    faults += [f"{record.id} hung: status {record.status} after {record.total_ms:.0f} ms" for record in hung]
    failed = [record.began + record.total_ms / 1000 for record in result.records if _failed(record)]
    healed_s = max(0.0, max(failed, default=ended) - ended)
    if healed_s > HEALED_WITHIN_S:
        faults.append(f"requests failed until {healed_s:.1f} s after the last fault")
    if not any(record.end is End.WHOLE and record.began > ended for record in result.records):
        faults.append("nothing was served after the last fault")
    return Chaos(
        ends=Counter(" ".join(filter(None, (r.end, str(r.status or ""), r.code))) for r in result.records),
        slowest_s=max((record.total_ms for record in result.records), default=0.0) / 1000,
        healed_s=healed_s,
        faults=tuple(faults),
        verdict=verdict,
    )


def _failed(record: Record) -> bool:
    """Whether a request failed that nobody had made to fail, and no limit of the caller's own refused."""
    return record.wish is Wish.OK and record.end is not End.WHOLE and record.code != "insufficient_quota"
