"""What synth is asked for is what the client meant, clean and within the limits (P7)."""

import msgspec
import pytest

from odea_contracts.errors import ErrorCode
from odea_contracts.keys import Principal, Scope
from odea_contracts.synth import AudioFormat, Speak
from odea_gateway.body import decode_body
from odea_gateway.problems import ProblemError
from odea_gateway.settings import GatewaySettings
from odea_gateway.speech import DECODER, HINTS, StreamFormat, to_speak

PRINCIPAL = Principal(tenant_id="ten_a", key_id="key_a", scopes=(Scope.SPEECH,), accounts=("ten_a", "key_a"))
SETTINGS = GatewaySettings.model_validate({"nats_url": "nats://unused", "text_chars_max": 10})


def asked(**fields: object) -> Speak:
    body = msgspec.json.encode({"model": "tts-1", "voice": "alloy", "input": "Hello", **fields})
    speak = to_speak(decode_body(body, DECODER, HINTS), PRINCIPAL, "req_1", SETTINGS)
    # What is sent must be what the contract reads.
    assert msgspec.json.decode(msgspec.json.encode(speak), type=Speak) == speak
    return speak


def test_the_defaults_are_openais() -> None:
    assert asked() == Speak(
        request_id="req_1",
        tenant_id="ten_a",
        key_id="key_a",
        accounts=("ten_a", "key_a"),
        model="tts-1",
        voice="alloy",
        input="Hello",
        response_format=AudioFormat.MP3,
        speed=1.0,
        instructions=None,
        sample_rate_hz=None,
        credits=SETTINGS.stream_window_frames,
    )


def test_every_field_is_passed_on() -> None:
    speak = asked(response_format="wav", speed=2, instructions="Slowly.", sample_rate=16000, voice={"id": "v1"})
    assert (speak.response_format, speak.speed) == (AudioFormat.WAV, 2.0)
    assert (speak.instructions, speak.sample_rate_hz, speak.voice) == ("Slowly.", 16000, "v1")


def test_null_is_as_good_as_nothing() -> None:
    nulls = dict.fromkeys(("response_format", "speed", "instructions", "stream_format", "sample_rate"))
    assert asked(**nulls) == asked()


def test_fields_of_other_servers_are_ignored() -> None:
    assert asked(lang_code="de", stream=True, volume_multiplier={"deep": [1]}) == asked()


def test_both_stream_formats_are_known() -> None:
    body = b'{"model":"m","voice":"v","input":"i","stream_format":"sse"}'
    assert decode_body(body, DECODER, HINTS).stream_format is StreamFormat.SSE


def test_text_is_counted_clean() -> None:
    assert asked(input="\u200b" * 50 + "e\u0301" * 10).input == "é" * 10


def test_a_text_at_the_limit_is_spoken() -> None:
    assert asked(input="x" * 10).input == "x" * 10


@pytest.mark.parametrize("text", ["", " \n\t ", "\u200b\ufeff", "\u0000"])
def test_nothing_to_speak_is_refused(text: str) -> None:
    with pytest.raises(ProblemError) as caught:
        asked(input=text)
    assert (caught.value.failure.code, caught.value.failure.param) == (ErrorCode.EMPTY_INPUT, "input")


@pytest.mark.parametrize(("field", "value"), [("input", "x" * 11), ("instructions", "x" * 4097)])
def test_too_much_is_refused(field: str, value: str) -> None:
    with pytest.raises(ProblemError) as caught:
        asked(**{field: value})
    assert (caught.value.failure.code, caught.value.failure.param) == (ErrorCode.INPUT_TOO_LONG, field)


def test_empty_instructions_are_none() -> None:
    assert asked(instructions=" \u200b ").instructions is None
