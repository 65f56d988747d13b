"""A copy of the stream brings back what was in it and where everybody stood, and says so when it can't."""

import asyncio
import os
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from odea_contracts.subjects import DURABLE_QUOTA_TENANTS, INSTALLER, KEYS_TENANT_CREATED, STREAM_EVENTS
from odea_local.embedded import EmbeddedNats, embedded_nats
from odea_runtime import jetstream, snapshots
from odea_runtime.bus import Bus
from odea_runtime.settings import Settings, load
from odea_runtime.snapshots import SnapshotError

LONG_AGO = timedelta(days=1)


@pytest.fixture
def server(tmp_path: Path) -> Generator[EmbeddedNats]:
    with embedded_nats(tmp_path) as running:
        yield running


@pytest.fixture
async def bus(server: EmbeddedNats) -> AsyncGenerator[Bus]:
    opened = Bus(load(Settings, {"ODEA_NATS_URL": server.url}), INSTALLER)
    await opened.start()
    yield opened
    await opened.stop()


async def _tell(bus: Bus, *names: str) -> None:
    for name in names:
        await bus.client.jetstream().publish(KEYS_TENANT_CREATED, name.encode(), headers={"ce-id": name})


async def _take_some(bus: Bus) -> list[bytes]:
    """Acknowledge the first and the third of what waits."""
    following = await bus.client.jetstream().pull_subscribe_bind(DURABLE_QUOTA_TENANTS, STREAM_EVENTS)
    taken = await following.fetch(3, timeout=10)
    for message in (taken[0], taken[2]):
        await message.ack_sync()
    return [message.data for message in taken]


async def test_everybody_stands_where_they_stood(bus: Bus, tmp_path: Path) -> None:
    await jetstream.apply(bus)
    await _tell(bus, "a", "b", "c", "d")
    assert await _take_some(bus) == [b"a", b"b", b"c"]
    await snapshots.take(bus, tmp_path / "copy")
    await _tell(bus, "e")
    before = datetime.now(UTC)
    last = await snapshots.put_back(bus, tmp_path / "copy")
    assert last is not None
    assert last < before
    assert await snapshots.count(bus) == 4
    info = await bus.client.jetstream().consumer_info(STREAM_EVENTS, DURABLE_QUOTA_TENANTS)
    assert (info.num_ack_pending, info.num_pending) == (1, 1), "b was given and not acknowledged, d was not given"
    assert await snapshots.ids_since(bus, last - LONG_AGO) == {"a", "b", "c", "d"}
    assert await snapshots.ids_since(bus, last + LONG_AGO) == set()


async def test_a_large_stream_comes_in_many_pieces(bus: Bus, tmp_path: Path) -> None:
    await jetstream.apply(bus)
    bodies = [os.urandom(500_000) for _ in range(40)]
    await asyncio.gather(*(bus.client.jetstream(timeout=30).publish(KEYS_TENANT_CREATED, body) for body in bodies))
    await snapshots.take(bus, tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size > 100 * snapshots.PIECE_BYTES
    await snapshots.put_back(bus, tmp_path / "copy")
    found = [(await bus.client.jetstream().get_msg(STREAM_EVENTS, number + 1)).data for number in range(40)]
    assert sorted(data or b"" for data in found) == sorted(bodies)


async def test_an_empty_stream_and_none(bus: Bus, tmp_path: Path) -> None:
    assert await snapshots.count(bus) is None
    with pytest.raises(SnapshotError, match="stream not found"):
        await snapshots.take(bus, tmp_path / "copy")
    await jetstream.apply(bus)
    await snapshots.take(bus, tmp_path / "copy")
    await _tell(bus, "a")
    assert await snapshots.put_back(bus, tmp_path / "copy") is None
    assert await snapshots.count(bus) == 0


@pytest.mark.parametrize("damage", [b"", b"no json\n", b'{"config": {}, "state": {}}\nrubbish'])
async def test_a_damaged_copy_is_refused_and_may_be_tried_again(bus: Bus, tmp_path: Path, damage: bytes) -> None:
    await jetstream.apply(bus)
    await _tell(bus, "a")
    await snapshots.take(bus, tmp_path / "copy")
    (tmp_path / "damaged").write_bytes(damage)
    with pytest.raises(SnapshotError):
        await snapshots.put_back(bus, tmp_path / "damaged")
    await snapshots.put_back(bus, tmp_path / "copy")
    assert await snapshots.count(bus) == 1


async def test_a_copy_that_was_cut_off_is_refused(bus: Bus, tmp_path: Path) -> None:
    await jetstream.apply(bus)
    await _tell(bus, "a", "b")
    await snapshots.take(bus, tmp_path / "copy")
    whole = (tmp_path / "copy").read_bytes()
    (tmp_path / "copy").write_bytes(whole[:-200])
    with pytest.raises(SnapshotError):
        await snapshots.put_back(bus, tmp_path / "copy")
