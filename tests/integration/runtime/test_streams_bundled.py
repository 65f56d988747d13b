"""Frames of many streams in one message: as exact as alone, in order, and only for whoever takes them so (P4, P10)."""

import asyncio
from collections.abc import AsyncGenerator

import msgspec
import pytest
import structlog
from nats.aio.msg import Msg

from integration.runtime.harness import SENDING_FAILS, Ask, open_bus, send_nothing
from integration.runtime.studio import (
    HEAD,
    SPEAK,
    ask_body,
    collect,
    end_of,
    listening,
    open_studio,
    play_on,
    was_cancelled,
)
from odea_contracts.bundles import HEADER_BUNDLES_TO, StreamBundle
from odea_contracts.subjects import streams_prefix
from odea_contracts.synth import FRAME_BYTES_MAX, HEADER_FRAME, CancelReason, Credit, Receipt
from odea_runtime.bus import Bus
from odea_runtime.streams import OutgoingStream, Streams
from support.waiting import until

BUNDLE_BYTES = 256 * 1024 + FRAME_BYTES_MAX
"""What a bundle may hold, and what stands around that."""


class Wire:
    """What a third party sees of the messages between two processes: their sizes, and how many parts each has."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, int]] = []
        self.controls: list[int] = []

    async def watch(self, bus: Bus) -> None:
        await bus.client.subscribe(f"{streams_prefix('tests')}.>", cb=self._see_frames)
        await bus.client.subscribe(f"{streams_prefix('hall')}.>", cb=self._see_controls)
        await bus.round_trip()

    async def _see_frames(self, message: Msg) -> None:
        self.frames.append((len(msgspec.msgpack.decode(message.data, type=StreamBundle)), len(message.data)))

    async def _see_controls(self, message: Msg) -> None:
        self.controls.append(len(msgspec.msgpack.decode(message.data, type=StreamBundle)))


@pytest.fixture
async def wire(nats_url: str) -> AsyncGenerator[Wire]:
    seen = Wire()
    async with open_bus(nats_url, service="third") as third:
        await seen.watch(third)
        yield seen


@pytest.fixture
async def listener(nats_url: str) -> AsyncGenerator[Streams]:
    async with listening(nats_url) as opened:
        yield opened


async def play_short(stream: OutgoingStream, ask: Ask) -> None:
    await stream.head(HEAD)
    await stream.audio(ask.text.encode())
    await stream.tail(0)
    await stream.receipt()


async def test_streams_of_one_moment_share_their_messages(nats_url: str, listener: Streams, wire: Wire) -> None:
    count = 50
    async with open_studio(nats_url, play_short) as studio:
        heard = await asyncio.gather(*(collect(listener, ask_body(f"text {number}")) for number in range(count)))
        for _ in range(count):
            assert (await end_of(studio)).error is None
        await until(lambda: sum(wire.controls) >= count)
    assert heard == [f"text {number}".encode() for number in range(count)]
    # Head, audio and tail of each, and a beat now and then.
    assert sum(parts for parts, _ in wire.frames) >= 3 * count
    assert max(parts for parts, _ in wire.frames) > count / 4
    assert max(wire.controls) > count / 4


async def test_no_message_is_larger_than_a_bundle_may_be(nats_url: str, listener: Streams, wire: Wire) -> None:
    """P10: however many streams send at once, and in the right order all the same."""
    count, length = 30, 5 * FRAME_BYTES_MAX

    async def play(stream: OutgoingStream, ask: Ask) -> None:
        await stream.head(HEAD)
        await stream.audio(bytes([ask.number]) * length)
        await stream.tail(0)

    async with open_studio(nats_url, play):
        heard = await asyncio.gather(*(collect(listener, ask_body(number=number)) for number in range(count)))
    assert heard == [bytes([number]) * length for number in range(count)]
    assert max(parts for parts, _ in wire.frames) > 2
    assert max(size for _, size in wire.frames) <= BUNDLE_BYTES


async def test_who_names_no_place_for_them_gets_each_frame_by_itself(nats_url: str, bus: Bus) -> None:
    """One of the version before, or any other program."""
    frames: list[str] = []
    inbox = bus.client.new_inbox()

    async def take(message: Msg) -> None:
        frames.append((message.headers or {})[HEADER_FRAME])
        if frames[-1] == "audio":
            await bus.client.publish(message.reply, msgspec.json.encode(Credit(through=1)))
        if frames[-1] == "tail":
            await bus.client.publish(message.reply, msgspec.json.encode(Receipt()))

    async with open_studio(nats_url, play_short) as studio:
        await bus.client.subscribe(inbox, cb=take)
        await bus.client.publish(SPEAK, ask_body(), reply=inbox)
        assert (await end_of(studio)).error is None
    assert [frame for frame in frames if frame != "beat"] == ["head", "audio", "tail"]


@pytest.mark.parametrize(
    "place",
    [
        "odea.v1.quota.settle",
        "",
        "*",
        "x y",
        "_STREAM_other.x",
        "_INBOX_tests.",
        "_INBOX_tests.*",
        f"_INBOX_tests.{'x' * 5000}",
    ],
    ids=["subject", "none", "all", "two", "another's", "no subject", "wildcard", "long"],
)
async def test_a_place_that_is_no_address_for_replies_is_not_used(nats_url: str, bus: Bus, place: str) -> None:
    """Whoever asks must not have us speak elsewhere with our rights."""
    elsewhere: list[Msg] = []
    frames: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = bus.client.new_inbox()

    async def note(message: Msg) -> None:
        elsewhere.append(message)

    async with open_studio(nats_url, play_short):
        await bus.client.subscribe(inbox, cb=frames.put)
        await bus.client.subscribe("odea.v1.quota.>", cb=note)
        await bus.client.publish(SPEAK, ask_body(), reply=inbox, headers={HEADER_BUNDLES_TO: place})
        for kind in ("head", "audio", "tail"):
            assert ((await frames.get()).headers or {})[HEADER_FRAME] == kind
        assert not elsewhere


@SENDING_FAILS
async def test_frames_that_can_not_be_sent_end_their_stream(
    nats_url: str, bus: Bus, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The task is interrupted at once, whatever nats-py makes of it."""
    async with open_studio(nats_url, play_on) as studio:
        send_nothing(monkeypatch, studio.bus, error)
        inbox = bus.client.new_inbox()
        await bus.client.publish(SPEAK, ask_body(), reply=inbox, headers={HEADER_BUNDLES_TO: f"{inbox}.bundles"})
        with structlog.testing.capture_logs() as said:
            assert was_cancelled(await end_of(studio), CancelReason.RECEIVER_FAULT)
        assert [line["error"] for line in said if line["log_level"] == "warning"] == [repr(error)]
        monkeypatch.undo()


async def test_streams_together_do_not_wait_in_more_memory_than_one(nats_url: str, bus: Bus) -> None:
    """P10: what many hand over in one turn of the loop is bounded as what one does."""
    many, window, made, most, go = 60, 16, 0, 0, asyncio.Event()

    async def play(stream: OutgoingStream, _: Ask) -> None:
        nonlocal made
        await go.wait()
        await stream.head(HEAD)
        while made < many * window:
            made += 1
            await stream.audio(bytes(FRAME_BYTES_MAX))

    async with open_studio(nats_url, play, stream_window_frames=window) as studio:
        for number in range(many):
            inbox = f"{streams_prefix('tests')}.x.{number}"
            headers = {HEADER_BUNDLES_TO: f"{streams_prefix('tests')}.x.bundles"}
            await bus.client.publish(SPEAK, ask_body(), reply=inbox, headers=headers)
        await until(lambda: len(studio.performers) == many)
        go.set()

        async def is_done() -> bool:
            nonlocal most
            for _ in range(100):
                most = max(most, studio.bus.client.pending_data_size)
                await asyncio.sleep(0)
            return made == many * window

        await until(is_done)
    # The buffer, and a frame of each.
    assert most <= 2 * 1024 * 1024 + many * (FRAME_BYTES_MAX + 1024)


async def test_a_connection_that_ends_ends_the_stream(nats_url: str) -> None:
    async with (
        open_studio(nats_url, play_on) as studio,
        listening(nats_url) as listener,
        listener.open(SPEAK, ask_body(), {}) as stream,
    ):
        await stream.head()
        await studio.bus.client.close()
        assert was_cancelled(await end_of(studio), CancelReason.RECEIVER_FAULT)
