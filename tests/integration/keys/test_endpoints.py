"""Every endpoint four ways on real servers: answered, refused, its handler fails, nobody listens (P7, P9)."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import asyncpg
import msgspec
import pytest

from integration.keys.harness import Client, calling, running, settings_for, verify_request
from odea_contracts import audit, keys, subjects, tenants
from odea_contracts.audit import AuditPage
from odea_contracts.base import Endpoint, Message
from odea_contracts.catalogue import ENDPOINTS
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.keys import Issued, Key, KeyPage, Principal, Refusal, Refused, Scope
from odea_contracts.tenants import Tenant, TenantPage
from odea_keys.settings import KeysSettings
from odea_runtime.bus import NoRespondersError
from support.databases import Databases
from support.servers import NatsServer

AnyEndpoint = Endpoint[Any, Any]
SCOPES = (Scope.SPEECH,)
UNKNOWN_SECRET = keys.Verify(public_id="0" * 12, digest="0" * 128)
NO_TENANT = (ErrorCode.NOT_FOUND, "tenant_id")
NO_KEY = (ErrorCode.NOT_FOUND, "key_id")


@dataclass(frozen=True)
class Case:
    """An endpoint, a request that it refuses, and the code and field that it names."""

    endpoint: AnyEndpoint
    refused: Message
    outcome: tuple[ErrorCode, str] | None
    answer: type[Message]


CASES = [
    Case(keys.VERIFY, UNKNOWN_SECRET, None, Principal),
    Case(keys.ISSUE, keys.Issue(tenant_id="ten_0", name="main", scopes=SCOPES), NO_TENANT, Issued),
    Case(keys.ROTATE, keys.Rotate(key_id="key_0"), NO_KEY, Issued),
    Case(keys.UPDATE, keys.KeyUpdate(key_id="key_0", name="x"), NO_KEY, Key),
    Case(keys.REVOKE, keys.KeyRef(key_id="key_0"), NO_KEY, Key),
    Case(keys.GET, keys.KeyRef(key_id="key_0"), NO_KEY, Key),
    Case(keys.LIST, keys.KeyList(tenant_id="ten_0"), NO_TENANT, KeyPage),
    Case(tenants.TENANT_CREATE, tenants.TenantCreate(name=""), (ErrorCode.INVALID_VALUE, "name"), Tenant),
    Case(tenants.TENANT_GET, tenants.TenantRef(tenant_id="ten_0"), NO_TENANT, Tenant),
    Case(tenants.TENANT_LIST, tenants.TenantList(limit=0), (ErrorCode.INVALID_VALUE, "limit"), TenantPage),
    Case(tenants.TENANT_UPDATE, tenants.TenantUpdate(tenant_id="ten_0", name="x"), NO_TENANT, Tenant),
    Case(tenants.TENANT_SUSPEND, tenants.TenantRef(tenant_id="ten_0"), NO_TENANT, Tenant),
    Case(tenants.TENANT_RESUME, tenants.TenantRef(tenant_id="ten_0"), NO_TENANT, Tenant),
    Case(audit.AUDIT_LIST, audit.AuditList(cursor="x"), (ErrorCode.INVALID_VALUE, "cursor"), AuditPage),
]
each_endpoint = pytest.mark.parametrize("case", CASES, ids=lambda case: case.endpoint.subject.rpartition(".")[2])


@pytest.fixture(scope="module")
async def settings(nats_url: str, databases: Databases) -> KeysSettings:
    """One database and one service for the whole module."""
    return settings_for(nats_url, await databases.create("keys"))


@pytest.fixture(scope="module", autouse=True)
async def service(settings: KeysSettings) -> AsyncGenerator[None]:
    async with running(settings):
        yield


async def tenant_and_key(client: Client, case: Case) -> tuple[Tenant, Issued]:
    """Of the case's own, so that one case's suspension is no other's."""
    tenant = await client.new_tenant(case.endpoint.subject)
    return tenant, await client.new_key(tenant.tenant_id)


def good_request(endpoint: AnyEndpoint, tenant: Tenant, issued: Issued) -> Message:
    tenant_id, key_id = tenant.tenant_id, issued.key.key_id
    requests: dict[type[Message], Message] = {
        keys.Verify: verify_request(issued.secret),
        keys.Issue: keys.Issue(tenant_id=tenant_id, name="second", scopes=SCOPES),
        keys.Rotate: keys.Rotate(key_id=key_id),
        keys.KeyUpdate: keys.KeyUpdate(key_id=key_id, name="third"),
        audit.AuditList: audit.AuditList(tenant_id=tenant_id),
        tenants.TenantUpdate: tenants.TenantUpdate(tenant_id=tenant_id, name="Renamed"),
        keys.KeyRef: keys.KeyRef(key_id=key_id),
        keys.KeyList: keys.KeyList(tenant_id=tenant_id),
        tenants.TenantCreate: tenants.TenantCreate(name="Another"),
        tenants.TenantRef: tenants.TenantRef(tenant_id=tenant_id),
        tenants.TenantList: tenants.TenantList(),
    }
    return requests[endpoint.request]


def test_no_endpoint_is_left_out() -> None:
    contract = {endpoint.subject for endpoint in ENDPOINTS if endpoint.queue == subjects.KEYS}
    assert {case.endpoint.subject for case in CASES} == contract


@each_endpoint
async def test_answered(client: Client, case: Case) -> None:
    tenant, issued = await tenant_and_key(client, case)
    reply = await client.call(case.endpoint, good_request(case.endpoint, tenant, issued))
    assert isinstance(reply, case.answer)


@each_endpoint
async def test_refused(client: Client, case: Case) -> None:
    reply = await client.call(case.endpoint, case.refused)
    if case.outcome is None:
        assert reply == Refused(reason=Refusal.UNKNOWN)
    else:
        assert isinstance(reply, Failure)
        assert (reply.code, reply.param) == case.outcome


@each_endpoint
async def test_handler_fails(client: Client, database: asyncpg.Connection, case: Case) -> None:
    """A fault of our own is answered at once, and the answer holds nothing of the inside (P6)."""
    tenant, issued = await tenant_and_key(client, case)
    request = good_request(case.endpoint, tenant, issued)
    await database.execute(
        "ALTER TABLE keys.tenants RENAME TO gone; ALTER TABLE keys.keys RENAME TO away;"
        "ALTER TABLE keys.audit RENAME TO lost"
    )
    try:
        reply = await client.call(case.endpoint, request)
    finally:
        await database.execute(
            "ALTER TABLE keys.gone RENAME TO tenants; ALTER TABLE keys.away RENAME TO keys;"
            "ALTER TABLE keys.lost RENAME TO audit"
        )
    assert isinstance(reply, Failure)
    assert reply.code is ErrorCode.INTERNAL_ERROR
    assert reply.message == "Something went wrong on our side."


async def test_nobody_listens(settings: KeysSettings, breakable_nats: NatsServer) -> None:
    """P9: absence is known at once, not after a timeout."""
    dsn = settings.database_url.get_secret_value()
    async with calling(settings_for(breakable_nats.url, dsn)) as client:
        for case in CASES:
            with pytest.raises(NoRespondersError):
                await client.call(case.endpoint, case.refused)


BAD_BODIES = {
    "nothing": b"",
    "no JSON": b"odea_sk_",
    "cut": b'{"public_id":"',
    "a list": b"[]",
    "null": b"null",
    "no fields": b"{}",
    "no UTF-8": b'{"public_id":"\xff\xfe"}',
    "lone surrogate": b'{"public_id":"\\ud83d"}',
    "endless nesting": b'{"other":' + b"[" * 100_000,
    "number for text": b'{"public_id":1,"digest":2}',
    "null for text": b'{"public_id":null,"digest":null}',
    "short id": b'{"public_id":"abc","digest":"%b"}' % (b"0" * 128),
    "line break behind the id": b'{"public_id":"%b\\n","digest":"%b"}' % (b"a" * 12, b"0" * 128),
    "line break behind the digest": b'{"public_id":"%b","digest":"%b\\n"}' % (b"a" * 12, b"0" * 128),
    "NUL in the id": b'{"public_id":"aaaaaaaaaaa\\u0000","digest":"%b"}' % (b"0" * 128),
    "capitals in the digest": b'{"public_id":"%b","digest":"%b"}' % (b"a" * 12, b"A" * 128),
    "half a megabyte of digits": b'{"public_id":"%b","digest":"%b"}' % (b"a" * 12, b"0" * 500_000),
    "SQL": b'{"public_id":"\' OR 1=1 --","digest":"%b"}' % (b"0" * 128),
}


async def test_bad_bodies_are_answered(client: Client) -> None:
    """P7: a caller's mistake is named, and it costs neither the service nor the caller a timeout."""
    for name, body in BAD_BODIES.items():
        message = await client.bus.client.request(keys.VERIFY.subject, body, timeout=5)
        failure = msgspec.json.decode(message.data, type=Failure)
        assert failure.code is ErrorCode.INVALID_VALUE, name


async def test_unknown_fields_are_ignored(client: Client) -> None:
    """Newer callers and older services run side by side."""
    body = b'{"public_id":"%b","digest":"%b","colour":"blue"}' % (b"a" * 12, b"0" * 128)
    message = await client.bus.client.request(keys.VERIFY.subject, body, timeout=5)
    assert message.data == b'{"type":"refused","reason":"unknown"}'
