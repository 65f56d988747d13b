"""What a client is handed, live or whole (P4, P10)."""

import asyncio
import base64
import time
from ipaddress import ip_address

import msgspec
import pytest
from litestar.types import Message

from odea_contracts.errors import ErrorCode
from odea_contracts.synth import Head, Tail
from odea_gateway.delivery import PIECE_BYTES, Budget, ClientStalledError, LiveDelivery, WholeDelivery
from odea_gateway.problems import ProblemError
from odea_gateway.speech import StreamFormat
from odea_gateway.trace import Trace
from odea_gateway.wrapping import WRAPPINGS

HEAD = Head(
    provider="standin",
    model="tts-1",
    voice="alloy",
    content_type="audio/mpeg",
    units_held=20,
    balances=(),
    first_audio_ms=0,
)
TAIL = Tail(frames=2, bytes=10, sha256="", units=12)
BARE, EVENTS = WRAPPINGS[StreamFormat.AUDIO], WRAPPINGS[StreamFormat.SSE]


class Client:
    """Takes messages, unless it is stuck."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.stuck = False
        self.trace = Trace(request_id="req_1", began=time.perf_counter(), address=ip_address("192.0.2.1"))

    async def send(self, message: Message) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        self.messages.append(message)

    @property
    def pieces(self) -> list[bytes]:
        return [message["body"] for message in self.messages if message["type"] == "http.response.body"]

    @property
    def headers(self) -> dict[bytes, bytes]:
        start = self.messages[0]
        assert start["type"] == "http.response.start"
        return dict(start["headers"])


async def test_live_audio_goes_out_as_it_comes() -> None:
    client = Client()
    live = LiveDelivery(client.send, BARE, client.trace, 1.0)
    assert not live.begun
    await live.begin(HEAD)
    await live.audio(b"one")
    assert live.begun
    assert client.pieces == [b"one"]
    await live.audio(b"two")
    await live.end(TAIL)
    assert client.pieces == [b"one", b"two", b""]
    assert client.headers[b"odea-characters"] == b"20"
    assert b"content-length" not in client.headers


async def test_large_frames_go_out_in_pieces() -> None:
    client = Client()
    live = LiveDelivery(client.send, BARE, client.trace, 1.0)
    await live.begin(HEAD)
    audio = bytes(range(256)) * 200
    await live.audio(audio)
    assert b"".join(client.pieces) == audio
    assert max(map(len, client.pieces)) == PIECE_BYTES


async def test_a_client_that_takes_nothing_is_given_up() -> None:
    client = Client()
    live = LiveDelivery(client.send, BARE, client.trace, 0.02)
    await live.begin(HEAD)
    client.stuck = True
    with pytest.raises(ClientStalledError):
        await live.audio(b"one")


async def test_a_client_that_takes_nothing_at_the_end_is_given_up_too() -> None:
    client = Client()
    live = LiveDelivery(client.send, EVENTS, client.trace, 0.02)
    await live.begin(HEAD)
    client.stuck = True
    with pytest.raises(ClientStalledError):
        await live.end(TAIL)


async def test_events_carry_the_audio_and_the_usage() -> None:
    client = Client()
    live = LiveDelivery(client.send, EVENTS, client.trace, 1.0)
    await live.begin(HEAD)
    await live.audio(b"one")
    await live.end(TAIL)
    events = b"".join(client.pieces).decode().split("\n\n")
    assert events.pop() == ""
    delta, done = (msgspec.json.decode(event.removeprefix("data: ")) for event in events)
    assert delta == {"type": "speech.audio.delta", "audio": base64.b64encode(b"one").decode()}
    assert done == {
        "type": "speech.audio.done",
        "usage": {"input_tokens": 12, "output_tokens": 0, "total_tokens": 12},
    }
    assert client.headers[b"content-type"].startswith(b"text/event-stream")


async def test_whole_audio_goes_out_at_the_end_with_its_length_and_its_charge() -> None:
    client, budget = Client(), Budget(100)
    whole = WholeDelivery(client.send, BARE, client.trace, budget)
    await whole.begin(HEAD)
    await whole.audio(b"one")
    await whole.audio(b"two")
    assert client.messages == []
    assert not whole.begun
    await whole.end(TAIL)
    assert client.pieces == [b"onetwo"]
    assert client.headers[b"content-length"] == b"6"
    assert client.headers[b"odea-characters"] == b"12"


async def test_whole_audio_has_a_budget_that_comes_back() -> None:
    client, budget = Client(), Budget(10)
    first = WholeDelivery(client.send, BARE, client.trace, budget)
    second = WholeDelivery(client.send, BARE, client.trace, budget)
    await first.audio(b"123456")
    with pytest.raises(ProblemError) as caught:
        await second.audio(b"12345")
    assert caught.value.failure.code is ErrorCode.OVERLOADED
    second.close()
    first.close()
    first.close()
    budget.take(10)


async def test_a_fallback_is_said() -> None:
    client = Client()
    live = LiveDelivery(client.send, BARE, client.trace, 1.0)
    await live.begin(msgspec.structs.replace(HEAD, fallback=True))
    assert client.headers[b"odea-fallback"] == b"1"


async def test_the_overhead_is_never_negative() -> None:
    client = Client()
    live = LiveDelivery(client.send, BARE, client.trace, 1.0)
    await live.begin(msgspec.structs.replace(HEAD, first_audio_ms=10**6))
    assert client.headers[b"odea-overhead-ms"] == b"0"
