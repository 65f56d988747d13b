"""The fake OpenAI and its kin answer and refuse in the words of the real ones; raw HTTP, expectations by hand."""

import base64
import io
import json
from typing import Any

import aiohttp
import av
import pytest

from fakes.openai import KEY, Behaviour, End, FakeOpenAI, Kind
from fakes.serving import serving

GOOD: dict[str, Any] = {"model": "gpt-4o-mini-tts", "input": "Hello.", "voice": "coral"}
GOOD_FOR = {
    Kind.OPENAI: GOOD,
    Kind.KOKORO: GOOD | {"model": "kokoro", "voice": "af_bella(2)+af_heart(1)"},
    Kind.SPEACHES: GOOD | {"model": "speaches-ai/Kokoro-82M-v1.0-ONNX", "voice": "af_heart"},
    Kind.ODEA: GOOD | {"model": "minimax", "voice": "alloy"},
}


async def post(fake: FakeOpenAI, body: object, *, key: str = KEY) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    headers = {"authorization": f"Bearer {key}"}
    async with serving(fake.app) as url, aiohttp.ClientSession(headers=headers) as session:
        response = await session.post(f"{url}/v1/audio/speech", json=body)
        return response.status, response.content_type, await response.read()


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(
    ("form", "content_type"),
    [("mp3", "audio/mpeg"), ("opus", "audio/opus"), ("flac", "audio/flac"), ("wav", "audio/wav"), ("aac", "audio/aac")],
)
async def test_audio_of_every_kind(kind: Kind, form: str, content_type: str) -> None:
    fake = FakeOpenAI(kind)
    status, said, audio = await post(fake, GOOD_FOR[kind] | {"response_format": form})
    assert (status, said) == (200, content_type)
    with av.open(io.BytesIO(audio)) as container:
        assert container.streams.audio[0].codec_context.name.startswith("pcm" if form == "wav" else form)
    assert fake.billed_units == 6


async def test_pcm_is_24_khz_of_two_bytes() -> None:
    _, _, audio = await post(FakeOpenAI(), GOOD | {"response_format": "pcm"})
    assert len(audio) == int(6 * 0.06 * 24_000) * 2


@pytest.mark.parametrize(
    ("kind", "change", "status"),
    [
        (Kind.OPENAI, {"input": "x" * 4097}, 400),
        (Kind.OPENAI, {"input": ""}, 400),
        (Kind.OPENAI, {"unknown": 1}, 400),
        (Kind.OPENAI, {"sample_rate": 8000}, 400),
        (Kind.OPENAI, {"speed": 4.1}, 400),
        (Kind.OPENAI, {"voice": "nobody"}, 400),
        (Kind.OPENAI, {"voice": {"id": "coral", "x": 1}}, 400),
        (Kind.OPENAI, {"response_format": "ogg"}, 400),
        (Kind.OPENAI, {"model": "none"}, 404),
        (Kind.KOKORO, {"model": "none"}, 400),
        (Kind.KOKORO, {"voice": "af_heart+nobody"}, 400),
        (Kind.KOKORO, {"speed": 9}, 422),
        (Kind.SPEACHES, {"model": "none"}, 404),
        (Kind.SPEACHES, {"speed": 9}, 422),
        (Kind.SPEACHES, {"instructions": "Gently."}, 422),
        (Kind.SPEACHES, {"sample_rate": 7999}, 422),
        (Kind.ODEA, {"voice": "nobody"}, 400),
    ],
)
async def test_a_bad_request(kind: Kind, change: dict[str, Any], status: int) -> None:
    fake = FakeOpenAI(kind)
    found, _, body = await post(fake, GOOD_FOR[kind] | change)
    assert found == status
    assert fake.billed_units == 0
    error = json.loads(body)
    if kind in {Kind.OPENAI, Kind.ODEA}:
        assert set(error["error"]) == {"message", "type", "param", "code"}
    else:
        assert set(error) == {"detail"}


async def test_a_wrong_key() -> None:
    for kind in (Kind.OPENAI, Kind.ODEA):
        status, _, body = await post(FakeOpenAI(kind), GOOD_FOR[kind], key="wrong")
        assert (status, json.loads(body)["error"]["code"]) == (401, "invalid_api_key")
    for kind in (Kind.KOKORO, Kind.SPEACHES):
        assert (await post(FakeOpenAI(kind), GOOD_FOR[kind], key=""))[0] == 200


@pytest.mark.parametrize("kind", [Kind.OPENAI, Kind.SPEACHES])
async def test_events(kind: Kind) -> None:
    _, said, body = await post(FakeOpenAI(kind), GOOD_FOR[kind] | {"stream_format": "sse", "response_format": "pcm"})
    assert said == "text/event-stream"
    *deltas, done = [json.loads(line.removeprefix(b"data: ")) for line in body.split(b"\n\n") if line]
    audio = b"".join(base64.b64decode(delta["audio"]) for delta in deltas)
    assert len(audio) == int(6 * 0.06 * 24_000) * 2
    assert done["type"] == "speech.audio.done"
    assert set(done["token_usage" if kind is Kind.SPEACHES else "usage"]) == {
        "input_tokens",
        "output_tokens",
        "total_tokens",
    }


async def test_lists() -> None:
    for kind in Kind:
        headers = {"authorization": f"Bearer {KEY}"}
        async with serving(FakeOpenAI(kind).app) as url, aiohttp.ClientSession(headers=headers) as session:
            voices = await session.get(f"{url}/v1/audio/voices")
            models = await (await session.get(f"{url}/v1/models")).json()
            assert voices.status == (404 if kind is Kind.OPENAI else 200)
            if kind is not Kind.OPENAI:
                assert all(set(voice) == {"id", "name"} for voice in (await voices.json())["voices"])
            assert models["object"] == "list"
            assert set(models["data"][0]) >= {"id", "object", "created", "owned_by"}


@pytest.mark.parametrize("end", [End.CUT, End.SHORT])
async def test_it_can_be_broken(end: End) -> None:
    fake = FakeOpenAI()
    fake.behaviours.append(Behaviour(end=end))
    with pytest.raises(aiohttp.ClientPayloadError):
        await post(fake, GOOD)
    assert fake.heard[0].audio
