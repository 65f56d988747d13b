"""Bundles from the answering side: each part is taken as a message of its own, and answers leave together again.

Whatever is answered in the same turn of the event loop leaves in one message, so an answer waits for no slower one.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec
import nats.errors
from msgspec import Raw
from nats.aio.msg import Msg

from odea_contracts.bundles import BUNDLE_BYTES_MAX, BundledReply, BundledRequest, RequestBundle

_PART_BYTES: Final = 64
"""More than stands around an answer in its bundle."""
_REQUESTS: Final = msgspec.json.Decoder(RequestBundle)


class Asked(Protocol):
    """A request as it came: a message, or a part of one."""

    @property
    def subject(self) -> str:
        """What was asked."""
        ...

    @property
    def reply(self) -> str:
        """Where the answer goes; empty if nobody waits for it."""
        ...

    @property
    def headers(self) -> Mapping[str, str] | None:
        """Its own."""
        ...

    @property
    def data(self) -> bytes:
        """Its body."""
        ...

    async def respond(self, data: bytes) -> None:
        """Send the answer.

        Raises:
            nats.errors.Error: it can't be sent.
        """
        ...


def unbundled(message: Msg) -> Sequence[Asked]:
    """What was asked with a message: itself, or each part of the bundle that it is.

    Raises:
        msgspec.MsgspecError: it is no bundle, though it begins like one; what else decoding raises is in `UNREADABLE`.
    """
    if not message.data.startswith(b"["):
        return (_Whole(message),)
    answers = _Answers(message)
    return [_Part(number, request, answers) for number, request in enumerate(_REQUESTS.decode(message.data))]


class _Whole:
    """A message that is one request."""

    __slots__ = ("_message", "data", "headers", "reply", "subject")

    def __init__(self, message: Msg) -> None:
        self._message = message
        self.subject: Final = message.subject
        self.reply: Final = message.reply
        self.headers: Final = message.headers
        self.data: Final = message.data

    async def respond(self, data: bytes) -> None:
        # nats-py would send the request's headers back, for nobody.
        self._message.headers = None
        await self._message.respond(data)


class _Part:
    """A request in a bundle."""

    __slots__ = ("_answers", "_number", "data", "headers", "reply", "subject")

    def __init__(self, number: int, request: BundledRequest, answers: "_Answers") -> None:
        self._number = number
        self._answers = answers
        self.subject: Final = answers.message.subject
        self.reply: Final = answers.message.reply
        self.headers: Final = request.headers
        self.data: Final = bytes(request.body)

    async def respond(self, data: bytes) -> None:
        await self._answers.add(BundledReply(number=self._number, body=Raw(data)))


class _Answers:
    """Answers to one bundle that have not left yet."""

    def __init__(self, message: Msg) -> None:
        self.message: Final = message
        self._ready: list[BundledReply] = []
        self._size_bytes = 0

    async def add(self, answer: BundledReply) -> None:
        """Send it with those of the same turn of the loop: whoever is first sends for all.

        Raises:
            nats.errors.Error: they can't be sent, or this one is larger than NATS takes.
        """
        size_bytes = len(memoryview(answer.body)) + _PART_BYTES
        if size_bytes > self.message._client.max_payload:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            raise nats.errors.MaxPayloadError
        while self._ready and self._size_bytes + size_bytes > BUNDLE_BYTES_MAX:
            await self._send()
        self._size_bytes += size_bytes
        self._ready.append(answer)
        if len(self._ready) > 1:
            return
        try:
            await asyncio.sleep(0)
        finally:
            await self._send()

    async def _send(self) -> None:
        ready, self._ready, self._size_bytes = self._ready, [], 0
        if ready:
            await self.message.respond(msgspec.json.encode(ready))
