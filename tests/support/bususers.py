"""A NATS with the real logins of the bus, and connections as each of them: what a stolen credential is worth."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import nkeys
from nats.aio.client import Client
from nats.aio.msg import Msg

from odea_contracts.permissions import all_users
from odea_contracts.subjects import inbox_prefix
from odea_runtime.busadmin.nkeys import new_seed, public_key
from support.waiting import round_trip

GUEST = "shop"
SEEDS = {user.name: new_seed() for user in all_users([GUEST])}
PUBLIC_KEYS = {name: (public_key(seed),) for name, seed in SEEDS.items()}


class Thief:
    """A raw connection with a credential of the bus; it sees what the server says to each attempt."""

    def __init__(self) -> None:
        self.client = Client()
        self._refused: list[str] = []

    async def note(self, error: Exception) -> None:
        """What the connection calls back with."""
        self._refused.append(str(error).lower())

    async def refused_to_publish(self, subject: str, body: bytes = b"{}", reply: str = "") -> bool:
        """Whether the server turned a message away."""
        await self.client.publish(subject, body, reply=reply)
        return await self._was_refused(f'permissions violation for publish to "{subject.lower()}"')

    async def refused_to_listen(self, subject: str, queue: str = "") -> bool:
        """Whether the server turned a subscription away."""
        subscription = await self.client.subscribe(subject, queue, cb=_ignore)
        refused = await self._was_refused(f'permissions violation for subscription to "{subject.lower()}"')
        if not refused:
            await subscription.unsubscribe()
        return refused

    async def _was_refused(self, text: str) -> bool:
        # Errors arrive before the pong of a later ping, and are handed over by a task of their own.
        await round_trip(self.client)
        await asyncio.sleep(0)
        found = [said for said in self._refused if text in said]
        self._refused.clear()
        return bool(found)


@asynccontextmanager
async def logged_in(
    url: str, user: str, seed: str | None = None, *, inbox_of: str | None = None
) -> AsyncGenerator[Thief]:
    """A connection as `user`, with another one's inboxes if asked for."""
    thief = Thief()
    await thief.client.connect(
        url,
        nkeys_seed_str=seed or SEEDS[user],
        inbox_prefix=inbox_prefix(inbox_of or user),
        allow_reconnect=False,
        error_cb=thief.note,
    )
    try:
        yield thief
    finally:
        await thief.client.close()


async def is_let_in(url: str, seed: str) -> bool:
    """Whether the server takes a seed."""

    def login(nonce: bytes) -> Mapping[str, str]:
        signature = nkeys.from_seed(bytearray(seed.encode())).sign(nonce)
        return {"nkey": public_key(seed), "sig": base64.b64encode(signature).decode()}

    return await is_let_in_with(url, login)


async def is_let_in_with(url: str, login: Callable[[bytes], Mapping[str, str]]) -> bool:
    """Whether the server takes what `login` makes of its nonce. By hand: the library leaves its socket open if not."""
    host, _, port = url.removeprefix("nats://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        info = json.loads((await reader.readline()).removeprefix(b"INFO "))
        options = {"verbose": False, **login(info["nonce"].encode())}
        writer.write(b"CONNECT " + json.dumps(options).encode() + b"\r\nPING\r\n")
        return (await reader.readline()).startswith(b"PONG")
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _ignore(_: Msg) -> None:
    """Nothing comes."""
