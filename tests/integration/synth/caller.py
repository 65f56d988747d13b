"""Whoever wants speech: asks over the bus as the gateway does, and listens."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec
from nats.aio.msg import Msg

from odea_contracts import plans, quota
from odea_contracts.base import Endpoint, Message
from odea_contracts.bundles import RequestBundle
from odea_contracts.errors import Failure
from odea_contracts.plans import Plan, PlanSet
from odea_contracts.quota import Balance, Window
from odea_contracts.subjects import SYNTH_SPEAK
from odea_contracts.synth import HEADER_REQUEST_ID, AudioFormat, Head, Speak, Tail
from odea_runtime.bus import Bus
from odea_runtime.ids import new_id
from odea_runtime.settings import load
from odea_runtime.streams import IncomingStream, RefusedError, Streams
from odea_synth.settings import SynthSettings

RequestT = TypeVar("RequestT", bound=Message)

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
WITHIN_S = 15.0
"""How long anything may take that should be immediate; the machine may be busy."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """A whole stream."""

    head: Head
    audio: bytes
    tail: Tail


class Caller:
    """Asks for speech and opens accounts."""

    def __init__(self, bus: Bus, streams: Streams) -> None:
        self.bus = bus
        self.streams = streams

    async def open_account(
        self, units: int = 1000, *, requests_per_minute: int | None = None, in_flight_max: int | None = None
    ) -> str:
        """A new account under a plan of its own."""
        account_id = new_id("ten")
        plan = PlanSet(
            name=account_id,
            units=units,
            window=Window.NONE,
            requests_per_minute=requests_per_minute,
            in_flight_max=in_flight_max,
        )
        assert isinstance(await self.bus.call(plans.PLAN_SET, plan), Plan)
        account = plans.AccountSet(account_id=account_id, tenant_id=account_id, plan=account_id)
        assert isinstance(await self.bus.call(plans.ACCOUNT_SET, account), plans.Account)
        return account_id

    async def publish(self, request: Speak, inbox: str, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Ask for a stream to `inbox` without being there for it."""
        body = msgspec.json.encode(request)
        await self.bus.client.publish(SYNTH_SPEAK, body, reply=inbox, headers=dict(headers))

    @asynccontextmanager
    async def speak(self, request: Speak) -> AsyncGenerator[IncomingStream]:
        """The stream that answers `request`."""
        headers = {HEADER_REQUEST_ID: request.request_id}
        async with asyncio.timeout(4 * WITHIN_S):
            async with self.streams.open(SYNTH_SPEAK, msgspec.json.encode(request), headers) as stream:
                yield stream

    async def hear(self, request: Speak) -> Heard:
        """The whole of `request`."""
        async with self.speak(request) as stream:
            return await listen(stream)

    async def refusal(self, request: Speak) -> Failure:
        """Why `request` is not answered with audio, or not to its end."""
        try:
            heard = await self.hear(request)
        except RefusedError as error:
            return error.failure
        raise AssertionError(f"not refused: {heard.tail}")

    @asynccontextmanager
    async def overhear(self, endpoint: Endpoint[RequestT, Any]) -> AsyncGenerator[list[RequestT]]:
        """Every request to `endpoint` from now on, whoever sends it."""
        heard: list[RequestT] = []

        async def take(message: Msg) -> None:
            parts = [message.data]
            if message.data.startswith(b"["):
                parts = [bytes(part.body) for part in msgspec.json.decode(message.data, type=RequestBundle)]
            heard.extend(msgspec.json.decode(part, type=endpoint.request) for part in parts)

        tap = await self.bus.client.subscribe(endpoint.subject, cb=take)
        await self.bus.round_trip()
        try:
            yield heard
        finally:
            if self.bus.connected:
                await tap.unsubscribe()

    async def balance(self, account_id: str) -> Balance:
        """Where an account stands."""
        reply = await self.bus.call(quota.USAGE, quota.Usage(accounts=(account_id,)))
        assert isinstance(reply, quota.UsageReport)
        [balance] = reply.balances
        return balance


def request(account_id: str, text: str, **changes: Any) -> Speak:
    """A request for raw samples, unless changed."""
    basic = Speak(
        request_id=new_id("req"),
        tenant_id=account_id,
        key_id="key_1",
        accounts=(account_id,),
        model="tts-1",
        voice="Vera",
        input=text,
        response_format=AudioFormat.PCM,
    )
    return msgspec.structs.replace(basic, **changes)


async def listen(stream: IncomingStream) -> Heard:
    """Take a stream to its clean end."""
    head = await stream.head()
    audio = b"".join([frame async for frame in stream])
    assert stream.tail
    return Heard(head=head, audio=audio, tail=stream.tail)


def synth_settings(nats_url: str, dsn: str, **more: str) -> SynthSettings:
    """Short pauses, and patience for a busy machine."""
    environ = {
        "ODEA_NATS_URL": nats_url,
        "ODEA_DATABASE_URL": dsn,
        "ODEA_OPS_ADDRESS": "127.0.0.1:0",
        "ODEA_STREAM_BEAT_S": "0.2",
        "ODEA_STREAM_SILENCE_S": "2.5",
        "ODEA_SYNTH_LOG_PAUSE_S": "0.05",
        "ODEA_DRAIN_S": "5",
    }
    return load(SynthSettings, environ | {f"ODEA_{name.upper()}": value for name, value in more.items()})


@asynccontextmanager
async def open_caller(settings: SynthSettings) -> AsyncGenerator[Caller]:
    """A caller on a connection of its own."""
    bus = Bus(settings, "tests")
    streams = Streams(bus, settings)
    await bus.start(before=streams.start)
    try:
        yield Caller(bus, streams)
    finally:
        await streams.stop()
        await bus.stop()
