"""A fault inside is a plain 500 with a request id, and its story stays in the log (P6)."""

import time
from ipaddress import ip_address
from typing import Any, cast

import msgspec
import pytest
import structlog
from litestar.types import HTTPReceiveMessage, HTTPScope, Message

from odea_contracts import synth
from odea_gateway.app import litestar
from odea_gateway.clients import Clients
from odea_gateway.failures import FailureLimit
from odea_gateway.principals import Principals
from odea_gateway.services import Services
from odea_gateway.settings import GatewaySettings
from odea_gateway.speaking import Speaker
from odea_gateway.trace import Trace, put_trace, trace_of


class FaultyClients:
    """Fails as no service does."""

    async def models(self) -> tuple[synth.Model, ...]:
        raise ZeroDivisionError("the inside")


def services() -> Services:
    return Services(
        settings=GatewaySettings.model_validate({"nats_url": "nats://unused"}),
        clients=cast("Clients", FaultyClients()),
        principals=cast("Principals", None),
        failures=cast("FailureLimit", None),
        speaker=cast("Speaker", None),
    )


async def get(path: str) -> tuple[int, dict[str, Any], Trace]:
    """What the application answers."""
    scope = cast(
        "HTTPScope",
        {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"host", b"x")],
            "root_path": "",
        },
    )
    put_trace(scope, Trace(request_id="req_1", began=time.perf_counter(), address=ip_address("192.0.2.1")))
    sent: list[Message] = []

    async def receive() -> HTTPReceiveMessage:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await litestar(services())(scope, receive, send)
    start, body = sent
    assert start["type"] == "http.response.start"
    assert body["type"] == "http.response.body"
    return start["status"], msgspec.json.decode(body["body"]), trace_of(scope)


async def test_a_fault_is_told_to_the_log_and_not_to_the_client() -> None:
    with structlog.testing.capture_logs() as logs:
        status, body, trace = await get("/v1/audio/models")
    assert (status, body["error"]["code"], body["error"]["request_id"]) == (500, "internal_error", "req_1")
    assert "inside" not in str(body)
    assert trace.code == "internal_error"
    (line,) = logs
    assert isinstance(line["exc_info"], ZeroDivisionError)


@pytest.mark.parametrize(
    ("path", "status", "code"), [("/nothing", 404, "not_found"), ("/schema/nothing", 404, "not_found")]
)
async def test_what_is_not_there_is_told_in_the_same_shape(path: str, status: int, code: str) -> None:
    found, body, _ = await get(path)
    assert (found, body["error"]["code"]) == (status, code)
