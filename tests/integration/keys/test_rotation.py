"""Rotation: a new secret at once, the old ones no longer than the grace, and never two newest (P5)."""

import asyncio

import asyncpg
import pytest

from integration.keys.harness import Client, read_clock_ms, running
from odea_contracts import keys
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.keys import Issued, Key, Principal, Refusal, Refused
from odea_keys.settings import KeysSettings

HOUR_MS = 3_600_000


@pytest.mark.usefixtures("service")
async def test_without_grace_the_old_secret_dies_at_once(client: Client) -> None:
    first = await client.new_key((await client.new_tenant()).tenant_id)
    second = await client.rotate(first.key.key_id)
    assert await client.verify(first.secret) == Refused(reason=Refusal.EXPIRED)
    assert isinstance(await client.verify(second.secret), Principal)
    assert second.key.key_id == first.key.key_id
    assert second.key.public_id != first.key.public_id
    assert await client.call(keys.GET, keys.KeyRef(key_id=first.key.key_id)) == second.key


@pytest.mark.usefixtures("service")
async def test_with_grace_both_work_until_it_ends(client: Client, database: asyncpg.Connection) -> None:
    first = await client.new_key((await client.new_tenant()).tenant_id)
    before_ms = await read_clock_ms(database)
    second = await client.rotate(first.key.key_id, grace_ms=HOUR_MS)
    after_ms = await read_clock_ms(database)
    old, new = await client.verify(first.secret), await client.verify(second.secret)
    assert isinstance(old, Principal)
    assert old.expires_at_ms is not None, "a cache must know when the old secret ends"
    assert before_ms + HOUR_MS <= old.expires_at_ms <= after_ms + HOUR_MS
    assert isinstance(new, Principal)
    assert new.expires_at_ms is None
    await database.execute("UPDATE keys.secrets SET expires_at = clock_timestamp() WHERE expires_at IS NOT NULL")
    assert await client.verify(first.secret) == Refused(reason=Refusal.EXPIRED)
    assert isinstance(await client.verify(second.secret), Principal)


@pytest.mark.usefixtures("service")
async def test_a_later_rotation_shortens_every_grace_and_lengthens_none(client: Client) -> None:
    first = await client.new_key((await client.new_tenant()).tenant_id)
    second = await client.rotate(first.key.key_id, grace_ms=HOUR_MS)
    promised = await client.verify(first.secret)
    await client.rotate(first.key.key_id, grace_ms=2 * HOUR_MS)
    assert await client.verify(first.secret) == promised
    await client.rotate(first.key.key_id, grace_ms=0)
    assert await client.verify(first.secret) == Refused(reason=Refusal.EXPIRED)
    assert await client.verify(second.secret) == Refused(reason=Refusal.EXPIRED)


@pytest.mark.usefixtures("service")
async def test_the_end_of_the_key_is_the_end_of_its_newest_secret(client: Client, database: asyncpg.Connection) -> None:
    tenant = await client.new_tenant()
    now_ms = await read_clock_ms(database)
    first = await client.new_key(tenant.tenant_id, expires_at_ms=now_ms + HOUR_MS)
    second = await client.rotate(first.key.key_id, grace_ms=2 * HOUR_MS)
    for text in (first.secret, second.secret):
        reply = await client.verify(text)
        assert isinstance(reply, Principal)
        assert reply.expires_at_ms == now_ms + HOUR_MS


@pytest.mark.parametrize(
    "end",
    [
        "UPDATE keys.keys SET revoked_at = clock_timestamp()",
        "UPDATE keys.keys SET created_at = created_at - interval '1 day', expires_at = clock_timestamp()",
    ],
    ids=["revoked", "expired"],
)
@pytest.mark.usefixtures("service")
async def test_a_dead_key_is_not_rotated_to_life(client: Client, database: asyncpg.Connection, end: str) -> None:
    issued = await client.new_key((await client.new_tenant()).tenant_id)
    await database.execute(end)
    reply = await client.call(keys.ROTATE, keys.Rotate(key_id=issued.key.key_id))
    assert isinstance(reply, Failure)
    assert (reply.code, reply.param) == (ErrorCode.CONFLICT, "key_id")
    assert await database.fetchval("SELECT count(*) FROM keys.secrets") == 1


async def test_rotations_at_once_leave_one_living_secret(
    client: Client, settings: KeysSettings, database: asyncpg.Connection
) -> None:
    """Two replicas, twelve callers: each gets a key, the last one's lives, and the storage agrees."""
    async with running(settings), running(settings):
        first = await client.new_key((await client.new_tenant()).tenant_id)
        rotated = await asyncio.gather(*(client.rotate(first.key.key_id) for _ in range(12)))
        replies = [await client.verify(issued.secret) for issued in rotated]
        living = [issued for issued, reply in zip(rotated, replies, strict=True) if isinstance(reply, Principal)]
        assert len(living) == 1
        assert replies.count(Refused(reason=Refusal.EXPIRED)) == 11
        assert await client.verify(first.secret) == Refused(reason=Refusal.EXPIRED)
        key = await client.call(keys.GET, keys.KeyRef(key_id=first.key.key_id))
        assert isinstance(key, Key)
        assert key.public_id == living[0].key.public_id
    rows = await database.fetch("SELECT expires_at FROM keys.secrets")
    assert len(rows) == 13
    assert [row["expires_at"] for row in rows].count(None) == 1


async def test_rotation_and_revocation_at_once_leave_a_dead_key(client: Client, settings: KeysSettings) -> None:
    """P5: whoever comes first, no secret works afterwards."""
    async with running(settings), running(settings):
        tenant = await client.new_tenant()
        for _ in range(10):
            first = await client.new_key(tenant.tenant_id)
            reference = keys.KeyRef(key_id=first.key.key_id)
            rotation, _ = await asyncio.gather(
                client.call(keys.ROTATE, keys.Rotate(key_id=first.key.key_id, grace_ms=HOUR_MS)),
                client.call(keys.REVOKE, reference),
            )
            texts = [first.secret] + ([rotation.secret] if isinstance(rotation, Issued) else [])
            for text in texts:
                assert await client.verify(text) == Refused(reason=Refusal.REVOKED)


async def test_the_storage_itself_allows_one_newest_secret(
    client: Client, settings: KeysSettings, database: asyncpg.Connection
) -> None:
    """A mistake in the service must hit a wall."""
    async with running(settings):
        issued = await client.new_key((await client.new_tenant()).tenant_id)
    with pytest.raises(asyncpg.UniqueViolationError, match="secrets_one_newest"):
        await database.execute(
            "INSERT INTO keys.secrets (public_id, key_id, pepper_id, hash) VALUES ('000000000000', $1, 'p1', $2)",
            issued.key.key_id,
            bytes(64),
        )
