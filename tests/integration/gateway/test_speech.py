"""Speech over HTTP is what synth sent, byte for byte, in the shape that OpenAI's clients know."""

import asyncio
import base64
import io
import os
import struct
import wave
from collections.abc import AsyncGenerator

import httpx
import msgspec
import pytest
from openai import AsyncOpenAI

from integration.gateway.harness import BODY, SPEECH, client_of, raw_exchange
from integration.gateway.standins import Standins, digest, head_for, say
from odea_contracts.keys import Scope
from odea_contracts.minimax import VoiceSetting
from odea_contracts.synth import CONTENT_TYPES, AudioFormat, Speak, TimestampKind, Timing
from odea_gateway.app import Gateway
from odea_runtime.streams import OutgoingStream
from support.waiting import until

FRAMES = [os.urandom(size) for size in (1, 64 * 1024, 17, 40_000, 16 * 1024)]


async def test_audio_arrives_byte_for_byte(client: httpx.AsyncClient, standins: Standins) -> None:
    """P4."""
    standins.synth.play = say(*FRAMES)
    answer = await client.post(SPEECH, json=BODY)
    assert answer.status_code == 200
    assert digest(answer.content) == digest(b"".join(FRAMES))
    assert answer.headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize("audio_format", list(AudioFormat))
async def test_the_content_type_is_the_formats(
    client: httpx.AsyncClient, standins: Standins, audio_format: AudioFormat
) -> None:
    answer = await client.post(SPEECH, json={**BODY, "response_format": audio_format})
    assert answer.headers["content-type"] == CONTENT_TYPES[audio_format]
    assert standins.synth.asked[-1].response_format is audio_format


async def test_synth_is_asked_for_what_the_client_meant(
    client: httpx.AsyncClient, standins: Standins, key: str
) -> None:
    body = {**BODY, "voice": {"id": "joe"}, "input": "e\u0301\u200b!", "speed": 1.5, "other_servers_field": 1}
    answer = await client.post(SPEECH, json=body, headers={"x-request-id": "mine-1"})
    (asked,) = standins.synth.asked
    principal = standins.keys.revoke(key)
    assert (asked.voice, asked.input, asked.speed) == ("joe", "é!", 1.5)
    assert (asked.tenant_id, asked.key_id) == (principal.tenant_id, principal.key_id)
    assert asked.accounts == principal.accounts
    assert asked.request_id == "mine-1" == answer.headers["x-request-id"]


async def test_the_headers_say_what_was_decided(client: httpx.AsyncClient, standins: Standins) -> None:
    standins.synth.play = say(b"audio", fallback=True)
    answer = await client.post(SPEECH, json=BODY)
    told = answer.headers
    assert told["odea-characters"] == str(len(BODY["input"]) + 5)
    assert (told["odea-provider"], told["odea-fallback"]) == ("standin", "1")
    assert int(told["odea-overhead-ms"]) >= 0
    assert told["x-ratelimit-limit-characters"] == "1000"
    assert told["x-ratelimit-remaining-characters"] == "900"
    assert told["x-ratelimit-remaining-requests"] == "59"
    assert told["x-ratelimit-reset-requests"] == "2s"
    assert (told["cache-control"], told["x-accel-buffering"]) == ("no-store", "no")
    assert (told["x-content-type-options"], told["server"]) == ("nosniff", "odea")


async def test_the_first_audio_leaves_before_the_last_is_made(client: httpx.AsyncClient, standins: Standins) -> None:
    """Nothing is held back: the rest is made only after the client has the beginning."""
    heard: list[bytes] = []

    async def play(request: Speak, stream: OutgoingStream) -> None:
        await stream.head(head_for(request))
        await stream.audio(b"first")
        await until(lambda: heard == [b"first"])
        await stream.audio(b"second")
        await stream.tail(6)

    standins.synth.play = play
    async with client.stream("POST", SPEECH, json=BODY) as answer:
        async for piece in answer.aiter_raw():
            heard += [piece]
    assert heard == [b"first", b"second"]


async def test_events_carry_the_same_audio(client: httpx.AsyncClient, standins: Standins) -> None:
    standins.synth.play = say(*FRAMES)
    answer = await client.post(SPEECH, json={**BODY, "stream_format": "sse"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [msgspec.json.decode(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    *deltas, done = events
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    audio = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    assert digest(audio) == digest(b"".join(FRAMES))
    spent = len(BODY["input"])
    usage = {"input_tokens": spent, "output_tokens": 0, "total_tokens": spent}
    assert done == {"type": "speech.audio.done", "usage": usage}


async def test_events_tell_when_words_are_heard(client: httpx.AsyncClient, standins: Standins) -> None:
    words = [Timing(word="Grüße,", start_ms=0, end_ms=480), Timing(word="Welt", start_ms=480, end_ms=1001)]

    async def play(request: Speak, stream: OutgoingStream) -> None:
        await stream.head(head_for(request))
        await stream.audio(b"one")
        await stream.timings(words[:1])
        await stream.audio(b"two")
        await stream.timings(words[1:])
        await stream.tail(7)

    standins.synth.play = play
    answer = await client.post(SPEECH, json={**BODY, "stream_format": "sse", "timestamps": "word"})
    assert standins.synth.asked[-1].timestamps is TimestampKind.WORD
    events = [msgspec.json.decode(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    kinds = ["delta", "timestamps", "delta", "timestamps", "done"]
    assert [event["type"] for event in events] == [f"speech.audio.{kind}" for kind in kinds]
    assert [event["timestamps"] for event in events if "timestamps" in event] == [
        [{"word": "Grüße,", "start_time": 0.0, "end_time": 0.48}],
        [{"word": "Welt", "start_time": 0.48, "end_time": 1.001}],
    ]


@pytest.mark.parametrize("stream_format", [None, "audio"])
async def test_timestamps_have_no_place_in_bare_audio(
    client: httpx.AsyncClient, standins: Standins, stream_format: str | None
) -> None:
    answer = await client.post(SPEECH, json={**BODY, "stream_format": stream_format, "timestamps": "sentence"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "timestamps")
    assert not standins.synth.asked


async def test_timings_that_nobody_asked_for_are_no_part_of_the_audio(
    client: httpx.AsyncClient, standins: Standins
) -> None:
    async def play(request: Speak, stream: OutgoingStream) -> None:
        await stream.head(head_for(request))
        await stream.audio(b"one")
        await stream.timings([Timing(word="one", start_ms=0, end_ms=1)])
        await stream.audio(b"two")
        await stream.tail(7)

    standins.synth.play = play
    assert (await client.post(SPEECH, json=BODY)).content == b"onetwo"


async def test_what_minimax_alone_can_do_reaches_synth(client: httpx.AsyncClient, standins: Standins) -> None:
    wishes = {"voice_setting": {"emotion": "happy", "pitch": -3}, "language_boost": "auto", "some_future_field": 1}
    assert (await client.post(SPEECH, json={**BODY, "minimax": wishes})).status_code == 200
    asked = standins.synth.asked[-1].minimax
    assert asked is not None
    assert asked.voice_setting == VoiceSetting(emotion="happy", pitch=-3)
    assert asked.language_boost == "auto"


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        ({"voice_setting": {"pitch": 13}}, "minimax.voice_setting.pitch"),
        ({"voice_setting": {"emotion": "envious"}}, "minimax.voice_setting.emotion"),
        ({"timbre_weights": [{"weight": 1}]}, "minimax.timbre_weights[0].voice_id"),
        ("loud", "minimax"),
    ],
)
async def test_a_wish_that_minimax_could_not_fulfil_is_refused_by_its_name(
    client: httpx.AsyncClient, standins: Standins, wishes: object, param: str
) -> None:
    """P7."""
    answer = await client.post(SPEECH, json={**BODY, "minimax": wishes})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not standins.synth.asked


async def test_an_http_1_0_client_gets_a_wav_with_its_true_sizes(
    gateway: Gateway, standins: Standins, key: str
) -> None:
    header = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, 1, 24_000, 48_000, 2, 16)
    standins.synth.play = say(header + b"data\xff\xff\xff\xff", bytes(4800))
    body = msgspec.json.encode({**BODY, "response_format": "wav"})
    request = (
        f"POST {SPEECH} HTTP/1.0\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body
    _, _, audio = (await raw_exchange(str(gateway.http.address), request)).partition(b"\r\n\r\n")
    with wave.open(io.BytesIO(audio)) as read:
        assert (read.getnframes(), len(read.readframes(10**6))) == (2400, 4800)


async def test_an_http_1_0_client_gets_it_whole(gateway: Gateway, standins: Standins, key: str) -> None:
    """P4: such a client can't see a cut body, so it gets the length with the audio, and the charge as it is."""
    standins.synth.play = say(*FRAMES)
    body = msgspec.json.encode(BODY)
    request = (
        f"POST {SPEECH} HTTP/1.0\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body
    head, _, audio = (await raw_exchange(str(gateway.http.address), request)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK")
    assert f"content-length: {sum(map(len, FRAMES))}".encode() in head
    assert f"odea-characters: {len(BODY['input'])}".encode() in head
    assert digest(audio) == digest(b"".join(FRAMES))


async def test_a_body_without_a_content_type_is_read_as_json(client: httpx.AsyncClient) -> None:
    answer = await client.post(SPEECH, content=msgspec.json.encode(BODY))
    assert answer.status_code == 200


async def test_a_body_in_chunks_is_read(client: httpx.AsyncClient, standins: Standins) -> None:
    async def chunks() -> AsyncGenerator[bytes]:
        for byte in msgspec.json.encode(BODY):
            yield bytes([byte])

    answer = await client.post(SPEECH, content=chunks(), headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert standins.synth.asked[-1].input == BODY["input"]


async def test_the_longest_text_fits_with_every_character_escaped(
    client: httpx.AsyncClient, standins: Standins
) -> None:
    text = "\\ud83d\\ude00" * 4096
    body = f'{{"model":"tts-1","voice":"alloy","input":"{text}","instructions":"{text}"}}'
    answer = await client.post(SPEECH, content=body.encode(), headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert standins.synth.asked[-1].input == "\U0001f600" * 4096


async def test_both_headers_take_the_key(gateway: Gateway, key: str) -> None:
    async with client_of(gateway) as client:
        answer = await client.post(SPEECH, json=BODY, headers={"x-api-key": key})
    assert answer.status_code == 200


async def test_the_official_sdk_speaks(gateway: Gateway, standins: Standins) -> None:
    standins.synth.play = say(*FRAMES)
    key = standins.keys.issue(Scope.SPEECH)
    async with AsyncOpenAI(base_url=f"http://{gateway.http.address}/v1", api_key=key, max_retries=0) as openai:
        whole = await openai.audio.speech.create(model="tts-1", voice="alloy", input="Hello.", response_format="wav")
        assert digest(whole.content) == digest(b"".join(FRAMES))
        streaming = openai.audio.speech.with_streaming_response
        async with streaming.create(model="tts-1", voice="alloy", input="Hello.") as answer:
            pieces = [piece async for piece in answer.iter_bytes()]
        assert digest(b"".join(pieces)) == digest(b"".join(FRAMES))
        assert answer.request_id == answer.headers["x-request-id"]
        models = await openai.models.list()
        assert [model.id for model in models.data] == ["tts-1", "lab/studio"]
        assert (await openai.models.retrieve("lab/studio")).owned_by == "lab"


async def test_many_speeches_at_once_do_not_mix(client: httpx.AsyncClient, standins: Standins) -> None:
    """Each gets its own audio, whole."""

    async def play(request: Speak, stream: OutgoingStream) -> None:
        await say(*[request.input.encode()] * 50)(request, stream)

    standins.synth.play = play

    async def speak(number: int) -> bool:
        answer = await client.post(SPEECH, json={**BODY, "input": f"number {number:04}"})
        return answer.content == f"number {number:04}".encode() * 50

    assert all(await asyncio.gather(*map(speak, range(100))))
