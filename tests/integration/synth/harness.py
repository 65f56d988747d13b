"""The quota and the synth service inside the test's own loop, and a caller who listens and looks into the books."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import asyncpg
import pytest
from prometheus_client import REGISTRY

from integration.synth.caller import WITHIN_S, Caller, open_caller
from odea_contracts import plans, synth
from odea_contracts.base import Endpoint, Message
from odea_contracts.errors import ErrorCode
from odea_contracts.synth import Speak
from odea_quota.app import serve as serve_quota
from odea_quota.audit import Difference, find_differences
from odea_quota.settings import QuotaSettings
from odea_runtime.bus import Bus, BusError
from odea_runtime.postgres import Database
from odea_runtime.settings import load
from odea_runtime.streams import RefusedError
from odea_synth.app import Source, serve_routing
from odea_synth.providers.base import Provider
from odea_synth.settings import SynthSettings
from support.routing import provider_plan, routing_of
from support.scripted import ScriptedProvider, spoken
from support.waiting import until

Serve: TypeAlias = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


@dataclass(frozen=True, kw_only=True)
class Books:
    """What is on record of a speech: how its hold ended, what was charged, and the row in the request log."""

    kind: str
    outcome: str | None = None
    charged: int = 0
    taken_back: int = 0
    provider_units: int | None = None
    logged: str
    logged_provider_units: int = 0


class Service:
    """A service that can be started and stopped again and again."""

    def __init__(
        self,
        serve: Serve,
        bus: Bus,
        probe: Endpoint[Any, Any],
        message: Message,
    ) -> None:
        self._serve = serve
        self._bus = bus
        self._probe = probe
        self._message = message
        self._stop = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when it answers."""
        self._stop = asyncio.Event()
        self.task = asyncio.create_task(self._serve(self._stop))
        await until(self._answers, within_s=WITHIN_S)

    async def stop(self) -> None:
        """End it in good order."""
        self._stop.set()
        if self.task:
            await self.task
            self.task = None

    async def _answers(self) -> bool:
        assert self.task, "it was never started"
        if self.task.done():
            await self.task
            raise AssertionError("the service ended by itself")
        try:
            await self._bus.call(self._probe, self._message)
        except BusError:
            return False
        return True


class House(Caller):
    """Both services on real servers, and a look into their databases."""

    def __init__(
        self,
        *,
        caller: Caller,
        settings: SynthSettings,
        of_quota: QuotaSettings,
        quota: Service,
        synth: Service,
        ledger: asyncpg.Pool,
        log: asyncpg.Pool,
    ) -> None:
        super().__init__(caller.bus, caller.streams)
        self.settings = settings
        self.of_quota = of_quota
        self.quota = quota
        self.synth = synth
        self.ledger = ledger
        self.log = log

    async def books(self, request: Speak, *, used: int | None = None) -> Books:
        """What is on record of `request`, once it has ended. Nothing may be held then, nor the text be written down.

        Args:
            request: the only one on its account, unless `used` says what the account must have paid in all.
            used: see `request`.
        """
        await until(lambda: self.is_logged(request), within_s=WITHIN_S)
        await until(lambda: self.is_resolved(request), within_s=WITHIN_S)
        [resolution] = await self.resolutions(request)
        [row] = await self.rows(request)
        for record in (resolution, row):
            assert request.input not in json.dumps(record, default=str)
        balance = await self.balance(request.accounts[0])
        assert (balance.held, balance.in_flight) == (0, 0)
        query = "SELECT coalesce(sum(units), 0)::bigint FROM quota.reversals WHERE request_id = $1"
        taken_back = await self.ledger.fetchval(query, request.request_id)
        kept = resolution["units_settled"] - taken_back
        assert balance.used == (kept if used is None else used)
        assert row["units_settled"] == kept
        assert row["hold_id"] == resolution["hold_id"]
        return Books(
            kind=resolution["kind"],
            outcome=resolution["outcome"],
            charged=resolution["units_settled"],
            taken_back=taken_back,
            provider_units=resolution["provider_units"],
            logged=row["outcome"],
            logged_provider_units=row["provider_units"],
        )

    async def differences(self) -> list[Difference]:
        """What the audit of the ledger finds."""
        database = Database(self.of_quota, "odea_quota", "quota")
        await database.start()
        try:
            return await find_differences(database)
        finally:
            await database.stop()

    async def untouched(self, account_id: str) -> bool:
        """Whether nothing was ever taken from an account that nobody speaks for any more."""
        balance = await self.balance(account_id)
        ended = await self.ledger.fetchval(
            "SELECT count(*) FROM quota.resolutions WHERE $1 = ANY(account_ids)", account_id
        )
        return (balance.used, balance.held, balance.in_flight, ended) == (0, 0, 0, 0)

    async def resolutions(self, request: Speak) -> list[dict[str, Any]]:
        """How the holds of `request` ended."""
        query = "SELECT * FROM quota.resolutions WHERE request_id = $1 ORDER BY resolved_at"
        return [dict(row) for row in await self.ledger.fetch(query, request.request_id)]

    async def holds(self, request: Speak) -> list[dict[str, Any]]:
        """The holds of `request` that are open."""
        query = "SELECT * FROM quota.holds WHERE request_id = $1"
        return [dict(row) for row in await self.ledger.fetch(query, request.request_id)]

    async def rows(self, request: Speak) -> list[dict[str, Any]]:
        """What the request log says of `request`."""
        query = "SELECT * FROM synth.requests WHERE request_id = $1"
        return [dict(row) for row in await self.log.fetch(query, request.request_id)]

    @asynccontextmanager
    async def locked(self, account_id: str) -> AsyncGenerator[None]:
        """Quota can decide nothing about this account while the block is open."""
        async with self.ledger.acquire() as connection, connection.transaction():
            query = "SELECT 1 FROM quota.balances WHERE account_id = $1 FOR UPDATE"
            assert await connection.fetchval(query, account_id)
            yield

    async def quota_waits(self) -> bool:
        """Whether quota stands before an account that is locked."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        return await self.ledger.fetchval(query) > 0

    async def is_held(self, request: Speak) -> bool:
        """Whether `request` has an open hold."""
        return bool(await self.holds(request))

    async def is_resolved(self, request: Speak) -> bool:
        """Whether the hold of `request` has ended."""
        return bool(await self.resolutions(request)) and not await self.holds(request)

    async def is_logged(self, request: Speak) -> bool:
        """Whether the log has the row of `request`."""
        return bool(await self.rows(request))

    async def expire(self, request: Speak) -> None:
        """End the hold of `request` as if its lease were over."""
        query = "UPDATE quota.holds SET lease_ends_at = clock_timestamp() - interval '1 s' WHERE request_id = $1"

        async def is_expired() -> bool:
            # Again and again, since the speaker extends the lease meanwhile.
            await self.ledger.execute(query, request.request_id)
            return await self.is_resolved(request)

        await until(is_expired, within_s=WITHIN_S)

    @staticmethod
    def is_sending() -> bool:
        """Whether the synth service has a stream in hand."""
        return bool(REGISTRY.get_sample_value("odea_stream_open", {"end": "send"}))


def quota_settings(nats_url: str, dsn: str) -> QuotaSettings:
    """Ends overdue holds soon."""
    environ = {
        "ODEA_NATS_URL": nats_url,
        "ODEA_DATABASE_URL": dsn,
        "ODEA_OPS_ADDRESS": "127.0.0.1:0",
        "ODEA_QUOTA_SWEEP_S": "0.1",
        # A test that holds a lock decides itself how long quota waits for it.
        "ODEA_DATABASE_TIMEOUT_S": "10",
        "ODEA_DRAIN_S": "5",
    }
    return load(QuotaSettings, environ)


def with_provider(provider: Provider, settings: SynthSettings, **config: Any) -> Serve:
    """The synth service in this process, speaking with `provider` as `config` says; see `provider_plan`."""
    plan = routing_of(provider.name)
    plan = replace(plan, providers={provider.name: provider_plan(provider.name, **config)})
    return partial(serve_routing, Source(plan=plan), settings, make=lambda _: provider)


@asynccontextmanager
async def open_house(settings: SynthSettings, quota_dsn: str, serve_synth: Serve) -> AsyncGenerator[House]:
    """Both services, answering."""
    dsn = settings.database_url.get_secret_value()
    nats_url = settings.nats_url.get_secret_value()
    async with AsyncExitStack() as stack:
        caller = await stack.enter_async_context(open_caller(settings))
        of_quota = quota_settings(nats_url, quota_dsn)
        house = House(
            caller=caller,
            settings=settings,
            of_quota=of_quota,
            quota=Service(partial(serve_quota, of_quota), caller.bus, plans.PLAN_LIST, plans.PlanList()),
            synth=Service(serve_synth, caller.bus, synth.MODELS, synth.Models()),
            ledger=await stack.enter_async_context(asyncpg.create_pool(quota_dsn, min_size=0, max_size=4)),
            log=await stack.enter_async_context(asyncpg.create_pool(dsn, min_size=0, max_size=2)),
        )
        for service in (house.quota, house.synth):
            stack.push_async_callback(service.stop)
            await service.start()
        yield house


async def break_settlement(house: House, provider: ScriptedProvider, asked: Speak) -> None:
    """Let `asked` be spoken to its end and fail there, since quota is stopped; it stays so."""
    gate = asyncio.Event()
    provider.announce(asked.input, spoken(len(asked.input)), gate.wait)
    async with house.speak(asked) as stream:
        await stream.head()
        await house.quota.stop()
        gate.set()
        with pytest.raises(RefusedError) as refused:
            _ = [frame async for frame in stream]
    assert refused.value.failure.code is ErrorCode.QUOTA_UNAVAILABLE
