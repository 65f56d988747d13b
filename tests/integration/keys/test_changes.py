"""Every change leaves an audit row that nobody can alter and an event that is not lost; caches hear of it at once."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import asyncpg
import msgspec
import pytest
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from integration.keys.harness import Client
from odea_contracts import keys, tenants
from odea_contracts.base import Endpoint, Message
from odea_contracts.keys import KeyEvent
from odea_contracts.subjects import KEYS_CHANGED, STREAM_EVENTS
from support.waiting import round_trip, until

HOUR_MS = 3_600_000


async def events_of(nats: NatsClient, tenant_id: str) -> list[tuple[str, Any]]:
    """Subject and body of each of the tenant's events, in the order of the stream."""
    jetstream = nats.jetstream()
    state = (await jetstream.stream_info(STREAM_EVENTS)).state
    found: list[tuple[str, Any]] = []
    for sequence in range(state.first_seq, state.last_seq + 1):
        message = await jetstream.get_msg(STREAM_EVENTS, sequence)
        body = json.loads(message.data or b"")
        if body["tenant_id"] == tenant_id:
            assert message.headers is not None
            assert message.headers["ce-type"] == message.subject
            found.append((str(message.subject).removeprefix("odea.v1.keys.evt."), body))
    return found


async def has_events(nats: NatsClient, tenant_id: str, number: int) -> bool:
    try:
        return len(await events_of(nats, tenant_id)) >= number
    except NotFoundError:
        return False


@pytest.fixture
async def everything(nats_url: str) -> AsyncGenerator[list[Msg]]:
    """All that passes over the bus, in order, as a connection of its own sees it."""
    seen: list[Msg] = []
    nats = NatsClient()
    await nats.connect(nats_url)

    async def note(message: Msg) -> None:
        seen.append(message)

    await nats.subscribe(">", cb=note)
    await round_trip(nats)
    yield seen
    await nats.close()


@pytest.mark.usefixtures("service")
async def test_every_change_is_audited_and_told(client: Client, database: asyncpg.Connection) -> None:
    tenant = await client.new_tenant("Hall")
    tenant_id = tenant.tenant_id
    issued = await client.new_key(tenant_id, own_account=True)
    key_id = issued.key.key_id
    rotated = await client.rotate(key_id, grace_ms=HOUR_MS)
    await client.call(tenants.TENANT_SUSPEND, tenants.TenantRef(tenant_id=tenant_id, actor="night shift"))
    await client.call(tenants.TENANT_RESUME, tenants.TenantRef(tenant_id=tenant_id))
    await client.call(keys.REVOKE, keys.KeyRef(key_id=key_id, actor="owner"), request_id="req-7")
    rows = await database.fetch("SELECT * FROM keys.audit ORDER BY audit_id")
    told = [(row["action"], row["actor"], row["key_id"], row["request_id"]) for row in rows]
    assert told == [
        ("tenant_created", "tester", None, None),
        ("issued", "tester", key_id, None),
        ("rotated", "tester", key_id, None),
        ("suspended", "night shift", None, None),
        ("resumed", "unknown", None, None),
        ("revoked", "owner", key_id, "req-7"),
    ]
    assert {row["tenant_id"] for row in rows} == {tenant_id}
    assert [json.loads(row["detail"]) for row in rows] == [
        {"name": "Hall", "plan": "small"},
        {
            "name": "main",
            "plan": "tiny",
            "public_id": issued.key.public_id,
            "scopes": ["speech"],
            "own_account": True,
        },
        {"public_id": rotated.key.public_id, "grace_ms": HOUR_MS},
        {},
        {},
        {},
    ]
    await until(lambda: has_events(client.bus.client, tenant_id, 6))
    key_event = {"tenant_id": tenant_id, "key_id": key_id, "plan": None}
    tenant_event = {"tenant_id": tenant_id, "name": "Hall", "plan": None}
    assert await events_of(client.bus.client, tenant_id) == [
        ("tenant_created", tenant_event | {"plan": "small"}),
        ("issued", key_event | {"plan": "tiny"}),
        ("rotated", key_event),
        ("suspended", tenant_event),
        ("resumed", tenant_event),
        ("revoked", key_event),
    ]
    assert await database.fetchval("SELECT count(*) FROM keys.outbox") == 0


@pytest.mark.usefixtures("service")
async def test_a_key_without_an_account_of_its_own_opens_none(client: Client) -> None:
    tenant = await client.new_tenant()
    await client.new_key(tenant.tenant_id)
    await until(lambda: has_events(client.bus.client, tenant.tenant_id, 2))
    _, (name, body) = await events_of(client.bus.client, tenant.tenant_id)
    assert (name, body["plan"]) == ("issued", None)


@pytest.mark.usefixtures("service")
async def test_what_changes_nothing_is_neither_audited_nor_an_event(
    client: Client, database: asyncpg.Connection
) -> None:
    tenant = await client.new_tenant()
    issued = await client.new_key(tenant.tenant_id)
    reference = tenants.TenantRef(tenant_id=tenant.tenant_id)
    for _ in range(2):
        await client.call(tenants.TENANT_SUSPEND, reference)
    for _ in range(2):
        await client.call(tenants.TENANT_RESUME, reference)
        await client.call(keys.REVOKE, keys.KeyRef(key_id=issued.key.key_id))
    await client.call(keys.ROTATE, keys.Rotate(key_id=issued.key.key_id))
    await client.call(keys.ISSUE, keys.Issue(tenant_id="ten_0", name="x", scopes=(keys.Scope.SPEECH,)))
    actions = [row["action"] for row in await database.fetch("SELECT action FROM keys.audit ORDER BY audit_id")]
    assert actions == ["tenant_created", "issued", "suspended", "resumed", "revoked"]
    await until(lambda: has_events(client.bus.client, tenant.tenant_id, 5))
    assert [name for name, _ in await events_of(client.bus.client, tenant.tenant_id)] == actions


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE keys.audit SET actor = 'nobody'",
        "UPDATE keys.audit SET actor = 'nobody' WHERE false",
        "DELETE FROM keys.audit",
        "TRUNCATE keys.audit",
    ],
)
@pytest.mark.usefixtures("service")
async def test_the_audit_is_never_changed(client: Client, database: asyncpg.Connection, statement: str) -> None:
    """Not by the service's own role either."""
    await client.new_tenant()
    with pytest.raises(asyncpg.RestrictViolationError, match="rows of audit are never changed"):
        await database.execute(statement)
    assert await database.fetchval("SELECT actor FROM keys.audit") == "tester"


@pytest.mark.parametrize("kind", ["rotate", "revoke", "revoke again", "suspend", "suspend again", "resume"])
@pytest.mark.usefixtures("service")
async def test_caches_hear_of_a_change_before_its_caller(client: Client, everything: list[Msg], kind: str) -> None:
    """P5. The repetition is told too: the first one may have died between its commit and its word."""
    tenant = await client.new_tenant()
    issued = await client.new_key(tenant.tenant_id)
    key, whole_tenant = keys.KeyRef(key_id=issued.key.key_id), tenants.TenantRef(tenant_id=tenant.tenant_id)
    requests: dict[str, tuple[Endpoint[Any, Any], Message]] = {
        "rotate": (keys.ROTATE, keys.Rotate(key_id=issued.key.key_id)),
        "revoke": (keys.REVOKE, key),
        "suspend": (tenants.TENANT_SUSPEND, whole_tenant),
        "resume": (tenants.TENANT_RESUME, whole_tenant),
    }
    endpoint, request = requests[kind.removesuffix(" again")]
    times = 2 if kind.endswith("again") else 1
    for _ in range(times):
        await client.call(endpoint, request)
    await until(lambda: len(spans(everything, endpoint)) == times)
    asked, answered = spans(everything, endpoint)[-1]
    told = [msgspec.json.decode(m.data, type=KeyEvent) for m in everything[asked:answered] if m.subject == KEYS_CHANGED]
    of_key = endpoint in (keys.ROTATE, keys.REVOKE)
    assert told == [KeyEvent(tenant_id=tenant.tenant_id, key_id=issued.key.key_id if of_key else msgspec.UNSET)]


def spans(seen: list[Msg], endpoint: Endpoint[Any, Any]) -> list[tuple[int, int]]:
    """Where each answered request to the endpoint stands, and where its answer."""
    subjects = [message.subject for message in seen]
    return [
        (index, subjects.index(message.reply))
        for index, message in enumerate(seen)
        if message.subject == endpoint.subject and message.reply in subjects
    ]
