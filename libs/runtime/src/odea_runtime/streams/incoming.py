"""The receiving end of an audio stream."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec
import nats.errors
from nats.aio.msg import Msg

from odea_contracts.errors import Failure
from odea_contracts.synth import (
    HEADER_FRAME,
    HEADER_SEQ,
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

_HEAD: Final = msgspec.json.Decoder(Head)
_TIMINGS: Final = msgspec.json.Decoder(Timings)
_TAIL: Final = msgspec.json.Decoder(Tail)
_FAILURE: Final = msgspec.json.Decoder(Failure)


@dataclass(slots=True)
class _Broken:
    """Put into the queue in place of a message: nothing more will come."""

    why: str


class IncomingStream:
    """The receiving end. First `head`, then iterate over the audio; a clean end of the iteration is the whole."""

    def __init__(self, bus: Bus, settings: StreamSettings) -> None:
        self._bus = bus
        self._settings = settings
        self._messages: asyncio.Queue[Msg | _Broken] = asyncio.Queue()
        self._control = ""
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
        message = await self._next()
        if self._frame(message) is not Frame.HEAD:
            raise self._broken("the first frame is not a head")
        try:
            return _HEAD.decode(message.data)
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
            message = await self._next()
            match self._frame(message):
                case Frame.AUDIO:
                    yield self._accept(message)
                    await self._grant()
                case Frame.TIMINGS:
                    yield self._accept_timings(message)
                    await self._grant()
                case Frame.TAIL:
                    self._finish(message)
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
            with suppress(nats.errors.Error):
                await self._tell(Receipt())

    def take(self, message: Msg) -> None:
        """A message of this stream has come in."""
        if self._overrun or (not self._messages.empty() and self._frame(message) is Frame.BEAT):
            # What waits to be taken is sign of life enough; beats would fill the queue of a slow receiver.
            return
        # The sender keeps to the window; a few more are the head, the tail and a beat under way.
        if self._messages.qsize() > self._settings.stream_window_frames + 8:
            self._overrun = True
            self._messages.put_nowait(_Broken("the sender overran the window"))
        else:
            self._messages.put_nowait(message)

    async def beat(self, now: float) -> None:  # noqa: ARG002 - the other end needs the time
        """Give a sign of life; it repeats the credit, which mends a lost one."""
        if self._control and not self._ended and self._bus.flows:
            await self._tell(Credit(through=self._consumed))

    def lose(self) -> None:
        """Messages may have been lost: end it now, visibly."""
        self._messages.put_nowait(_Broken("the connection to the bus broke"))

    async def _next(self) -> Msg:
        while True:
            message = await self._take_next()
            if isinstance(message, _Broken):
                raise self._broken(message.why)
            if (message.headers or {}).get("Status") == "503":
                self._ended = self._over = True
                self.outcome = "no_responders"
                raise NoRespondersError(message.subject)
            unheard, self._control = self.unheard, message.reply or self._control
            frame = self._frame(message)
            # A failure without a frame comes from the sender's router, which knows nothing of streams.
            if frame is Frame.FAIL or frame is None:
                raise self._refused(message)
            if frame is not Frame.BEAT:
                return message
            if unheard:
                # The sender may wait for it before it begins.
                await self._tell(Credit(through=self._consumed))

    async def _take_next(self) -> Msg | _Broken:
        if not self._messages.empty():
            # Most frames wait here already, and a timer costs more than they do.
            return self._messages.get_nowait()
        until = asyncio.get_running_loop().time() + self._patience_s
        try:
            with within(self._patience_s):
                return await self._messages.get()
        except TimeoutError:
            return await self._look_again(stood_still_s=asyncio.get_running_loop().time() - until)

    async def _look_again(self, stood_still_s: float) -> Msg | _Broken:
        """If it was this process that stood still, what came in meanwhile has not been read yet."""
        try:
            with within(min(stood_still_s, self._settings.stream_answer_s)):
                return await self._messages.get()
        except TimeoutError:
            raise self._broken("the sender fell silent") from None

    @property
    def _patience_s(self) -> float:
        return self._settings.stream_silence_s if self._control else self._settings.stream_answer_s

    def _frame(self, message: Msg) -> Frame | None:
        try:
            return Frame((message.headers or {}).get(HEADER_FRAME, ""))
        except ValueError:
            return None

    def _accept(self, message: Msg) -> bytes:
        self._count(message)
        self._bytes += len(message.data)
        self._digest.update(message.data)
        return message.data

    def _accept_timings(self, message: Msg) -> Timings:
        self._count(message)
        try:
            return _TIMINGS.decode(message.data)
        except UNREADABLE as error:
            raise self._broken("the timings are not readable") from error

    def _count(self, message: Msg) -> None:
        seq = (message.headers or {}).get(HEADER_SEQ, "")
        if seq != str(self._consumed + 1):
            raise self._broken(f"frame {self._consumed + 1} is missing")
        self._consumed += 1

    async def _grant(self) -> None:
        if self._consumed - self._credited >= max(1, self._settings.stream_window_frames // 4):
            self._credited = self._consumed
            await self._tell(Credit(through=self._consumed))

    def _finish(self, message: Msg) -> None:
        try:
            tail = _TAIL.decode(message.data)
        except UNREADABLE as error:
            raise self._broken("the tail is not readable") from error
        if (tail.frames, tail.bytes, tail.sha256) != (self._consumed, self._bytes, self._digest.hexdigest()):
            raise self._broken("the audio is not what the tail says")
        # Signs of life go on until the receipt: whoever the audio is for may take its time with the end.
        self.outcome, self.tail = "whole", tail

    def _refused(self, message: Msg) -> Exception:
        try:
            failure = _FAILURE.decode(message.data)
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
            await self._bus.client.publish(self._control, msgspec.json.encode(control))
