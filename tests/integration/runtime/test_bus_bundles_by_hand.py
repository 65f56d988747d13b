"""Bundles made by hand: each part is judged by itself, and what is no bundle is refused whole (P7, P10)."""

import time
from collections.abc import Sequence

import msgspec
import pytest
import structlog
from msgspec import Raw
from nats.aio.msg import Msg

from integration.runtime.harness import (
    ASK,
    Ask,
    AskReply,
    Told,
    echo,
    listener,
    open_hall,
)
from odea_contracts.bundles import BUNDLE_MAX, BundledRequest, ReplyBundle
from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.synth import HEADER_DEADLINE_MS, HEADER_REQUEST_ID
from odea_runtime.bus import Bus
from support.waiting import until


def bundle(bodies: Sequence[bytes], headers: dict[str, str] | None = None) -> bytes:
    return msgspec.json.encode([BundledRequest(headers=headers or {}, body=Raw(body)) for body in bodies])


async def ask_raw(bus: Bus, body: bytes, count: int) -> list[AskReply]:
    """The replies to a bundle made by hand, by their numbers."""
    replies: dict[int, AskReply] = {}
    inbox = bus.client.new_inbox()

    async def take(message: Msg) -> None:
        for reply in msgspec.json.decode(message.data, type=ReplyBundle):
            replies[reply.number] = msgspec.json.decode(reply.body, type=AskReply)

    await bus.client.subscribe(inbox, cb=take)
    await bus.client.publish(ASK.subject, body, reply=inbox)
    await until(lambda: len(replies) == count)
    return [replies[number] for number in sorted(replies)]


async def test_of_a_bundle_made_by_hand_each_part_is_judged_by_itself(nats_url: str, bus: Bus) -> None:
    """P7."""
    bodies = [b'{"text": "a"}', b'{"text": 7}', b"[]", b'{"text": "b"}', b"null"]
    async with open_hall(nats_url, echo):
        first, *wrong, last = await ask_raw(bus, bundle([*bodies, b'{"text": "c"}']), 6)
    assert (first, wrong.pop(2), last) == (Told(text="a"), Told(text="b"), Told(text="c"))
    assert [(one.code, one.param) for one in wrong if isinstance(one, Failure)] == [
        (ErrorCode.INVALID_VALUE, "text"),
        (ErrorCode.INVALID_VALUE, None),
        (ErrorCode.INVALID_VALUE, None),
    ]


async def test_a_part_whose_deadline_has_passed_is_dropped(nats_url: str, bus: Bus) -> None:
    late = {HEADER_DEADLINE_MS: str(int(time.time() * 1000) - 1)}
    parts = [
        BundledRequest(headers=headers, body=Raw(b'{"text": "%d"}' % number))
        for number, headers in enumerate(({}, late, {}))
    ]
    async with open_hall(nats_url, echo):
        assert await ask_raw(bus, msgspec.json.encode(parts), 2) == [Told(text="0"), Told(text="2")]


async def test_parts_beyond_what_may_be_in_hand_are_refused(nats_url: str, bus: Bus) -> None:
    """P10."""
    async with open_hall(nats_url, echo, tasks_max=3):
        replies = await ask_raw(bus, bundle([b'{"text": "x"}'] * 5), 5)
    assert replies == [Told(text="x")] * 3 + [failure(ErrorCode.OVERLOADED)] * 2


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"[",
        b"[null]",
        b'[{"body": {}}]',
        b'[{"headers": {"a": 1}, "body": {}}]',
        b'[{"headers": {"a": "%s"}, "body": {}}]' % (b"x" * 257),
        b'[{"headers": {}, "body": ' + b"[" * 300_000,
        bundle([b'{"text": "x"}'] * (BUNDLE_MAX + 1)),
        bundle([b'{"text": "x"}'], {str(number): "" for number in range(17)}),
    ],
    ids=["empty", "no JSON", "null", "no headers", "a number", "long", "deep", "many", "many headers"],
)
async def test_what_is_no_bundle_is_refused_whole(nats_url: str, bus: Bus, body: bytes) -> None:
    """P7, and nothing of it is handled."""
    handled = 0

    async def note(_: Ask) -> AskReply:
        nonlocal handled
        handled += 1
        return Told(text="")

    async with open_hall(nats_url, note):
        message = await bus.client.request(ASK.subject, body, timeout=2)
    assert msgspec.json.decode(message.data, type=AskReply).code is ErrorCode.INVALID_VALUE  # pyright: ignore[reportAttributeAccessIssue]
    assert handled == 0


async def test_a_bundle_that_nobody_waits_for_is_handled_and_not_answered(nats_url: str, bus: Bus) -> None:
    heard: list[str] = []
    async with open_hall(nats_url, listener(heard)):
        await bus.client.publish(ASK.subject, bundle([b'{"text": "a"}', b'{"text": "b"}']))
        await bus.client.publish(ASK.subject, bundle([b'{"text": "c"}']), reply="odea.v1.hall.other")
        await until(lambda: heard == ["a", "b", "c"])
        assert await bus.call(ASK, Ask(text="d")) == Told(text="")


@pytest.mark.parametrize("request_id", ["x" * 129, "a b", "\u00e9", ""])
async def test_a_request_id_that_is_none_is_not_passed_on(nats_url: str, bus: Bus, request_id: str) -> None:
    """P7: nor does it stand in a log."""
    seen: list[object] = []

    async def note(_: Ask) -> AskReply:
        seen.append(structlog.contextvars.get_contextvars().get("request_id"))
        return Told(text="")

    async with open_hall(nats_url, note):
        await bus.client.request(ASK.subject, b'{"text": ""}', headers={HEADER_REQUEST_ID: request_id}, timeout=2)
    assert seen == [None]
