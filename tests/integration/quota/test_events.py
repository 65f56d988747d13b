"""What the real process makes of others' events, and what it tells: nothing lost, nothing twice (P2)."""

import json
from collections import Counter
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
import pytest
from nats.js.api import RawStreamMsg

from integration.quota.harness import calling, open_hall, release, reserve, settle
from integration.quota.replicas import environ_of, replicas
from odea_contracts import subjects
from odea_contracts.base import Message
from odea_contracts.keys import KeyEvent
from odea_contracts.plans import ACCOUNT_GET, ACCOUNT_SET, Account, AccountRef, AccountSet, Overrides
from odea_contracts.quota import RELEASE, RESERVE, SETTLE, Released, Reserved, Settled
from odea_contracts.tenants import TenantEvent
from odea_runtime.bus import Bus
from odea_runtime.ids import new_id
from support.databases import Databases
from support.waiting import until

_DELIVERIES_MAX = 3


@pytest.fixture(scope="module")
async def dsn(databases: Databases) -> str:
    return await databases.create("quota")


@pytest.fixture(scope="module")
async def bus(nats_url: str, dsn: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Bus]:
    """A caller of a service that runs for the whole module."""
    environ = environ_of(nats_url, dsn) | {"ODEA_EVENTS_DELIVERIES_MAX": str(_DELIVERIES_MAX)}
    async with calling(nats_url) as caller, replicas(1, environ, tmp_path_factory.mktemp("logs")):
        await open_hall(caller)
        yield caller


async def _publish(bus: Bus, subject: str, event: Message) -> None:
    await bus.client.jetstream().publish(subject, msgspec.json.encode(event), stream=subjects.STREAM_EVENTS)


async def _stored(bus: Bus, subject: str) -> list[RawStreamMsg]:
    """The events on a subject that are in the stream."""
    jetstream = bus.client.jetstream()
    last = (await jetstream.stream_info(subjects.STREAM_EVENTS)).state.last_seq
    messages = [await jetstream.get_msg(subjects.STREAM_EVENTS, number) for number in range(1, last + 1)]
    return [message for message in messages if message.subject == subject]


async def _handled(bus: Bus) -> bool:
    """Whether the service has taken and acknowledged every tenant event."""
    info = await bus.client.jetstream().consumer_info(subjects.STREAM_EVENTS, subjects.DURABLE_QUOTA_TENANTS)
    return info.num_pending == 0 and info.num_ack_pending == 0


async def _account(bus: Bus, account_id: str) -> Account | None:
    reply = await bus.call(ACCOUNT_GET, AccountRef(account_id=account_id))
    return reply if isinstance(reply, Account) else None


async def test_a_new_tenant_gets_its_account_and_a_second_delivery_changes_nothing(bus: Bus) -> None:
    tenant = TenantEvent(tenant_id=new_id("ten"), name="Hall", plan="small")
    await _publish(bus, subjects.KEYS_TENANT_CREATED, tenant)

    async def opened() -> bool:
        return await _account(bus, tenant.tenant_id) is not None

    await until(opened)
    hold = reserve(50, tenant.tenant_id)
    assert isinstance(await bus.call(RESERVE, hold), Reserved)
    before = await _account(bus, tenant.tenant_id)
    assert before is not None
    assert (before.plan, before.tenant_id, before.balance.held) == ("small", tenant.tenant_id, 50)
    await _publish(bus, subjects.KEYS_TENANT_CREATED, tenant)
    await _publish(bus, subjects.KEYS_TENANT_CREATED, msgspec.structs.replace(tenant, plan="default"))
    await until(lambda: _handled(bus))
    assert await _account(bus, tenant.tenant_id) == before


async def test_a_tenant_without_a_plan_gets_the_default_one(bus: Bus) -> None:
    tenant = TenantEvent(tenant_id=new_id("ten"), name="Hall")
    await _publish(bus, subjects.KEYS_TENANT_CREATED, tenant)
    await until(lambda: _handled(bus))
    account = await _account(bus, tenant.tenant_id)
    assert account is not None
    assert account.plan == "default"


async def test_a_key_with_limits_of_its_own_gets_them_once(bus: Bus) -> None:
    """A later change of the account is not undone by a second delivery."""
    tenant_id, key_id = new_id("ten"), new_id("key")
    overrides = Overrides(units=1_234, requests_per_minute=7, in_flight_max=2)
    event = KeyEvent(tenant_id=tenant_id, key_id=key_id, plan="small", overrides=overrides)
    await _publish(bus, subjects.KEYS_ISSUED, event)

    async def opened() -> bool:
        return await _account(bus, key_id) is not None

    await until(opened)
    account = await _account(bus, key_id)
    assert account is not None
    assert (account.plan, account.overrides) == ("small", overrides)
    balance = account.balance
    assert (balance.limit, balance.remaining, balance.in_flight_max) == (1_234, 1_234, 2)
    changed = AccountSet(account_id=key_id, tenant_id=tenant_id, plan="small", overrides=Overrides(units=5))
    assert isinstance(await bus.call(ACCOUNT_SET, changed), Account)
    await _publish(bus, subjects.KEYS_ISSUED, event)

    async def handled() -> bool:
        info = await bus.client.jetstream().consumer_info(subjects.STREAM_EVENTS, subjects.DURABLE_QUOTA_KEYS)
        return info.num_pending == 0 and info.num_ack_pending == 0

    await until(handled)
    account = await _account(bus, key_id)
    assert account is not None
    assert (account.overrides, account.balance.limit) == (Overrides(units=5), 5)


async def test_an_event_that_never_succeeds_is_tried_again_and_then_set_aside(bus: Bus) -> None:
    lost = TenantEvent(tenant_id=new_id("ten"), name="Hall", plan="none such")
    after = TenantEvent(tenant_id=new_id("ten"), name="Hall", plan="small")
    await _publish(bus, subjects.KEYS_TENANT_CREATED, lost)
    await _publish(bus, subjects.KEYS_TENANT_CREATED, after)

    async def set_aside() -> bool:
        return bool(await _stored(bus, subjects.dead_letters(subjects.QUOTA)))

    await until(set_aside, within_s=30)
    await until(lambda: _handled(bus))
    (letter,) = await _stored(bus, subjects.dead_letters(subjects.QUOTA))
    assert msgspec.json.decode(letter.data or b"", type=TenantEvent) == lost
    assert letter.headers is not None
    assert letter.headers["Odea-Durable"] == subjects.DURABLE_QUOTA_TENANTS
    assert letter.headers["Odea-Error"] == "UnknownPlanError"
    assert await _account(bus, lost.tenant_id) is None
    # It held up nobody.
    assert await _account(bus, after.tenant_id) is not None


async def test_every_end_of_a_hold_is_told_once_as_a_cloud_event(bus: Bus, dsn: str) -> None:
    settled, released = [reserve(5) for _ in range(30)], [reserve(5) for _ in range(5)]
    for hold in settled + released:
        assert isinstance(await bus.call(RESERVE, hold), Reserved)
    for hold in settled * 2:
        assert isinstance(await bus.call(SETTLE, settle(hold.hold_id, 3)), Settled)
    for hold in released * 2:
        assert isinstance(await bus.call(RELEASE, release(hold.hold_id)), Released)
    connection = await asyncpg.connect(dsn)

    async def relayed() -> bool:
        return await connection.fetchval("SELECT count(*) FROM quota.outbox") == 0

    try:
        await until(relayed)
    finally:
        await connection.close()
    for subject, holds in ((subjects.QUOTA_SETTLED, settled), (subjects.QUOTA_RELEASED, released)):
        events = await _stored(bus, subject)
        told = Counter(_body(event)["hold_id"] for event in events)
        assert {hold.hold_id: told[hold.hold_id] for hold in holds} == {hold.hold_id: 1 for hold in holds}
        for event in events:
            _is_a_cloud_event(event, subject)


def _body(event: RawStreamMsg) -> dict[str, Any]:
    return json.loads(event.data or b"")


def _is_a_cloud_event(event: RawStreamMsg, subject: str) -> None:
    headers = event.headers or {}
    assert (headers["ce-specversion"], headers["ce-source"], headers["ce-type"]) == ("1.0", "odea/quota", subject)
    assert headers["Nats-Msg-Id"] == f"odea/quota/{headers['ce-id']}"
    assert headers["content-type"] == "application/json"
    assert datetime.fromisoformat(headers["ce-time"]).tzinfo is not None
    assert _body(event)["tenant_id"] == "ten"
