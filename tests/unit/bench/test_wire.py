"""The generator's reading of HTTP: whole, refused, cut, hung and left are told apart, however packets are cut."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from bench.records import End
from bench.wire import Answer, Connection

WHOLE = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
REFUSED = b'HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 26\r\n\r\n{"error":{"code":"spent_"}}'


@asynccontextmanager
async def server(reply: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncGenerator[Connection]:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await reply(writer)
            # Until the client goes.
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()
            ended.set()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = running.sockets[0].getsockname()
    _, connection = await asyncio.get_running_loop().create_connection(Connection, host, port)
    try:
        yield connection
    finally:
        connection.close()
        await ended.wait()
        running.close()


async def ask(
    connection: Connection, *, hang_s: float = 5, leave: bool = False, leave_s: float | None = None
) -> Answer:
    return await connection.ask(b"GET / HTTP/1.1\r\n\r\n", hang_s=hang_s, leave_at_first=leave, leave_after_s=leave_s)


@pytest.mark.parametrize("step", [1, 2, 3, 7, len(WHOLE)])
async def test_a_whole_body_in_any_packets(step: int) -> None:
    async def reply(writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(WHOLE), step):
            writer.write(WHOLE[start : start + step])
            await writer.drain()
            await asyncio.sleep(0)

    async with server(reply) as connection:
        answer = await ask(connection)
        assert (answer.end, answer.status, answer.bytes) == (End.WHOLE, 200, 11)
        assert connection.usable


async def test_a_refusal_with_its_code_and_when_to_come_back() -> None:
    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(REFUSED)

    async with server(reply) as connection:
        answer = await ask(connection)
        assert (answer.end, answer.status, answer.code, answer.retry_after_s) == (End.REFUSED, 429, "spent_", 7)


@pytest.mark.parametrize("sent", [WHOLE[:-5], WHOLE[:-2], WHOLE[:60]])
async def test_a_cut_body_is_broken(sent: bytes) -> None:
    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        writer.write_eof()

    async with server(reply) as connection:
        assert (await ask(connection)).end is End.BROKEN


async def test_no_answer_is_lost_and_silence_is_hung() -> None:
    async def close(writer: asyncio.StreamWriter) -> None:
        writer.write_eof()

    async def nothing(writer: asyncio.StreamWriter) -> None:
        await writer.drain()

    async with server(close) as connection:
        assert (await ask(connection)).end is End.LOST
    async with server(nothing) as connection:
        assert (await ask(connection, hang_s=0.05)).end is End.HUNG
    async with server(nothing) as connection:
        assert (await ask(connection, leave_s=0.05)).end is End.LEFT


async def test_whoever_leaves_leaves_with_the_first_audio() -> None:
    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE[:60])

    async with server(reply) as connection:
        answer = await ask(connection, leave=True)
        assert (answer.end, answer.status) == (End.LEFT, 200)
        assert not connection.usable
