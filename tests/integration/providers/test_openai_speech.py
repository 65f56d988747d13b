"""OpenAI-compatible servers speak, each in its own ways; how they refuse and how they break (P2, P4, P8)."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from fakes.openai import KEY, Behaviour, End, FakeOpenAI, Kind
from fakes.openai.requests import openai_error
from integration.providers.harness import credentials, openai, say, text
from odea_contracts.minimax import MiniMax
from odea_contracts.synth import AudioFormat, TimestampKind
from odea_synth.providers.base import Encoded, ErrorClass, Pcm, Provider, ProviderError, Utterance
from odea_synth.providers.openai import OPENAI_VOICES, Flavour
from odea_synth.providers.upstream import UpstreamOptions

CALLER, CONTENT, ACCOUNT = ErrorClass.CALLER, ErrorClass.CONTENT, ErrorClass.ACCOUNT
THROTTLE, UPSTREAM = ErrorClass.THROTTLE, ErrorClass.UPSTREAM
MODELS = {
    Kind.OPENAI: ("gpt-4o-mini-tts", "coral"),
    Kind.KOKORO: ("kokoro", "af_bella(2)+af_heart(1)"),
    Kind.SPEACHES: ("speaches-ai/Kokoro-82M-v1.0-ONNX", "af_heart"),
    Kind.ODEA: ("minimax", "alloy"),
}


def words(kind: Kind = Kind.OPENAI, said: str = "Good morning to you.", **changes: Any) -> Utterance:
    model, voice = MODELS[kind]
    return text(said, **({"model": model, "voice": voice} | changes))


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


@dataclass(frozen=True, kw_only=True)
class Refusal:
    status: int
    error_class: ErrorClass
    error: dict[str, object] = field(default_factory=dict[str, object])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    wait_s: float | None = None
    param: str | None = None


PARK_S, THROTTLE_S = 300.0, 20.0
REQUEST = "invalid_request_error"
REFUSALS = {
    "400": Refusal(status=400, error_class=CALLER, error=openai_error("x", REQUEST, param="voice"), param="voice"),
    "400 of a foreign field": Refusal(
        status=400, error_class=CALLER, error=openai_error("x", REQUEST, param="key-123")
    ),
    "400 without a body": Refusal(status=400, error_class=CALLER),
    "400 of odea": Refusal(
        status=400, error_class=CALLER, error=openai_error("x", REQUEST, "voice_not_found"), param="voice"
    ),
    "content": Refusal(
        status=400,
        error_class=CONTENT,
        error=openai_error("x", REQUEST, "content_policy_violation"),
        param="input",
    ),
    "401": Refusal(status=401, error_class=ACCOUNT, error=openai_error("x", REQUEST, "invalid_api_key"), wait_s=PARK_S),
    "402": Refusal(status=402, error_class=ACCOUNT, wait_s=PARK_S),
    "403": Refusal(status=403, error_class=ACCOUNT, wait_s=PARK_S),
    "404": Refusal(status=404, error_class=ACCOUNT, error=openai_error("x", REQUEST, "model_not_found")),
    "405": Refusal(status=405, error_class=ACCOUNT),
    "408": Refusal(status=408, error_class=UPSTREAM),
    "409": Refusal(status=409, error_class=UPSTREAM),
    "413": Refusal(status=413, error_class=CALLER),
    "422 of fastapi": Refusal(
        status=422, error_class=CALLER, error={"detail": [{"loc": ["body", "speed"], "msg": "x"}]}, param="speed"
    ),
    "429": Refusal(status=429, error_class=THROTTLE, wait_s=THROTTLE_S),
    "429 with a time": Refusal(status=429, error_class=THROTTLE, headers={"retry-after": "7"}, wait_s=7),
    "429 with milliseconds": Refusal(
        status=429, error_class=THROTTLE, headers={"retry-after-ms": "250", "retry-after": "1"}, wait_s=0.25
    ),
    "429 without credit": Refusal(
        status=429,
        error_class=ACCOUNT,
        error=openai_error("x", "insufficient_quota", "insufficient_quota"),
        wait_s=PARK_S,
    ),
    "429 without balance": Refusal(
        status=429, error_class=ACCOUNT, error=openai_error("x", "x", "credit_balance_exhausted"), wait_s=PARK_S
    ),
    "500": Refusal(status=500, error_class=UPSTREAM),
    "502": Refusal(status=502, error_class=UPSTREAM),
    "503": Refusal(status=503, error_class=UPSTREAM, headers={"retry-after": "3"}, wait_s=3),
    "302": Refusal(status=302, error_class=UPSTREAM),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal(refusal: Refusal) -> None:
    fake = FakeOpenAI()
    fake.behaviours.append(Behaviour(status=refusal.status, error=refusal.error, headers=refusal.headers))
    async with openai(fake) as provider:
        said = await say(provider, words())
    error = said.failed
    assert (error.error_class, error.retry_after_s, error.param) == (refusal.error_class, refusal.wait_s, refusal.param)
    assert said.chunks == []
    assert error.billed_units == fake.billed_units == 0
    assert error.trace_id == "req_fake"
    # P6
    assert "key-123" not in error.message + error.detail


@pytest.mark.parametrize(
    ("kind", "change", "error_class"),
    [
        (Kind.KOKORO, {"model": "none"}, CALLER),
        (Kind.KOKORO, {"voice": "none"}, CALLER),
        (Kind.SPEACHES, {"model": "none"}, ACCOUNT),
        (Kind.SPEACHES, {"voice": "none"}, CALLER),
        (Kind.OPENAI, {"model": "none"}, ACCOUNT),
        (Kind.OPENAI, {"voice": "none"}, CALLER),
        (Kind.ODEA, {"voice": "none"}, CALLER),
    ],
)
async def test_each_refuses_in_its_own_words(kind: Kind, change: dict[str, Any], error_class: ErrorClass) -> None:
    async with openai(FakeOpenAI(kind)) as provider:
        assert (await say(provider, words(kind, **change))).failed.error_class is error_class


BROKEN: dict[str, tuple[Behaviour, bool]] = {
    "cut": (Behaviour(end=End.CUT), True),
    "cut at once": (Behaviour(end=End.CUT, pieces_before_end=0), False),
    "short": (Behaviour(end=End.SHORT), True),
    "stalled": (Behaviour(end=End.STALL), True),
    "stalled at once": (Behaviour(end=End.STALL, pieces_before_end=0), False),
    "empty": (Behaviour(body=b""), False),
    "json": (Behaviour(body=b"{}", content_type="application/json"), False),
    "problem": (Behaviour(body=b"{}", content_type="application/problem+json"), False),
    "html": (Behaviour(body=b"<html>", content_type="text/html; charset=utf-8"), False),
    "events": (Behaviour(body=b"data: {}\n\n", content_type="text/event-stream"), False),
    "another format": (Behaviour(form="flac"), False),
    "compressed": (Behaviour(headers={"content-encoding": "gzip"}), False),
    "without end": (Behaviour(body=b"x" * 70_000), True),
}


@pytest.mark.parametrize(("behaviour", "heard"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_answer(behaviour: Behaviour, heard: bool) -> None:
    # P4: none of them looks like the end.
    fake = FakeOpenAI()
    fake.behaviours.append(behaviour)
    async with openai(fake, UpstreamOptions(read_timeout_s=0.3, audio_bytes_max=65_536)) as provider:
        said = await say(provider, words())
        assert bool(said.audio) is heard
        assert said.failed.error_class is UPSTREAM
        assert said.failed.billed_units == fake.billed_units == 20
        assert said.failed.timed_out is (behaviour.end is End.STALL)
        assert (await say(provider, words())).error is None


async def test_an_end_that_cannot_be_told_from_a_cut_is_not_taken_for_one() -> None:
    fake = FakeOpenAI()
    fake.behaviours.append(Behaviour(end=End.UNMARKED))
    async with openai(fake) as provider:
        said = await say(provider, words())
    assert (said.audio, said.failed.error_class) == (b"", UPSTREAM)
    assert "no end" in said.failed.detail
    assert fake.heard[0].audio


async def test_any_other_type_of_audio_is_taken_for_what_it_is_said_to_be() -> None:
    """Proxies call everything audio/mpeg."""
    fake = FakeOpenAI()
    fake.behaviours.append(Behaviour(content_type="audio/mpeg", split_bytes=3))
    async with openai(fake) as provider:
        said = await say(provider, words(response_format=AudioFormat.PCM))
    assert said.error is None
    assert said.audio == fake.heard[0].audio


async def test_a_stream_that_is_left_is_closed_within_a_second() -> None:
    fake = FakeOpenAI()
    fake.behaviours.append(Behaviour(end=End.STALL, pieces_before_end=1))
    async with openai(fake) as provider:
        stream = provider.stream(words())
        async with asyncio.timeout(5):
            chunk = await anext(stream)
        assert chunk.audio == fake.heard[0].audio
        await stream.aclose()
        async with asyncio.timeout(1):
            await fake.heard[0].ended.wait()
        assert fake.heard[0].left
        assert chunk.billed_units == fake.billed_units


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
