"""The stream of events and its durable consumers: made by whoever installs, looked for by the services.

Services can't make them: a consumer is told by its configuration where to deliver and a stream what to record, so the
right to make either is the right to listen and to publish anywhere.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import nats.errors
import nats.js.errors
import structlog
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

from odea_contracts.permissions import DURABLES
from odea_contracts.subjects import STREAM_EVENTS, SUBJECTS_EVENTS
from odea_runtime.bus import Bus

_REPLY_S: Final = 2.0
_PAUSE_S: Final = 0.5
_EVENTS_AGE_S: Final = 30 * 24 * 3600
_EVENTS_BYTES_MAX: Final = 1024**3
_DUPLICATES_S: Final = 600
_ACK_WAIT_S: Final = 30
_UNACKNOWLEDGED_MAX: Final = 100


async def apply(bus: Bus, *, replicas: int = 1, durables: Mapping[str, str] = DURABLES) -> None:
    """Make the stream and the consumers, or bring what is there up to date. Safe to repeat and to run at once.

    Args:
        bus: of a user who may; started.
        replicas: servers that keep each event; 3 in a cluster.
        durables: the consumers, and the subject that each is given.

    Raises:
        nats.errors.Error: the server does not answer, does not let us, or can't change what is there to what is wanted.
        TimeoutError: the same.
    """
    jetstream = bus.client.jetstream(timeout=_REPLY_S)
    stream = _stream(replicas)
    try:
        await jetstream.update_stream(stream)
    except nats.js.errors.NotFoundError:
        await jetstream.add_stream(stream)
    for durable, subject in durables.items():
        # Making one that is there updates it.
        await jetstream.add_consumer(STREAM_EVENTS, _consumer(durable, subject, replicas))


async def until_applied(bus: Bus, *durables: str) -> None:
    """Return when the stream of events and these consumers are there.

    Meanwhile the log says what is missing: once, and again when it becomes something else.
    """
    said = ""
    while missing := await _missing(bus, durables):
        if missing != said:
            structlog.get_logger().warning("waits until `bus apply` has been run", missing=missing)
            said = missing
        await asyncio.sleep(_PAUSE_S)


async def _missing(bus: Bus, durables: tuple[str, ...]) -> str | None:
    jetstream = bus.client.jetstream(timeout=_REPLY_S)
    what = STREAM_EVENTS
    try:
        await jetstream.stream_info(STREAM_EVENTS)
        for durable in durables:
            what = durable
            await jetstream.consumer_info(STREAM_EVENTS, durable)
    except nats.js.errors.NotFoundError:
        return what
    except (nats.errors.Error, TimeoutError) as error:
        return f"an answer from JetStream ({type(error).__name__})"
    return None


def _stream(replicas: int) -> StreamConfig:
    return StreamConfig(
        name=STREAM_EVENTS,
        subjects=[SUBJECTS_EVENTS],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        max_age=_EVENTS_AGE_S,
        max_bytes=_EVENTS_BYTES_MAX,
        duplicate_window=_DUPLICATES_S,
        num_replicas=replicas,
    )


def _consumer(durable: str, subject: str, replicas: int) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=durable,
        name=durable,
        filter_subject=subject,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=_ACK_WAIT_S,
        max_ack_pending=_UNACKNOWLEDGED_MAX,
        num_replicas=replicas,
    )
