"""The next provider: when it is asked, what that costs, what callers see, what the breaker counts (P1, P2, P4, P8)."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest
from nats.aio.msg import Msg

from integration.synth.caller import WITHIN_S, request, synth_settings
from integration.synth.harness import House, open_house
from odea_contracts import subjects
from odea_contracts.errors import ErrorCode
from odea_contracts.synth import BreakerChanged, BreakerState, Speak, SpeechEvent
from odea_runtime.streams import RefusedError
from odea_synth.app import Source, serve_routing
from odea_synth.providers.base import ErrorClass, ProviderError, SourceFormat, Utterance
from odea_synth.routing.reading import ProviderPlan
from support.databases import Databases
from support.routing import routing_of
from support.scripted import ScriptedProvider, spoken
from support.waiting import until

ELSEWHERE = [ErrorClass.ACCOUNT, ErrorClass.THROTTLE, ErrorClass.UPSTREAM]


@pytest.fixture(scope="module")
def first() -> ScriptedProvider:
    return ScriptedProvider(name="first")


@pytest.fixture(scope="module")
def second() -> ScriptedProvider:
    """Bills twice as much for a character."""
    return ScriptedProvider(name="second", units_per_character=2)


@pytest.fixture(scope="module")
def frail() -> ScriptedProvider:
    """A provider whose breaker opens at the second fault."""
    return ScriptedProvider(name="frail")


@pytest.fixture(scope="module")
async def house(
    nats_url: str, databases: Databases, first: ScriptedProvider, second: ScriptedProvider, frail: ScriptedProvider
) -> AsyncGenerator[House]:
    settings = synth_settings(nats_url, await databases.create("synth"))
    providers = {"first": first, "second": second, "frail": frail}

    def make(plan: ProviderPlan) -> ScriptedProvider:
        return providers[plan.name]

    plan = routing_of("first", "second")
    alone = routing_of("frail", frail={"breaker": {"faults_max": 2, "open_s": 600.0}, "attempts_max": 2})
    plan = type(plan)(
        providers={**plan.providers, **alone.providers},
        models={**alone.models, **plan.models, "frail": alone.models["frail"]},
    )
    serve = partial(serve_routing, Source(plan=plan), settings, make=make)
    async with open_house(settings, await databases.create("quota"), serve) as opened:
        yield opened


@asynccontextmanager
async def following(house: House, subject: str) -> AsyncGenerator[list[Msg]]:
    """Every event of one kind from now on."""
    heard: list[Msg] = []

    async def take(message: Msg) -> None:
        heard.append(message)

    tap = await house.bus.client.subscribe(subject, cb=take)
    await house.bus.round_trip()
    yield heard
    await tap.unsubscribe()


async def until_logged(house: House, asked: Speak) -> list[dict[str, Any]]:
    await until(lambda: house.is_logged(asked), within_s=WITHIN_S)
    return await house.rows(asked)


def fault(error_class: ErrorClass = ErrorClass.UPSTREAM, **more: Any) -> ProviderError:
    return ProviderError(error_class, "It would not.", **more)


@pytest.mark.parametrize("error_class", ELSEWHERE)
async def test_the_next_provider_speaks_and_the_caller_sees_that(
    house: House, account: str, first: ScriptedProvider, second: ScriptedProvider, error_class: ErrorClass
) -> None:
    asked = request(account, f"Refused as {error_class}.")
    first.announce(asked.input, fault(error_class))
    second.announce(asked.input, spoken(9))
    heard = await house.hear(asked)
    assert (heard.head.provider, heard.head.fallback, heard.tail.units) == ("second", True, 9)
    assert (await house.books(asked)).charged == 9
    [row] = await house.rows(asked)
    assert (row["provider"], row["attempts"], row["fallback"]) == ("second", 2, True)


async def test_a_provider_that_cannot_speak_this_is_passed_over(
    house: House, account: str, first: ScriptedProvider, second: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit that one provider has is no reason to refuse what the next one can speak. It holds for that one alone."""

    def source_format(_utterance: Utterance) -> SourceFormat:
        raise fault(ErrorClass.CALLER, param="speed")

    monkeypatch.setattr(first, "source_format", source_format)
    asked = request(account, "Too fast for the first.")
    second.announce(asked.input, spoken(9))
    heard = await house.hear(asked)
    assert (heard.head.provider, heard.head.units_held) == ("second", 2 * len(asked.input))
    [row] = await until_logged(house, asked)
    assert (row["provider"], row["attempts"]) == ("second", 1)
    monkeypatch.setattr(second, "source_format", source_format)
    with pytest.raises(RefusedError) as refused:
        await house.hear(request(account, "Too fast for both."))
    assert (refused.value.failure.code, refused.value.failure.param) == (ErrorCode.INVALID_VALUE, "speed")


async def test_more_is_held_before_a_provider_is_asked_that_may_bill_more(
    house: House, account: str, first: ScriptedProvider, second: ScriptedProvider
) -> None:
    asked = request(account, "Held twice over.")
    held: list[int] = []

    async def look() -> None:
        held.append((await house.balance(account)).held)

    first.announce(asked.input, look, fault())
    second.announce(asked.input, look, spoken(2 * len(asked.input)))
    heard = await house.hear(asked)
    assert held == [len(asked.input), 2 * len(asked.input)]
    assert heard.tail.units == 2 * len(asked.input)
    assert heard.head.units_held == 2 * len(asked.input)
    assert (await house.books(asked)).charged == 2 * len(asked.input)


async def test_a_provider_that_the_account_cannot_afford_is_not_asked(house: House, first: ScriptedProvider) -> None:
    """P1. What it would cost is not there, so the caller hears of the first one's fault, and nothing stays held."""
    account = await house.open_account(units=20)
    asked = request(account, "Fifteen letters")
    first.announce(asked.input, fault(retry_after_s=3.0))
    failure = await house.refusal(asked)
    assert (failure.code, failure.retry_after_ms) == (ErrorCode.UPSTREAM_ERROR, 3000)
    assert (await house.books(asked)).kind == "released"


@pytest.mark.parametrize("error_class", [ErrorClass.CALLER, ErrorClass.CONTENT])
async def test_what_is_the_callers_fault_is_asked_of_nobody_else(
    house: House, account: str, first: ScriptedProvider, error_class: ErrorClass
) -> None:
    asked = request(account, f"Wrong everywhere: {error_class}.")
    first.announce(asked.input, fault(error_class))
    failure = await house.refusal(asked)
    assert failure.code in (ErrorCode.INVALID_VALUE, ErrorCode.CONTENT_REFUSED)
    assert (await house.books(asked)).kind == "released"


async def test_after_the_first_audio_nobody_else_is_asked(house: House, account: str, first: ScriptedProvider) -> None:
    """P4: a body in two voices would be no whole."""
    asked = request(account, "Broken in the middle.")
    first.announce(asked.input, spoken(5), fault())
    with pytest.raises(RefusedError) as refused:
        await house.hear(asked)
    assert refused.value.failure.code is ErrorCode.UPSTREAM_ERROR
    books = await house.books(asked)
    assert (books.outcome, books.charged, books.provider_units) == ("written_off", 0, 5)


async def test_when_all_are_out_the_soonest_to_be_back_is_told(
    house: House, account: str, first: ScriptedProvider, second: ScriptedProvider
) -> None:
    asked = request(account, "Nobody.")
    first.announce(asked.input, fault(ErrorClass.ACCOUNT, retry_after_s=9.0, billed_units=4))
    second.announce(asked.input, fault(ErrorClass.ACCOUNT, retry_after_s=4.0))
    failure = await house.refusal(asked)
    assert (failure.code, failure.retry_after_ms) == (ErrorCode.UPSTREAM_UNAVAILABLE, 4000)
    books = await house.books(asked)
    assert (books.outcome, books.provider_units) == ("written_off", 4)


async def test_a_fault_before_the_first_audio_is_tried_again_and_a_broken_stream_counts(
    house: House, account: str, frail: ScriptedProvider
) -> None:
    """Two attempts, then a whole stream resets the count; a stream that broke and a refusal open it."""
    async with following(house, subjects.SYNTH_BREAKER_CHANGED) as events:
        asked = request(account, "The second time.", model="frail")
        frail.announce_again(asked.input, fault(), spoken(5))
        heard = await house.hear(asked)
        assert heard.head.fallback is False
        [row] = await until_logged(house, asked)
        assert (row["attempts"], row["outcome"]) == (2, "completed")
        for number in range(2):
            asked = request(account, f"Broken stream {number}.", model="frail")
            frail.announce(asked.input, spoken(1), fault())
            assert (await house.refusal(asked)).code is ErrorCode.UPSTREAM_ERROR
        failure = await house.refusal(request(account, "Left alone.", model="frail"))
        assert failure.code is ErrorCode.UPSTREAM_UNAVAILABLE
        assert failure.retry_after_ms is not None
        assert 500_000 < failure.retry_after_ms <= 600_000
        await until(lambda: bool(events), within_s=WITHIN_S)
    changed = events[0]
    assert (changed.headers or {})["ce-type"] == subjects.SYNTH_BREAKER_CHANGED
    event = msgspec.json.decode(changed.data, type=BreakerChanged)
    assert (event.provider, event.before, event.state) == ("frail", BreakerState.CLOSED, BreakerState.OPEN)


async def test_the_end_of_a_speech_is_an_event(house: House, account: str, first: ScriptedProvider) -> None:
    asked = request(account, "Tell everybody.")
    first.announce(asked.input, spoken(7))
    async with following(house, subjects.SYNTH_COMPLETED) as events:
        await house.hear(asked)
        await until(lambda: bool(events), within_s=WITHIN_S)
    assert asked.input not in str(events[0].data)
    event = msgspec.json.decode(events[0].data, type=SpeechEvent)
    assert (event.request_id, event.outcome, event.units, event.attempts) == (asked.request_id, "completed", 7, 1)
