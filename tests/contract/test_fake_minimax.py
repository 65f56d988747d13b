"""The fake MiniMax is as strict and as odd as the real one; raw HTTP, and expectations written from its documents."""

import asyncio
import io
import json
from typing import Any

import aiohttp
import av
import pytest

from fakes.minimax import Behaviour, End, FakeMiniMax
from fakes.minimax.app import KEY
from fakes.serving import serving

GOOD: dict[str, Any] = {
    "model": "speech-2.8-hd",
    "text": "Hello, 世界.",
    "voice_setting": {"voice_id": "English_expressive_narrator"},
}


async def post(fake: FakeMiniMax, body: object, *, key: str = KEY, kind: str = "application/json") -> tuple[str, bytes]:
    """Content type and body of an answer, which has HTTP 200 whatever it says."""
    headers = {"content-type": kind} | ({"authorization": f"Bearer {key}"} if key else {})
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with serving(fake.app) as url, aiohttp.ClientSession() as session:
        response = await session.post(f"{url}/v1/t2a_v2", data=data, headers=headers)
        assert response.status == 200
        return response.content_type, await response.read()


def events(body: bytes) -> list[dict[str, Any]]:
    """One JSON object a line, behind `data: ` with one blank, and an empty line."""
    *blocks, end = body.split(b"\n\n")
    assert end == b""
    assert all(block.startswith(b"data: {") and b"\n" not in block for block in blocks)
    return [json.loads(block.removeprefix(b"data: ")) for block in blocks]


async def refusal(body: object, **how: Any) -> tuple[int, str]:
    fake = FakeMiniMax()
    kind, answer = await post(fake, body, **how)
    assert kind == "application/json"
    assert fake.billed_units == 0
    base = json.loads(answer)["base_resp"]
    return base["status_code"], base["status_msg"]


async def test_a_whole_answer() -> None:
    fake = FakeMiniMax()
    answer = json.loads((await post(fake, GOOD))[1])
    assert answer["base_resp"] == {"status_code": 0, "status_msg": "success"}
    assert answer["data"]["status"] == 2
    extra = answer["extra_info"]
    # Seven letters and marks, a blank, two Han characters of two each, a full stop.
    assert extra["usage_characters"] == fake.billed_units == 12
    assert (extra["audio_format"], extra["audio_sample_rate"], extra["audio_channel"]) == ("mp3", 32000, 1)
    assert answer["data"]["audio"] == answer["data"]["audio"].lower()
    with av.open(io.BytesIO(bytes.fromhex(answer["data"]["audio"]))) as container:
        assert container.format.name == "mp3"
        assert container.streams.audio[0].rate == 32000


async def test_a_stream_repeats_the_whole_at_its_end_unless_told_not_to() -> None:
    for excluded in (False, True):
        options = {"stream": True, "stream_options": {"exclude_aggregated_audio": excluded}}
        kind, body = await post(FakeMiniMax(), GOOD | options)
        assert kind == "text/event-stream"
        *chunks, last = events(body)
        assert len(chunks) > 1
        assert all(chunk["data"]["status"] == 1 and "extra_info" not in chunk for chunk in chunks)
        assert all(chunk["base_resp"] == {"status_code": 0, "status_msg": ""} for chunk in chunks)
        assert last["data"]["status"] == 2
        assert last["extra_info"]["usage_characters"] == 12
        together = "".join(chunk["data"]["audio"] for chunk in chunks)
        assert last["data"]["audio"] == ("" if excluded else together)


@pytest.mark.parametrize("form", ["mp3", "pcm", "flac", "wav", "pcmu_raw", "pcmu_wav", "opus"])
async def test_every_format_can_be_had(form: str) -> None:
    asked = GOOD | {"audio_setting": {"format": form, "sample_rate": 8000}}
    assert bytes.fromhex(json.loads((await post(FakeMiniMax(), asked))[1])["data"]["audio"])


@pytest.mark.parametrize(
    "change",
    [
        {"model": "speech-9"},
        {"text": ""},
        {"text": "x" * 10_000},
        {"unknown": 1},
        {"voice_setting": {}},
        {"voice_setting": {"voice_id": "male-qn-qingse", "speed": 2.1}},
        {"voice_setting": {"voice_id": "male-qn-qingse", "speed": 0.4}},
        {"voice_setting": {"voice_id": "male-qn-qingse", "vol": 0}},
        {"voice_setting": {"voice_id": "male-qn-qingse", "vol": 10.1}},
        {"voice_setting": {"voice_id": "male-qn-qingse", "pitch": 13}},
        {"voice_setting": {"voice_id": "male-qn-qingse", "pitch": 0.5}},
        {"voice_setting": {"voice_id": "male-qn-qingse", "emotion": "neutral"}},
        {"voice_setting": {"voice_id": "male-qn-qingse", "emotion": "whisper"}},
        {
            "voice_setting": {"voice_id": "male-qn-qingse"},
            "timbre_weights": [{"voice_id": "male-qn-qingse", "weight": 1}],
        },
        {"voice_setting": {}, "timbre_weights": [{"voice_id": "male-qn-qingse", "weight": 101}]},
        {"voice_setting": {}, "timbre_weights": [{"voice_id": "male-qn-qingse", "weight": 1}] * 5},
        {"audio_setting": {"sample_rate": 48000}},
        {"audio_setting": {"bitrate": 192000}},
        {"audio_setting": {"format": "aac"}},
        {"audio_setting": {"channel": 3}},
        {"audio_setting": {"force_cbr": True}},
        {"audio_setting": {"format": "wav"}, "stream": True},
        {"voice_modify": {"pitch": 101}},
        {"voice_modify": {"sound_effects": "echo"}},
        {"voice_modify": {"pitch": 1}, "audio_setting": {"format": "pcm"}},
        {"voice_modify": {"pitch": 1}, "audio_setting": {"format": "flac"}, "stream": True},
        {"language_boost": "Klingon"},
        {"language_boost": "Tamil", "model": "speech-02-hd"},
        {"pronunciation_dict": {"tone": ["no slash"]}},
        {"pronunciation_dict": {"tone": [{"word": "x"}]}},
        {"subtitle_enable": True, "subtitle_type": "word_streaming"},
        {"output_format": "url", "stream": True},
        {"continuous_sound": True, "model": "speech-2.6-hd"},
        {"text": "One <#0#> two"},
        {"text": "One <#100#> two"},
        {"text": "One <#0.125#> two"},
        {"text": "<#1#> two"},
        {"text": "One <#1#><#1#> two"},
    ],
    ids=lambda change: json.dumps(change)[:200],
)
async def test_a_bad_parameter_is_2013(change: dict[str, Any]) -> None:
    code, text = await refusal(GOOD | change)
    assert code == 2013
    assert text.startswith(("invalid params, ", "method t2a-v2 not have model"))


async def test_other_refusals() -> None:
    assert (await refusal(GOOD, key=""))[0] == 1004
    assert await refusal(GOOD, key="another") == (2049, "invalid api key")
    assert await refusal(GOOD | {"voice_setting": {"voice_id": "Nobody"}}) == (2054, "voice id not exist")
    assert (await refusal(GOOD | {"text": "ab\x00"}))[0] == 1042
    assert (await refusal(b"{"))[0] == 2013
    assert (await refusal(GOOD, kind="text/plain"))[0] == 2013


async def test_good_odds_and_ends() -> None:
    for change in (
        {"text": "One <#0.5#> two (laughs) <#99.99#> three"},
        {"voice_setting": {"voice_id": "Santa_Claus "}},
        {"voice_setting": {"voice_id": "male-qn-qingse", "emotion": "whisper"}, "model": "speech-2.6-turbo"},
        {"voice_setting": {}, "timbre_weights": [{"voice_id": "male-qn-qingse", "weight": 100}]},
        {"voice_modify": {"pitch": -100, "sound_effects": "robotic"}, "audio_setting": {"format": "wav"}},
        {"language_boost": None},
    ):
        assert json.loads((await post(FakeMiniMax(), GOOD | change))[1])["base_resp"]["status_code"] == 0


async def test_it_can_be_broken() -> None:
    fake = FakeMiniMax()
    fake.behaviours.append(Behaviour(code=1002, text="rate limit exceeded(RPM)"))
    kind, body = await post(fake, GOOD | {"stream": True})
    # 74 bytes, as they were captured.
    assert kind == "application/json"
    assert json.loads(body) == {"base_resp": {"status_code": 1002, "status_msg": "rate limit exceeded(RPM)"}}
    fake.behaviours.append(Behaviour(code=1027, end=End.ERROR))
    *chunks, last = events((await post(fake, GOOD | {"stream": True}))[1])
    assert len(chunks) == 2
    assert last["base_resp"]["status_code"] == 1027
    assert "data" not in last
    fake.behaviours.append(Behaviour(end=End.SILENT))
    assert [event["data"]["status"] for event in events((await post(fake, GOOD | {"stream": True}))[1])] == [1, 1]
    fake.behaviours.append(Behaviour(end=End.CUT))
    with pytest.raises(aiohttp.ClientPayloadError):
        await post(fake, GOOD | {"stream": True})


async def test_what_it_billed_is_counted_and_a_client_that_leaves_is_seen() -> None:
    fake = FakeMiniMax()
    fake.behaviours.append(Behaviour(end=End.STALL))
    async with serving(fake.app) as url, aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as session:
        response = await session.post(f"{url}/v1/t2a_v2", json=GOOD | {"stream": True})
        assert await response.content.readline()
        response.close()
        async with asyncio.timeout(5):
            await fake.heard[0].ended.wait()
    assert fake.heard[0].left
    assert fake.billed_units == 12


async def test_subtitles_and_voices() -> None:
    fake = FakeMiniMax()
    asked = GOOD | {"text": "One two. Three.", "subtitle_enable": True, "subtitle_type": "word"}
    async with serving(fake.app) as url, aiohttp.ClientSession() as session:
        bearer = {"authorization": f"Bearer {KEY}"}
        async with session.post(f"{url}/v1/t2a_v2", json=asked, headers=bearer) as response:
            file = (await response.json())["data"]["subtitle_file"]
        async with session.get(file) as response:
            segments = await response.json()
        async with session.post(f"{url}/v1/get_voice", json={"voice_type": "all"}, headers=bearer) as response:
            listed = await response.json()
    assert [segment["text"] for segment in segments] == ["One two. ", "Three."]
    assert [word["word"] for word in segments[0]["timestamped_words"]] == ["One", " ", "two.", " "]
    assert [segment["is_final_segment"] for segment in segments] == [False, True]
    assert {voice["voice_id"] for voice in listed["system_voice"]} >= {"Santa_Claus "}
