"""A way to a server that can be listened in on, and that can fall silent as a cut network does."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, urlsplit

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Passes bytes on to the server at `url`, be it at a port or at a socket, until it is told to fall silent."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._silent = False
        self._whole = asyncio.Event()
        self._whole.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.sent = b""

    @property
    def url(self) -> str:
        """The address of the same server by this way."""
        login = "".join(self._parts.netloc.rpartition("@")[:2])
        return f"{self._parts.scheme}://{login}127.0.0.1:{self.port}{self._parts.path}"

    def fall_silent(self) -> None:
        """Pass nothing on any more, on new connections neither."""
        self._silent = True

    def cut(self, *, drop: bool = False) -> None:
        """Hold all bytes until `heal`, new connections too; with `drop`, those that are open break."""
        self._whole.clear()
        if drop:
            for task in self._tasks:
                task.cancel()

    def heal(self) -> None:
        """Let everything through that was held, and whatever comes."""
        self._whole.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._whole.wait()
            server_reader, server_writer = await self._connect()
            try:
                await asyncio.gather(self._hear(reader, server_writer), self._pass_on(server_reader, writer))
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
        if folders := parse_qs(self._parts.query).get("host"):
            return await asyncio.open_unix_connection(f"{folders[0]}/.s.PGSQL.{self._parts.port or 5432}")
        return await asyncio.open_connection(self._parts.hostname, self._parts.port)

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = asyncio.StreamReader()

        async def listen() -> None:
            while data := await reader.read(65536):
                self.sent += data
                heard.feed_data(data)
                # Held back from here, so that whoever sends on fills the sockets.
                await self._whole.wait()
            heard.feed_eof()

        await asyncio.gather(listen(), self._pass_on(heard, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                await self._whole.wait()
                if not self._silent:
                    writer.write(data)
                    await writer.drain()
        if not self._silent:
            writer.close()


@asynccontextmanager
async def proxied(url: str) -> AsyncGenerator[Proxy]:
    """A proxy before the server at `url`."""
    proxy = Proxy(url)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
