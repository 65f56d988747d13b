"""Every change can be read back: who, what, when and from where; newest first, each once, and never changed."""

import asyncpg
import pytest

from integration.keys.harness import Client
from odea_contracts import audit, keys, tenants
from odea_contracts.audit import AuditAction, AuditDetail, AuditEntry, AuditList, AuditPage
from odea_contracts.keys import Issued, Scope
from odea_contracts.plans import Overrides

ORIGIN = "2001:db8::7"


async def read_all(client: Client, request: AuditList) -> list[AuditEntry]:
    """Page by page."""
    entries: list[AuditEntry] = []
    cursor: str | None = None
    while True:
        page = await client.call(
            audit.AUDIT_LIST,
            AuditList(tenant_id=request.tenant_id, key_id=request.key_id, cursor=cursor, limit=request.limit),
        )
        assert isinstance(page, AuditPage)
        assert len(page.entries) <= request.limit
        entries += page.entries
        cursor = page.next_cursor
        if cursor is None:
            return entries


@pytest.mark.usefixtures("service")
async def test_every_change_can_be_read(client: Client) -> None:
    tenant = await client.new_tenant("Hall")
    overrides = Overrides(units=500, requests_per_minute=None)
    issued = await client.call(
        keys.ISSUE,
        keys.Issue(
            tenant_id=tenant.tenant_id,
            name="main",
            scopes=(Scope.SPEECH,),
            own_account=True,
            plan="tiny",
            overrides=overrides,
            allowed_cidrs=("192.0.2.0/24",),
            actor="key_9",
            origin=ORIGIN,
        ),
        request_id="req-1",
    )
    assert isinstance(issued, Issued)
    key_id, by = issued.key.key_id, {"actor": "key_9", "origin": ORIGIN}
    rotated = await client.call(keys.ROTATE, keys.Rotate(key_id=key_id, grace_ms=5, actor="key_9", origin=ORIGIN))
    assert isinstance(rotated, Issued)
    await client.call(
        keys.UPDATE, keys.KeyUpdate(key_id=key_id, name="shop", expires_at_ms=None, actor="key_9", origin=ORIGIN)
    )
    await client.call(keys.REVOKE, keys.KeyRef(key_id=key_id, actor="key_9", origin=ORIGIN))
    reference = tenants.TenantRef(tenant_id=tenant.tenant_id, actor="key_9", origin=ORIGIN)
    await client.call(tenants.TENANT_SUSPEND, reference)
    await client.call(tenants.TENANT_RESUME, reference)
    await client.call(
        tenants.TENANT_UPDATE,
        tenants.TenantUpdate(tenant_id=tenant.tenant_id, name="Great Hall", actor="key_9", origin=ORIGIN),
    )
    entries = await read_all(client, AuditList(tenant_id=tenant.tenant_id, limit=3))
    told = [(entry.action, entry.key_id, entry.detail) for entry in reversed(entries)]
    assert told == [
        (AuditAction.TENANT_CREATED, None, AuditDetail(name="Hall", plan="small")),
        (
            AuditAction.ISSUED,
            key_id,
            AuditDetail(
                name="main",
                plan="tiny",
                public_id=issued.key.public_id,
                scopes=(Scope.SPEECH,),
                own_account=True,
                overrides=overrides,
                allowed_cidrs=("192.0.2.0/24",),
            ),
        ),
        (AuditAction.ROTATED, key_id, AuditDetail(public_id=rotated.key.public_id, grace_ms=5)),
        (AuditAction.UPDATED, key_id, AuditDetail(name="shop", expires_at_ms=None)),
        (AuditAction.REVOKED, key_id, AuditDetail()),
        (AuditAction.SUSPENDED, None, AuditDetail()),
        (AuditAction.RESUMED, None, AuditDetail()),
        (AuditAction.TENANT_UPDATED, None, AuditDetail(name="Great Hall")),
    ]
    assert {(entry.actor, entry.origin) for entry in entries[:-1]} == {(by["actor"], by["origin"])}
    assert (entries[-1].actor, entries[-1].origin) == ("tester", "unknown")
    assert [entry.request_id for entry in entries if entry.action is AuditAction.ISSUED] == ["req-1"]
    times = [entry.at_ms for entry in entries]
    assert times == sorted(times, reverse=True)
    of_key = await read_all(client, AuditList(key_id=key_id, limit=1))
    assert of_key == [entry for entry in entries if entry.key_id == key_id]


@pytest.mark.usefixtures("service")
async def test_a_list_stands_still_while_changes_go_on(client: Client) -> None:
    """What is new comes before the first page, so no page repeats or leaves out what was there."""
    made = [await client.new_tenant(f"Hall {number}") for number in range(5)]
    first = await client.call(audit.AUDIT_LIST, AuditList(limit=2))
    assert isinstance(first, AuditPage)
    await client.new_tenant("Late")
    rest = await client.call(audit.AUDIT_LIST, AuditList(cursor=first.next_cursor))
    assert isinstance(rest, AuditPage)
    seen = [entry.tenant_id for entry in (*first.entries, *rest.entries)]
    assert seen == [tenant.tenant_id for tenant in reversed(made)]


@pytest.mark.usefixtures("service")
async def test_nothing_in_the_audit_can_be_changed(client: Client, database: asyncpg.Connection) -> None:
    await client.new_tenant()
    for statement in (
        "UPDATE keys.audit SET origin = 'elsewhere'",
        "DELETE FROM keys.audit",
        "TRUNCATE keys.audit",
        "UPDATE keys.audit SET actor = 'x' WHERE false",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await database.execute(statement)
