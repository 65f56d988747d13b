"""An orchestrator learns in time whether a process lives and is ready, and what is wrong (P9)."""

import asyncio
import http.client
import json
import socket
import struct
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from odea_runtime.health import Check, OpsServer
from odea_runtime.settings import Address

LOOPBACK = Address("127.0.0.1", 0)


async def good() -> str | None:
    return None


async def bad() -> str | None:
    return "PostgreSQL is unavailable"


async def hang() -> str | None:
    await asyncio.Event().wait()


async def fail() -> str | None:
    raise ZeroDivisionError("internal detail")


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.kind = response.headers["Content-Type"]
        self.text = response.read().decode()


def get_here(server: OpsServer, path: str, headers: dict[str, str] | None = None, host: str = "127.0.0.1") -> Answer:
    """Ask from this thread, which waits."""
    connection = http.client.HTTPConnection(host, server.port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        return Answer(connection.getresponse())
    finally:
        connection.close()


async def get(server: OpsServer, path: str, headers: dict[str, str] | None = None) -> Answer:
    return await asyncio.to_thread(get_here, server, path, headers)


@asynccontextmanager
async def serving(**checks: Check) -> AsyncGenerator[OpsServer]:
    async with OpsServer(LOOPBACK, checks) as server:
        yield server


async def test_a_process_whose_loop_turns_is_alive() -> None:
    async with serving(database=bad) as server:
        answer = await get(server, "/livez")
    assert (answer.status, answer.text) == (200, "alive\n")


async def test_a_process_whose_loop_is_blocked_is_not() -> None:
    async with serving() as server:
        with ThreadPoolExecutor(1) as elsewhere:
            asked = elsewhere.submit(get_here, server, "/livez")
            # Waiting here blocks the loop, as a computation or a forgotten await would.
            answer = asked.result(timeout=5)
        assert (answer.status, answer.text) == (503, "the event loop does not answer\n")
        assert (await get(server, "/livez")).status == 200


async def test_ready_when_all_is_well() -> None:
    async with serving(bus=good, database=good) as server:
        answer = await get(server, "/readyz?verbose=1")
    assert (answer.status, answer.text) == (200, "ready\n")


async def test_not_ready_names_all_that_is_wrong() -> None:
    async with serving(bus=bad, cache=good, database=bad) as server:
        answer = await get(server, "/readyz")
    assert answer.status == 503
    assert answer.text == "bus: PostgreSQL is unavailable\ndatabase: PostgreSQL is unavailable\n"


async def test_a_check_that_hangs_or_fails_is_named_in_time_and_hides_no_other() -> None:
    """P6, P9: and the text tells nothing of the inside."""
    async with serving(bus=hang, cache=fail, database=bad) as server:
        async with asyncio.timeout(2):
            answer = await get(server, "/readyz")
    assert answer.status == 503
    assert [line.partition(":")[0] for line in answer.text.splitlines()] == ["bus", "cache", "database"]
    assert "event loop" not in answer.text
    assert "internal detail" not in answer.text


async def test_readiness_changes_with_the_checks() -> None:
    trouble: str | None = None

    async def check() -> str | None:
        return trouble

    async with serving(bus=check) as server:
        assert (await get(server, "/readyz")).status == 200
        trouble = "not connected to NATS"
        assert (await get(server, "/readyz")).text == "bus: not connected to NATS\n"
        trouble = None
        assert (await get(server, "/readyz")).status == 200


@pytest.mark.parametrize(
    ("accept", "kind", "end"),
    [
        ("", "text/plain", ""),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", "# EOF\n"),
    ],
)
async def test_metrics_are_prometheus_text(accept: str, kind: str, end: str) -> None:
    async with serving() as server:
        answer = await get(server, "/metrics", {"Accept": accept} if accept else None)
    assert answer.status == 200
    assert answer.kind.startswith(kind)
    assert answer.text.endswith(end)
    assert "# TYPE odea_bus_call_seconds histogram" in answer.text
    assert all(line.startswith("#") or len(line.rsplit(" ", 1)) == 2 for line in answer.text.splitlines())


@pytest.mark.parametrize("path", ["/", "/live", "/metrics/", "/../etc/passwd", "/livez/x"])
async def test_there_is_nothing_else(path: str) -> None:
    async with serving() as server:
        assert (await get(server, path)).status == 404


async def test_ipv6_is_served_too() -> None:
    async with OpsServer(Address("::1", 0), {}) as server:
        answer = await asyncio.to_thread(get_here, server, "/livez", None, "::1")
    assert answer.status == 200


async def test_a_port_that_is_taken_is_said() -> None:
    async with serving() as server:
        with pytest.raises(OSError, match="in use"):
            OpsServer(Address("127.0.0.1", server.port), {})


async def test_after_the_end_nobody_listens() -> None:
    async with serving() as server:
        pass
    with pytest.raises(ConnectionRefusedError):
        await get(server, "/livez")


async def test_a_client_that_hangs_up_leaves_no_trace(capfd: pytest.CaptureFixture[str]) -> None:
    """A traceback on stderr would be lines that are no log, on every cut probe."""

    async def slow() -> str | None:
        asked.set()
        return await asyncio.wait_for(gone.wait(), 5) and None

    asked, gone = asyncio.Event(), asyncio.Event()
    async with serving(bus=slow) as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        await asked.wait()
        # Closing without lingering resets the connection.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        gone.set()
        for garbage in (
            b"\r\n\r\n",
            b"\xff\xfe\x00",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"POST /livez HTTP/1.0\r\n\r\n",
        ):
            await asyncio.to_thread(send, server.port, garbage)
        assert (await get(server, "/livez")).status == 200
    for line in capfd.readouterr().err.splitlines():
        json.loads(line)


def send(port: int, request: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass
