"""The receiving end of an audio stream."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, TypeAlias

import msgspec

from odea_contracts.bundles import StreamPart
from odea_contracts.errors import Failure
from odea_contracts.synth import (
    Cancel,
    CancelReason,
    Control,
    Credit,
    Frame,
    Head,
    Receipt,
    Tail,
    Timings,
)
from odea_runtime.bus import UNREADABLE, Bus, NoRespondersError
from odea_runtime.patience import within
from odea_runtime.streams.base import RefusedError, StreamBrokenError, StreamSettings
from odea_runtime.streams.post import Post

_HEAD: Final = msgspec.json.Decoder(Head)
_TIMINGS: Final = msgspec.json.Decoder(Timings)
_TAIL: Final = msgspec.json.Decoder(Tail)
_FAILURE: Final = msgspec.json.Decoder(Failure)
_FRAMES: Final = frozenset(Frame)


@dataclass(slots=True)
class _Broken:
    """Put into the queue in place of a frame: nothing more will come."""

    why: str


@dataclass(slots=True)
class _Nobody:
    """Put into the queue in place of a frame: nobody serves what was asked."""


_Arrived: TypeAlias = StreamPart | _Broken | _Nobody


class IncomingStream:
    """The receiving end. First `head`, then iterate over the audio; a clean end of the iteration is the whole."""

    def __init__(self, bus: Bus, post: Post, settings: StreamSettings, subject: str) -> None:
        self._subject = subject
        self._bus = bus
        self._post = post
        self._settings = settings
        self._arrived: asyncio.Queue[_Arrived] = asyncio.Queue()
        self._control = ""
        self._bundles_to = ""
        self._consumed = 0
        self._credited = 0
        self._bytes = 0
        self._digest = sha256()
        self._ended = False
        self._overrun = False
        self._over = False
        self.parting = CancelReason.RECEIVER_FAULT
        self.outcome = "cancelled"
        self.tail: Tail | None = None

    @property
    def unheard(self) -> bool:
        """Whether the sender has not been heard of yet, so that it can't be told to stop either."""
        return not self._control and not self._over

    async def head(self) -> Head:
        """Wait for the first audio to be announced, as long as the sender gives signs of life.

        Raises:
            RefusedError: the sender said why there is no audio.
            NoRespondersError: nobody serves the subject.
            StreamBrokenError: the sender fell silent or the connection broke.
        """
        part = await self._next()
        if part.frame != Frame.HEAD:
            raise self._broken("the first frame is not a head")
        try:
            return _HEAD.decode(part.body)
        except UNREADABLE as error:
            raise self._broken("the head is not readable") from error

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        """The audio alone, frame by frame; see `parts`."""
        async with aclosing(self.parts()) as parts:
            async for part in parts:
                if isinstance(part, bytes):
                    yield part

    async def parts(self) -> AsyncGenerator[bytes | Timings]:
        """Audio and timings, frame by frame, in the sender's order. It sends on as frames are taken.

        Raises:
            StreamBrokenError: what came is not the whole.
            RefusedError: the sender gave up in the middle.
        """
        while True:
            part = await self._next()
            match part.frame:
                case Frame.AUDIO:
                    yield self._accept(part)
                    await self._grant()
                case Frame.TIMINGS:
                    yield self._accept_timings(part)
                    await self._grant()
                case Frame.TAIL:
                    self._finish(part)
                    return
                case _:
                    raise self._broken("a frame out of place")

    async def cancel(self, reason: CancelReason) -> None:
        """Tell the sender to stop, or after the tail that its end was not handed on; only the first word counts."""
        if self._ended:
            return
        self._ended, self.parting = True, reason
        self.outcome = reason.value
        await self._tell(Cancel(reason=reason))

    async def confirm(self) -> None:
        """Give the receipt for a whole stream; for any other this does nothing.

        The end has been handed on by then, so a connection that is gone is no failure: the sender decides without it.
        """
        if self.tail and not self._ended:
            self._ended = True
            await self._tell(Receipt())

    def take(self, part: StreamPart, bundles_to: str) -> None:
        """A frame of this stream has come in; control messages may go to `bundles_to`, if that is known."""
        self._bundles_to = bundles_to
        if self._overrun or (part.frame == Frame.BEAT and not self._arrived.empty()):
            # What waits to be taken is sign of life enough; beats would fill the queue of a slow receiver.
            return
        # The sender keeps to the window; a few more are the head, the tail and a beat under way.
        if self._arrived.qsize() > self._settings.stream_window_frames + 8:
            self._overrun = True
            self._arrived.put_nowait(_Broken("the sender overran the window"))
        else:
            self._arrived.put_nowait(part)

    def refuse(self) -> None:
        """Nobody serves what was asked."""
        if self._arrived.empty():
            self._arrived.put_nowait(_Nobody())

    async def beat(self, now: float) -> None:  # noqa: ARG002 - the other end needs the time
        """Give a sign of life; it repeats the credit, which mends a lost one."""
        if self._control and not self._ended and self._bus.flows:
            await self._tell(Credit(through=self._consumed))

    def lose(self) -> None:
        """Messages may have been lost: end it now, visibly."""
        self._arrived.put_nowait(_Broken("the connection to the bus broke"))

    async def _next(self) -> StreamPart:
        while True:
            part = await self._take_next()
            if isinstance(part, _Broken):
                raise self._broken(part.why)
            if isinstance(part, _Nobody):
                self._ended = self._over = True
                self.outcome = "no_responders"
                raise NoRespondersError(self._subject)
            unheard, self._control = self.unheard, part.reply or self._control
            # A failure without a frame comes from the sender's router, which knows nothing of streams.
            if part.frame == Frame.FAIL or part.frame not in _FRAMES:
                raise self._refused(part)
            if part.frame != Frame.BEAT:
                return part
            if unheard:
                # The sender may wait for it before it begins.
                await self._tell(Credit(through=self._consumed))

    async def _take_next(self) -> _Arrived:
        if not self._arrived.empty():
            # Most frames wait here already, and a timer costs more than they do.
            return self._arrived.get_nowait()
        until = asyncio.get_running_loop().time() + self._patience_s
        try:
            with within(self._patience_s):
                return await self._arrived.get()
        except TimeoutError:
            return await self._look_again(stood_still_s=asyncio.get_running_loop().time() - until)

    async def _look_again(self, stood_still_s: float) -> _Arrived:
        """If it was this process that stood still, what came in meanwhile has not been read yet."""
        try:
            with within(min(stood_still_s, self._settings.stream_answer_s)):
                return await self._arrived.get()
        except TimeoutError:
            raise self._broken("the sender fell silent") from None

    @property
    def _patience_s(self) -> float:
        return self._settings.stream_silence_s if self._control else self._settings.stream_answer_s

    def _accept(self, part: StreamPart) -> bytes:
        self._count(part)
        self._bytes += len(part.body)
        self._digest.update(part.body)
        return part.body

    def _accept_timings(self, part: StreamPart) -> Timings:
        self._count(part)
        try:
            return _TIMINGS.decode(part.body)
        except UNREADABLE as error:
            raise self._broken("the timings are not readable") from error

    def _count(self, part: StreamPart) -> None:
        if part.seq != self._consumed + 1:
            raise self._broken(f"frame {self._consumed + 1} is missing")
        self._consumed += 1

    async def _grant(self) -> None:
        if self._consumed - self._credited >= max(1, self._settings.stream_window_frames // 4):
            self._credited = self._consumed
            await self._tell(Credit(through=self._consumed))

    def _finish(self, part: StreamPart) -> None:
        try:
            tail = _TAIL.decode(part.body)
        except UNREADABLE as error:
            raise self._broken("the tail is not readable") from error
        if (tail.frames, tail.bytes, tail.sha256) != (self._consumed, self._bytes, self._digest.hexdigest()):
            raise self._broken("the audio is not what the tail says")
        # Signs of life go on until the receipt: whoever the audio is for may take its time with the end.
        self.outcome, self.tail = "whole", tail

    def _refused(self, part: StreamPart) -> Exception:
        try:
            failure = _FAILURE.decode(part.body)
        except UNREADABLE:
            return self._broken("the failure is not readable")
        self._ended = self._over = True
        self.outcome = "refused"
        return RefusedError(failure)

    def _broken(self, why: str) -> StreamBrokenError:
        self.outcome = "broken"
        return StreamBrokenError(why)

    async def _tell(self, control: Control) -> None:
        if self._control and self._bus.connected:
            part = StreamPart(to=self._control, body=msgspec.json.encode(control))
            await self._post.send(part, self._bundles_to)
