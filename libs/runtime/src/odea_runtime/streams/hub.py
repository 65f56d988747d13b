"""All audio streams of a process over one subscription: who is meant by a message, and who gives signs of life when."""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

import msgspec
import nats.errors
import structlog
from nats.aio.msg import Msg
from prometheus_client import Counter, Gauge

from odea_contracts.bundles import HEADER_BUNDLES_TO, StreamBundle, StreamPart
from odea_contracts.subjects import is_reply_address
from odea_contracts.synth import HEADER_FRAME, HEADER_SENT_MS, HEADER_SEQ, Cancel, CancelReason
from odea_runtime import tracing
from odea_runtime.bus import UNREADABLE, Bus, DisconnectedError
from odea_runtime.bus.replies import NO_RESPONDERS, status
from odea_runtime.counting import by_labels
from odea_runtime.streams.base import Receiver, StreamSettings
from odea_runtime.streams.incoming import IncomingStream
from odea_runtime.streams.outgoing import OutgoingStream
from odea_runtime.streams.post import Post

_OPEN = Gauge("odea_stream_open", "Audio streams in hand", ["end"])
_ENDED = Counter("odea_stream_ended_total", "Audio streams, by how they ended", ["end", "outcome"])
_open: Final = by_labels(_OPEN)
_ended: Final = by_labels(_ENDED)


class _End(Protocol):
    """What the hub does with an end of a stream."""

    def take(self, part: StreamPart, bundles_to: str) -> None: ...
    async def beat(self, now: float) -> None: ...
    def lose(self) -> None: ...


_PARTS: Final = msgspec.msgpack.Decoder(StreamBundle)
_SEQ: Final = re.compile(r"[1-9][0-9]{0,15}")
_BUNDLES: Final = "bundles"
"""Ends the subject where bundles come in; streams have numbers there."""


class Streams:
    """All audio streams of a process, over one subscription."""

    def __init__(self, bus: Bus, settings: StreamSettings) -> None:
        self._bus = bus
        self.settings: Final = settings
        self._ends: dict[str, _End] = {}
        self._prefix = ""
        self._count = 0
        self._post = Post(bus)
        self._beats: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Subscribe. The bus must have been started."""
        # Random, where the library would count on from its inboxes: who knows one of these must not know those.
        self._prefix = f"{self._bus.streams_prefix}.{secrets.token_hex(16)}."
        self._post.address = self._prefix + _BUNDLES
        await self._bus.client.subscribe(f"{self._prefix}*", cb=self._dispatch)
        self._bus.on_lost(self._lose_all)
        self._beats = asyncio.create_task(self._beat_forever())

    async def stop(self) -> None:
        """End the signs of life; streams still open break."""
        if self._beats:
            self._beats.cancel()
        self._lose_all()

    @asynccontextmanager
    async def open(self, subject: str, body: bytes, headers: dict[str, str]) -> AsyncGenerator[IncomingStream]:
        """Ask `subject` for a stream. Leaving the block early, or by an exception, cancels it.

        Leaving it in good order after the tail gives the sender the receipt, so whatever the audio was for must be
        done by then: until the receipt, the sender takes it for undelivered.

        Raises:
            DisconnectedError: there is no connection; nothing was sent.
        """
        name = self._name()
        stream = IncomingStream(self._bus, self._post, self.settings, subject)
        self._ends[name] = stream
        _open("receive").inc()
        try:
            with tracing.calling(subject) as span:
                await self._request(subject, body, name, {**headers, **tracing.headers()})
                yield stream
                await stream.confirm()
                span.note("odea.outcome", stream.outcome)
        finally:
            _open("receive").dec()
            _ended("receive", stream.outcome).inc()
            if stream.unheard:
                # The sender has not said yet where it listens. It will within a beat, and is told then.
                self._ends[name] = _Farewell(
                    self._bus, stream.parting, self.settings.stream_silence_s, lambda: self._forget(name)
                )
            else:
                self._forget(name)
                await stream.cancel(CancelReason.RECEIVER_FAULT)

    @asynccontextmanager
    async def send(self, receiver: Receiver, credits_: int) -> AsyncGenerator[OutgoingStream]:
        """Send a stream to `receiver`, with `credits_` frames granted in advance.

        The task inside the block is interrupted when the receiver cancels or falls silent.

        Raises:
            CancelledByReceiverError: instead of the interruption, when the block is left.
        """
        name = self._name()
        stream = OutgoingStream(
            self._bus, self._post, self.settings, receiver=receiver, control=self._prefix + name, credits_=credits_
        )
        self._ends[name] = stream
        _open("send").inc()
        try:
            async with stream.interruptible():
                yield stream
        finally:
            self._forget(name)
            await stream.abandon()
            _open("send").dec()
            _ended("send", stream.outcome).inc()

    async def _request(self, subject: str, body: bytes, name: str, headers: dict[str, str]) -> None:
        if not self._prefix or not self._bus.connected:
            raise DisconnectedError(subject)
        sent_ms = str(int(time.time() * 1000))
        headers = {HEADER_SENT_MS: sent_ms, HEADER_BUNDLES_TO: self._post.address, **headers}
        try:
            await self._bus.client.publish(subject, body, reply=self._prefix + name, headers=headers)
        except nats.errors.Error as error:
            raise DisconnectedError(subject) from error

    def _name(self) -> str:
        self._count += 1
        return f"{self._count:x}"

    def _forget(self, name: str) -> None:
        self._ends.pop(name, None)

    async def _dispatch(self, message: Msg) -> None:
        if message.subject != self._post.address:
            await self._take_alone(message)
            return
        try:
            parts = _PARTS.decode(message.data)
        except UNREADABLE:
            return
        bundles_to = message.reply if is_reply_address(message.reply) else ""
        for part in parts:
            if farewell := self._hand_over(part, bundles_to):
                await farewell.beat(asyncio.get_running_loop().time())

    async def _take_alone(self, message: Msg) -> None:
        headers = message.headers or {}
        if status(headers) == NO_RESPONDERS:
            end = self._ends.get(message.subject.removeprefix(self._prefix))
            if isinstance(end, IncomingStream):
                end.refuse()
            return
        seq = headers.get(HEADER_SEQ, "")
        part = StreamPart(
            to=message.subject,
            body=message.data,
            reply=message.reply,
            frame=headers.get(HEADER_FRAME, ""),
            seq=int(seq) if _SEQ.fullmatch(seq) else 0,
        )
        if farewell := self._hand_over(part, ""):
            await farewell.beat(asyncio.get_running_loop().time())

    def _hand_over(self, part: StreamPart, bundles_to: str) -> "_Farewell | None":
        """Give it to whom it is for; who that is, if it makes them say something at once."""
        end = self._ends.get(part.to.removeprefix(self._prefix))
        if part.reply and not is_reply_address(part.reply):
            # In a bundle no server has looked at it, and what is told there would cost us the connection.
            return None
        if end:
            end.take(part, bundles_to)
        return end if isinstance(end, _Farewell) else None

    def _lose_all(self) -> None:
        for end in list(self._ends.values()):
            end.lose()

    async def _beat_forever(self) -> None:
        while True:
            await asyncio.sleep(self.settings.stream_beat_s)
            now = asyncio.get_running_loop().time()
            for end in list(self._ends.values()):
                try:
                    await end.beat(now)
                except (nats.errors.Error, OSError) as error:
                    # One that can't be sent must not end those of all other streams.
                    structlog.get_logger().debug("a sign of life could not be sent", error=repr(error))


class _Farewell:
    """Stands where a stream was that ended before its sender was heard: cancels it at its first message."""

    def __init__(self, bus: Bus, reason: CancelReason, wait_s: float, forget: Callable[[], None]) -> None:
        self._bus = bus
        self._reason = reason
        self._until = asyncio.get_running_loop().time() + wait_s
        self._forget = forget
        self._control = ""

    def take(self, part: StreamPart, bundles_to: str) -> None:  # noqa: ARG002 - one word needs no bundle
        self._control = part.reply

    async def beat(self, now: float) -> None:
        if self._control and self._bus.flows:
            self._forget()
            with suppress(nats.errors.Error):
                await self._bus.client.publish(self._control, msgspec.json.encode(Cancel(reason=self._reason)))
        elif now > self._until:
            self._forget()

    def lose(self) -> None:
        self._forget()
