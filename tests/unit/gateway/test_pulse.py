"""A missed answer is told every time, and nothing else is."""

import asyncio
from dataclasses import dataclass, field

import nats.errors
import pytest

from odea_gateway.pulse import Pulse
from support.waiting import until

EVERY_S = 0.001


@dataclass
class Bus:
    """Answers as the test says."""

    connected: bool = True
    answer: Exception | None = None
    asked: int = 0
    missed: list[int] = field(default_factory=list[int])

    async def round_trip(self, within_s: float) -> None:
        assert within_s == EVERY_S
        self.asked += 1
        if self.answer:
            raise self.answer

    def pulse(self) -> Pulse:
        return Pulse(self.round_trip, lambda: self.connected, lambda: self.missed.append(self.asked), every_s=EVERY_S)


@pytest.mark.parametrize("error", [TimeoutError(), nats.errors.TimeoutError(), nats.errors.ConnectionClosedError()])
async def test_every_missed_answer_is_told(error: Exception) -> None:
    bus = Bus()
    beating = asyncio.create_task(bus.pulse().run())
    await until(lambda: bus.asked >= 3)
    assert bus.missed == []
    bus.answer = error
    await until(lambda: len(bus.missed) >= 3)
    bus.answer = None
    told, asked = len(bus.missed), bus.asked
    await until(lambda: bus.asked >= asked + 3)
    assert len(bus.missed) == told
    beating.cancel()
    await asyncio.wait([beating])


async def test_without_a_connection_nothing_is_asked() -> None:
    bus = Bus(connected=False)
    beating = asyncio.create_task(bus.pulse().run())
    turns = 0

    def turned() -> bool:
        nonlocal turns
        turns += 1
        return turns > 3

    await until(turned)
    bus.connected = True
    assert bus.asked == 0
    await until(lambda: bus.asked > 0)
    beating.cancel()
    await asyncio.wait([beating])


async def test_a_fault_of_our_own_ends_it() -> None:
    bus = Bus(answer=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await bus.pulse().run()
