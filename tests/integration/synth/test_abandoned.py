"""Nothing is held, and no provider is asked, for a receiver that has given up while its request lay in a queue (P2)."""

import asyncio
import time
from typing import Final

import pytest
from prometheus_client import REGISTRY

from integration.synth.caller import WITHIN_S, request
from integration.synth.harness import Books, House
from odea_contracts.synth import HEADER_SENT_MS
from support.scripted import ScriptedProvider, spoken
from support.waiting import until

FRESH_S: Final = 1.0
"""Longer than a busy machine takes to hand a request over."""


@pytest.fixture(scope="module")
def house_settings() -> dict[str, str]:
    return {"stream_fresh_s": str(FRESH_S), "call_timeout_s": "10"}


def silent_ends() -> float:
    return REGISTRY.get_sample_value("odea_stream_ended_total", {"end": "send", "outcome": "silent"}) or 0.0


async def test_one_that_gave_up_before_synth_began_costs_nothing(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    asked = request(account, "This has lain about for a minute.")
    performance = provider.announce(asked.input, spoken(len(asked.input)))
    before = silent_ends()
    sent = {HEADER_SENT_MS: str(int((time.time() - 60) * 1000))}
    await house.publish(asked, house.bus.client.new_inbox(), sent)
    await until(lambda: silent_ends() == before + 1, within_s=WITHIN_S)
    assert not performance.began.is_set()
    assert await house.untouched(account)
    assert not await house.rows(asked)


async def test_one_that_gave_up_while_quota_was_slow_is_released(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    asked = request(account, "Held late, and for nobody.")
    performance = provider.announce(asked.input, spoken(len(asked.input)))
    async with house.locked(account):
        await house.publish(asked, house.bus.client.new_inbox(), {HEADER_SENT_MS: str(int(time.time() * 1000))})
        await until(house.quota_waits, within_s=WITHIN_S)
        # Quota is asked with a fresh request; the answer must find an old one.
        await asyncio.sleep(FRESH_S)
    assert await house.books(asked) == Books(kind="released", logged="receiver_silent")
    assert not performance.began.is_set()
