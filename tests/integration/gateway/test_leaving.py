"""Clients that leave, stop or dawdle: synth hears of it, and the gateway holds nothing for them (P2, P10)."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest

from integration.gateway.harness import BODY, SPEECH, process, running, settings_for, staged
from integration.gateway.standins import Standins, head_for, standing_in
from odea_contracts.keys import Scope
from odea_contracts.synth import CancelReason, Speak
from odea_gateway.app import Gateway
from odea_runtime.streams import OutgoingStream
from support.waiting import until

FRAME = b"x" * 32_768


async def speak_without_end(request: Speak, stream: OutgoingStream) -> None:
    """As much audio as anybody takes."""
    await stream.head(head_for(request))
    while True:
        await stream.audio(FRAME)


async def never_begin(_request: Speak, _stream: OutgoingStream) -> None:
    """Signs of life, and no audio."""
    await asyncio.Event().wait()


@asynccontextmanager
async def calling(
    gateway_address: str, key: str, *, receive_buffer: int | None = None
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that has asked for speech."""
    host, _, port = gateway_address.rpartition(":")
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
    body = msgspec.json.encode(BODY)
    writer.write(f"POST {SPEECH} HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n".encode())
    writer.write(f"content-length: {len(body)}\r\n\r\n".encode() + body)
    try:
        yield reader, writer
    finally:
        writer.close()


async def until_cancelled(standins: Standins, reason: CancelReason, *, within_s: float = 1.0) -> None:
    """Synth is told."""
    await until(lambda: standins.synth.cancelled == [reason], within_s=within_s)


async def test_a_client_that_leaves_in_the_middle(gateway: Gateway, standins: Standins, key: str) -> None:
    standins.synth.play = speak_without_end
    async with calling(str(gateway.http.address), key) as (reader, writer):
        await reader.readexactly(50_000)
        writer.close()
        await until_cancelled(standins, CancelReason.CLIENT_GONE)
    await until(lambda: gateway.edge.in_hand == 0)


async def test_a_client_that_leaves_before_the_first_audio(gateway: Gateway, standins: Standins, key: str) -> None:
    standins.synth.play = never_begin
    async with calling(str(gateway.http.address), key) as (_, writer):
        await until(lambda: len(standins.synth.asked) == 1)
        # The first beat has said where synth listens.
        await asyncio.sleep(1.1)
        writer.close()
        await until_cancelled(standins, CancelReason.CLIENT_GONE)
    await until(lambda: gateway.edge.in_hand == 0)


async def test_a_client_that_leaves_before_synth_was_heard(gateway: Gateway, standins: Standins, key: str) -> None:
    standins.synth.play = never_begin
    async with calling(str(gateway.http.address), key) as (_, writer):
        await until(lambda: len(standins.synth.asked) == 1)
        writer.close()
        await until(lambda: gateway.edge.in_hand == 0, within_s=1)
        await until_cancelled(standins, CancelReason.CLIENT_GONE, within_s=1.5)


async def test_the_official_timeout_of_a_client_is_leaving(gateway: Gateway, standins: Standins, key: str) -> None:
    standins.synth.play = never_begin
    async with httpx.AsyncClient(base_url=f"http://{gateway.http.address}", timeout=1.2) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(SPEECH, json=BODY, headers={"x-api-key": key})
    await until_cancelled(standins, CancelReason.CLIENT_GONE)


async def test_a_client_that_takes_nothing_is_given_up(own_nats_url: str) -> None:
    """Its connection is closed by the kernel a while later, so that it does not count against the bound for ever."""
    async with staged(own_nats_url, client_stall_s="0.5") as (parts, gateway, client):
        parts.synth.play = speak_without_end
        key = client.headers["authorization"].removeprefix("Bearer ")
        async with calling(str(gateway.http.address), key, receive_buffer=4096) as (reader, _):
            await reader.readexactly(100)
            await until_cancelled(parts, CancelReason.CLIENT_STALLED, within_s=5)
            await until(lambda: gateway.edge.in_hand == 0)
            await until(lambda: _closed(gateway), within_s=15)


def _closed(gateway: Gateway) -> bool:
    """Whether the kernel has no connection of the gateway's port left that waits for its client to take something."""
    port = f":{gateway.http.address.port:04X}"
    with open("/proc/net/tcp") as table:  # noqa: PTH123 - a table of the kernel
        rows = [line.split() for line in table][1:]
    return not any(row[1].endswith(port) and row[3] == "01" and not row[4].startswith("00000000") for row in rows)


async def test_a_speech_that_takes_for_ever_ends(own_nats_url: str) -> None:
    async with staged(own_nats_url, speech_s="1") as (parts, gateway, client):
        parts.synth.play = speak_without_end
        with pytest.raises(httpx.RemoteProtocolError):
            await _listen(client)
        # It is we who cut it, so nobody pays.
        await until_cancelled(parts, CancelReason.RECEIVER_FAULT)
        assert gateway.edge.in_hand == 0


async def _listen(client: httpx.AsyncClient) -> None:
    async with client.stream("POST", SPEECH, json=BODY) as answer:
        async for piece in answer.aiter_raw():
            assert piece


async def test_slow_clients_do_not_fill_the_memory(own_nats_url: str) -> None:
    """Twenty clients that hardly read, against a synth that would send without end: a window each, and no more."""
    sent = 0

    async def play(request: Speak, stream: OutgoingStream) -> None:
        nonlocal sent
        await stream.head(head_for(request))
        while True:
            await stream.audio(FRAME)
            sent += 1

    async with standing_in(settings_for(own_nats_url)) as parts, process(own_nats_url) as gateway:
        parts.synth.play = play
        key = parts.keys.issue(Scope.SPEECH)

        async def nibble(readers: list[asyncio.StreamReader], rounds: int) -> tuple[int, int]:
            for _ in range(rounds):
                await asyncio.sleep(0.2)
                for reader in readers:
                    assert await reader.read(1024)
            return sent, gateway.rss_kb()

        async with _many(20, gateway.address, key) as readers:
            # Until nothing moves but what is read: then every window is full.
            sent_before, kb_before = await nibble(readers, 5)
            while True:
                earlier, (sent_before, kb_before) = sent_before, await nibble(readers, 5)
                if sent_before == earlier:
                    break
            sent_after, kb_after = await nibble(readers, 10)
        assert kb_after - kb_before < 20 * 64
        # The window, and what the buffers of two kernels and a server take besides.
        assert sent_after <= 20 * (settings_for(own_nats_url).stream_window_frames + 1 + 400_000 // len(FRAME))
        await until(lambda: len(parts.synth.cancelled) == 20, within_s=5)
        assert set(parts.synth.cancelled) == {CancelReason.CLIENT_GONE}


@asynccontextmanager
async def _many(count: int, address: str, key: str) -> AsyncGenerator[list[asyncio.StreamReader]]:
    opened = [calling(address, key, receive_buffer=4096) for _ in range(count)]
    try:
        yield [(await one.__aenter__())[0] for one in opened]
    finally:
        for one in opened:
            await one.__aexit__(None, None, None)


async def test_a_slow_client_gets_it_whole(own_nats_url: str) -> None:
    """Slower than synth's beats, which must not be taken for audio that was sent too fast."""
    frames = 60

    async def play(request: Speak, stream: OutgoingStream) -> None:
        await stream.head(head_for(request))
        for _ in range(frames):
            await stream.audio(FRAME)
        await stream.tail(1)

    async with staged(own_nats_url, stream_beat_s="0.02", stream_silence_s="2") as (parts, gateway, client):
        parts.synth.play = play
        key = client.headers["authorization"].removeprefix("Bearer ")
        async with calling(str(gateway.http.address), key, receive_buffer=4096) as (reader, _):
            size = len(await reader.readuntil(b"\r\n\r\n"))
            await asyncio.sleep(1.5)
            while piece := await asyncio.wait_for(reader.read(65536), 5):
                size += len(piece)
                if piece.endswith(b"\r\n0\r\n\r\n"):
                    break
        assert size > frames * len(FRAME)
        assert parts.synth.cancelled == []


async def test_a_drain_does_not_wait_for_a_stalled_client(own_nats_url: str) -> None:
    settings = settings_for(own_nats_url, drain_s="1")
    async with standing_in(settings) as parts:
        parts.synth.play = speak_without_end
        key = parts.keys.issue(Scope.SPEECH)
        async with running(settings) as gateway:
            connection = calling(str(gateway.http.address), key, receive_buffer=4096)
            reader, _ = await connection.__aenter__()
            await reader.readexactly(100)
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 6
        await connection.__aexit__(None, None, None)
