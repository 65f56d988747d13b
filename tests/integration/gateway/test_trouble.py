"""Whatever is down is named with 503 within two seconds, and heals by itself (P9)."""

import asyncio
import time

import httpx
import pytest

from integration.gateway.harness import BODY, SPEECH, client_of, running, settings_for, staged
from integration.gateway.standins import head_for, standing_in
from odea_contracts.errors import ErrorCode, failure
from odea_contracts.keys import Scope
from odea_contracts.synth import CancelReason, Speak
from odea_gateway.app import Gateway
from odea_runtime.streams import OutgoingStream
from support.servers import NatsServer
from support.waiting import until

WITHIN_S = 2.0
LIST = "/v1/audio/voices"


async def works(client: httpx.AsyncClient, method: str, path: str) -> bool:
    """The request is answered with 200."""
    answer = await client.request(method, path, json=BODY if method == "POST" else None)
    return answer.status_code == 200


async def listens(client: httpx.AsyncClient) -> bool:
    """The gateway accepts connections."""
    try:
        await client.get("/")
    except httpx.ConnectError:
        return False
    return True


async def assert_unavailable(client: httpx.AsyncClient, method: str, path: str, code: str) -> httpx.Response:
    """The answer is 503 with this code, soon."""
    began = time.perf_counter()
    answer = await client.request(method, path, json=BODY if method == "POST" else None)
    assert time.perf_counter() - began < WITHIN_S
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, code), answer.text
    assert 1 <= int(answer.headers["retry-after"]) <= 120
    return answer


PATHS = {
    "keys": ("POST", SPEECH, "keys_unavailable"),
    "quota": ("GET", "/v1/usage", "quota_unavailable"),
    "synth": ("POST", SPEECH, "synth_unavailable"),
}


@pytest.mark.parametrize("name", PATHS)
async def test_nobody_answers_for_a_service(own_nats_url: str, name: str) -> None:
    method, path, code = PATHS[name]
    async with staged(own_nats_url) as (parts, _, client):
        await parts.stop(name)
        answer = await assert_unavailable(client, method, path, code)
    assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tts-1", "/v1/audio/models", "/v1/audio/voices"])
async def test_the_lists_need_synth(own_nats_url: str, path: str) -> None:
    async with staged(own_nats_url) as (parts, _, client):
        await parts.stop("synth")
        await assert_unavailable(client, "GET", path, "synth_unavailable")


async def test_keys_that_do_not_answer(own_nats_url: str) -> None:
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    async with staged(own_nats_url) as (parts, _, client):
        parts.keys.before = wait
        await assert_unavailable(client, "POST", SPEECH, "keys_unavailable")
        gate.set()


async def test_a_synth_that_gives_no_sign_of_life(breakable_nats: NatsServer) -> None:
    """It has the request, and neither audio nor a beat comes."""
    silent = settings_for(breakable_nats.url, stream_beat_s="10", stream_silence_s="60")
    gate = asyncio.Event()

    async def play(_request: Speak, _stream: OutgoingStream) -> None:
        await gate.wait()

    async with standing_in(silent) as parts, running(settings_for(breakable_nats.url)) as gateway:
        async with client_of(gateway, parts.keys.issue(Scope.SPEECH)) as client:
            parts.synth.play = play
            await assert_unavailable(client, "POST", SPEECH, "synth_unavailable")
        gate.set()


async def test_a_synth_that_lives_but_takes_too_long(own_nats_url: str) -> None:
    """Signs of life keep a request waiting, yet not for ever."""
    gate = asyncio.Event()

    async def play(_request: Speak, _stream: OutgoingStream) -> None:
        await gate.wait()

    async with staged(own_nats_url, head_s="2.5") as (parts, _, client):
        parts.synth.play = play
        answer = await client.post(SPEECH, json=BODY)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
        await until(lambda: parts.synth.cancelled == [CancelReason.RECEIVER_FAULT], within_s=2)
        gate.set()


async def test_cached_keys_go_on_without_keys(own_nats_url: str) -> None:
    async with staged(own_nats_url) as (parts, _, client):
        assert await works(client, "POST", SPEECH)
        await parts.stop("keys")
        assert await works(client, "POST", SPEECH)


async def test_what_quota_fails_with_is_passed_on(own_nats_url: str) -> None:
    async with staged(own_nats_url) as (parts, _, client):
        parts.quota.reply = failure(ErrorCode.QUOTA_UNAVAILABLE)
        await assert_unavailable(client, "GET", "/v1/usage", "quota_unavailable")


async def test_nats_goes_and_comes_back(breakable_nats: NatsServer) -> None:
    async with staged(breakable_nats.url) as (_, _, client):
        assert await works(client, "POST", SPEECH)
        await asyncio.to_thread(breakable_nats.kill)
        await assert_unavailable(client, "POST", SPEECH, "keys_unavailable")
        await assert_unavailable(client, "GET", LIST, "synth_unavailable")
        await asyncio.to_thread(breakable_nats.restart)
        await until(lambda: works(client, "POST", SPEECH))


async def test_a_gateway_starts_without_nats_and_finds_it(breakable_nats: NatsServer) -> None:
    """It says what is missing instead of being silent."""
    settings = settings_for(breakable_nats.url)
    await asyncio.to_thread(breakable_nats.stop)
    gateway, stop = Gateway(settings), asyncio.Event()
    task = asyncio.create_task(gateway.run(stop))
    async with client_of(gateway) as client:
        await until(lambda: listens(client))
        await assert_unavailable(client, "GET", LIST, "synth_unavailable")
        await asyncio.to_thread(breakable_nats.restart)
        async with standing_in(settings):
            await until(lambda: works(client, "GET", LIST))
    stop.set()
    await task


async def test_a_gateway_that_never_found_nats_stops(breakable_nats: NatsServer) -> None:
    await asyncio.to_thread(breakable_nats.stop)
    gateway, stop = Gateway(settings_for(breakable_nats.url)), asyncio.Event()
    task = asyncio.create_task(gateway.run(stop))
    async with client_of(gateway) as client:
        await until(lambda: listens(client))
        await assert_unavailable(client, "GET", LIST, "synth_unavailable")
    stop.set()
    await asyncio.wait_for(task, 5)


async def test_nats_dies_in_the_middle_of_a_speech(breakable_nats: NatsServer) -> None:
    """P4: the body breaks, visibly."""

    async def play(request: Speak, stream: OutgoingStream) -> None:
        await stream.head(head_for(request))
        await stream.audio(b"half")
        await asyncio.Event().wait()

    async with staged(breakable_nats.url) as (parts, _, client):
        parts.synth.play = play
        async with client.stream("POST", SPEECH, json=BODY) as response:
            assert response.status_code == 200
            chunks = response.aiter_raw()
            assert await anext(chunks) == b"half"
            await asyncio.to_thread(breakable_nats.kill)
            with pytest.raises(httpx.RemoteProtocolError):
                async with asyncio.timeout(WITHIN_S):
                    await anext(chunks)
        await asyncio.to_thread(breakable_nats.restart)
