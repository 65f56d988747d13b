"""P2 as a table: how a speech ends decides what it costs, and what stands in the books afterwards."""

import asyncio

import pytest

from integration.synth.caller import request
from integration.synth.harness import Books, House
from odea_contracts import quota
from odea_contracts.errors import ErrorCode
from odea_contracts.synth import AudioFormat, CancelReason
from odea_runtime.streams import RefusedError
from odea_synth.providers.base import Chunk, Encoded, ErrorClass, Pcm, ProviderError
from support.scripted import ScriptedProvider, spoken
from support.waiting import until

SECRET = "credential-of-ours-4711"


def broken(error_class: ErrorClass = ErrorClass.UPSTREAM) -> ProviderError:
    return ProviderError(error_class, "That went wrong.", detail=SECRET)


async def test_a_whole_speech_is_charged_once_and_every_sample_arrives(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    asked = request(account, "All of it, please.", voice="alloy")
    provider.announce(asked.input, spoken(7), spoken(12, level=-3), spoken(18, level=9))
    async with house.overhear(quota.SETTLE) as settlements:
        heard = await house.hear(asked)
    assert [settlement.units for settlement in settlements] == [18]
    assert heard.audio == spoken(7).audio + spoken(12, level=-3).audio + spoken(18, level=9).audio
    assert heard.tail.units == 18
    head = heard.head
    assert (head.provider, head.model, head.voice, head.content_type) == ("scripted", "tts-1", "Vera", "audio/pcm")
    assert head.units_held == 18
    [balance] = head.balances
    assert (balance.account_id, balance.held) == (account, 18)
    # The charge was durable before the tail: no waiting here.
    assert (await house.balance(account)).used == 18
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="completed",
        charged=18,
        provider_units=18,
        logged="completed",
        logged_provider_units=18,
    )
    [row] = await house.rows(asked)
    assert row["audio_bytes"] == len(heard.audio)
    assert (row["units_held"], row["characters"], row["voice"], row["key_id"]) == (18, 18, "Vera", "key_1")
    assert 0 <= row["first_audio_ms"] <= row["duration_ms"]


async def test_what_was_held_and_not_billed_is_given_back(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    asked = request(account, "Held for more than it costs.")
    provider.announce(asked.input, spoken(5))
    assert (await house.hear(asked)).tail.units == 5
    assert (await house.books(asked)).charged == 5


async def test_a_provider_that_bills_more_than_is_held_charges_no_more_than_that(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    asked = request(account, "Ten chars.")
    provider.announce(asked.input, spoken(25))
    assert (await house.hear(asked)).tail.units == 10
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="completed",
        charged=10,
        provider_units=25,
        logged="completed",
        logged_provider_units=25,
    )


async def test_audio_that_the_provider_encodes_itself_is_passed_on(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    asked = request(account, "Encoded elsewhere.", response_format=AudioFormat.OPUS)
    provider.announce(asked.input, Chunk(audio=b"OggS", billed_units=4), Chunk(audio=b"more", billed_units=18))
    provider.source = Encoded(audio_format=AudioFormat.OPUS)
    try:
        heard = await house.hear(asked)
    finally:
        provider.source = Pcm(rate_hz=24_000)
    assert (heard.audio, heard.head.content_type) == (b"OggSmore", "audio/opus")
    assert (await house.books(asked)).charged == 18


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"model": "tts-9"}, ErrorCode.MODEL_NOT_FOUND, "model"),
        ({"voice": "vera"}, ErrorCode.VOICE_NOT_FOUND, "voice"),
        ({"response_format": AudioFormat.MP3, "sample_rate_hz": 23_000}, ErrorCode.INVALID_VALUE, "sample_rate"),
    ],
)
async def test_what_nobody_can_speak_costs_nothing(
    house: House, account: str, change: dict[str, object], code: ErrorCode, param: str
) -> None:
    """P7: refused before anything is held, and the provider, to whom no text was announced, is not asked."""
    failure = await house.refusal(request(account, "Refused.", **change))
    assert (failure.code, failure.param) == (code, param)
    assert await house.untouched(account)


@pytest.mark.parametrize("error_class", ErrorClass)
async def test_an_error_before_anything_was_billed_releases_the_hold(
    house: House, provider: ScriptedProvider, account: str, error_class: ErrorClass
) -> None:
    asked = request(account, f"Fails at once: {error_class}.")
    error = ProviderError(error_class, "That went wrong.", detail=SECRET, retry_after_s=2.5)
    provider.announce(asked.input, error)
    failure = await house.refusal(asked)
    codes = {
        ErrorClass.CALLER: ErrorCode.INVALID_VALUE,
        ErrorClass.CONTENT: ErrorCode.CONTENT_REFUSED,
        ErrorClass.ACCOUNT: ErrorCode.UPSTREAM_UNAVAILABLE,
        ErrorClass.THROTTLE: ErrorCode.UPSTREAM_BUSY,
        ErrorClass.UPSTREAM: ErrorCode.UPSTREAM_ERROR,
    }
    assert (failure.code, failure.message) == (codes[error_class], "That went wrong.")
    assert failure.retry_after_ms == 2500
    assert await house.books(asked) == Books(kind="released", logged="provider_failed")


async def test_an_error_after_billing_and_before_the_first_byte_is_written_off(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """Half a sample never leaves the encoder: the caller got nothing, and the provider wants its money."""
    asked = request(account, "Billed, and then nothing.")
    provider.announce(asked.input, Chunk(audio=b"\x01", billed_units=9), broken())
    async with house.speak(asked) as stream:
        with pytest.raises(RefusedError) as refused:
            await stream.head()
    assert refused.value.failure.code is ErrorCode.UPSTREAM_ERROR
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="written_off",
        provider_units=9,
        logged="provider_failed",
        logged_provider_units=9,
    )


async def test_an_error_in_mid_stream_is_visible_and_written_off(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    """P4 too: what has arrived is not taken for the whole."""
    asked = request(account, "Half of it, and then the wire breaks.")
    provider.announce(asked.input, spoken(17), broken())
    async with house.speak(asked) as stream:
        await stream.head()
        frames = aiter(stream)
        assert await anext(frames) == spoken(17).audio
        with pytest.raises(RefusedError) as refused:
            await anext(frames)
    assert refused.value.failure.code is ErrorCode.UPSTREAM_ERROR
    assert SECRET not in refused.value.failure.message
    assert await house.books(asked) == Books(
        kind="settled",
        outcome="written_off",
        provider_units=17,
        logged="provider_failed",
        logged_provider_units=17,
    )


@pytest.mark.parametrize("audio_format", [AudioFormat.PCM, AudioFormat.WAV, AudioFormat.OPUS, AudioFormat.FLAC])
@pytest.mark.parametrize("chunks", [(), (Chunk(audio=b"", billed_units=0),)], ids=["none", "empty"])
async def test_a_provider_without_audio_has_failed(
    house: House, provider: ScriptedProvider, account: str, audio_format: AudioFormat, chunks: tuple[Chunk, ...]
) -> None:
    """P4: the header that some formats begin with does not pass for a speech."""
    asked = request(account, "Nothing comes of it.", response_format=audio_format)
    provider.announce(asked.input, *chunks)
    failure = await house.refusal(asked)
    assert failure.code is ErrorCode.UPSTREAM_ERROR
    assert await house.books(asked) == Books(kind="released", logged="provider_failed")


@pytest.mark.parametrize("billed", [0, 6])
async def test_a_fault_of_ours_is_named_without_its_details_and_costs_nothing(
    house: House, provider: ScriptedProvider, account: str, billed: int
) -> None:
    """P6: the exception's text stays inside."""
    asked = request(account, f"A fault after {billed} units.")
    provider.announce(asked.input, *([spoken(billed)] if billed else []), RuntimeError(SECRET))
    failure = await house.refusal(asked)
    assert failure.code is ErrorCode.INTERNAL_ERROR
    assert SECRET not in str(failure)
    written_off = Books(
        kind="settled", outcome="written_off", provider_units=6, logged="fault", logged_provider_units=6
    )
    assert await house.books(asked) == (written_off if billed else Books(kind="released", logged="fault"))


async def test_a_fault_before_anything_is_held_is_named_too(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    provider.broken = RuntimeError(SECRET)
    try:
        failure = await house.refusal(request(account, "A fault in the catalogue."))
    finally:
        provider.broken = None
    assert failure.code is ErrorCode.INTERNAL_ERROR
    assert SECRET not in str(failure)
    assert await house.untouched(account)


async def test_many_ends_at_once_leave_nothing_held(house: House, provider: ScriptedProvider, account: str) -> None:
    """P1 and P3 over a mixed crowd on one account: what is used is the sum of what was charged."""

    async def whole(number: int) -> int:
        asked = request(account, f"Whole {number:02}.")
        provider.announce(asked.input, spoken(9))
        return (await house.hear(asked)).tail.units

    async def failing(number: int) -> int:
        asked = request(account, f"Fails {number:02}.")
        provider.announce(asked.input, spoken(4), broken())
        assert (await house.refusal(asked)).code is ErrorCode.UPSTREAM_ERROR
        return 0

    async def left(number: int) -> int:
        asked = request(account, f"Left {number:02}.")
        provider.announce(asked.input, spoken(2), asyncio.Event().wait)
        async with house.speak(asked) as stream:
            await stream.head()
            await stream.cancel(CancelReason.CLIENT_GONE)
        return 2

    charged = await asyncio.gather(*(end(number) for number in range(10) for end in (whole, failing, left)))

    async def is_settled() -> bool:
        return (await house.balance(account)).in_flight == 0

    await until(is_settled)
    balance = await house.balance(account)
    assert (balance.used, balance.held) == (sum(charged), 0)
