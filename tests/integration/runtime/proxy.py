"""A way to PostgreSQL that can fall silent, as a cut network does: connections stand, and nothing comes any more."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, urlsplit

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Passes bytes on to the server of `dsn`, be it at a port or at a socket, until it is told to fall silent."""

    def __init__(self, dsn: str) -> None:
        self._parts = urlsplit(dsn)
        self._silent = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def dsn(self) -> str:
        """The address of the same database by this way."""
        login = self._parts.netloc.rpartition("@")[0]
        return f"postgresql://{login}@127.0.0.1:{self.port}{self._parts.path}"

    def fall_silent(self) -> None:
        """Pass nothing on any more, on new connections neither."""
        self._silent = True

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            server_reader, server_writer = await self._connect()
            try:
                await asyncio.gather(self._pass_on(reader, server_writer), self._pass_on(server_reader, writer))
            finally:
                server_writer.close()
        except asyncio.CancelledError:
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _connect(self) -> Ends:
        [*folders] = parse_qs(self._parts.query).get("host", [])
        if folders:
            return await asyncio.open_unix_connection(f"{folders[0]}/.s.PGSQL.{self._parts.port or 5432}")
        return await asyncio.open_connection(self._parts.hostname, self._parts.port or 5432)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if not self._silent:
                    writer.write(data)
                    await writer.drain()
        if not self._silent:
            writer.close()


@asynccontextmanager
async def proxied(dsn: str) -> AsyncGenerator[Proxy]:
    """A proxy before the server of `dsn`."""
    proxy = Proxy(dsn)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
