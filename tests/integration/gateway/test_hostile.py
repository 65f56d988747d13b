"""Requests that no honest client sends, byte by byte: each is answered or cut, none is a 500 (P7, P10)."""

import re
import time
from collections.abc import AsyncGenerator

import httpx
import msgspec
import pytest

from integration.gateway.harness import BODY, SPEECH, client_of, raw_exchange, running, settings_for, staged
from integration.gateway.standins import Standins
from odea_gateway.app import Gateway

TEXT = msgspec.json.encode(BODY)
HOST = "host: x\r\nconnection: close\r\nx-api-key: {key}\r\n"


def post(headers: str, body: bytes = b"", *, version: str = "1.1") -> tuple[str, bytes]:
    """A speech request; `{key}` stands for a good key."""
    return f"POST {SPEECH} HTTP/{version}\r\n{HOST}{headers}\r\n", body


def get(path: str, headers: str = HOST) -> tuple[str, bytes]:
    """A request without a body."""
    return f"GET {path} HTTP/1.1\r\n{headers}\r\n", b""


CHUNKED = "transfer-encoding: chunked\r\n"
CASES = {
    "no request line": (("\r\n\r\nhello\r\n\r\n", b""), {400, None}),
    "not HTTP": (("\x16\x03\x01\x02\x00\x01\r\n\r\n", b""), {400, None}),
    "HTTP/2 without asking": (("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""), {400, None}),
    "HTTP/3.0": ((f"GET / HTTP/3.0\r\n{HOST}\r\n", b""), {400, None}),
    "NUL in the path": (get("/v1/\x00"), {400}),
    "escaped NUL in the path": (get("/v1/models/%00"), {404}),
    "bad escapes in the path": (get("/v1/models/%ff%zz"), {404}),
    "dots in the path": (get("/v1/%2e%2e/%2e%2e/etc/passwd"), {404}),
    "double slashes": (get("//v1//models//"), {200, 404}),
    "an endless path": (get("/" + "a" * 5_000), {404}),
    "a path beyond all bounds": (get("/" + "a" * 100_000), {400, 414, 431}),
    "an absolute path": (get("http://elsewhere.example/v1/models"), {200, 404}),
    "a bad host": (get("/v1/models", "host: a b\r\nconnection: close\r\nx-api-key: {key}\r\n"), {400}),
    "no host": (get("/v1/models", "connection: close\r\nx-api-key: {key}\r\n"), {200, 400}),
    "a header without a name": (get("/v1/models", f"{HOST}: x\r\n"), {400}),
    "a folded header": (get("/v1/models", f"{HOST}x: a\r\n b\r\n"), {400}),
    "a NUL in a header": (get("/v1/models", f"{HOST}x: a\x00b\r\n"), {400}),
    "two hundred headers": (get("/v1/models", HOST + "".join(f"x-{i}: 1\r\n" for i in range(200))), {400, 431}),
    "an endless header": (get("/v1/models", HOST + "x: " + "a" * 500_000 + "\r\n"), {400, 431}),
    "two authorizations": (
        get(
            "/v1/models",
            "host: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\nauthorization: Bearer {key}\r\n",
        ),
        {400},
    ),
    "empty bearer": (get("/v1/models", "host: x\r\nconnection: close\r\nauthorization: Bearer \r\n"), {401}),
    "a key that is not ASCII": (
        get("/v1/models", "host: x\r\nconnection: close\r\nauthorization: Bearer ödea\r\n"),
        {401},
    ),
    "a length that is no number": (post("content-length: abc\r\n"), {400}),
    "a negative length": (post("content-length: -1\r\n"), {400}),
    "two lengths": (post("content-length: 3\r\ncontent-length: 4\r\n", b"abcd"), {400}),
    "an enormous length": (post("content-length: 99999999999\r\n", b"{"), {413}),
    "a length beyond 64 bits": (post("content-length: 99999999999999999999999\r\n", b"{"), {400, 413}),
    "less than announced": (post("content-length: 5000\r\n", TEXT), {400}),
    "an unknown encoding": (post("transfer-encoding: gzip\r\n", TEXT), {400}),
    "a chunk that is no number": (post(CHUNKED, b"zz\r\n{}\r\n0\r\n\r\n"), {400}),
    "a chunk that is too long": (post(CHUNKED, b"ffffffffffffffffff\r\n{}"), {400}),
    "a chunk that breaks off": (post(CHUNKED, b"5\r\n{}"), {400}),
    "a chunked body without end": (post(CHUNKED, b"2\r\n{}\r\n"), {400}),
    "a body in crumbs": (post(CHUNKED, b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"), {413, None}),
    "a chunked body that grows": (post(CHUNKED, (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 8), {413, None}),
    "a compressed body": (post(f"content-encoding: gzip\r\ncontent-length: {len(TEXT)}\r\n", TEXT), {415}),
    "a request inside a request": (
        post(f"content-length: {len(TEXT)}\r\n" + CHUNKED, b"0\r\n\r\nGET /v1/me HTTP/1.1\r\nhost: x\r\n\r\n"),
        {400},
    ),
    "an upgrade": (get("/v1/models", f"{HOST}connection: upgrade\r\nupgrade: websocket\r\n"), {200}),
    "an unknown method": ((f"BREW /v1/models HTTP/1.1\r\n{HOST}\r\n", b""), {405}),
    "an old client without a length": (post("", b"", version="1.0"), {400}),
}


@pytest.fixture(scope="module")
async def strict(nats_url: str, services: Standins) -> AsyncGenerator[Gateway]:
    """A gateway that does not wait long for a body."""
    assert services
    async with running(settings_for(nats_url, body_s="0.5")) as gateway:
        yield gateway


@pytest.mark.parametrize(("request_", "statuses"), CASES.values(), ids=CASES)
async def test_it_is_answered_or_cut(
    strict: Gateway, standins: Standins, key: str, request_: tuple[str, bytes], statuses: set[int | None]
) -> None:
    head, body = request_
    answer = await raw_exchange(str(strict.http.address), head.format(key=key).encode() + body, within_s=2.5)
    found = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    status = int(found[1]) if found else None
    assert status in statuses, answer[:300]
    assert standins.synth.asked == []
    assert key.encode() not in answer


async def test_a_hundred_megabytes_are_refused_unread(client: httpx.AsyncClient, gateway: Gateway) -> None:
    taken = 0

    async def endless() -> AsyncGenerator[bytes]:
        nonlocal taken
        while taken < 100_000_000:
            taken += 65_536
            yield b"x" * 65_536

    headers = {"content-type": "application/json", "content-length": "100000000"}
    try:
        answer = await client.post(SPEECH, content=endless(), headers=headers)
        assert answer.status_code == 413
    except httpx.TransportError:
        # The connection was closed under the upload, which is as good.
        assert gateway.edge.in_hand == 0
    assert taken < 50_000_000


async def test_a_silent_connection_is_closed(own_nats_url: str) -> None:
    """Also one that stops in the middle of its request's head."""
    async with staged(own_nats_url, silent_s="0.3") as (_, gateway, _client):
        began = time.perf_counter()
        for said in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"):
            await raw_exchange(str(gateway.http.address), said, within_s=5)
        assert time.perf_counter() - began < 4


async def test_the_gateway_goes_on(gateway: Gateway, client: httpx.AsyncClient) -> None:
    """After all that."""
    assert (await client.post(SPEECH, json=BODY)).status_code == 200
    async with client_of(gateway) as stranger:
        assert (await stranger.get("/")).status_code == 200
