"""The sending end of an audio stream."""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, Final

import msgspec

from odea_contracts.bundles import StreamPart
from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.synth import (
    FRAME_BYTES_MAX,
    TIMINGS_MAX,
    Cancel,
    CancelReason,
    Control,
    Credit,
    Frame,
    Head,
    Receipt,
    Tail,
    Timing,
    Timings,
)
from odea_runtime.bus import UNREADABLE, Bus
from odea_runtime.patience import within
from odea_runtime.streams.base import CancelledByReceiverError, Receiver, StreamSettings
from odea_runtime.streams.post import Post

_CONTROL: Final = msgspec.json.Decoder(Control)


class OutgoingStream:
    """The sending end: `head`, `audio` and `timings` as they come, `tail`, and `receipt`; or `fail` at any time."""

    def __init__(
        self, bus: Bus, post: Post, settings: StreamSettings, *, receiver: Receiver, control: str, credits_: int
    ) -> None:
        self._bus = bus
        self._post = post
        self._settings = settings
        self._inbox = receiver.inbox
        self._bundles_to = receiver.bundles_to
        self._control = control
        self._window = credits_
        self._sent = 0
        self._taken = 0
        self._bytes = 0
        self._digest = sha256()
        now = asyncio.get_running_loop().time()
        self._heard = now
        self._fresh_until = now + _fresh_for_s(receiver, settings)
        self._answered = asyncio.Event()
        self._room = asyncio.Event()
        self._receipt = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None
        self._interrupted = False
        self._reason: CancelReason | None = None
        self.outcome = "fault"

    @property
    def bytes_sent(self) -> int:
        """Audio bytes that have left."""
        return self._bytes

    async def assure(self) -> None:
        """Return once somebody is there for whom to begin; the task is interrupted if nobody is any more.

        A receiver that was heard is there, and one that has asked just now. Any other may have given up while its
        request lay in a queue, and is asked.
        """
        self._heed()
        if self._answered.is_set() or asyncio.get_running_loop().time() < self._fresh_until:
            return
        await self._publish(Frame.BEAT, b"")
        await self._answered.wait()
        self._heed()

    async def head(self, head: Head) -> None:
        """Announce the first audio."""
        self._heed()
        await self._publish(Frame.HEAD, msgspec.json.encode(head))

    async def audio(self, audio: bytes) -> None:
        """Send audio of any length, waiting for credit where the window is full."""
        for start in range(0, len(audio), FRAME_BYTES_MAX):
            piece = audio[start : start + FRAME_BYTES_MAX]
            await self._make_room()
            self._bytes += len(piece)
            self._digest.update(piece)
            await self._publish_next(Frame.AUDIO, piece)

    async def timings(self, timings: Sequence[Timing]) -> None:
        """Say when words are heard, any number of them, waiting for credit as audio does.

        No word may be longer than `TIMED_CHARS_MAX`: the receiver would take the stream for broken.
        """
        for start in range(0, len(timings), TIMINGS_MAX):
            body = msgspec.json.encode(Timings(timings=tuple(timings[start : start + TIMINGS_MAX])))
            await self._make_room()
            await self._publish_next(Frame.TIMINGS, body)

    async def tail(self, units: int) -> None:
        """Say that this was the whole. The charge of `units` must be durable before."""
        self._heed()
        tail = Tail(frames=self._sent, bytes=self._bytes, sha256=self._digest.hexdigest(), units=units)
        self.outcome = "whole"
        await self._publish(Frame.TAIL, msgspec.json.encode(tail))

    async def receipt(self) -> None:
        """Wait until the receiver has handed on the end. The task is interrupted if it cancels or falls silent instead.

        Raises:
            TimeoutError: it lives and has not said so; whether the end arrived is unknown.
        """
        self._heed()
        with within(self._settings.stream_receipt_s):
            await self._receipt.wait()

    async def fail(self, failure: Failure) -> None:
        """Say why there is no audio, or no more."""
        self.outcome = "refused"
        if self._bus.connected:
            await self._publish(Frame.FAIL, msgspec.json.encode(failure))

    async def abandon(self) -> None:
        """The sender leaves: if it has not said how the stream ends, say at least that it does."""
        if self.outcome == "fault":
            await self.fail(failure(ErrorCode.SYNTH_UNAVAILABLE))
            self.outcome = "fault"

    def take(self, part: StreamPart, bundles_to: str) -> None:  # noqa: ARG002 - the other end learns from it
        """A control message has come in."""
        try:
            control: Control = _CONTROL.decode(part.body)
        except UNREADABLE:
            return
        self._heard = asyncio.get_running_loop().time()
        self._answered.set()
        match control:
            case Cancel():
                self._interrupt(control.reason)
            case Receipt():
                if self.outcome == "whole":
                    self._receipt.set()
            case Credit():
                if self._taken < control.through <= self._sent:
                    self._taken = control.through
                    self._room.set()

    async def beat(self, now: float) -> None:
        """Give a sign of life, and notice when the receiver gives none."""
        if now - self._heard > self._settings.stream_silence_s:
            self._interrupt(None)
        elif self._bus.flows:
            await self._publish(Frame.BEAT, b"")

    def lose(self) -> None:
        """Frames may have been lost: the receiver breaks the stream too."""
        self._interrupt(CancelReason.RECEIVER_FAULT)

    @asynccontextmanager
    async def interruptible(self) -> AsyncGenerator[None]:
        """Turn an interruption of the current task into `CancelledByReceiverError`, as `asyncio.timeout` does."""
        self._task = asyncio.current_task()
        assert self._task is not None
        before = self._task.cancelling()
        try:
            yield
        except asyncio.CancelledError:
            if self._let_go(before):
                raise CancelledByReceiverError(self._reason) from None
            raise
        finally:
            self._let_go(before)

    def _let_go(self, before: int) -> bool:
        """Take an interruption back from the task, however the block was left; whether it was the only cancellation."""
        task, self._task = self._task, None
        return task is not None and self._interrupted and task.uncancel() <= before

    def _interrupt(self, reason: CancelReason | None) -> None:
        if self._task and not self._interrupted:
            self._interrupted, self._reason = True, reason
            self.outcome = reason.value if reason else "silent"
            self._task.cancel()

    async def _make_room(self) -> None:
        self._heed()
        while self._sent - self._taken >= self._window:
            self._room.clear()
            await self._room.wait()

    async def _publish_next(self, frame: Frame, body: bytes) -> None:
        self._sent += 1
        await self._publish(frame, body, seq=self._sent)

    def _heed(self) -> None:
        """Raise an interruption again that did not arrive: what was awaited then may have swallowed it."""
        if self._interrupted:
            raise asyncio.CancelledError

    async def _publish(self, frame: Frame, body: bytes, *, seq: int = 0) -> None:
        part = StreamPart(to=self._inbox, reply=self._control, frame=frame.value, seq=seq, body=body)
        await self._post.send(part, self._bundles_to, self.lose)


def _fresh_for_s(receiver: Receiver, settings: StreamSettings) -> float:
    """How much longer a request is as good as new. Clocks that do not agree prove nothing, whichever is ahead."""
    return math.inf if receiver.waited_s is None else settings.stream_fresh_s - abs(receiver.waited_s)
