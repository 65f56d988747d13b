"""Bad input is cheap: each row has its answer, nothing is spent, no key comes back, and memory stays flat (P7, P10)."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import suppress

import httpx
import msgspec
import pytest

from integration.gateway.harness import GatewayProcess, client_at, process
from integration.gateway.hostile import GOOD, ROWS, SPEECH, Row
from integration.gateway.standins import Standins

ANSWER_S = 8.0
GROWTH_KB_MAX = 24 * 1024
ROUNDS = 2


@pytest.fixture(scope="module")
async def victim(nats_url: str, services: Standins) -> AsyncGenerator[GatewayProcess]:
    """A gateway as operators run it, that does not wait long for a body."""
    assert services
    async with process(nats_url, body_s="1.0", auth_failures_per_minute="10000", access_log="false") as gateway:
        yield gateway


async def exchange(address: str, row: Row, key: str) -> bytes:
    """What comes back; sending stops when the server has had enough."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    sending = asyncio.create_task(_send(writer, row, key))
    answer = bytearray()
    try:
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(ANSWER_S):
                while piece := await reader.read(65536):
                    answer += piece
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError, ConnectionError):
            await sending
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return bytes(answer)


async def _send(writer: asyncio.StreamWriter, row: Row, key: str) -> None:
    writer.write(row.head.replace("{key}", key).encode())
    writer.write(row.body)
    sent = len(row.body)
    while sent < row.size:
        writer.write(row.body)
        sent += len(row.body)
        await writer.drain()


def told(answer: bytes) -> tuple[int, str | None]:
    """The status and the code of an answer."""
    found = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    if not found:
        return 0, None
    body = answer.partition(b"\r\n\r\n")[2]
    with suppress(msgspec.DecodeError, KeyError, TypeError):
        return int(found[1]), msgspec.json.decode(body)["error"]["code"]
    return int(found[1]), None


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_each_has_its_answer(victim: GatewayProcess, standins: Standins, key: str, row: Row) -> None:
    answer = await exchange(victim.address, row, key)
    found = told(answer)
    # Whoever goes on sending past the answer may find the connection closed before it is read.
    assert found == (row.status, row.code) or (row.size and found == (0, None)), answer[:400]
    assert standins.synth.asked == []
    assert key.encode() not in answer


async def test_there_are_enough_of_them() -> None:
    assert len(ROWS) >= 60


async def test_memory_stays_flat_and_honest_callers_are_served(
    victim: GatewayProcess, standins: Standins, key: str
) -> None:
    async def all_rows() -> None:
        for row in ROWS.values():
            await exchange(victim.address, row, key)

    await all_rows()
    before_kb = victim.rss_kb()
    for _ in range(ROUNDS):
        await asyncio.gather(all_rows(), all_rows())
    grown_kb = victim.rss_kb() - before_kb
    assert grown_kb < GROWTH_KB_MAX, f"{grown_kb} KB more than before"
    assert standins.synth.asked == []
    async with client_at(victim.address, key) as client:
        assert (await client.post(SPEECH, json=GOOD)).status_code == 200
    assert not [line for line in victim.log if line["level"] == "error"]


async def test_an_honest_answer_is_not_mistaken(victim: GatewayProcess, key: str) -> None:
    """The table would be worth nothing if every request were refused."""
    async with httpx.AsyncClient(base_url=f"http://{victim.address}", headers={"x-api-key": key}) as client:
        assert (await client.post(SPEECH, json=GOOD)).status_code == 200
