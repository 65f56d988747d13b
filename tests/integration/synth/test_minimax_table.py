"""Every code and every broken stream of MiniMax through the whole service: what callers see, pay, and what counts."""

from collections.abc import AsyncGenerator
from functools import partial

import msgspec
import pytest
from nats.aio.msg import Msg
from pydantic import SecretStr

from fakes.minimax import Behaviour, End, FakeMiniMax
from fakes.minimax.app import KEY
from fakes.serving import serving
from integration.synth.caller import WITHIN_S, request, synth_settings
from integration.synth.harness import House, open_house
from odea_contracts import subjects
from odea_contracts.errors import ErrorCode
from odea_contracts.synth import BreakerChanged, BreakerState, SpeechEvent
from odea_synth.app import Source, serve_routing
from odea_synth.providers.credentials import Credential
from odea_synth.providers.minimax import MiniMaxOptions, MiniMaxProvider
from odea_synth.routing.reading import ProviderPlan
from support.databases import Databases
from support.routing import routing_of
from support.waiting import until

BAD, TEXT = ErrorCode.INVALID_VALUE, ErrorCode.CONTENT_REFUSED
AWAY, BUSY, BROKEN = ErrorCode.UPSTREAM_UNAVAILABLE, ErrorCode.UPSTREAM_BUSY, ErrorCode.UPSTREAM_ERROR
CODES = {
    **dict.fromkeys((1000, 1001, 1013, 1024, 1033, 4711), (BROKEN, True)),
    **dict.fromkeys((1002, 1039, 1041, 2045, 2205), (BUSY, False)),
    **dict.fromkeys((1004, 1008, 1028, 1030, 2038, 2049, 2056, 2061, 2153), (AWAY, False)),
    **dict.fromkeys((1026, 1027), (TEXT, False)),
    **dict.fromkeys((1042, 2013, 20132, 2042, 2054), (BAD, False)),
}
"""By the reference's table of errors: what the caller hears, and whether the breaker counts it."""
STREAMS = {
    "without its last event": (Behaviour(end=End.SILENT), BROKEN, True),
    "cut": (Behaviour(end=End.CUT), BROKEN, True),
    "cut at once": (Behaviour(end=End.CUT, pieces_before_end=0), BROKEN, True),
    "stalled": (Behaviour(end=End.STALL), ErrorCode.UPSTREAM_TIMEOUT, True),
    "an error in the middle": (Behaviour(end=End.ERROR, code=1000), BROKEN, True),
    "throttled in the middle": (Behaviour(end=End.ERROR, code=1002), BUSY, False),
    "refused in the middle": (Behaviour(end=End.ERROR, code=1027), TEXT, False),
    "no audio": (Behaviour(no_audio=True), BROKEN, True),
    "not hexadecimal": (Behaviour(piece="zz"), BROKEN, True),
    "not JSON": (Behaviour(body=b"<html>"), BROKEN, True),
    "HTTP 502": (Behaviour(status=502), BROKEN, True),
    "HTTP 429": (Behaviour(status=429), BUSY, False),
    "HTTP 401": (Behaviour(status=401), AWAY, False),
}
ROWS = {str(code): (Behaviour(code=code), *expected) for code, expected in CODES.items()} | STREAMS


@pytest.fixture(scope="module")
def minimax() -> FakeMiniMax:
    return FakeMiniMax()


@pytest.fixture(scope="module")
async def house(nats_url: str, databases: Databases, minimax: FakeMiniMax) -> AsyncGenerator[House]:
    """The first fault opens the breaker, and the next speech probes."""
    settings = synth_settings(nats_url, await databases.create("synth"))
    async with serving(minimax.app) as url:

        def make(plan: ProviderPlan) -> MiniMaxProvider:
            key = Credential(name="KEY", secret=SecretStr(KEY))
            # A credential that is parked is back for the next row.
            options = MiniMaxOptions(name=plan.name, credentials=(key,), base_url=url, park_s=0.001, throttle_s=0.001)
            return MiniMaxProvider(options)

        plan = routing_of(
            "minimax",
            own_model="speech-2.8-turbo",
            minimax={"breaker": {"faults_max": 1, "open_s": 0.001}, "next_audio_s": 1.0},
        )
        serve = partial(serve_routing, Source(plan=plan), settings, make=make)
        async with open_house(settings, await databases.create("quota"), serve) as opened:
            yield opened


@pytest.mark.parametrize("row", ROWS)
async def test_what_a_caller_sees_and_pays_and_what_the_breaker_counts(
    house: House, minimax: FakeMiniMax, account: str, row: str
) -> None:
    behaviour, code, counts = ROWS[row]
    asked = request(account, f"Row {row}.", voice="English_expressive_narrator")
    minimax.behaviours.append(behaviour)
    opened: list[BreakerChanged] = []
    ended: list[SpeechEvent] = []

    async def take(message: Msg) -> None:
        if message.subject == subjects.SYNTH_BREAKER_CHANGED:
            opened.append(msgspec.json.decode(message.data, type=BreakerChanged))
        else:
            ended.append(msgspec.json.decode(message.data, type=SpeechEvent))

    taps = [
        await house.bus.client.subscribe(subject, cb=take)
        for subject in (subjects.SYNTH_BREAKER_CHANGED, subjects.SYNTH_FAILED)
    ]
    await house.bus.round_trip()
    failure = await house.refusal(asked)
    assert failure.code is code
    # Told after the breaker's change, over the same connection.
    await until(lambda: any(event.request_id == asked.request_id for event in ended), within_s=WITHIN_S)
    assert any(event.state is BreakerState.OPEN for event in opened) == counts
    assert (await house.books(asked)).charged == 0
    for tap in taps:
        await tap.unsubscribe()
