"""OpenAI-compatible servers speak, each in its own ways; how they refuse and how they break (P2, P4, P8)."""

import asyncio
import json

import pytest

from fakes.openai import KEY, Behaviour, End, FakeOpenAI, Kind
from fakes.openai.requests import openai_error
from integration.providers.harness import credentials, openai, say, words
from odea_contracts.minimax import MiniMax
from odea_contracts.synth import AudioFormat, TimestampKind
from odea_synth.providers.base import Encoded, ErrorClass, Pcm, Provider, ProviderError, Utterance
from odea_synth.providers.openai import OPENAI_VOICES, Flavour

CALLER, UPSTREAM = ErrorClass.CALLER, ErrorClass.UPSTREAM


@pytest.mark.parametrize("kind", list(Kind))
async def test_each_is_asked_in_its_own_ways(kind: Kind) -> None:
    fake = FakeOpenAI(kind)
    async with openai(fake) as speaker:
        provider: Provider = speaker
        for wanted in AudioFormat:
            utterance = words(
                kind,
                "[pause:9s] 世界",
                response_format=wanted,
                instructions="Gently.",
                speed=1.25,
                minimax=MiniMax(markup=True),
            )
            said = await say(provider, utterance)
            assert said.error is None
            assert said.audio == fake.heard[-1].audio
            assert said.chunks[-1].billed_units == (2 * len(utterance.text) if kind is Kind.ODEA else 13)
            assert provider.bound_units(utterance) == (15 if kind is Kind.ODEA else 13)
            assert provider.source_format(utterance) == (
                Pcm(rate_hz=24_000) if wanted is AudioFormat.WAV else Encoded(audio_format=wanted)
            )
    asked = json.loads(fake.heard[0].body)
    assert asked["input"].startswith("\uff3bpause" if kind is Kind.KOKORO else "[pause")
    assert asked.get("instructions") == ("Gently." if kind in {Kind.OPENAI, Kind.ODEA} else None)
    assert asked.get("sample_rate") == (24_000 if kind in {Kind.SPEACHES, Kind.ODEA} else None)
    assert ("minimax" in asked) is (kind is Kind.ODEA)


async def test_another_rate_is_asked_for_where_that_is_known_and_else_made_by_us() -> None:
    for kind, source in (
        (Kind.OPENAI, Pcm(rate_hz=24_000)),
        (Kind.KOKORO, Pcm(rate_hz=24_000)),
        (Kind.SPEACHES, Encoded(audio_format=AudioFormat.MP3)),
    ):
        fake = FakeOpenAI(kind)
        utterance = words(kind, sample_rate_hz=16_000)
        async with openai(fake) as provider:
            assert provider.source_format(utterance) == source
            assert (await say(provider, utterance)).error is None
        asked = json.loads(fake.heard[0].body)
        assert asked["response_format"] == ("pcm" if isinstance(source, Pcm) else "mp3")


async def test_what_a_server_makes_can_be_configured() -> None:
    async with openai(FakeOpenAI(), formats=frozenset[AudioFormat]()) as provider:
        assert provider.source_format(words()) == Pcm(rate_hz=24_000)


BAD = {
    "too long": (words(said="x" * 4097), "input"),
    "too slow": (words(speed=0.2), "speed"),
    "not a speed": (words(speed=float("nan")), "speed"),
    "timed": (words(timestamps=TimestampKind.WORD), "timestamps"),
}


@pytest.mark.parametrize(("bad", "param"), BAD.values(), ids=BAD)
async def test_what_cannot_be_is_refused_without_asking(bad: Utterance, param: str) -> None:
    # P7
    fake = FakeOpenAI()
    async with openai(fake) as provider:
        with pytest.raises(ProviderError):
            provider.source_format(bad)
        error = (await say(provider, bad)).failed
    assert (error.error_class, error.param, fake.heard) == (CALLER, param, [])


async def test_a_stream_that_is_left_is_closed_within_a_second() -> None:
    fake = FakeOpenAI()
    fake.behaviours.append(Behaviour(end=End.STALL, pieces_before_end=1))
    async with openai(fake) as provider:
        stream = provider.stream(words())
        async with asyncio.timeout(5):
            accepted, chunk = await anext(stream), await anext(stream)
        assert (accepted.audio, chunk.audio) == (b"", fake.heard[0].audio)
        await stream.aclose()
        async with asyncio.timeout(1):
            await fake.heard[0].ended.wait()
        assert fake.heard[0].left
        assert chunk.billed_units == fake.billed_units


async def test_what_is_billed_is_told_before_there_is_audio() -> None:
    """P2: whoever leaves now is charged for it."""
    fake = FakeOpenAI()
    fake.behaviours.append(Behaviour(end=End.STALL, pieces_before_end=0))
    async with openai(fake) as provider:
        stream = provider.stream(words())
        async with asyncio.timeout(5):
            chunk = await anext(stream)
        assert (chunk.audio, chunk.billed_units) == (b"", fake.billed_units)
        assert fake.billed_units == len(words().text)
        await stream.aclose()


async def test_another_credential_speaks_for_one_that_is_refused() -> None:
    fake = FakeOpenAI(keys=("one", "two"))
    fake.by_key["one"] = Behaviour(status=429, error=openai_error("x", "insufficient_quota"))
    async with openai(fake, credentials=credentials("one", "two")) as provider:
        for _ in range(2):
            assert (await say(provider, words())).error is None
    assert [heard.key for heard in fake.heard] == ["one", "two", "two"]


async def test_without_a_credential_none_is_sent() -> None:
    fake = FakeOpenAI(Kind.KOKORO)
    async with openai(fake, credentials=()) as provider:
        assert (await say(provider, words(Kind.KOKORO))).error is None
        assert await provider.voices()
    assert fake.heard[0].key == ""


class TestVoices:
    """Listed where the server lists them, else as configured."""

    @pytest.mark.parametrize("kind", [Kind.KOKORO, Kind.SPEACHES, Kind.ODEA])
    async def test_a_list_is_asked_for_once(self, kind: Kind) -> None:
        fake = FakeOpenAI(kind)
        async with openai(fake) as provider:
            first = await provider.voices()
            assert await provider.voices() == first
        assert ("alloy" if kind is Kind.ODEA else "af_heart") in [voice.id for voice in first]
        assert fake.voice_lists == 1

    @pytest.mark.parametrize(
        "listed", [{"voices": ["a", "b"]}, ["a", "b"], {"data": [{"voice_id": "a"}, {"name": "b"}]}]
    )
    async def test_a_list_may_be_worded_in_many_ways(self, listed: object) -> None:
        fake = FakeOpenAI(Kind.KOKORO)
        fake.voices = listed
        async with openai(fake) as provider:
            assert [voice.id for voice in await provider.voices()] == ["a", "b"]

    async def test_openai_has_no_list(self) -> None:
        async with openai(FakeOpenAI()) as provider:
            assert tuple(voice.id for voice in await provider.voices()) == OPENAI_VOICES
        async with openai(FakeOpenAI(), flavour=Flavour.OTHER) as provider:
            assert tuple(voice.id for voice in await provider.voices()) == OPENAI_VOICES

    async def test_a_configured_list_is_believed(self) -> None:
        fake = FakeOpenAI(Kind.KOKORO)
        async with openai(fake, voices=("mine",)) as provider:
            assert [voice.id for voice in await provider.voices()] == ["mine"]
        assert fake.voice_lists == 0

    @pytest.mark.parametrize("listed", [7, {"voices": 7}, {"voices": [{"id": 7}]}])
    async def test_nonsense_is_the_upstream_s_fault(self, listed: object) -> None:
        fake = FakeOpenAI(Kind.KOKORO)
        fake.voices = listed
        async with openai(fake) as provider:
            with pytest.raises(ProviderError) as error:
                await provider.voices()
        assert error.value.error_class is UPSTREAM


async def test_a_key_is_sent_and_named_nowhere() -> None:
    fake = FakeOpenAI(keys=())
    async with openai(fake) as provider:
        error = (await say(provider, words())).failed
    assert fake.heard[0].key == KEY
    assert KEY not in error.message + error.detail
