"""Requests that are made in the same turn of the event loop leave as one bundle.

A message costs whoever sends, carries and takes it more than what stands in it, so under load this is most of what a
call costs. A request that is alone in its turn waits for nobody. See ADR 0025.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Final

import msgspec
import nats.errors
from msgspec import Raw
from nats.aio.client import Client
from nats.aio.msg import Msg
from prometheus_client import Histogram

from odea_contracts.bundles import (
    BUNDLE_BYTES_MAX,
    BUNDLE_MAX,
    HEADER_CHARS_MAX,
    HEADERS_MAX,
    BundledReply,
    BundledRequest,
    ReplyBundle,
)
from odea_runtime.bus.errors import UNREADABLE
from odea_runtime.bus.replies import NO_RESPONDERS, give_up, status

_HEADERS_BYTES: Final = 2048
"""More than the headers of a request are."""
_ALONE_S: Final = 10.0
"""How long requests go by themselves once somebody has refused a bundle: one of the version before, in an upgrade."""

_REPLIES: Final = msgspec.json.Decoder(ReplyBundle)
_SIZE: Final = Histogram("odea_bus_bundle_size", "Requests that left in one message", buckets=(2, 5, 10, 20, 50, 100))


class _Request:
    """A request that has no reply yet; `None` as its reply sends it by itself."""

    __slots__ = ("body", "headers", "reply", "until")

    def __init__(self, body: bytes, headers: dict[str, str], until: float) -> None:
        self.body: Final = body
        self.headers: Final = headers
        self.until: Final = until
        self.reply: Final[asyncio.Future[bytes | None]] = asyncio.get_running_loop().create_future()

    def end(self, reply: bytes | None) -> None:
        if not self.reply.done():
            self.reply.set_result(reply)

    def fail(self, error: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)


class Bundles:
    """Sends requests over one connection together, and sorts out their replies.

    Args:
        client: connected.
        prefix: of the subjects of replies, which this user of the bus alone may hear.
        bundle_max: requests in a bundle; with 1 each goes by itself.
        has_room: whether the connection would take a message of so many bytes at once.
        note_trouble: told why a bundle could not be sent.
    """

    def __init__(
        self,
        client: Client,
        prefix: str,
        *,
        bundle_max: int,
        has_room: Callable[[int], bool],
        note_trouble: Callable[[Exception], None],
    ) -> None:
        self._client = client
        # Random: whoever answers knows the subject, and must not know those of requests to others from it.
        self._prefix: Final = f"{prefix}.{secrets.token_hex(16)}."
        self._bundle_max = min(bundle_max, BUNDLE_MAX)
        self._has_room = has_room
        self._note_trouble = note_trouble
        self._number = 0
        self._waiting: dict[str, list[_Request]] = {}
        self._under_way: OrderedDict[str, tuple[str, Sequence[_Request]]] = OrderedDict()
        self._alone_until: dict[str, float] = {}

    async def start(self) -> None:
        """Subscribe."""
        await self._client.subscribe(f"{self._prefix}*", cb=self._take)

    async def ask(self, subject: str, body: bytes, headers: dict[str, str], timeout_s: float) -> bytes | None:
        """The reply; or nothing, if the request is to be sent by itself. It has not been handled then.

        Raises:
            nats.errors.Error: not sent.
            TimeoutError: there was none in time.
        """
        loop = asyncio.get_running_loop()
        if self._bundle_max < 2 or loop.time() < self._alone_until.get(subject, 0.0) or not _fit(headers):
            return None
        request = _Request(body, headers, loop.time() + timeout_s)
        waiting = self._waiting.setdefault(subject, [])
        waiting.append(request)
        timer = loop.call_later(timeout_s, give_up, request.reply)
        try:
            if len(waiting) == 1:
                await self._gather(subject, request)
            return await request.reply
        finally:
            timer.cancel()

    async def _gather(self, subject: str, first: _Request) -> None:
        """Whoever is first in a turn of the loop sends for all who come in the same one."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            first.reply.cancel()
            raise
        finally:
            requests = [request for request in self._waiting.pop(subject) if not request.reply.done()]
            for bundle in self._parts(requests):
                await self._send(subject, bundle)

    def _parts(self, requests: Sequence[_Request]) -> Generator[Sequence[_Request]]:
        """The requests in bundles that are neither too many nor too large."""
        bundle: list[_Request] = []
        size_bytes = 0
        for request in requests:
            one_bytes = len(request.body) + _HEADERS_BYTES
            if bundle and (len(bundle) == self._bundle_max or size_bytes + one_bytes > BUNDLE_BYTES_MAX):
                yield bundle
                bundle, size_bytes = [], 0
            bundle.append(request)
            size_bytes += one_bytes
        if bundle:
            yield bundle

    async def _send(self, subject: str, bundle: Sequence[_Request]) -> None:
        parts = [BundledRequest(headers=request.headers, body=Raw(request.body)) for request in bundle]
        body = msgspec.json.encode(parts) if len(parts) > 1 else b""
        if not body or not self._client.is_connected or not self._has_room(len(body) + _HEADERS_BYTES):
            # Whatever has to be waited for, each waits for itself.
            for request in bundle:
                request.end(None)
            return
        self._forget_late()
        self._number += 1
        name = str(self._number)
        self._under_way[name] = subject, bundle
        _SIZE.observe(len(bundle))
        try:
            await self._client.publish(subject, body, reply=self._prefix + name)
        except Exception as error:  # noqa: BLE001 - nats-py says what its socket says; nobody may wait for it in vain
            self._under_way.pop(name, None)
            self._note_trouble(error)
            failure = error if isinstance(error, nats.errors.Error) else nats.errors.Error(repr(error))
            for request in bundle:
                request.fail(failure)

    async def _take(self, message: Msg) -> None:
        name = message.subject.removeprefix(self._prefix)
        subject, bundle = self._under_way.get(name, ("", ()))
        if not bundle:
            return
        try:
            replies = _REPLIES.decode(message.data)
        except UNREADABLE:
            if status(message.headers) != NO_RESPONDERS:
                self._alone_until[subject] = asyncio.get_running_loop().time() + _ALONE_S
            del self._under_way[name]
            for request in bundle:
                request.end(None)
            return
        self._hand_out(replies, bundle)
        if all(request.reply.done() for request in bundle):
            del self._under_way[name]

    def _hand_out(self, replies: Sequence[BundledReply], bundle: Sequence[_Request]) -> None:
        for reply in replies:
            if reply.number < len(bundle):
                bundle[reply.number].end(bytes(reply.body))

    def _forget_late(self) -> None:
        """Bundles that were never answered whole are forgotten with the next ones, once nobody waits for them."""
        now = asyncio.get_running_loop().time()
        while self._under_way:
            name, (_, bundle) = next(iter(self._under_way.items()))
            if any(request.until > now for request in bundle):
                return
            del self._under_way[name]


def _fit(headers: Mapping[str, str]) -> bool:
    """Whether they may stand in a bundle, which would be refused with all that is in it else."""
    return len(headers) <= HEADERS_MAX and all(
        len(name) <= HEADER_CHARS_MAX and len(value) <= HEADER_CHARS_MAX for name, value in headers.items()
    )
