"""Answers of a bundle while the connection takes nothing: what waits stays bounded, and nothing of it is lost."""

import asyncio
from types import SimpleNamespace
from typing import cast

import msgspec
from msgspec import Raw
from nats.aio.msg import Msg

from odea_contracts.bundles import BUNDLE_BYTES_MAX, BundledRequest, ReplyBundle
from odea_runtime.bundles import unbundled

LARGE = msgspec.json.encode("x" * (BUNDLE_BYTES_MAX * 2 // 5))
"""Two of these go together, three do not."""


class Held:
    """A bundle of requests whose answers are held until `open`."""

    def __init__(self, count: int) -> None:
        self.subject = "odea.v1.tests.ask"
        self.reply = "_INBOX.tests.1"
        self.headers = None
        self.data = msgspec.json.encode([BundledRequest(headers={}, body=Raw(b"{}"))] * count)
        self._client = SimpleNamespace(max_payload=1024 * 1024)
        self.open = asyncio.Event()
        self.answers: list[bytes] = []

    async def respond(self, data: bytes) -> None:
        self.answers.append(data)
        await self.open.wait()


async def test_answers_that_come_while_others_are_held_leave_in_bundles_of_bounded_size() -> None:
    """P10: several that found the place full at the same time do not all go into it once there is room again."""
    held = Held(10)
    parts = unbundled(cast("Msg", held))
    answering = [asyncio.create_task(part.respond(LARGE)) for part in parts]
    for _ in range(20):
        await asyncio.sleep(0)
    held.open.set()
    await asyncio.wait_for(asyncio.gather(*answering), 5)
    assert max(len(answer) for answer in held.answers) <= BUNDLE_BYTES_MAX
    replies = [reply for answer in held.answers for reply in msgspec.json.decode(answer, type=ReplyBundle)]
    assert sorted(reply.number for reply in replies) == list(range(10))
    assert {bytes(reply.body) for reply in replies} == {LARGE}
