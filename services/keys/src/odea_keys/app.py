"""The composition root: what the keys service is made of, and the order in which it starts and stops.

Health answers first, so that a start that waits for NATS can be seen. The database is not waited for: until it is
there, requests are answered as trouble. At the end requests stop coming before those in hand are finished, those are
finished before the connection that carries their answers goes, and the pool goes last because all else stands on it.
"""

import asyncio
import sys
from pathlib import Path

import structlog
from faststream.nats import NatsRouter

from odea_contracts.subjects import KEYS
from odea_keys.announcer import Announcer
from odea_keys.bootstrap import BootstrapError, make_admin_key
from odea_keys.expiries import Expiries
from odea_keys.handlers import Handlers
from odea_keys.keyring import Keyring
from odea_keys.settings import KeysSettings
from odea_keys.store import Store
from odea_keys.tenant_store import TenantStore
from odea_runtime.audit import AuditLog
from odea_runtime.background import running
from odea_runtime.bus import Bus
from odea_runtime.health import OpsServer
from odea_runtime.outbox import Outbox
from odea_runtime.postgres import Database
from odea_runtime.repeats import Repeats
from odea_runtime.tasks import Tasks

PACKAGE = "odea_keys"
SCHEMA = "keys"


async def serve(settings: KeysSettings, stop: asyncio.Event) -> None:
    """Answer the bus until `stop` is set, then finish what is in hand, for at most `drain_s`."""
    database = Database(settings, PACKAGE, SCHEMA)
    router = NatsRouter()
    bus = Bus(settings, KEYS, router)
    outbox = Outbox(database, bus)
    tasks = Tasks(settings.tasks_max)
    repeats = Repeats(database, keep_s=settings.idempotency_keep_s)
    handlers = Handlers(
        Store(database, repeats),
        TenantStore(database, repeats),
        AuditLog(database),
        Keyring(settings.peppers()),
        Announcer(bus, outbox),
        timeout_s=settings.database_timeout_s,
    )
    handlers.register(router, tasks)
    await database.start()
    async with OpsServer(settings.ops_address, {"bus": bus.check, "database": database.check}):
        work = asyncio.create_task(_work(bus, outbox))
        try:
            async with running(repeats.forget()), running(Expiries(database).run()):
                await _until(stop, work)
        finally:
            await bus.stop_serving()
            await tasks.drain(settings.drain_s)
            work.cancel()
            await asyncio.wait([work])
            await bus.stop()
            await database.stop()
    structlog.get_logger().info("stopped")


async def run_bootstrap(settings: KeysSettings, _stop: asyncio.Event) -> None:
    """Make an admin key, and show it once."""
    database = Database(settings, PACKAGE, SCHEMA)
    repeats = Repeats(database, keep_s=settings.idempotency_keep_s)
    await database.start()
    try:
        key_id = await make_admin_key(
            Store(database, repeats),
            TenantStore(database, repeats),
            Keyring(settings.peppers()),
            tenant=settings.bootstrap_tenant,
            path=Path(settings.bootstrap_file) if settings.bootstrap_file else None,
        )
    except BootstrapError as error:
        sys.exit(f"odea keys: {error}")
    finally:
        await database.stop()
    structlog.get_logger().info("made an admin key", key_id=key_id)


async def run_migrations(settings: KeysSettings, _stop: asyncio.Event) -> None:
    """Bring the schema to the newest revision."""
    # Imported here: the serving process has no use for the migration tools and their memory.
    from odea_runtime.migrations import migrate  # noqa: PLC0415

    await migrate(settings, PACKAGE, SCHEMA)


async def wait_for_schema(settings: KeysSettings, stop: asyncio.Event) -> None:
    """Return when the schema is at the newest revision, or beyond."""
    from odea_runtime.migrations import await_schema  # noqa: PLC0415 - as above

    await await_schema(settings, PACKAGE, SCHEMA, stop)


async def _work(bus: Bus, outbox: Outbox) -> None:
    await bus.start()
    structlog.get_logger().info("serving")
    await outbox.run()


async def _until(stop: asyncio.Event, work: asyncio.Task[None]) -> None:
    """Wait for the signal. Should the work end by itself, that is a fault, and it ends the process."""
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([stopped, work], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
    if work.done():
        work.result()
