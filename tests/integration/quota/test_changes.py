"""Every change of plans and accounts can be read back: who, what, when and from where; each once, and never changed."""

import asyncio
from typing import Any

import asyncpg
import msgspec
import pytest
from msgspec import UNSET

from integration.quota.harness import Ledger, together, until_waiting
from odea_contracts.audit import AuditAction, AuditDetail, AuditEntry, AuditList, AuditPage
from odea_contracts.errors import Failure
from odea_contracts.plans import Account, AccountRef, AccountSet, NamedLimits, Overrides, PlanSet, TopUp
from odea_runtime.ids import new_uuid

BY: dict[str, Any] = {"actor": "key_9", "origin": "2001:db8::7"}


async def page(ledger: Ledger, request: AuditList) -> AuditPage:
    reply = await ledger.audit.page(request)
    assert isinstance(reply, AuditPage), reply
    return reply


async def entries(ledger: Ledger, **filters: str) -> list[AuditEntry]:
    """All of them, the oldest first, read one by one."""
    found: list[AuditEntry] = []
    cursor: str | None = None
    while True:
        read = await page(ledger, msgspec.convert({**filters, "cursor": cursor, "limit": 1}, AuditList))
        found += read.entries
        cursor = read.next_cursor
        if cursor is None:
            return found[::-1]


async def changed(ledger: Ledger, **fields: object) -> Account:
    reply = await ledger.accounts.set_account(msgspec.convert({"account_id": "hall", **BY, **fields}, AccountSet))
    assert isinstance(reply, Account), reply
    return reply


async def test_every_change_can_be_read(ledger: Ledger) -> None:
    limits = NamedLimits(name="small", units=100)
    await ledger.plans.set_plan(PlanSet(name="small", units=100, **BY))
    await changed(ledger, tenant_id="ten", plan="small")
    await changed(ledger, overrides={"units": 7})
    await ledger.accounts.suspend_account(AccountRef(account_id="hall", **BY))
    await ledger.accounts.resume_account(AccountRef(account_id="hall", **BY))
    topup = TopUp(topup_id=new_uuid(), account_id="hall", units=5, expires_at_ms=2**42, **BY)
    await ledger.accounts.top_up(topup)
    found = await entries(ledger)
    assert [(entry.action, entry.tenant_id, entry.key_id, entry.detail) for entry in found] == [
        (AuditAction.PLAN_SET, None, None, AuditDetail(plan="small", limits=limits)),
        (AuditAction.ACCOUNT_SET, "ten", "hall", AuditDetail(plan="small")),
        (AuditAction.ACCOUNT_SET, "ten", "hall", AuditDetail(overrides=Overrides(units=7))),
        (AuditAction.ACCOUNT_SUSPENDED, "ten", "hall", AuditDetail()),
        (AuditAction.ACCOUNT_RESUMED, "ten", "hall", AuditDetail()),
        (AuditAction.TOPPED_UP, "ten", "hall", AuditDetail(units=5, topup_id=topup.topup_id, expires_at_ms=2**42)),
    ]
    assert {(entry.actor, entry.origin) for entry in found} == {("key_9", "2001:db8::7")}
    assert [entry.at_ms for entry in found] == sorted(entry.at_ms for entry in found)
    assert await entries(ledger, tenant_id="ten") == found[1:]
    assert await entries(ledger, key_id="hall") == found[1:]
    assert await entries(ledger, tenant_id="other") == []


async def test_a_tenant_s_own_account_is_no_key_s(ledger: Ledger) -> None:
    await changed(ledger, account_id="ten", tenant_id="ten")
    (entry,) = await entries(ledger)
    assert (entry.tenant_id, entry.key_id) == ("ten", None)


async def test_what_changes_nothing_leaves_no_row(ledger: Ledger) -> None:
    """Also three at once: the second and the third find it done."""
    command = TopUp(topup_id=new_uuid(), account_id="hall", units=5, expires_at_ms=2**42)
    await together(*[lambda: ledger.plans.set_plan(PlanSet(name="small", units=100))] * 3)
    await together(*[lambda: changed(ledger, tenant_id="ten", plan="small", overrides={"units": 9})] * 3)
    await together(*[lambda: ledger.accounts.suspend_account(AccountRef(account_id="hall"))] * 3)
    await together(*[lambda: ledger.accounts.top_up(command)] * 3)
    await changed(ledger)
    await changed(ledger, overrides={"units": 9})
    told = [entry.action for entry in await entries(ledger)]
    assert told == ["plan_set", "account_set", "account_suspended", "topped_up"]


async def test_what_is_refused_leaves_no_row(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account()
    before = await sql.fetchval("SELECT count(*) FROM quota.audit")
    refusals = [
        await ledger.accounts.set_account(AccountSet(account_id="hall", tenant_id="thief")),
        await ledger.accounts.set_account(AccountSet(account_id="hall", plan="none such")),
        await ledger.accounts.set_account(AccountSet(account_id="nobody", plan="hall")),
        await ledger.accounts.suspend_account(AccountRef(account_id="nobody")),
        await ledger.accounts.top_up(TopUp(topup_id=new_uuid(), account_id="nobody", units=1, expires_at_ms=2**42)),
    ]
    assert all(isinstance(reply, Failure) for reply in refusals), refusals
    assert await sql.fetchval("SELECT count(*) FROM quota.audit") == before


async def test_what_the_platform_does_by_itself_is_told_by_keys(ledger: Ledger) -> None:
    await ledger.accounts.open_account("ten", "ten", "default")
    assert await entries(ledger) == []


async def test_nothing_in_the_audit_can_be_changed(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account()
    for statement in (
        "UPDATE quota.audit SET origin = 'elsewhere'",
        "DELETE FROM quota.audit",
        "TRUNCATE quota.audit",
        "UPDATE quota.audit SET actor = 'x' WHERE false",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await sql.execute(statement)


async def test_a_page_of_long_entries_is_short_and_goes_on(ledger: Ledger) -> None:
    """A message of the bus holds one megabyte, and a plan may name six hundred models and voices."""
    voices = tuple(f"{number:03d}" + "x" * 125 for number in range(500))
    for number in range(20):
        await ledger.plans.set_plan(PlanSet(name=f"plan {number}", units=1, voices=voices))
    read = await page(ledger, AuditList(limit=200))
    assert 1 < len(read.entries) < 20
    assert len(msgspec.json.encode(read)) < 1_000_000
    rest = read
    names = [entry.detail.plan for entry in read.entries]
    while rest.next_cursor:
        rest = await page(ledger, AuditList(limit=200, cursor=rest.next_cursor))
        names += [entry.detail.plan for entry in rest.entries]
    assert names == [f"plan {number}" for number in reversed(range(20))]


async def test_a_list_goes_on_behind_each_of_its_entries(ledger: Ledger) -> None:
    for number in range(4):
        await ledger.plans.set_plan(PlanSet(name=f"plan {number}", units=1))
    read = await page(ledger, AuditList(limit=3))
    assert len(read.cursors) == 4
    await ledger.plans.set_plan(PlanSet(name="late", units=1))
    for taken, cursor in enumerate(read.cursors):
        rest = await page(ledger, AuditList(cursor=cursor))
        assert [entry.detail.plan for entry in rest.entries] == [f"plan {n}" for n in reversed(range(4 - taken))]


async def test_two_patches_at_once_both_hold(quota_dsn: str, ledgers: list[Ledger], sql: asyncpg.Connection) -> None:
    """One moves the account, the other gives it limits; each leaves alone what it does not name."""
    one, two, _ = ledgers
    await one.open_account("hall", units=100)
    await one.plans.set_plan(PlanSet(name="grand", units=900, in_flight_max=4))
    blocker = await asyncpg.connect(quota_dsn)
    async with blocker.transaction():
        await blocker.execute("SELECT FROM quota.accounts WHERE account_id = 'hall' FOR UPDATE")
        moved = asyncio.create_task(changed(one, plan="grand"))
        limited = asyncio.create_task(changed(two, overrides={"units": 70}))
        await until_waiting(sql, 2)
    await blocker.close()
    await asyncio.gather(moved, limited)
    account = await one.reader.account("hall")
    assert isinstance(account, Account)
    assert (account.plan, account.overrides) == ("grand", Overrides(units=70))
    assert (account.balance.limit, account.balance.in_flight_max) == (70, 4)
    told = [entry.detail for entry in await entries(one, key_id="hall")][1:]
    assert sorted(told, key=repr) == sorted(
        [AuditDetail(plan="grand"), AuditDetail(overrides=Overrides(units=70))], key=repr
    )


async def test_a_patch_opens_no_account_and_keeps_the_plan(ledger: Ledger) -> None:
    assert isinstance(await ledger.accounts.set_account(AccountSet(account_id="hall", plan="default")), Failure)
    await ledger.open_account()
    account = await changed(ledger, overrides={"in_flight_max": 2})
    assert (account.plan, account.balance.in_flight_max, account.balance.limit) == ("hall", 2, 100)
    assert (await changed(ledger, plan="default")).overrides == Overrides(in_flight_max=2, units=UNSET)


async def test_a_change_waits_for_a_top_up_that_has_the_balance_already(
    ledger: Ledger, quota_dsn: str, sql: asyncpg.Connection
) -> None:
    """Its row refers to the account, which the change has locked: that must not make the two wait for each other."""
    await ledger.open_account()
    giver = await asyncpg.connect(quota_dsn)
    try:
        async with asyncio.TaskGroup() as changes, giver.transaction():
            await giver.execute("SELECT FROM quota.balances WHERE account_id = 'hall' FOR UPDATE")
            change = changes.create_task(changed(ledger, overrides={"units": 9}))
            await until_waiting(sql, 1)
            await giver.execute(
                "INSERT INTO quota.topups (topup_id, account_id, units, units_left, expires_at)"
                " VALUES ($1, 'hall', 5, 5, now() + interval '1 h')",
                new_uuid(),
            )
            assert not change.done()
    finally:
        await giver.close()
