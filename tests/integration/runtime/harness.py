"""A bus with one small contract of its own, so that the tests of the runtime depend on no service."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import nats.errors
import pytest
from faststream.nats import NatsRouter

from odea_contracts.base import Endpoint, Message
from odea_contracts.errors import ErrorCode, Failure
from odea_runtime.bus import Bus
from odea_runtime.serving import serve
from odea_runtime.settings import load
from odea_runtime.streams import StreamSettings
from odea_runtime.tasks import Tasks


class Ask(Message):
    """A question."""

    text: str
    number: int = 0


class Told(Message, tag_field="type", tag="told"):
    """An answer."""

    text: str


class Declined(Message, tag_field="type", tag="declined"):
    """An expected refusal."""

    why: str


AskReply: TypeAlias = Told | Declined | Failure
ASK: Final[Endpoint[Ask, AskReply]] = Endpoint("odea.v1.hall.ask", "hall", Ask, AskReply)
OTHER: Final[Endpoint[Ask, AskReply]] = Endpoint("odea.v1.hall.other", "hall", Ask, AskReply)
SENDING_FAILS: Final = pytest.mark.parametrize(
    "error", [nats.errors.OutboundBufferLimitError(), RuntimeError("the transport is closed")]
)
"""What nats-py says of a message that does not leave, and what its socket says through it."""
Handler: TypeAlias = Callable[[Ask], Awaitable[AskReply]]


async def echo(ask: Ask) -> AskReply:
    """The handler of tests that need just any."""
    return Told(text=ask.text)


def settings_for(nats_url: str, **more: object) -> StreamSettings:
    """Settings of a process on this NATS."""
    environ = {f"ODEA_{name.upper()}": str(value) for name, value in more.items()}
    return load(StreamSettings, {"ODEA_NATS_URL": nats_url} | environ)


@asynccontextmanager
async def open_bus(nats_url: str, *routers: NatsRouter, service: str = "tests", **more: object) -> AsyncGenerator[Bus]:
    """A started bus, stopped at the end of the block."""
    bus = Bus(settings_for(nats_url, **more), service, *routers)
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


class Hall:
    """A process that serves `ASK` and what else it is given."""

    def __init__(self, nats_url: str, handler: Handler, *, tasks_max: int = 1000, **others: Handler) -> None:
        self.tasks = Tasks(tasks_max)
        router = NatsRouter()
        serve(router, self.tasks, ASK, handler, unavailable=ErrorCode.KEYS_UNAVAILABLE)
        for handler_ in others.values():
            serve(router, self.tasks, OTHER, handler_)
        self.bus = Bus(settings_for(nats_url), "hall", router)


@asynccontextmanager
async def open_hall(nats_url: str, handler: Handler, **more: Handler | int) -> AsyncGenerator[Hall]:
    """A serving process inside the test's own loop."""
    hall = Hall(nats_url, handler, **more)  # pyright: ignore[reportArgumentType] - see Hall
    await hall.bus.start()
    try:
        yield hall
    finally:
        await hall.bus.stop()
        await hall.tasks.drain(0)


def listener(heard: list[str]) -> Handler:
    """A handler that writes down what it is asked."""

    async def note(ask: Ask) -> AskReply:
        heard.append(ask.text)
        return Told(text="")

    return note


def send_nothing(patch: pytest.MonkeyPatch, bus: Bus, error: Exception) -> None:
    """From now on, whatever is to be sent over `bus` ends with `error`."""

    async def fail(*_: object, **__: object) -> None:
        raise error

    patch.setattr(bus.client, "publish", fail)


async def at_once(bus: Bus, count: int, **more: Any) -> list[AskReply | BaseException]:
    """So many calls in one turn of the loop, and how each ends."""
    calls = (bus.call(ASK, Ask(text=str(number), number=number), **more) for number in range(count))
    return await asyncio.gather(*calls, return_exceptions=True)


def told(count: int) -> list[Told]:
    return [Told(text=str(number)) for number in range(count)]
