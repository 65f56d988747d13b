"""The process and its connections come and go: a signal drains it, and a restarted NATS finds it again (P2, P9)."""

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path

import asyncpg
import msgspec
import pytest

from integration.quota.harness import (
    balances_are_true,
    calling,
    is_served,
    open_hall,
    open_ledger,
    reserve,
    settle,
    until_waiting,
)
from integration.quota.replicas import environ_of, replicas
from odea_contracts import subjects
from odea_contracts.quota import RESERVE, SETTLE, USAGE, Reserved, Settled, Usage
from odea_contracts.quota_events import HoldEvent
from odea_local.ports import find_free
from odea_runtime.bus import Bus, DisconnectedError, NoRespondersError
from support.servers import NatsServer
from support.waiting import until

_NAMED_WITHIN_S = 2.0
_CALLERS = 32


async def _is_gone(bus: Bus) -> bool:
    try:
        await bus.call(USAGE, Usage(accounts=("hall",)))
    except NoRespondersError:
        return True
    return False


async def test_commands_in_hand_are_answered_before_the_end(
    nats_url: str, quota_dsn: str, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    """They stand before a locked account when the signal comes, and the first batch is already under way."""
    environ = environ_of(nats_url, quota_dsn) | {"ODEA_DATABASE_TIMEOUT_S": "30"}
    async with calling(nats_url, timeout_s=30) as bus, replicas(1, environ, tmp_path) as (replica,):
        await open_hall(bus)
        async with sql.transaction():
            await sql.execute("SELECT FROM quota.balances FOR UPDATE")
            waiting = [asyncio.create_task(bus.call(RESERVE, reserve(1))) for _ in range(_CALLERS)]
            await until_waiting(sql, 1)
            # The server has all of them, and so has the service, which is told of them before it hears the signal.
            await bus.round_trip()
            replica.terminate()
            await until(lambda: _is_gone(bus))
        assert {type(answer) for answer in await asyncio.gather(*waiting)} == {Reserved}
        assert await replica.ended() == 0
    assert await sql.fetchval("SELECT count(*) FROM quota.holds") == _CALLERS
    assert "Traceback" not in replica.log()


async def test_a_signal_under_load_loses_no_request_and_no_unit(
    nats_url: str, quota_dsn: str, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    """Every request is answered or was certainly not taken; nobody waits for a process that has gone."""
    answers: Counter[str] = Counter()
    charged: list[str] = []
    async with calling(nats_url) as bus, replicas(1, environ_of(nats_url, quota_dsn), tmp_path) as (replica,):
        await open_hall(bus)

        async def ask_until_it_is_gone() -> None:
            while True:
                hold = reserve(2)
                try:
                    answers[type(await bus.call(RESERVE, hold)).__name__] += 1
                    answers[type(await bus.call(SETTLE, settle(hold.hold_id, 1))).__name__] += 1
                except NoRespondersError:
                    return
                charged.append(hold.hold_id)

        callers = [asyncio.create_task(ask_until_it_is_gone()) for _ in range(_CALLERS)]
        await until(lambda: len(charged) > _CALLERS)
        replica.terminate()
        assert await replica.ended() == 0
        await asyncio.gather(*callers)
    assert answers.keys() == {"Reserved", "Settled"}
    rows = await sql.fetch("SELECT hold_id::text FROM quota.resolutions")
    assert sorted(row["hold_id"] for row in rows) == sorted(charged)
    async with open_ledger(quota_dsn) as ledger:
        await balances_are_true(sql, ledger)


async def test_a_nats_that_restarts_finds_the_service_again_and_no_event_is_lost(
    breakable_nats: NatsServer, quota_dsn: str, tmp_path: Path
) -> None:
    environ = environ_of(breakable_nats.url, quota_dsn)
    async with calling(breakable_nats.url) as bus, replicas(1, environ, tmp_path), open_ledger(quota_dsn) as ledger:
        await open_hall(bus)
        hold = reserve(50)
        assert isinstance(await bus.call(RESERVE, hold), Reserved)
        breakable_nats.kill()
        await until(lambda: not bus.connected)
        began = time.monotonic()
        with pytest.raises(DisconnectedError):
            await bus.call(SETTLE, settle(hold.hold_id))
        assert time.monotonic() - began < _NAMED_WITHIN_S
        # What another replica charges meanwhile is told when there is somebody to tell.
        assert isinstance(await ledger.submit(settle(hold.hold_id)), Settled)
        breakable_nats.restart()
        await until(lambda: is_served(bus), within_s=30)
        assert await bus.call(SETTLE, settle(hold.hold_id)) == Settled(hold_id=hold.hold_id, units=30)
        await until(lambda: _told(bus, hold.hold_id), within_s=30)


async def _told(bus: Bus, hold_id: str) -> bool:
    jetstream = bus.client.jetstream()
    state = (await jetstream.stream_info(subjects.STREAM_EVENTS)).state
    messages = [await jetstream.get_msg(subjects.STREAM_EVENTS, number) for number in range(1, state.last_seq + 1)]
    settled = [message for message in messages if message.subject == subjects.QUOTA_SETTLED]
    assert len(settled) <= 1
    return [msgspec.json.decode(one.data or b"", type=HoldEvent).hold_id for one in settled] == [hold_id]


async def test_a_signal_ends_a_start_that_waits_for_nats(quota_dsn: str, tmp_path: Path) -> None:
    environ = environ_of(f"nats://127.0.0.1:{find_free()}", quota_dsn) | {"ODEA_LOG_LEVEL": "info"}
    ops = f"127.0.0.1:{find_free()}"
    with (tmp_path / "quota.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "odea_quota", "serve", env=environ | {"ODEA_OPS_ADDRESS": ops}, stderr=log
        )
    try:
        await until(lambda: b"trouble on the bus" in (tmp_path / "quota.log").read_bytes(), within_s=30)
        process.terminate()
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    # NATS is tried four times a second; that is not worth as many lines.
    assert (tmp_path / "quota.log").read_bytes().count(b"trouble on the bus") == 1
