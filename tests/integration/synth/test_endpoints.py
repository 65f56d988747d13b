"""Each endpoint in four ways: it answers, it refuses, its handler fails, nobody listens. None is silence (P9)."""

import time
from typing import Any

import msgspec
import pytest

from integration.synth.caller import request
from integration.synth.harness import House
from odea_contracts import synth
from odea_contracts.base import Endpoint, Message
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.subjects import SYNTH_SPEAK
from odea_runtime.bus import NoRespondersError
from odea_runtime.streams import RefusedError
from support.scripted import ScriptedProvider

LISTS: list[tuple[Endpoint[Any, Any], Message]] = [
    (synth.VOICES, synth.Voices(model="tts-1")),
    (synth.MODELS, synth.Models()),
]


async def test_voices_are_listed_under_every_name_that_they_answer_to(house: House) -> None:
    reply = await house.bus.call(synth.VOICES, synth.Voices())
    assert isinstance(reply, synth.VoiceList)
    by_name = {voice.id: voice for voice in reply.voices}
    assert {"alloy", "cedar", "Vera", "nova"} <= by_name.keys()
    assert (by_name["alloy"].language, by_name["alloy"].provider) == ("en-GB", "scripted")
    # The provider has a voice of its own with the name of one of OpenAI's.
    assert by_name["nova"].language is None
    assert len(reply.voices) == len(by_name)


async def test_models_are_listed(house: House) -> None:
    reply = await house.bus.call(synth.MODELS, synth.Models())
    assert isinstance(reply, synth.ModelList)
    assert [model.id for model in reply.models] == ["tts-1", "tts-1-hd", "gpt-4o-mini-tts", "scripted"]
    assert all(model.created_at_ms <= time.time() * 1000 for model in reply.models)


async def test_voices_of_an_unknown_model_are_refused(house: House) -> None:
    reply = await house.bus.call(synth.VOICES, synth.Voices(model="tts-9"))
    assert isinstance(reply, Failure)
    assert (reply.code, reply.param) == (ErrorCode.MODEL_NOT_FOUND, "model")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"model": 7}', b"\xff\xfe", b"[" * 5000])
async def test_a_body_that_is_not_a_message_is_refused(house: House, body: bytes) -> None:
    """P7."""
    message = await house.bus.client.request(synth.VOICES.subject, body, timeout=5)
    failure = msgspec.json.decode(message.data, type=Failure)
    assert failure.code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": "x" * 100_001}, "input"),
        ({"speed": 4.1}, "speed"),
        ({"response_format": "ogg"}, "response_format"),
        ({"accounts": []}, "accounts"),
        ({"sample_rate_hz": 7999}, "sample_rate_hz"),
        ({"credits": 0}, "credits"),
    ],
)
async def test_a_wrong_field_of_a_speech_is_named_and_costs_nothing(
    house: House, account: str, change: dict[str, object], param: str
) -> None:
    """P7. The refusal arrives in the stream's inbox, as every answer to a speech does."""
    body = msgspec.to_builtins(request(account, "Never said.")) | change
    async with house.streams.open(SYNTH_SPEAK, msgspec.json.encode(body), {}) as stream:
        with pytest.raises(RefusedError) as refused:
            await stream.head()
    assert (refused.value.failure.code, refused.value.failure.param) == (ErrorCode.INVALID_VALUE, param)
    assert await house.untouched(account)


async def test_a_handler_that_fails_says_so_and_no_more(house: House, provider: ScriptedProvider) -> None:
    """P6. What became of a speech whose handler fails is in `test_charging`."""
    provider.broken = RuntimeError("credential-of-ours")
    try:
        reply = await house.bus.call(synth.VOICES, synth.Voices())
    finally:
        provider.broken = None
    assert isinstance(reply, Failure)
    assert reply.code is ErrorCode.INTERNAL_ERROR
    assert "credential" not in reply.message


@pytest.mark.parametrize(("endpoint", "message"), LISTS, ids=["voices", "models"])
async def test_nobody_listening_is_heard_at_once(
    house: House, account: str, endpoint: Endpoint[Any, Any], message: Message
) -> None:
    await house.synth.stop()
    try:
        began = time.monotonic()
        with pytest.raises(NoRespondersError):
            await house.bus.call(endpoint, message)
        with pytest.raises(NoRespondersError):
            await house.hear(request(account, "To nobody."))
        assert time.monotonic() - began < 2.0
    finally:
        await house.synth.start()
    assert not isinstance(await house.bus.call(endpoint, message), Failure)
