"""How OpenAI-compatible servers refuse and how they break: whose fault it is, what was billed (P2, P4, P8)."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from fakes.openai import Behaviour, End, FakeOpenAI, Kind
from fakes.openai.requests import openai_error
from integration.providers.harness import openai, say, words
from odea_contracts.synth import AudioFormat
from odea_synth.providers.base import ErrorClass
from odea_synth.providers.upstream import UpstreamOptions

CALLER, CONTENT, ACCOUNT = ErrorClass.CALLER, ErrorClass.CONTENT, ErrorClass.ACCOUNT
THROTTLE, UPSTREAM = ErrorClass.THROTTLE, ErrorClass.UPSTREAM


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
