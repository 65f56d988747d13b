"""The composition root: what the quota service is made of, and in which order it starts and stops."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import structlog
from faststream.nats import NatsRouter

from odea_contracts import subjects
from odea_contracts.keys import KeyEvent
from odea_contracts.tenants import TenantEvent
from odea_quota.account_store import AccountStore
from odea_quota.batcher import Batcher
from odea_quota.carryovers import CarryOvers
from odea_quota.handlers import Handlers
from odea_quota.lapses import Lapses
from odea_quota.plan_store import PlanStore
from odea_quota.reader import Reader
from odea_quota.settings import QuotaSettings
from odea_quota.store import HoldStore
from odea_quota.sweeper import Sweeper
from odea_runtime.audit import AuditLog
from odea_runtime.background import running, unless
from odea_runtime.bus import Bus
from odea_runtime.events import Follower
from odea_runtime.health import OpsServer
from odea_runtime.jetstream import until_applied
from odea_runtime.outbox import Outbox
from odea_runtime.postgres import Database
from odea_runtime.repeats import Repeats
from odea_runtime.tasks import Tasks


async def serve(settings: QuotaSettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set.

    Started from the inside out, so that nothing is asked for before it can answer: pool, batcher, then the bus. Stopped
    from the outside in: no new messages, those in hand finish, then outbox, bus, sweeper, batcher and pool end.
    """
    database = Database(settings, "odea_quota", "quota")
    store = HoldStore(database, write_off_s=settings.quota_write_off_s)
    batcher = Batcher(
        store.apply,
        batch_max=settings.quota_batch_max,
        queue_max=settings.quota_queue_max,
        lanes=settings.quota_lanes,
        slow_s=settings.quota_slow_s,
    )
    tasks = Tasks(settings.tasks_max)
    repeats = Repeats(database, keep_s=settings.idempotency_keep_s)
    handlers = Handlers(
        batcher,
        plans=PlanStore(database, repeats),
        accounts=AccountStore(database, repeats),
        carryovers=CarryOvers(database, repeats),
        reader=Reader(database),
        audit=AuditLog(database),
    )
    router = NatsRouter()
    handlers.register(router, tasks)
    follower = Follower(subjects.QUOTA, deliveries_max=settings.events_deliveries_max)
    follow = partial(follower.follow, lambda: bus)
    durables = (subjects.DURABLE_QUOTA_TENANTS, subjects.DURABLE_QUOTA_KEYS)
    follow(subjects.DURABLE_QUOTA_TENANTS, subjects.KEYS_TENANT_CREATED, TenantEvent, handlers.open_tenant_account)
    follow(subjects.DURABLE_QUOTA_KEYS, subjects.KEYS_ISSUED, KeyEvent, handlers.open_key_account)
    bus = Bus(settings, subjects.QUOTA, router, follower.router)
    outbox = Outbox(database, bus)
    sweeper = Sweeper(store, batcher, every_s=settings.quota_sweep_s)
    async with AsyncExitStack() as stack:
        checks = {"bus": bus.check, "database": database.check}
        await stack.enter_async_context(OpsServer(settings.ops_address, checks))
        await database.start()
        stack.push_async_callback(database.stop)
        await stack.enter_async_context(running(batcher.run()))
        await stack.enter_async_context(running(sweeper.run()))
        await stack.enter_async_context(running(Lapses(database).run()))
        await stack.enter_async_context(running(repeats.forget()))
        stack.push_async_callback(bus.stop)
        if not await unless(stop, bus.start(before=lambda: until_applied(bus, *durables))):
            return
        await stack.enter_async_context(running(outbox.run()))
        structlog.get_logger().info("serving")
        await stop.wait()
        await bus.stop_serving()
        await tasks.drain(settings.drain_s)
