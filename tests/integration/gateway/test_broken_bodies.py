"""A body that is not whole never looks whole, whoever reads it (P4)."""

import asyncio
import http.client
import subprocess
from collections.abc import Awaitable, Callable

import httpx
import msgspec
import openai
import pytest

from integration.gateway.harness import BODY, SPEECH, raw_exchange
from integration.gateway.standins import Standins, head_for
from odea_contracts.errors import ErrorCode, failure
from odea_contracts.synth import Speak
from odea_gateway.app import Gateway
from odea_runtime.streams import OutgoingStream

Ending = Callable[[OutgoingStream], Awaitable[None]]
FIRST = b"x" * 30_000


async def fall_silent(stream: OutgoingStream) -> None:
    """As a sender that was killed: no tail, no failure, no beat."""
    stream.beat = _no_beat  # pyright: ignore[reportAttributeAccessIssue] - a dead process does not beat
    await asyncio.sleep(10)


async def _no_beat(_now: float) -> None:
    """Nothing."""


async def give_up(stream: OutgoingStream) -> None:
    """The upstream failed in the middle."""
    await stream.fail(failure(ErrorCode.UPSTREAM_ERROR))


async def lie_about_the_length(stream: OutgoingStream) -> None:
    """The tail counts more than was sent."""
    stream._bytes += 1  # pyright: ignore[reportPrivateUsage] - only a faulty sender does this
    await stream.tail(1)


async def skip_a_frame(stream: OutgoingStream) -> None:
    """A frame is lost on the way."""
    stream._sent += 1  # pyright: ignore[reportPrivateUsage] - only the bus does this
    await stream.audio(b"late")
    await stream.tail(1)


ENDINGS: dict[str, Ending] = {
    "the sender dies": fall_silent,
    "the sender gives up": give_up,
    "the tail lies": lie_about_the_length,
    "a frame is missing": skip_a_frame,
}


def breaking(ending: Ending) -> Callable[[Speak, OutgoingStream], Awaitable[None]]:
    """A speech that begins well."""

    async def play(request: Speak, stream: OutgoingStream) -> None:
        await stream.head(head_for(request))
        await stream.audio(FIRST)
        await ending(stream)

    return play


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
async def test_httpx_raises(client: httpx.AsyncClient, standins: Standins, ending: Ending) -> None:
    standins.synth.play = breaking(ending)
    heard = bytearray()

    async def listen() -> None:
        async with client.stream("POST", SPEECH, json=BODY) as answer:
            assert answer.status_code == 200
            async for piece in answer.aiter_raw():
                heard.extend(piece)

    with pytest.raises(httpx.RemoteProtocolError):
        await listen()
    assert bytes(heard) == FIRST


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
async def test_curl_exits_with_18(gateway: Gateway, standins: Standins, key: str, stream_format: str) -> None:
    standins.synth.play = breaking(give_up)
    body = msgspec.json.encode({**BODY, "stream_format": stream_format}).decode()
    command = ["curl", "-sS", "-o", "/dev/null", "-H", f"x-api-key: {key}", "--json", body]
    done = await asyncio.to_thread(
        subprocess.run, [*command, f"http://{gateway.http.address}{SPEECH}"], check=False, capture_output=True
    )
    assert done.returncode == 18, done.stderr


async def test_the_standard_library_raises(gateway: Gateway, standins: Standins, key: str) -> None:
    standins.synth.play = breaking(give_up)

    def speak() -> bytes:
        connection = http.client.HTTPConnection(gateway.http.address.host, gateway.http.address.port, timeout=10)
        headers = {"x-api-key": key, "content-type": "application/json"}
        try:
            connection.request("POST", SPEECH, msgspec.json.encode(BODY), headers)
            return connection.getresponse().read()
        finally:
            connection.close()

    with pytest.raises(http.client.IncompleteRead):
        await asyncio.to_thread(speak)


async def test_the_official_sdk_raises(gateway: Gateway, standins: Standins, key: str) -> None:
    standins.synth.play = breaking(give_up)
    base = f"http://{gateway.http.address}/v1"
    async with openai.AsyncOpenAI(base_url=base, api_key=key, max_retries=0) as sdk:
        with pytest.raises(openai.APIConnectionError):
            await sdk.audio.speech.create(model="tts-1", voice="alloy", input="Hello.")


async def test_an_http_1_0_client_gets_an_error(gateway: Gateway, standins: Standins, key: str) -> None:
    standins.synth.play = breaking(lie_about_the_length)
    body = msgspec.json.encode(BODY)
    request = f"POST {SPEECH} HTTP/1.0\r\nx-api-key: {key}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    answer = await raw_exchange(str(gateway.http.address), request)
    assert answer.startswith(b"HTTP/1.0 503")
    assert b'"synth_unavailable"' in answer


async def test_the_connection_serves_no_second_request(gateway: Gateway, standins: Standins, key: str) -> None:
    """It is closed: nobody can take what follows for the rest of the audio."""
    standins.synth.play = breaking(give_up)
    body = msgspec.json.encode(BODY)
    head = f"POST {SPEECH} HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: {len(body)}\r\n\r\n"
    answer = await raw_exchange(str(gateway.http.address), (head.encode() + body) * 2)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert not answer.endswith(b"0\r\n\r\n")


async def test_a_head_without_audio_is_no_speech(client: httpx.AsyncClient, standins: Standins) -> None:
    async def play(request: Speak, stream: OutgoingStream) -> None:
        await stream.head(head_for(request))
        await stream.tail(1)

    standins.synth.play = play
    answer = await client.post(SPEECH, json=BODY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "synth_unavailable")


async def test_a_failure_after_the_head_and_before_the_audio_is_told(
    client: httpx.AsyncClient, standins: Standins
) -> None:
    """P4: status 200 waits for the first audio."""

    async def play(request: Speak, stream: OutgoingStream) -> None:
        await stream.head(head_for(request))
        await stream.fail(failure(ErrorCode.UPSTREAM_TIMEOUT))

    standins.synth.play = play
    answer = await client.post(SPEECH, json=BODY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
