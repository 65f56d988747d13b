"""Copies of the stream of events: what it holds, and where each of its consumers stands, in one file.

JetStream makes them itself, all at one instant, and takes them back with the same numbers, times and acknowledgements.
The file is a line of JSON, the stream's configuration and state, and after it what only JetStream reads.
"""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from odea_contracts.subjects import STREAM_DELETE, STREAM_EVENTS, STREAM_RESTORE, STREAM_SNAPSHOT
from odea_runtime.bus import Bus
from odea_runtime.ids import new_id

PIECE_BYTES: Final = 128 * 1024
_ANSWER_S: Final = 30.0
_READ_WITHIN_S: Final = 600.0
_DONE: Final = "204"


class SnapshotError(Exception):
    """JetStream refused, or did not answer; the text says why."""


class _Trouble(msgspec.Struct):
    description: str = ""


class _Head(msgspec.Struct):
    """The first line of a file."""

    config: dict[str, Any] = {}
    state: dict[str, Any] = {}


class _Answer(_Head):
    """What JetStream's API answers, of which only this is looked at."""

    error: _Trouble | None = None
    deliver_subject: str = ""


async def take(bus: Bus, path: Path) -> None:
    """Write the stream as it is now into a file.

    Args:
        bus: of the user `backup`; started.
        path: is written over.

    Raises:
        SnapshotError: there is no stream, or it did not come whole.
    """
    client = bus.client
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    try:
        await bus.round_trip()
        head = await _ask(client, STREAM_SNAPSHOT, {"deliver_subject": inbox, "chunk_size": PIECE_BYTES})
        with path.open("wb") as file:
            file.write(msgspec.json.encode(_Head(config=head.config, state=head.state)) + b"\n")
            while piece := await _next(subscription):
                file.write(piece.data)
                if piece.reply:
                    # The server sends no more than a few pieces ahead of this.
                    await client.publish(piece.reply)
    except (nats.errors.Error, TimeoutError) as error:
        raise SnapshotError(repr(error)) from error
    finally:
        await subscription.unsubscribe()


async def _next(subscription: Subscription) -> Msg | None:
    """The next piece; nothing after the last."""
    message = await subscription.next_msg(_ANSWER_S)
    if message.data:
        return message
    headers = message.headers or {}
    if headers.get("Status", _DONE) != _DONE:
        raise SnapshotError(headers.get("Description", "the copy broke off"))
    return None


async def put_back(bus: Bus, path: Path) -> datetime | None:
    """Make the stream and its consumers what they were; what is there is lost.

    Args:
        bus: of the user `installer`; started.
        path: what `take` wrote.

    Returns:
        When the server took the last event of it, if there is one.

    Raises:
        SnapshotError: the server takes none of it; the stream is not there then, and this may be repeated.
    """
    client = bus.client
    try:
        with path.open("rb") as file:
            head = msgspec.json.decode(file.readline(), type=_Head)
            if await count(bus) is not None:
                await _ask(client, STREAM_DELETE, {})
            subject = (await _ask(client, STREAM_RESTORE, head)).deliver_subject
            while piece := file.read(PIECE_BYTES):
                _refused((await client.request(subject, piece, timeout=_ANSWER_S)).data or b"{}")
            _refused((await client.request(subject, timeout=_ANSWER_S)).data)
        return msgspec.convert(head.state["last_ts"], datetime) if head.state["messages"] else None
    except (nats.errors.Error, TimeoutError, msgspec.DecodeError) as error:
        raise SnapshotError(repr(error)) from error


async def count(bus: Bus) -> int | None:
    """How many events the stream holds, or nothing if there is none.

    Raises:
        SnapshotError: JetStream does not answer.
    """
    try:
        return (await bus.client.jetstream(timeout=_ANSWER_S).stream_info(STREAM_EVENTS)).state.messages
    except nats.js.errors.NotFoundError:
        return None
    except (nats.errors.Error, TimeoutError) as error:
        raise SnapshotError(repr(error)) from error


async def ids_since(bus: Bus, since: datetime) -> set[str]:
    """The ids of all events that the stream took at `since` or later.

    Args:
        bus: of the user `installer`; started.
        since: by the clock of the server.

    Raises:
        SnapshotError: JetStream does not answer, or not in time.
    """
    client, found, seen, arrived = bus.client, set[str](), 0, asyncio.Event()
    inbox = client.new_inbox()

    async def note(message: Msg) -> None:
        nonlocal seen
        seen += 1
        found.add((message.headers or {}).get("ce-id", ""))
        arrived.set()

    # Without bounds of its own: headers of what the stream, which has bounds, can hold.
    subscription = await client.subscribe(inbox, cb=note, pending_msgs_limit=-1, pending_bytes_limit=-1)
    try:
        await bus.round_trip()
        consumer = await client.jetstream(timeout=_ANSWER_S).add_consumer(STREAM_EVENTS, _headers_since(since, inbox))
        # Some may have been sent before the answer was.
        expected = (consumer.num_pending or 0) + (consumer.delivered.consumer_seq if consumer.delivered else 0)
        async with asyncio.timeout(_READ_WITHIN_S):
            while seen < expected:
                arrived.clear()
                await arrived.wait()
    except (nats.errors.Error, TimeoutError) as error:
        raise SnapshotError(repr(error)) from error
    finally:
        await subscription.unsubscribe()
    return found


def _headers_since(since: datetime, inbox: str) -> ConsumerConfig:
    return ConsumerConfig(
        name=new_id("restore"),
        deliver_subject=inbox,
        deliver_policy=DeliverPolicy.BY_START_TIME,
        opt_start_time=since,
        ack_policy=AckPolicy.NONE,
        headers_only=True,
        mem_storage=True,
        inactive_threshold=_ANSWER_S,
    )


async def _ask(client: Client, subject: str, body: object) -> _Answer:
    answer = await client.request(subject, msgspec.json.encode(body), timeout=_ANSWER_S)
    return _refused(answer.data)


def _refused(body: bytes) -> _Answer:
    """The answer, unless it is a refusal."""
    answer = msgspec.json.decode(body, type=_Answer)
    if answer.error:
        raise SnapshotError(answer.error.description)
    return answer
