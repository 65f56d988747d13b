"""MiniMax speaks: every field arrives, every format comes as promised, what it bills is what we say it bills."""

import asyncio
import json

import pytest

from fakes import tones
from fakes.minimax import Behaviour, End, FakeMiniMax
from integration.providers.harness import NARRATOR, minimax, say, text
from odea_contracts.minimax import (
    AudioSetting,
    MiniMax,
    PronunciationDict,
    TimbreWeight,
    VoiceModify,
    VoiceSetting,
)
from odea_contracts.synth import AudioFormat, TimestampKind
from odea_synth.providers.base import Encoded, ErrorClass, Pcm, Provider, ProviderError, Utterance
from odea_synth.providers.upstream import UpstreamOptions

WISHES = MiniMax(
    voice_setting=VoiceSetting(speed=1.5, vol=0.5, pitch=-2, emotion="calm", text_normalization=True, latex_read=True),
    audio_setting=AudioSetting(bitrate=64_000, channel=2, force_cbr=True),
    pronunciation_dict=PronunciationDict(tone=("omg/oh my god", "处理/(chu3)(li3)")),
    language_boost="Chinese,Yue",
    voice_modify=VoiceModify(pitch=-100, intensity=10, timbre=100, sound_effects="robotic"),
    continuous_sound=True,
    aigc_watermark=True,
)


async def test_it_keeps_the_promise_of_a_provider() -> None:
    fake = FakeMiniMax()
    async with minimax(fake, name="mm-global") as speaker:
        provider: Provider = speaker
        assert provider.name == "mm-global"
        said = await say(provider, text("Hello, 世界."))
        assert said.error is None
        assert said.audio == fake.heard[0].audio
        assert said.chunks[-1].billed_units == fake.billed_units == 12
        assert provider.bound_units(text("Hello, 世界.")) == 12


async def test_every_field_arrives() -> None:
    fake = FakeMiniMax()
    async with minimax(fake, group_id="17") as provider:
        assert (await say(provider, text(minimax=WISHES, timestamps=TimestampKind.WORD))).error is None
    [heard] = fake.heard
    assert heard.query == {"GroupId": "17"}
    assert json.loads(heard.body) == {
        "model": "speech-2.8-hd",
        "text": "Good morning to you.",
        "stream": True,
        "stream_options": {"exclude_aggregated_audio": True},
        "voice_setting": {
            "voice_id": NARRATOR,
            "speed": 1.5,
            "vol": 0.5,
            "pitch": -2,
            "emotion": "calm",
            "text_normalization": True,
            "latex_read": True,
        },
        "audio_setting": {
            "bitrate": 64000,
            "channel": 2,
            "force_cbr": True,
            "sample_rate": 24000,
            "format": "mp3",
        },
        "pronunciation_dict": {"tone": ["omg/oh my god", "处理/(chu3)(li3)"]},
        "language_boost": "Chinese,Yue",
        "voice_modify": {"pitch": -100, "intensity": 10, "timbre": 100, "sound_effects": "robotic"},
        "continuous_sound": True,
        "aigc_watermark": True,
        "subtitle_enable": True,
        "subtitle_type": "word",
    }


async def test_a_mix_of_voices_takes_the_place_of_the_voice() -> None:
    fake = FakeMiniMax()
    mix = MiniMax(
        timbre_weights=(TimbreWeight(voice_id="Santa_Claus ", weight=30), TimbreWeight(voice_id=NARRATOR, weight=1))
    )
    async with minimax(fake) as provider:
        assert (await say(provider, text(minimax=mix))).error is None
    assert "voice_id" not in json.loads(fake.heard[0].body)["voice_setting"]


@pytest.mark.parametrize(
    ("wanted", "rate_hz", "source"),
    [
        (AudioFormat.MP3, None, Encoded(audio_format=AudioFormat.MP3)),
        (AudioFormat.FLAC, 44_100, Encoded(audio_format=AudioFormat.FLAC)),
        (AudioFormat.OPUS, None, Encoded(audio_format=AudioFormat.OPUS)),
        (AudioFormat.PCM, None, Encoded(audio_format=AudioFormat.PCM)),
        (AudioFormat.WAV, None, Pcm(rate_hz=24_000)),
        (AudioFormat.AAC, 11_025, Pcm(rate_hz=16_000)),
        (AudioFormat.OPUS, 48_000, Pcm(rate_hz=44_100)),
        (AudioFormat.MP3, 48_000, Pcm(rate_hz=44_100)),
    ],
)
async def test_what_it_makes_is_passed_on_and_the_rest_comes_as_samples(
    wanted: AudioFormat, rate_hz: int | None, source: Encoded | Pcm
) -> None:
    fake = FakeMiniMax()
    utterance = text(response_format=wanted, sample_rate_hz=rate_hz)
    async with minimax(fake) as provider:
        assert provider.source_format(utterance) == source
        said = await say(provider, utterance)
    asked = json.loads(fake.heard[0].body)
    if isinstance(source, Pcm):
        assert asked["audio_setting"] == {"format": "pcm", "sample_rate": source.rate_hz}
    else:
        assert asked["audio_setting"] == {"format": wanted.value, "sample_rate": rate_hz or 24_000}
    assert asked["stream"]
    assert said.audio == fake.heard[0].audio


async def test_effects_on_flac_and_wav_wait_for_the_whole() -> None:
    effects = MiniMax(voice_modify=VoiceModify(pitch=10))
    for wanted in (AudioFormat.FLAC, AudioFormat.WAV):
        fake = FakeMiniMax()
        async with minimax(fake) as provider:
            said = await say(provider, text(response_format=wanted, minimax=effects))
        assert said.error is None
        assert said.audio == tones.audio(20, wanted.value, 24_000, 1)
        assert said.chunks[-1].billed_units == fake.billed_units
        assert not json.loads(fake.heard[0].body)["stream"]


async def test_without_streaming_it_comes_whole() -> None:
    fake = FakeMiniMax()
    async with minimax(fake, streaming=False) as provider:
        said = await say(provider, text())
    assert said.audio == fake.heard[0].audio
    assert [bool(chunk.audio) for chunk in said.chunks] == [True, False]
    assert json.loads(fake.heard[0].body)["output_format"] == "hex"


MODIFIED = MiniMax(voice_modify=VoiceModify(pitch=1))
STEREO = MiniMax(audio_setting=AudioSetting(channel=2))
MARKED = MiniMax(markup=True)
BAD = {
    "too long": (text("x" * 10_000), "input"),
    "too slow": (text(speed=0.49), "speed"),
    "too fast": (text(speed=2.01), "speed"),
    "effects on opus": (text(response_format=AudioFormat.OPUS, minimax=MODIFIED), "minimax.voice_modify"),
    "stereo samples": (text(response_format=AudioFormat.WAV, minimax=STEREO), "minimax.audio_setting.channel"),
    "no pause": (text("One <#0#> two.", minimax=MARKED), "input"),
    "two pauses": (text("One <#1#><#1#> two.", minimax=MARKED), "input"),
    "a pause at the end": (text("One <#1#>", minimax=MARKED), "input"),
}


@pytest.mark.parametrize(("bad", "param"), BAD.values(), ids=BAD)
async def test_what_cannot_be_is_refused_without_asking(bad: Utterance, param: str) -> None:
    # P7
    fake = FakeMiniMax()
    async with minimax(fake) as provider:
        with pytest.raises(ProviderError) as refused:
            provider.source_format(bad)
        error = (await say(provider, bad)).failed
    for one in (refused.value, error):
        assert (one.error_class, one.param, one.billed_units) == (ErrorClass.CALLER, param, 0)
    assert fake.heard == []


async def test_nothing_in_the_text_is_markup_unless_that_was_asked_for() -> None:
    words = "He said (laughs) wait <#5#> (he2) and (all of this) stays."
    fake = FakeMiniMax()
    async with minimax(fake) as provider:
        await say(provider, text(words))
        await say(provider, text(words, minimax=MiniMax(markup=True)))
    literal, marked = (json.loads(heard.body)["text"] for heard in fake.heard)
    assert literal == "He said \uff08laughs\uff09 wait \uff1c#5#> \uff08he2\uff09 and (all of this) stays."
    assert marked == words
    # Held is what the marks that are sent may cost.
    assert provider.bound_units(text(words)) == len(words) + 5


@pytest.mark.parametrize("kind", list(TimestampKind))
async def test_subtitles_become_timings(kind: TimestampKind) -> None:
    fake = FakeMiniMax()
    async with minimax(fake) as provider:
        said = await say(provider, text("One two. Three.", timestamps=kind))
    assert said.error is None
    timings = [(timing.word, timing.start_ms, timing.end_ms) for timing in said.chunks[-1].timings]
    if kind is TimestampKind.WORD:
        assert timings == [("One", 0, 180), ("two.", 240, 480), ("Three.", 540, 900)]
    else:
        assert timings == [("One two.", 0, 540), ("Three.", 540, 900)]


@pytest.mark.parametrize("file", [b"<html>", b"[{}]", b'[{"text":"x","time_begin":0,"time_end":1}]'])
async def test_subtitles_that_cannot_be_read_fail_what_was_to_have_them(file: bytes) -> None:
    fake = FakeMiniMax()
    fake.behaviours.append(Behaviour(subtitles=file))
    async with minimax(fake) as provider:
        said = await say(provider, text(timestamps=TimestampKind.WORD))
    assert (said.failed.error_class, said.failed.billed_units) == (ErrorClass.UPSTREAM, 20)


async def test_the_first_audio_leaves_at_once() -> None:
    fake = FakeMiniMax()
    fake.behaviours.append(Behaviour(end=End.STALL, pieces_before_end=1))
    async with minimax(fake) as provider, asyncio.timeout(5):
        stream = provider.stream(text())
        assert (await anext(stream)).audio == fake.heard[0].audio
        await stream.aclose()


async def test_a_stream_that_is_left_is_closed_within_a_second() -> None:
    # P2: and what the upstream billed until then is known.
    fake = FakeMiniMax()
    fake.behaviours.append(Behaviour(end=End.STALL))
    async with minimax(fake) as provider:
        stream = provider.stream(text())
        chunk = await anext(stream)
        await stream.aclose()
        async with asyncio.timeout(1):
            await fake.heard[0].ended.wait()
        assert fake.heard[0].left
        assert chunk.billed_units == fake.billed_units == 20
        assert (await say(provider, text())).error is None


async def test_one_stream_too_many_is_throttled() -> None:
    fake = FakeMiniMax()
    fake.behaviours.append(Behaviour(end=End.STALL))
    async with minimax(fake, UpstreamOptions(streams_max=1, retry_after_s=7)) as provider:
        stream = provider.stream(text())
        await anext(stream)
        error = (await say(provider, text())).failed
        assert (error.error_class, error.retry_after_s) == (ErrorClass.THROTTLE, 7)
        await stream.aclose()
        assert (await say(provider, text())).error is None
