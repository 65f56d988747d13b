"""Two processes with audio streams between them: a studio that plays what the test says, and whoever listens."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec
from faststream.nats import NatsRouter
from nats.aio.msg import Msg

from integration.runtime.harness import Ask, settings_for
from odea_contracts.bundles import StreamBundle
from odea_contracts.subjects import streams_prefix
from odea_contracts.synth import FRAME_BYTES_MAX, CancelReason, Credit, Frame, Head
from odea_runtime.bus import Bus
from odea_runtime.streams import (
    CancelledByReceiverError,
    OutgoingStream,
    Receiver,
    Streams,
    StreamSettings,
    serve_streams,
)
from odea_runtime.tasks import Tasks

MARGIN_S: Final = 1.0
"""What a loaded machine may take beyond a time limit."""
SPEAK: Final = "odea.v1.hall.speak"
PATIENT: Final[dict[str, float]] = {"stream_beat_s": 0.1, "stream_answer_s": 30, "stream_silence_s": 30}
"""Silence is no way for a test with these to end."""
IMPATIENT: Final[dict[str, float]] = {"stream_beat_s": 0.1, "stream_answer_s": 0.6, "stream_silence_s": 0.8}
HEAD: Final = Head(
    provider="piper",
    model="tts-1",
    voice="alloy",
    content_type="audio/mpeg",
    units_held=5,
    balances=(),
    first_audio_ms=1,
)

Play: TypeAlias = Callable[[OutgoingStream, Ask], Awaitable[None]]


@dataclass(frozen=True)
class Ended:
    """How the sender's block was left.

    Attributes:
        error: what came out of it.
        cancelling: how many cancellations the task still carries; the code after the block would feel them.
    """

    error: BaseException | None
    cancelling: int


class Studio:
    """A process that answers every request with a stream."""

    def __init__(self, settings: StreamSettings, play: Play) -> None:
        self.settings: Final = settings
        self.tasks: Final = Tasks(settings.tasks_max)
        self.ends: Final[asyncio.Queue[Ended]] = asyncio.Queue()
        self.performers: Final[list[asyncio.Task[None]]] = []
        self._play = play
        router = NatsRouter()
        serve_streams(router, self.tasks, subject=SPEAK, queue="hall", request=Ask, handler=self.perform)
        self.bus: Final = Bus(self.settings, "hall", router)
        self.streams: Final = Streams(self.bus, self.settings)

    async def perform(self, ask: Ask, receiver: Receiver) -> None:
        """Answer one request, and note how that went."""
        task = asyncio.current_task()
        assert task is not None
        self.performers.append(task)
        error = None
        try:
            async with self.streams.send(receiver, self.settings.stream_window_frames) as stream:
                await self._play(stream, ask)
        except (CancelledByReceiverError, ConnectionError) as caught:
            error = caught
        finally:
            self.ends.put_nowait(Ended(error, task.cancelling()))


@asynccontextmanager
async def open_studio(nats_url: str, play: Play, **more: float) -> AsyncGenerator[Studio]:
    """A sender inside the test's own loop."""
    studio = Studio(settings_for(nats_url, **(PATIENT | more)), play)
    await studio.bus.start(studio.streams.start)
    try:
        yield studio
    finally:
        await studio.streams.stop()
        await studio.tasks.drain(2)
        await studio.bus.stop()


@asynccontextmanager
async def listening(nats_url: str, **more: float) -> AsyncGenerator[Streams]:
    """A receiver inside the test's own loop."""
    settings = settings_for(nats_url, **(PATIENT | more))
    bus = Bus(settings, "tests")
    streams = Streams(bus, settings)
    await bus.start(streams.start)
    try:
        yield streams
    finally:
        await streams.stop()
        await bus.stop()


def ask_body(text: str = "x", number: int = 0) -> bytes:
    return msgspec.json.encode(Ask(text=text, number=number))


async def collect(streams: Streams, body: bytes) -> bytes:
    """Ask for a stream and take all of it."""
    async with streams.open(SPEAK, body, {}) as stream:
        await stream.head()
        return b"".join([frame async for frame in stream])


async def play_on(stream: OutgoingStream, _: Ask) -> None:
    """Without an end: only an interruption ends it."""
    await stream.head(HEAD)
    while True:
        await stream.audio(bytes(FRAME_BYTES_MAX))


async def play_nothing(_stream: OutgoingStream, _ask: Ask) -> None:
    """An upstream that hangs."""
    await asyncio.Event().wait()


def was_cancelled(ended: Ended, reason: CancelReason | None) -> bool:
    """Whether the block was left as it should be: with the reason, and with no cancellation left over."""
    assert isinstance(ended.error, CancelledByReceiverError)
    return ended == Ended(ended.error, cancelling=0) and ended.error.reason == reason


async def end_of(studio: Studio, within_s: float = MARGIN_S) -> Ended:
    async with asyncio.timeout(within_s):
        return await studio.ends.get()


class Wire:
    """What a third party sees of one stream: frames one way, credit the other. Which was first it can't tell."""

    def __init__(self) -> None:
        self.audio = 0
        self.beats = 0
        self.credited = 0

    async def watch(self, bus: Bus) -> None:
        await bus.client.subscribe(f"{streams_prefix('tests')}.>", cb=self._see_frame)
        await bus.client.subscribe(f"{streams_prefix('hall')}.>", cb=self._see_credit)
        await bus.round_trip()

    async def _see_frame(self, message: Msg) -> None:
        for part in _parts(message):
            self.beats += part.frame == Frame.BEAT
            if part.seq:
                self.audio = part.seq

    async def _see_credit(self, message: Msg) -> None:
        for part in _parts(message):
            self.credited = msgspec.json.decode(part.body, type=Credit).through


def _parts(message: Msg) -> StreamBundle:
    return msgspec.msgpack.decode(message.data, type=StreamBundle)
