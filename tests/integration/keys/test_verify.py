"""A key is good exactly as long as nothing has ended it, and every refusal costs the storage the same (P5, P6)."""

from collections import Counter

import asyncpg
import pytest
from asyncpg.connection import LoggedQuery
from prometheus_client import REGISTRY

from integration.keys.harness import (
    NEW_PEPPER,
    OLD_PEPPER,
    Client,
    read_clock_ms,
    running,
    settings_for,
    verify_request,
)
from odea_contracts import keys, tenants
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.keys import Key, Principal, Refusal, Refused
from odea_contracts.keytext import encode_secret, format_key
from odea_contracts.tenants import Tenant
from odea_keys.announcer import Announcer
from odea_keys.handlers import Handlers
from odea_keys.keyring import Keyring
from odea_keys.settings import KeysSettings
from odea_keys.store import Store
from odea_keys.tenant_store import TenantStore
from odea_runtime.audit import AuditLog
from odea_runtime.bus import Bus
from odea_runtime.outbox import Outbox
from odea_runtime.postgres import Database
from odea_runtime.repeats import Repeats

FAR_MS = 2**53
EXPIRE_KEY = "UPDATE keys.keys SET created_at = created_at - interval '1 day', expires_at = clock_timestamp()"


def count(outcome: str) -> float:
    return REGISTRY.get_sample_value("odea_keys_verifications_total", {"outcome": outcome}) or 0.0


@pytest.mark.usefixtures("service")
async def test_a_key_is_good_until_it_is_revoked(client: Client) -> None:
    """P5."""
    tenant = await client.new_tenant()
    issued = await client.new_key(tenant.tenant_id)
    assert await client.verify(issued.secret) == Principal(
        tenant_id=tenant.tenant_id,
        key_id=issued.key.key_id,
        scopes=issued.key.scopes,
        accounts=(tenant.tenant_id,),
    )
    revoked = await client.call(keys.REVOKE, keys.KeyRef(key_id=issued.key.key_id))
    assert isinstance(revoked, Key)
    assert revoked.revoked_at_ms is not None
    assert await client.verify(issued.secret) == Refused(reason=Refusal.REVOKED)


@pytest.mark.usefixtures("service")
async def test_a_key_with_an_account_of_its_own(client: Client) -> None:
    tenant = await client.new_tenant()
    issued = await client.new_key(tenant.tenant_id, own_account=True)
    reply = await client.verify(issued.secret)
    assert isinstance(reply, Principal)
    assert reply.accounts == (tenant.tenant_id, issued.key.key_id)


@pytest.mark.usefixtures("service")
async def test_a_suspended_tenants_keys_rest_until_it_is_resumed(client: Client) -> None:
    """P5."""
    tenant = await client.new_tenant()
    issued = await client.new_key(tenant.tenant_id)
    reference = tenants.TenantRef(tenant_id=tenant.tenant_id)
    for _ in range(2):
        suspended = await client.call(tenants.TENANT_SUSPEND, reference)
        assert isinstance(suspended, Tenant)
        assert suspended.suspended
        assert await client.verify(issued.secret) == Refused(reason=Refusal.SUSPENDED)
    for _ in range(2):
        assert await client.call(tenants.TENANT_RESUME, reference) == tenant
        assert isinstance(await client.verify(issued.secret), Principal)


@pytest.mark.usefixtures("service")
async def test_another_secret_under_a_known_id_is_refused(client: Client) -> None:
    tenant = await client.new_tenant()
    issued = await client.new_key(tenant.tenant_id)
    forged = format_key(issued.key.public_id, encode_secret(bytes(64)))
    assert await client.verify(forged) == Refused(reason=Refusal.WRONG_SECRET)


@pytest.mark.usefixtures("service")
async def test_a_key_ends_by_the_clock_of_the_database(client: Client, database: asyncpg.Connection) -> None:
    """P5."""
    tenant = await client.new_tenant()
    now_ms = await read_clock_ms(database)
    issued = await client.new_key(tenant.tenant_id, expires_at_ms=now_ms + 60_000)
    assert issued.key.expires_at_ms == now_ms + 60_000
    reply = await client.verify(issued.secret)
    assert isinstance(reply, Principal)
    assert reply.expires_at_ms == now_ms + 60_000
    await database.execute(EXPIRE_KEY)
    assert await client.verify(issued.secret) == Refused(reason=Refusal.EXPIRED)


@pytest.mark.usefixtures("service")
async def test_the_farthest_end_survives_the_storage(client: Client) -> None:
    tenant = await client.new_tenant()
    issued = await client.new_key(tenant.tenant_id, expires_at_ms=FAR_MS)
    assert issued.key.expires_at_ms == FAR_MS
    reply = await client.verify(issued.secret)
    assert isinstance(reply, Principal)
    assert reply.expires_at_ms == FAR_MS


@pytest.mark.parametrize("expires_at_ms", [0, 1, 1_700_000_000_000])
@pytest.mark.usefixtures("service")
async def test_a_key_that_would_be_born_dead_is_refused(client: Client, expires_at_ms: int) -> None:
    tenant = await client.new_tenant()
    request = keys.Issue(
        tenant_id=tenant.tenant_id, name="late", scopes=(keys.Scope.SPEECH,), expires_at_ms=expires_at_ms
    )
    reply = await client.call(keys.ISSUE, request)
    assert isinstance(reply, Failure)
    assert (reply.code, reply.param) == (ErrorCode.INVALID_VALUE, "expires_at_ms")
    page = await client.call(keys.LIST, keys.KeyList(tenant_id=tenant.tenant_id))
    assert page == keys.KeyPage(keys=())


@pytest.mark.usefixtures("service")
async def test_verifications_are_counted_by_outcome_alone(client: Client) -> None:
    """P6: nothing that names a key becomes a label."""
    before = count("good"), count("unknown")
    tenant = await client.new_tenant()
    issued = await client.new_key(tenant.tenant_id)
    await client.verify(issued.secret)
    await client.call(keys.VERIFY, keys.Verify(public_id="0" * 12, digest="0" * 128))
    assert (count("good"), count("unknown")) == (before[0] + 1, before[1] + 1)


async def test_peppers_rotate_under_living_keys(client: Client, settings: KeysSettings) -> None:
    nats_url, dsn = settings.nats_url.get_secret_value(), settings.database_url.get_secret_value()
    async with running(settings):
        tenant = await client.new_tenant()
        old = await client.new_key(tenant.tenant_id)
    async with running(settings_for(nats_url, dsn, keys_peppers=f"{NEW_PEPPER},{OLD_PEPPER}")):
        new = await client.new_key(tenant.tenant_id)
        assert isinstance(await client.verify(old.secret), Principal)
        assert isinstance(await client.verify(new.secret), Principal)
    async with running(settings_for(nats_url, dsn, keys_peppers=NEW_PEPPER)):
        assert isinstance(await client.verify(new.secret), Principal)
        trouble = await client.verify(old.secret)
        assert isinstance(trouble, Failure), "whether the old key is good can't be told without its pepper (P9)"
        assert trouble.code is ErrorCode.KEYS_UNAVAILABLE


async def test_every_class_of_refusal_asks_the_storage_the_same(
    client: Client, settings: KeysSettings, database: asyncpg.Connection
) -> None:
    """P6: unknown, wrong, revoked, expired and suspended keys send the same one statement."""
    async with running(settings):
        classes = await make_classes(client, database)
    own = settings_for("nats://unused", settings.database_url.get_secret_value(), database_pool_max="1")
    storage = Database(own, "odea_keys", "keys")
    await storage.start()
    bus = Bus(own, "tests")
    announcer = Announcer(bus, Outbox(storage, bus))
    repeats = Repeats(storage, keep_s=3600)
    handlers = Handlers(
        Store(storage, repeats),
        TenantStore(storage, repeats),
        AuditLog(storage),
        Keyring(own.peppers()),
        announcer,
        timeout_s=5,
    )
    sent: Counter[str] = Counter()

    def log(query: LoggedQuery) -> None:
        sent[query.query] += 1

    async with storage.connection() as connection:
        connection.add_query_logger(log)
    done: list[Counter[str]] = []
    # Once in advance, because a fresh connection asks a few things more.
    for request, refusal in (classes[0], *classes):
        sent.clear()
        assert await handlers.verify(request) == Refused(reason=refusal)
        done.append(sent.copy())
    assert sum(count for query, count in done[1].items() if "JOIN keys.secrets" in query) == 1
    assert all(each == done[1] for each in done[1:]), done
    await storage.stop()


async def make_classes(client: Client, database: asyncpg.Connection) -> list[tuple[keys.Verify, Refusal]]:
    """A request for each reason to refuse."""
    expired = await client.new_key((await client.new_tenant("Expired")).tenant_id)
    await database.execute(EXPIRE_KEY)
    suspended = await client.new_key((await client.new_tenant("Suspended")).tenant_id)
    await client.call(tenants.TENANT_SUSPEND, tenants.TenantRef(tenant_id=suspended.key.tenant_id))
    hall = await client.new_tenant("Hall")
    good, revoked = await client.new_key(hall.tenant_id), await client.new_key(hall.tenant_id)
    await client.call(keys.REVOKE, keys.KeyRef(key_id=revoked.key.key_id))
    return [
        (keys.Verify(public_id="0" * 12, digest="0" * 128), Refusal.UNKNOWN),
        (keys.Verify(public_id=good.key.public_id, digest="0" * 128), Refusal.WRONG_SECRET),
        (verify_request(revoked.secret), Refusal.REVOKED),
        (verify_request(expired.secret), Refusal.EXPIRED),
        (verify_request(suspended.secret), Refusal.SUSPENDED),
    ]
