"""A change under a name is made once and answered the same, by every replica, for as long as the name is kept."""

from typing import Any

import asyncpg
import pytest

from integration.quota.harness import Ledger, together
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.plans import Account, AccountSet, Overrides, PlanSet
from odea_runtime.background import running
from odea_runtime.repeats import Repeats
from support.waiting import until

AN_HOUR_LATER = "UPDATE quota.repeats SET created_at = created_at - interval '61 minutes'"


def limited(units: int, *, name: str = "order-7", actor: str = "key_9", origin: str = "192.0.2.1") -> AccountSet:
    return AccountSet(
        account_id="hall", overrides=Overrides(units=units), idempotency_key=name, actor=actor, origin=origin
    )


async def changed(ledger: Ledger, command: AccountSet) -> Account:
    reply = await ledger.accounts.set_account(command)
    assert isinstance(reply, Account), reply
    return reply


async def count(sql: asyncpg.Connection, table: str) -> int:
    found: Any = await sql.fetchval(f"SELECT count(*) FROM quota.{table}")
    assert isinstance(found, int)
    return found


async def test_of_many_at_once_one_makes_it_and_all_get_its_answer(
    ledgers: list[Ledger], sql: asyncpg.Connection
) -> None:
    await ledgers[0].open_account()
    before = await count(sql, "audit")
    starts = [lambda ledger=ledgers[number % 3]: changed(ledger, limited(7)) for number in range(12)]
    answers = await together(*starts)
    assert all(answer == answers[0] for answer in answers)
    assert await changed(ledgers[0], limited(7, origin="198.51.100.1")) == answers[0], "from wherever it comes"
    assert await count(sql, "audit") == before + 1


async def test_other_content_is_a_conflict_and_another_actor_s_name_is_another(ledger: Ledger) -> None:
    await ledger.open_account()
    await changed(ledger, limited(7))
    reply = await ledger.accounts.set_account(limited(8))
    assert isinstance(reply, Failure)
    assert (reply.code, reply.param) == (ErrorCode.CONFLICT, "idempotency_key")
    assert (await ledger.balance()).limit == 7
    assert (await changed(ledger, limited(8, actor="key_8"))).balance.limit == 8


async def test_a_name_is_free_again_in_time(ledger: Ledger, sql: asyncpg.Connection) -> None:
    await ledger.open_account()
    await changed(ledger, limited(7))
    await sql.execute(AN_HOUR_LATER)
    assert (await changed(ledger, limited(8))).balance.limit == 8
    await sql.execute(AN_HOUR_LATER)

    async def forgotten() -> bool:
        return await count(sql, "repeats") == 0

    async with running(Repeats(ledger.database, keep_s=3600).forget()):
        await until(forgotten)


@pytest.mark.parametrize("column", ["answer", "name_hash"])
async def test_a_name_is_not_kept_nor_who_it_was_from(ledger: Ledger, sql: asyncpg.Connection, column: str) -> None:
    await ledger.plans.set_plan(PlanSet(name="small", units=1, idempotency_key="a-name-like-no-other", origin="::1"))
    kept: Any = await sql.fetchval(f"SELECT {column}::text FROM quota.repeats")
    assert kept
    assert "a-name-like-no-other" not in kept
    assert "::1" not in kept


async def test_a_change_that_failed_in_between_can_be_asked_again(ledger: Ledger, sql: asyncpg.Connection) -> None:
    """Its name, its audit row and the change itself are one transaction."""
    await ledger.open_account()
    before = await count(sql, "audit")
    await sql.execute("ALTER TABLE quota.audit RENAME TO away")
    with pytest.raises(asyncpg.UndefinedTableError):
        await changed(ledger, limited(7))
    await sql.execute("ALTER TABLE quota.away RENAME TO audit")
    assert await count(sql, "repeats") == 0
    assert (await ledger.balance()).limit == 100
    await changed(ledger, limited(7))
    assert await count(sql, "audit") == before + 1
