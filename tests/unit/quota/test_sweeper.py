"""The sweeper's pace: on and on while holds end, and a pause when they do not."""

import asyncio
from typing import cast

from odea_contracts.errors import ErrorCode, failure
from odea_contracts.quota import Expired
from odea_quota.batcher import Batcher
from odea_quota.book import Expire
from odea_quota.ledger import Answer
from odea_quota.store import HoldStore
from odea_quota.sweeper import Sweeper
from support.waiting import until
from unit.quota.samples import hold_id


class StubLedger:
    """A store with so many overdue holds, and the batcher that ends them, or does not."""

    def __init__(self, overdue_count: int, *, broken: bool) -> None:
        self.left = overdue_count
        self.broken = broken
        self.steps: list[str] = []

    async def overdue(self, limit: int) -> list[Expire]:
        self.steps.append("overdue")
        return [Expire(hold_id(number)) for number in range(min(limit, self.left))]

    async def gauges(self) -> tuple[int, float]:
        self.steps.append("gauges")
        return self.left, 0.0

    async def ensure_partitions(self) -> None:
        self.steps.append("partitions")

    async def submit(self, command: Expire) -> Answer:
        if self.broken:
            return failure(ErrorCode.INTERNAL_ERROR)
        self.left -= 1
        return Expired(hold_id=command.hold_id)


async def _first_round(stub: StubLedger) -> list[str]:
    """What the sweeper does until its first pause, which is longer than any test."""
    sweeper = Sweeper(cast("HoldStore", stub), cast("Batcher", stub), every_s=3600)
    sweeping = asyncio.create_task(sweeper.run())
    await until(lambda: "gauges" in stub.steps)
    sweeping.cancel()
    await asyncio.wait([sweeping])
    return stub.steps


async def test_many_overdue_holds_are_ended_without_a_pause() -> None:
    steps = await _first_round(StubLedger(1_200, broken=False))
    assert steps == ["partitions", *["overdue"] * 3, "gauges"]


async def test_holds_that_can_not_be_ended_are_not_tried_again_at_once() -> None:
    steps = await _first_round(StubLedger(1_200, broken=True))
    assert steps == ["partitions", "overdue", "gauges"]
