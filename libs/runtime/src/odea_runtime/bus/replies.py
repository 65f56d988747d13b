"""Replies to requests: all over one subscription, where a number in the subject tells which request one is for.

nats-py's own `request` draws a random name, and makes a timer and two callbacks, for each: twice the cost of the rest.
"""

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

NO_RESPONDERS: Final = "503"
"""The status of the message that says that nobody serves a subject."""


class Replies:
    """Sends requests over one connection and waits for their replies.

    Args:
        client: connected.
        prefix: of the subjects of replies, which this user of the bus alone may hear.
    """

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        # Random: whoever answers knows the subject, and must not know those of requests to others from it.
        self._prefix: Final = f"{prefix}.{secrets.token_hex(16)}."
        self._number = 0
        self._waiting: dict[str, asyncio.Future[Msg]] = {}

    async def start(self) -> None:
        """Subscribe."""
        await self._client.subscribe(f"{self._prefix}*", cb=self._take)

    async def ask(self, subject: str, body: bytes, headers: dict[str, str], timeout_s: float) -> Msg:
        """The reply.

        Raises:
            nats.errors.NoRespondersError: nobody serves the subject.
            nats.errors.Error: not sent.
            TimeoutError: there was none in time.
        """
        loop = asyncio.get_running_loop()
        self._number += 1
        name = str(self._number)
        reply = self._waiting[name] = loop.create_future()
        timer = loop.call_later(timeout_s, give_up, reply)
        try:
            await self._client.publish(subject, body, reply=self._prefix + name, headers=headers)
            message = await reply
        finally:
            timer.cancel()
            del self._waiting[name]
        if status(message.headers) == NO_RESPONDERS:
            raise nats.errors.NoRespondersError
        return message

    async def _take(self, message: Msg) -> None:
        reply = self._waiting.get(message.subject.removeprefix(self._prefix))
        if reply is not None and not reply.done():
            reply.set_result(message)


def give_up(reply: asyncio.Future[Any]) -> None:
    """End the waiting for it, if it is still waited for."""
    if not reply.done():
        reply.set_exception(TimeoutError())


def status(headers: Mapping[str, str] | None) -> str | None:
    """What the server says of a message, if it is one of its own."""
    return headers.get("Status") if headers else None
