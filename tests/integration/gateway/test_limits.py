"""What answers say of limits, and that the official SDK acts on it as it is meant to."""

import anyio
import httpx
import openai
import pytest

from integration.gateway.harness import BODY, SPEECH, client_of
from integration.gateway.standins import Standins, balance, refuse, say
from odea_contracts import quota
from odea_contracts.errors import ERRORS, ErrorCode, Retry, failure
from odea_contracts.keys import Scope
from odea_gateway.app import Gateway

EXACT = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-reset-requests": "2s",
    "x-ratelimit-limit-characters": "1000",
    "x-ratelimit-remaining-characters": "3",
    "ratelimit-policy": '"requests";q=60;w=60;qu="requests", "characters";q=1000;w=2592000;qu="characters"',
}
OF_QUOTA = (
    ErrorCode.INSUFFICIENT_QUOTA,
    ErrorCode.RATE_LIMIT_EXCEEDED,
    ErrorCode.CONCURRENCY_LIMIT_EXCEEDED,
    ErrorCode.ACCOUNT_SUSPENDED,
    ErrorCode.NOT_ALLOWED_BY_PLAN,
)
SILENT = ("ratelimit", "ratelimit-policy", "x-ratelimit-limit-requests", "x-ratelimit-remaining-characters")
RETRIES = 2


def assert_exact(answer: httpx.Response) -> None:
    """The headers are those of an account with three units left."""
    assert {name: answer.headers.get(name) for name in EXACT} == EXACT
    assert answer.headers["ratelimit"].startswith('"requests";r=59;t=2, "characters";r=3;t=')


@pytest.mark.parametrize("code", OF_QUOTA)
async def test_a_refusal_of_quota_carries_its_balances(
    client: httpx.AsyncClient, standins: Standins, code: ErrorCode
) -> None:
    standins.synth.play = refuse(code, balances=(balance("ten_a", remaining=3),))
    answer = await client.post(SPEECH, json=BODY)
    assert answer.status_code == ERRORS[code].status
    assert_exact(answer)


async def test_usage_carries_the_balances_that_it_tells(client: httpx.AsyncClient, standins: Standins) -> None:
    standins.quota.reply = quota.UsageReport(balances=(balance("ten_a", remaining=3),))
    assert_exact(await client.get("/v1/usage"))


@pytest.mark.parametrize("path", ["/v1/models", "/v1/me", "/v1/audio/voices"])
async def test_what_quota_was_not_asked_for_names_no_limits(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert not set(SILENT) & set(answer.headers)


async def test_a_failure_after_the_decision_names_no_limits(client: httpx.AsyncClient, standins: Standins) -> None:
    """The hold is being given back: no figure would be exact."""
    standins.synth.play = refuse(ErrorCode.UPSTREAM_ERROR)
    answer = await client.post(SPEECH, json=BODY)
    assert answer.status_code == 502
    assert not set(SILENT) & set(answer.headers)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the SDK would have waited, one entry a wait."""
    waited: list[float] = []

    async def note(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(anyio, "sleep", note)
    return waited


REFUSED = [code for code in ErrorCode if ERRORS[code].status not in {401, 413, 415, 405}]


@pytest.mark.parametrize("code", REFUSED)
async def test_the_official_sdk_tries_again_where_waiting_helps_and_nowhere_else(
    gateway: Gateway, standins: Standins, key: str, waits: list[float], code: ErrorCode
) -> None:
    standins.synth.play = refuse(code, retry_after_ms=7_000)
    base = f"http://{gateway.http.address}/v1"
    async with openai.AsyncOpenAI(base_url=base, api_key=key, max_retries=RETRIES) as sdk:
        with pytest.raises(openai.APIStatusError) as refused:
            await sdk.audio.speech.create(model="tts-1", voice="alloy", input="Hello.")
    assert refused.value.code == code
    again = ERRORS[code].retry is Retry.LATER
    assert len(standins.synth.asked) == 1 + (RETRIES if again else 0)
    assert waits == ([7.0] * RETRIES if again else [])


async def test_a_wait_beyond_what_sdks_accept_is_cut(
    gateway: Gateway, standins: Standins, key: str, waits: list[float]
) -> None:
    standins.synth.play = refuse(ErrorCode.RATE_LIMIT_EXCEEDED, retry_after_ms=3_600_000)
    base = f"http://{gateway.http.address}/v1"
    async with openai.AsyncOpenAI(base_url=base, api_key=key, max_retries=1) as sdk:
        with pytest.raises(openai.RateLimitError) as refused:
            await sdk.audio.speech.create(model="tts-1", voice="alloy", input="Hello.")
    assert refused.value.response.headers["retry-after"] == "120"
    assert len(standins.synth.asked) == 2
    assert waits


async def test_the_official_sdk_does_not_repeat_a_bad_key(gateway: Gateway, standins: Standins) -> None:
    bad = standins.keys.issue(Scope.SPEECH)
    standins.keys.revoke(bad)
    base = f"http://{gateway.http.address}/v1"
    async with openai.AsyncOpenAI(base_url=base, api_key=bad, max_retries=RETRIES) as sdk:
        with pytest.raises(openai.AuthenticationError):
            await sdk.models.list()
    assert len(standins.keys.asked) == 1


async def test_a_failure_of_the_usage_reader_is_told(client: httpx.AsyncClient, standins: Standins) -> None:
    standins.quota.reply = failure(ErrorCode.OVERLOADED, retry_after_ms=2_000)
    answer = await client.get("/v1/usage")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


async def test_a_speech_carries_the_balances_of_its_own_decision(gateway: Gateway, standins: Standins) -> None:
    standins.synth.play = say(b"audio")
    async with client_of(gateway, standins.keys.issue(Scope.SPEECH)) as client:
        answer = await client.post(SPEECH, json=BODY)
    assert answer.headers["x-ratelimit-remaining-characters"] == "900"
    assert '"characters";r=900' in answer.headers["ratelimit"]
