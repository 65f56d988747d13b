"""What every request gets, whatever becomes of it (P6, P10)."""

import asyncio
import json
from typing import cast

import pytest
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Message, Receive, Scope, Send

from odea_gateway.accesslog import AccessLog
from odea_gateway.edge import Edge
from odea_gateway.settings import GatewaySettings
from odea_gateway.trace import trace_of
from odea_runtime.settings import load


def settings(**changes: str) -> GatewaySettings:
    given = {"nats_url": "nats://unused", "access_log": "false", **changes}
    return load(GatewaySettings, {f"ODEA_{name.upper()}": value for name, value in given.items()})


QUIET = settings()
TALKING = settings(access_log="true")


def scope(*headers: tuple[bytes, bytes], path: bytes = b"/v1/me") -> HTTPScope:
    return cast(
        "HTTPScope",
        {"type": "http", "method": "GET", "raw_path": path, "headers": list(headers), "client": ("192.0.2.7", 5)},
    )


async def receive() -> HTTPReceiveMessage:
    return {"type": "http.request", "body": b"", "more_body": False}


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": b"hello", "more_body": False})


async def call(app: ASGIApp, given: HTTPScope, *, settings: GatewaySettings | None = None) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await Edge(app, settings or QUIET, AccessLog(QUIET))(given, receive, send)
    return sent


def headers_of(sent: list[Message]) -> dict[bytes, bytes]:
    assert sent[0]["type"] == "http.response.start"
    return dict(sent[0]["headers"])


def error_of(sent: list[Message]) -> dict[str, str]:
    assert sent[1]["type"] == "http.response.body"
    return json.loads(sent[1]["body"])["error"]


async def test_an_answer_keeps_its_headers_and_gets_ours() -> None:
    headers = headers_of(await call(hello, scope()))
    assert headers[b"x-own"] == b"1"
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"x-request-id"].startswith(b"req_")
    assert b"default-src 'none'" in headers[b"content-security-policy"]


async def test_a_well_formed_request_id_is_kept() -> None:
    given = b"A-z_0.9:x"
    assert headers_of(await call(hello, scope((b"x-request-id", given))))[b"x-request-id"] == given


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"a b",
        b"a\nb",
        b"x" * 129,
        b"\xc3\xa4",
        b"a,b",
        b"odea_sk_000000000000_secret_000000",
        b"id\n",
        b"sk-aaaaaaaaaa",
    ],
)
async def test_any_other_request_id_is_replaced(given: bytes) -> None:
    headers = headers_of(await call(hello, scope((b"x-request-id", given))))
    assert headers[b"x-request-id"].startswith(b"req_")


async def test_two_request_ids_are_none() -> None:
    headers = headers_of(await call(hello, scope((b"x-request-id", b"a"), (b"x-request-id", b"b"))))
    assert headers[b"x-request-id"].startswith(b"req_")


async def test_one_request_too_many_is_refused() -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        inside.set()
        await go_on.wait()
        await hello(_scope, _receive, send)

    sent: list[list[Message]] = [[], []]
    edge = Edge(slow, settings(requests_max="1"), AccessLog(QUIET))

    async def one(place: list[Message]) -> None:
        async def send(message: Message) -> None:
            place.append(message)

        await edge(scope(), receive, send)

    first = asyncio.create_task(one(sent[0]))
    await inside.wait()
    await one(sent[1])
    assert sent[1][0] | {"headers": []} == {"type": "http.response.start", "status": 503, "headers": []}
    assert headers_of(sent[1])[b"retry-after"] == b"1"
    assert error_of(sent[1])["code"] == "server_is_overloaded"
    go_on.set()
    await first
    assert edge.in_hand == 0
    await one(sent[1])
    assert sent[1][2] | {"headers": []} == {"type": "http.response.start", "status": 200, "headers": []}


async def test_an_endless_path_is_nothing() -> None:
    sent = await call(hello, scope(path=b"/" + b"x" * 2000))
    assert error_of(sent)["code"] == "not_found"


async def test_a_fault_is_a_plain_500() -> None:
    async def faulty(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ValueError("a secret of the inside")

    sent = await call(faulty, scope())
    assert error_of(sent)["code"] == "internal_error"
    assert b"secret" not in json.dumps(error_of(sent)).encode()
    assert error_of(sent)["request_id"].encode() == headers_of(sent)[b"x-request-id"]


async def test_a_fault_after_the_beginning_leaves_the_body_cut() -> None:
    """P4."""

    async def faulty(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError

    sent = await call(faulty, scope())
    assert len(sent) == 2
    assert sent[1] == {"type": "http.response.body", "body": b"half", "more_body": True}


async def test_a_request_is_one_line_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    async def known(given: Scope, _receive: Receive, send: Send) -> None:
        trace = trace_of(given)
        trace.tenant_id, trace.code = "ten_a", "not_found"
        await hello(given, _receive, send)

    async def send(_message: Message) -> None:
        """Nobody listens."""

    given = scope((b"authorization", b"Bearer odea_sk_secret"), (b"x-request-id", b"mine"))
    await Edge(known, TALKING, AccessLog(TALKING))(given, receive, send)
    # Lines are written at the end of a turn of the loop.
    await asyncio.sleep(0)
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert told.pop("timestamp").endswith("Z")
    assert told.pop("duration_ms") >= 0
    assert told == {
        "event": "request",
        "level": "info",
        "service": "gateway",
        "request_id": "mine",
        "method": "GET",
        "route": "unmatched",
        "status": 200,
        "tenant_id": "ten_a",
        "code": "not_found",
    }
