"""The main job, through the official SDK: a sentence in, a voice out, its characters taken from a quota."""

import httpx
import openai
import pytest

from odea_contracts import keys, plans, tenants
from odea_contracts.synth import CONTENT_TYPES, AudioFormat
from odea_local.embedded import EmbeddedStack
from support.audio import listen
from support.operator import Operator
from support.waiting import until

SENTENCE = "The quick brown fox jumps over the lazy dog, and nobody in the hall says a word."


def sdk(stack: EmbeddedStack, key: str, *, max_retries: int = 0) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=max_retries)


async def test_a_sentence_is_spoken_and_charged(
    stack: EmbeddedStack, operator: Operator, tenant: tuple[tenants.Tenant, str]
) -> None:
    owner, key = tenant
    async with sdk(stack, key) as client:
        speech = await client.audio.speech.create(model="tts-1", voice="alloy", input=SENTENCE)
    heard = listen(speech.content)
    assert 3.0 < heard.duration_s < 9.0
    assert heard.loudness_dbfs > -35, "that is too quiet for a voice"
    assert (heard.rate_hz, heard.channels) == (24_000, 1)
    balance = await operator.balance(owner.tenant_id)
    assert (balance.used, balance.held) == (len(SENTENCE), 0)


@pytest.mark.parametrize("audio_format", list(AudioFormat))
async def test_every_format_streams_and_decodes(
    stack: EmbeddedStack, tenant: tuple[tenants.Tenant, str], audio_format: AudioFormat
) -> None:
    body = {"model": "tts-1", "voice": "nova", "input": SENTENCE, "response_format": audio_format.value}
    headers = {"Authorization": f"Bearer {tenant[1]}"}
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream("POST", f"{stack.url}/v1/audio/speech", json=body, headers=headers) as response,
    ):
        assert response.headers["content-type"] == CONTENT_TYPES[audio_format]
        audio = b"".join([chunk async for chunk in response.aiter_raw()])
    if audio_format is AudioFormat.PCM:
        assert 3.0 < len(audio) / 48_000 < 9.0
    else:
        assert 3.0 < listen(audio).duration_s < 9.0


async def test_the_first_audio_comes_before_the_last_is_made(
    stack: EmbeddedStack, tenant: tuple[tenants.Tenant, str]
) -> None:
    body = {"model": "tts-1", "voice": "alloy", "input": " ".join([SENTENCE] * 12), "response_format": "pcm"}
    headers = {"Authorization": f"Bearer {tenant[1]}"}
    arrivals: list[float] = []
    async with (
        httpx.AsyncClient(timeout=60) as client,
        client.stream("POST", f"{stack.url}/v1/audio/speech", json=body, headers=headers) as response,
    ):
        async for _ in response.aiter_raw():
            arrivals.append(response.elapsed.total_seconds() if response.is_closed else 0.0)
            settled = await client.get(f"{stack.url}/v1/usage", headers=headers) if len(arrivals) == 1 else None
            if settled:
                account = settled.json()["accounts"][0]
                assert account["held"] > 0, "the whole text was spoken before its first audio left"
    assert len(arrivals) > 12


async def test_a_quota_runs_out(stack: EmbeddedStack, operator: Operator) -> None:
    plan = plans.PlanSet(name="tight", units=2 * len(SENTENCE) + 5)
    owner, key = await operator.new_tenant(plan)
    async with sdk(stack, key, max_retries=2) as client:
        for _ in range(2):
            await client.audio.speech.create(model="tts-1", voice="alloy", input=SENTENCE)
        with pytest.raises(openai.RateLimitError) as refused:
            await client.audio.speech.create(model="tts-1", voice="alloy", input=SENTENCE)
        assert refused.value.code == "insufficient_quota"
        assert refused.value.response.headers["x-should-retry"] == "false"
        # A shorter one still fits: a refusal takes nothing.
        await client.audio.speech.create(model="tts-1", voice="alloy", input="Five.")
    balance = await operator.balance(owner.tenant_id)
    assert (balance.used, balance.remaining) == (plan.units, 0)


async def test_a_revoked_key_stops_working(
    stack: EmbeddedStack, operator: Operator, tenant: tuple[tenants.Tenant, str]
) -> None:
    issued = await operator.new_key(tenant[0].tenant_id)
    async with sdk(stack, issued.secret) as client:
        assert await client.models.list()
        await operator.bus.call(keys.REVOKE, keys.KeyRef(key_id=issued.key.key_id))

        async def refused() -> bool:
            try:
                await client.models.list()
            except openai.AuthenticationError as error:
                return error.code == "invalid_api_key"
            return False

        await until(refused, within_s=1.0)


async def test_no_log_holds_a_key_or_a_text(
    stack: EmbeddedStack, operator: Operator, tenant: tuple[tenants.Tenant, str]
) -> None:
    marked = "Xylophonic quagmires bewilder."
    async with sdk(stack, tenant[1]) as client:
        speech = await client.audio.speech.create(model="tts-1", voice="alloy", input=marked)
        request_id = speech.response.headers["x-request-id"]
        with pytest.raises(openai.BadRequestError):
            await client.audio.speech.create(model="tts-1", voice="nobody", input=marked)
    await until(lambda: request_id in operator.logs())
    written = operator.logs()
    assert tenant[1] not in written
    assert tenant[1].split("_")[3] not in written
    assert "Xylophonic" not in written
