"""Whatever is wrong with a stream's frames, the listener sees that it is broken; no part is taken for the whole (P4).

The frames are made by hand, so that they can be wrong in ways in which no sender of ours makes them.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hashlib import sha256

import msgspec
import pytest
from nats.aio.msg import Msg
from structlog.testing import capture_logs

from integration.runtime.harness import open_bus
from integration.runtime.studio import HEAD, IMPATIENT, SPEAK, ask_body, collect, listening
from odea_contracts.bundles import HEADER_BUNDLES_TO, StreamBundle
from odea_contracts.errors import ErrorCode, failure
from odea_contracts.synth import HEADER_FRAME, HEADER_SEQ, Cancel, CancelReason, Control, Frame, Tail, Timing, Timings
from odea_runtime.bus import Bus, NoRespondersError
from odea_runtime.streams import RefusedError, StreamBrokenError

AUDIO = (b"one,", b"two,", b"three")


class Forger:
    """Serves `SPEAK` with frames made by hand, each in a message of its own or in a bundle."""

    def __init__(self, bus: Bus, *, bundled: bool) -> None:
        self._bus = bus
        self._bundled = bundled
        self._control = bus.client.new_inbox()
        self._bundles = bus.client.new_inbox()
        self.requests: asyncio.Queue[Msg] = asyncio.Queue()
        self.controls: asyncio.Queue[Control] = asyncio.Queue()

    async def start(self) -> None:
        await self._bus.client.subscribe(SPEAK, queue="hall", cb=self.requests.put)
        await self._bus.client.subscribe(self._control, cb=self._hear)
        await self._bus.client.subscribe(self._bundles, cb=self._hear_bundle)
        await self._bus.round_trip()

    async def frame(self, request: Msg, kind: str, body: bytes = b"", seq: int | str | None = None) -> None:
        inbox = request.reply
        if self._bundled:
            part = (inbox, body, self._control, kind, 0 if seq is None else seq)
            to = (request.headers or {})[HEADER_BUNDLES_TO]
            await self._bus.client.publish(to, msgspec.msgpack.encode([part]), reply=self._bundles)
            return
        headers = {HEADER_FRAME: kind} | ({} if seq is None else {HEADER_SEQ: str(seq)})
        await self._bus.client.publish(inbox, body, reply=self._control, headers=headers)

    async def raw(self, request: Msg, body: bytes) -> None:
        await self._bus.client.publish((request.headers or {})[HEADER_BUNDLES_TO], body, reply=self._bundles)

    async def nobody(self, request: Msg) -> None:
        await self._bus.client.publish(request.reply, b"", headers={"Status": "503"})

    async def _hear(self, message: Msg) -> None:
        assert not self._bundled
        self.controls.put_nowait(msgspec.json.decode(message.data, type=Control))

    async def _hear_bundle(self, message: Msg) -> None:
        for part in msgspec.msgpack.decode(message.data, type=StreamBundle):
            assert part.to == self._control
            self.controls.put_nowait(msgspec.json.decode(part.body, type=Control))


@pytest.fixture(params=[False, True], ids=["alone", "bundled"])
def bundled(request: pytest.FixtureRequest) -> bool:
    return request.param


@asynccontextmanager
async def forging(nats_url: str, *, bundled: bool) -> AsyncGenerator[Forger]:
    async with open_bus(nats_url, service="forger") as bus:
        forger = Forger(bus, bundled=bundled)
        await forger.start()
        yield forger


def tail(audio: tuple[bytes, ...] = AUDIO, *, frames: int = 0, count: int = 0, digest: str = "") -> bytes:
    whole = b"".join(audio)
    return msgspec.json.encode(
        Tail(
            frames=len(audio) + frames,
            bytes=len(whole) + count,
            sha256=digest or sha256(whole).hexdigest(),
            units=5,
        )
    )


Part = tuple[str, bytes, int | str | None]
START: Part = ("head", msgspec.json.encode(HEAD), None)
ONE, TWO, THREE = ((("audio", audio, number)) for number, audio in enumerate(AUDIO, start=1))
END: Part = ("tail", tail(), None)
BEAT: Part = ("beat", b"", None)
WORDS = msgspec.json.encode(Timings(timings=(Timing(word="one", start_ms=0, end_ms=300),)))
TIMED_TWO: Part = ("timings", WORDS, 2)
TWO_AS_THREE, THREE_AS_FOUR = ("audio", AUDIO[1], 3), ("audio", AUDIO[2], 4)
TIMED_END: Part = ("tail", tail(frames=1), None)

WRONG: dict[str, tuple[Part, ...]] = {
    "first frame lost": (START, TWO, THREE, END),
    "frame lost": (START, ONE, THREE, END),
    "last frame lost": (START, ONE, TWO, END),
    "all frames lost": (START, END),
    "head lost": (ONE, TWO, THREE, END),
    "only the tail": (END,),
    "tail lost": (START, ONE, TWO, THREE),
    "frame twice": (START, ONE, TWO, TWO, THREE, END),
    "all frames twice": (START, ONE, TWO, THREE, ONE, TWO, THREE, END),
    "frames swapped": (START, TWO, ONE, THREE, END),
    "head twice": (START, ONE, START, TWO, THREE, END),
    "frame after the tail's time": (START, ONE, TWO, END, THREE),
    "other bytes": (START, ONE, ("audio", b"tw0,", 2), THREE, END),
    "bytes between frames moved": (START, ("audio", b"one", 1), ("audio", b"two,", 2), ("audio", b",three", 3), END),
    "timings lost": (START, ONE, TIMED_TWO, TWO_AS_THREE, THREE_AS_FOUR, ("tail", tail(frames=2), None)),
    "timings swapped with audio": (START, ONE, TWO_AS_THREE, TIMED_TWO, THREE_AS_FOUR, TIMED_END),
    "timings without a number": (START, ONE, ("timings", WORDS, None), TWO_AS_THREE, THREE_AS_FOUR, TIMED_END),
    "timings that can't be read": (START, ONE, ("timings", b"{}", 2), TWO_AS_THREE, THREE_AS_FOUR, TIMED_END),
    "timings in place of the head": (("timings", WORDS, 1), ONE, TWO, THREE, END),
    "frame without a number": (START, ("audio", AUDIO[0], None), TWO, THREE, END),
    "frame with a strange number": (START, ("audio", AUDIO[0], "01"), TWO, THREE, END),
    "frame from nothing": (START, ("audio", b"zero", 0), ONE, TWO, THREE, END),
    "frame of no known kind": (START, ONE, ("video", b"", 2), THREE, END),
    "message that is no frame": (START, ONE, ("", b"?", None), TWO, THREE, END),
    "head that can't be read": (("head", b'{"provider": "\xff"}', None), ONE, TWO, THREE, END),
    "head that lacks something": (("head", b"{}", None), ONE, TWO, THREE, END),
    "empty head": (("head", b"", None), ONE, TWO, THREE, END),
    "tail that can't be read": (START, ONE, TWO, THREE, ("tail", b'{"frames": 3, "sha256": "\xff"}', None)),
    "tail that lacks something": (START, ONE, TWO, THREE, ("tail", b'{"frames": 3}', None)),
    "failure that can't be read": (START, ONE, ("fail", b'{"code": "\xff"}', None)),
    "tail with one frame more": (START, ONE, TWO, THREE, ("tail", tail(frames=1), None)),
    "tail with one frame less": (START, ONE, TWO, THREE, ("tail", tail(frames=-1), None)),
    "tail with one byte more": (START, ONE, TWO, THREE, ("tail", tail(count=1), None)),
    "tail with one byte less": (START, ONE, TWO, THREE, ("tail", tail(count=-1), None)),
    "tail with another digest": (START, ONE, TWO, THREE, ("tail", tail(digest=sha256(b"other").hexdigest()), None)),
    "tail without a digest": (START, ONE, TWO, THREE, ("tail", tail(digest="none"), None)),
    "tail of another stream": (START, ONE, TWO, THREE, ("tail", tail((b"one,", b"two,", b"seven")), None)),
}


@pytest.mark.parametrize("parts", WRONG.values(), ids=WRONG.keys())
async def test_a_stream_that_is_not_whole_is_broken(nats_url: str, bundled: bool, parts: tuple[Part, ...]) -> None:
    """P4. And the sender is told to stop, as our fault and nobody's charge (P2)."""
    async with forging(nats_url, bundled=bundled) as forger, listening(nats_url, **IMPATIENT) as listener:
        hearing = asyncio.create_task(collect(listener, ask_body()))
        asked = await forger.requests.get()
        for kind, body, seq in parts:
            await forger.frame(asked, kind, body, seq)
        with pytest.raises(StreamBrokenError):
            await hearing
        async with asyncio.timeout(5):
            while not isinstance(said := await forger.controls.get(), Cancel):
                pass
        assert said.reason is CancelReason.RECEIVER_FAULT


@pytest.mark.parametrize(
    "parts",
    [
        (START, ONE, TWO, THREE, END),
        (BEAT, BEAT, START, BEAT, ONE, BEAT, TWO, THREE, BEAT, END),
        (START, ONE, TWO, THREE, END, END, BEAT, ONE),
        (START, ONE, TIMED_TWO, TWO_AS_THREE, THREE_AS_FOUR, TIMED_END),
    ],
    ids=["plain", "with signs of life", "with something after the end", "with timings"],
)
async def test_a_stream_made_by_hand_as_it_should_be_is_whole(
    nats_url: str, bundled: bool, parts: tuple[Part, ...]
) -> None:
    """P4: else the cases above would prove nothing."""
    async with forging(nats_url, bundled=bundled) as forger, listening(nats_url) as listener:
        hearing = asyncio.create_task(collect(listener, ask_body()))
        asked = await forger.requests.get()
        for kind, body, seq in parts:
            await forger.frame(asked, kind, body, seq)
        assert await hearing == b"".join(AUDIO)


async def test_a_failure_instead_of_a_frame_is_a_refusal(nats_url: str) -> None:
    """A sender's router refuses what it can't read, and knows nothing of frames."""
    async with forging(nats_url, bundled=False) as forger, listening(nats_url) as listener:
        hearing = asyncio.create_task(collect(listener, ask_body()))
        request = await forger.requests.get()
        await request.respond(msgspec.json.encode(failure(ErrorCode.OVERLOADED)))
        with pytest.raises(RefusedError) as caught:
            await hearing
    assert caught.value.failure == failure(ErrorCode.OVERLOADED)


async def test_a_sender_that_ignores_the_window_is_cut_off(nats_url: str, bundled: bool) -> None:
    """P10: what comes in unasked is not kept, however much it is."""
    window, sent = 4, 400
    async with (
        forging(nats_url, bundled=bundled) as forger,
        listening(nats_url, stream_window_frames=window) as listener,
        listener.open(SPEAK, ask_body(), {}) as stream,
    ):
        asked = await forger.requests.get()
        await forger.frame(asked, *START)
        await stream.head()
        for number in range(1, sent + 1):
            await forger.frame(asked, "audio", b"x", number)
        # What follows on the same connection has come after all of them.
        async with listener.open(SPEAK, ask_body(), {}) as later:
            await forger.frame(await forger.requests.get(), *START)
            await later.head()
        frames, heard = aiter(stream), 0

        async def take_all() -> None:
            nonlocal heard
            async for _ in frames:
                heard += 1

        with pytest.raises(StreamBrokenError, match="window"):
            await take_all()
    assert window <= heard <= window + 10


@pytest.mark.parametrize("parts", [(), (BEAT,), (START,), (START, ONE), (START, ONE, TWO, THREE)])
async def test_a_sender_that_falls_silent_is_noticed(nats_url: str, bundled: bool, parts: tuple[Part, ...]) -> None:
    """P9: no listener hangs on a sender that died, wherever it died."""
    limit_s = max(IMPATIENT["stream_answer_s"], IMPATIENT["stream_silence_s"])
    async with forging(nats_url, bundled=bundled) as forger, listening(nats_url, **IMPATIENT) as listener:
        hearing = asyncio.create_task(collect(listener, ask_body()))
        asked = await forger.requests.get()
        for kind, body, seq in parts:
            await forger.frame(asked, kind, body, seq)
        async with asyncio.timeout(limit_s + 1):
            with pytest.raises(StreamBrokenError, match="silent"):
                await hearing


async def test_a_stream_of_signs_of_life_alone_is_not_silent(nats_url: str, bundled: bool) -> None:
    async with forging(nats_url, bundled=bundled) as forger, listening(nats_url, **IMPATIENT) as listener:
        hearing = asyncio.create_task(collect(listener, ask_body()))
        asked = await forger.requests.get()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + 2 * IMPATIENT["stream_silence_s"]
        while loop.time() < until_s:
            await forger.frame(asked, Frame.BEAT)
            # The listener answers each with its own from the first on; waiting for one paces this loop.
            await forger.controls.get()
        assert not hearing.done()
        for kind, body, seq in (START, ONE, TWO, THREE, END):
            await forger.frame(asked, kind, body, seq)
        assert await hearing == b"".join(AUDIO)


@pytest.mark.parametrize(
    "said",
    [b"", b"\xff", b"\xc0", b"\x90", msgspec.msgpack.encode([("x",)]), msgspec.msgpack.encode([("", b"")])],
    ids=["empty", "no MessagePack", "nothing", "no parts", "half a part", "for nobody"],
)
async def test_a_bundle_that_is_for_nobody_harms_no_stream(nats_url: str, said: bytes) -> None:
    """P4, P7. Nor is it worth a line in the log, which anybody could fill so."""
    with capture_logs() as logged:
        await heard_beside(nats_url, said)
    assert not logged


async def heard_beside(nats_url: str, said: bytes) -> None:
    async with forging(nats_url, bundled=True) as forger, listening(nats_url) as listener:
        hearing = asyncio.create_task(collect(listener, ask_body()))
        asked = await forger.requests.get()
        for kind, body, seq in (START, ONE, TWO, THREE, END):
            await forger.raw(asked, said)
            await forger.frame(asked, kind, body, seq)
        assert await hearing == b"".join(AUDIO)


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
@pytest.mark.parametrize(
    "reply", ["not a subject", "odea.v1.keys.verify", "_INBOX.*", f"_INBOX.{'x' * 5000}", "_INBOX."]
)
async def test_a_part_that_would_have_us_speak_where_nobody_can_hear_is_dropped(
    nats_url: str, reply: str, heard: bool
) -> None:
    """P9: whoever sends one must not make the whole process deaf, nor cost it its connection."""
    async with forging(nats_url, bundled=True) as forger, listening(nats_url, **IMPATIENT) as listener:
        async with listener.open(SPEAK, ask_body(), {}):
            asked = await forger.requests.get()
            if heard:
                await forger.raw(asked, msgspec.msgpack.encode([(asked.reply, b"", reply, "beat", 0)]))
        # It has left, unheard, and waits for the sender's first word to say so.
        await forger.raw(asked, msgspec.msgpack.encode([(asked.reply, b"", reply, "beat", 0)]))
        hearing = asyncio.create_task(collect(listener, ask_body()))
        next_one = await forger.requests.get()
        for kind, body, seq in (START, ONE, TWO, THREE, END):
            await forger.frame(next_one, kind, body, seq)
        assert await hearing == b"".join(AUDIO)


async def test_nobody_said_again_and_again_is_not_kept(nats_url: str) -> None:
    """P10."""
    async with (
        forging(nats_url, bundled=False) as forger,
        listening(nats_url) as listener,
        listener.open(SPEAK, ask_body(), {}) as stream,
    ):
        asked = await forger.requests.get()
        for _ in range(500):
            await forger.nobody(asked)
        with pytest.raises(NoRespondersError):
            await stream.head()
        assert stream._arrived.qsize() <= 1  # pyright: ignore[reportPrivateUsage]
