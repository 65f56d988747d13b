"""Handing many messages to JetStream at once: all are sent, then all acknowledgements are waited for.

nats-py's own `publish` makes a task, a timer and a parsed object for every message, which costs the event loop more
than the message itself; here a number in the reply subject tells which message an acknowledgement is for.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

_NO_RESPONDERS: Final = "503"
_TOO_LARGE: Final = frozenset({10054, 10097})
"""JetStream's errors for a message, and for headers, beyond what the stream takes."""
_HEADER_LINE: Final = len("NATS/1.0\r\n\r\n")


class NotStoredError(Exception):
    """JetStream refused a message, or did not acknowledge all in time; any of them may be stored all the same."""


class NoStreamError(NotStoredError):
    """No stream takes the subject."""


class _TooLargeError(NotStoredError):
    """The stream takes no message of this size."""


class Outgoing(NamedTuple):
    """A message for JetStream."""

    subject: str
    body: bytes
    headers: dict[str, str]

    def fits(self, limit_bytes: int) -> bool:
        """Whether the server takes it. Unlike nats-py it counts the headers, and hangs up on who sends more."""
        headers = sum(len(f"{name}: {value}\r\n".encode()) for name, value in self.headers.items())
        return _HEADER_LINE + headers + len(self.body) <= limit_bytes


class _Refusal(msgspec.Struct):
    description: str = ""
    err_code: int = 0


class _Ack(msgspec.Struct):
    error: _Refusal | None = None


_acks = msgspec.json.Decoder(_Ack)


class Publisher:
    """Publishes over one connection. One batch at a time.

    Args:
        client: connected.
        ack_s: how long the acknowledgements of a batch are waited for.
    """

    def __init__(self, client: Client, *, ack_s: float) -> None:
        self._client = client
        self._ack_s = ack_s
        self._inbox = client.new_inbox()
        self._subscription: Subscription | None = None
        self._number = 0
        self._waiting: dict[str, int] = {}
        self._too_large: set[int] = set()
        self._stored: asyncio.Future[None] | None = None

    async def publish(self, messages: Sequence[Outgoing]) -> set[int]:
        """Store all messages, in this order; which of them can't be stored since they are too large.

        Raises:
            NotStoredError: at least one is not known to be stored.
            nats.errors.Error: there is no connection.
        """
        if self._subscription is None:
            self._subscription = await self._client.subscribe(f"{self._inbox}.*", cb=self._acknowledged)
        limit_bytes = self._client.max_payload
        self._too_large = {index for index, message in enumerate(messages) if not message.fits(limit_bytes)}
        fitting = [index for index in range(len(messages)) if index not in self._too_large]
        if fitting:
            await self._store(messages, {f"{self._inbox}.{self._number + index}": index for index in fitting})
        return self._too_large

    async def _store(self, messages: Sequence[Outgoing], replies: dict[str, int]) -> None:
        stored = self._stored = asyncio.get_running_loop().create_future()
        self._number += len(messages)
        self._waiting = dict(replies)
        until = asyncio.get_running_loop().time() + self._ack_s
        try:
            # Nothing else runs until all are in the connection's buffer, unless that is full. Were they sent bit by
            # bit, a connection that breaks in between would swallow some and its successor take the rest: the order
            # would be lost. A full buffer is waited for within the connection's own time limit; nats-py swallows a
            # cancellation there, so the time is looked at between two messages.
            for reply, index in replies.items():
                message = messages[index]
                _look_at_time(until)
                await self._client.publish(message.subject, message.body, reply=reply, headers=message.headers)
            async with asyncio.timeout_at(until):
                await stored
        except TimeoutError:
            raise NotStoredError(f"{len(self._waiting)} of {len(replies)} not acknowledged in time") from None
        finally:
            self._waiting.clear()
            stored.cancel()

    async def close(self) -> None:
        """Listen no more."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            # Also without a connection, or it would be subscribed to again with the next one.
            await subscription.unsubscribe()

    async def _acknowledged(self, msg: Msg) -> None:
        stored = self._stored
        if msg.subject not in self._waiting or stored is None or stored.done():
            return
        refusal = _refusal(msg.headers or {}, msg.data)
        if refusal and not isinstance(refusal, _TooLargeError):
            stored.set_exception(refusal)
            return
        index = self._waiting.pop(msg.subject)
        if refusal:
            self._too_large.add(index)
        if not self._waiting:
            stored.set_result(None)


def _look_at_time(until: float) -> None:
    if asyncio.get_running_loop().time() > until:
        raise TimeoutError


def _refusal(headers: Mapping[str, str], body: bytes) -> NotStoredError | None:
    if headers.get("Status") == _NO_RESPONDERS:
        return NoStreamError("no stream takes the subject")
    try:
        error = _acks.decode(body).error
    except msgspec.DecodeError:
        return NotStoredError("the acknowledgement could not be read")
    if error and error.err_code in _TOO_LARGE:
        return _TooLargeError(error.description)
    return NotStoredError(error.description) if error else None
