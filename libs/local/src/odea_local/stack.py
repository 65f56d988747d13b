"""A whole stack: start everything in the right order, keep it running, end it in reverse, leave nothing behind."""

import asyncio
import os
import signal
import time
from collections.abc import Callable

from odea_contracts.subjects import GATEWAY
from odea_local import credentials, ports, roles
from odea_local.errors import LocalError
from odea_local.folder import DataFolder
from odea_local.leftovers import end_leftovers
from odea_local.logfile import LogFile
from odea_local.process import adopt_orphans, reap_orphans
from odea_local.recipe import DATABASE_SERVICES, DEMO, Recipe
from odea_local.status import Event, Journal, StackStatus, State
from odea_local.supervisor import Keeper, Service, run_to_end

INIT_WITHIN_S = 120.0
MIGRATE_WITHIN_S = 120.0
DEMO_WITHIN_S = 60.0
APPLY_WITHIN_S = 60.0


class Stack:
    """Start it once, stop it once; stopping is safe at any moment, also in the middle of a start that failed."""

    def __init__(self, recipe: Recipe, journal: Journal) -> None:
        self._recipe = recipe
        self._journal = journal
        self._keepers: list[Keeper] = []
        self._database_is_up = asyncio.Event()
        self._bus_is_up = asyncio.Event()

    async def start(self) -> None:
        """Start everything, side by side where nothing depends on the other; returns when all are ready.

        Raises:
            LocalError: something could not start; what runs already goes on until `stop`.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._start_database())
                group.create_task(self._start_bus())
                for name in DATABASE_SERVICES:
                    group.create_task(self._start_with_database(name))
                group.create_task(self._start_gateway())
                group.create_task(self._make_demo())
        except ExceptionGroup as failures:
            # The first failure cancelled the others; it is the one to tell.
            raise failures.exceptions[0] from None

    async def stop(self, hurry: asyncio.Event) -> None:
        """End everything in reverse order, each in order within its grace, or at once when there is a hurry."""
        order = {name: place for place, name in enumerate(self._names())}
        for keeper in sorted(self._keepers, key=lambda keeper: order[keeper.service.name], reverse=True):
            await keeper.stop(hurry)
        await asyncio.to_thread(end_leftovers, self._recipe.folder)
        reap_orphans()
        self._recipe.postgres.tidy()

    async def _start_database(self) -> None:
        postgres = self._recipe.postgres
        opened = await asyncio.to_thread(postgres.prepare)
        if opened:
            folders = ", ".join(map(str, opened))
            text = f"runs as its own user; gave others the search bit (o+x) on {folders}"
            self._journal.tell(Event(service="postgres", state=State.STARTING, text=text))
        if not postgres.is_initialised():
            self._journal.tell(Event(service="postgres", state=State.INITIALISING))
            await run_to_end("initdb", self._recipe.init_database(), self._log("postgres"), INIT_WITHIN_S)
            postgres.adopt()
        await self._keep(self._recipe.postgres_service())
        await roles.ensure(postgres, self._recipe.roles())
        self._database_is_up.set()

    async def _start_bus(self) -> None:
        self._recipe.nats.prepare()
        await self._keep(self._recipe.nats_service())
        self._bus_is_up.set()
        # Whoever needs the stream waits for it by itself.
        await run_to_end("the bus's stream", self._recipe.apply_bus(), self._log("nats"), APPLY_WITHIN_S)

    async def _start_with_database(self, name: str) -> None:
        await self._database_is_up.wait()
        self._journal.tell(Event(service=name, state=State.MIGRATING))
        await run_to_end(f"{name}'s migration", self._recipe.migrate(name), self._log(name), MIGRATE_WITHIN_S)
        await self._bus_is_up.wait()
        await self._keep(self._recipe.service(name))

    async def _start_gateway(self) -> None:
        await self._bus_is_up.wait()
        await self._keep(self._recipe.service(GATEWAY))

    async def _make_demo(self) -> None:
        # Started early, because it waits by itself until keys and quota answer, and its imports take a while.
        await self._bus_is_up.wait()
        await run_to_end("the demo tenant", self._recipe.demo(), self._log(DEMO), DEMO_WITHIN_S)

    async def _keep(self, service: Service) -> None:
        keeper = Keeper(service, self._log(service.name), self._journal)
        self._keepers.append(keeper)
        await keeper.start()

    def _log(self, name: str) -> LogFile:
        return LogFile(self._recipe.folder.logs / f"{name}.log")

    def _names(self) -> tuple[str, ...]:
        return tuple(service.name for service in self._journal.status.services)


def serve(folder: DataFolder, port: int, listener: Callable[[Event], None]) -> None:
    """Run a stack in this process until a signal ends it; returns when nothing of it is left.

    Args:
        folder: where it lives.
        port: the gateway's; 0 takes a free one and remembers it.
        listener: hears of every event, on the event loop, so it must not block.

    Raises:
        AlreadyRunningError: a stack runs in this folder.
        LocalError: it could not start, or was stopped before it was ready.
        OSError: the folder cannot be used, or has no room.
    """
    folder.prepare()
    with folder.hold():
        adopt_orphans()
        end_leftovers(folder)
        recipe = _recipe(folder, port)
        status = StackStatus(
            state=State.STARTING,
            url=recipe.url,
            pid=os.getpid(),
            since_ms=time.time_ns() // 1_000_000,
            services=recipe.statuses(),
        )
        asyncio.run(_run(recipe, Journal(folder, status, listener)))


async def _run(recipe: Recipe, journal: Journal) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    stack = Stack(recipe, journal)
    began = time.monotonic()
    journal.tell(Event(state=State.STARTING, text=recipe.url))
    starting, stopping = asyncio.create_task(stack.start()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        _check_started(starting)
        journal.tell(Event(state=State.READY, text=f"in {time.monotonic() - began:.1f} s", url=recipe.url))
        await stop.wait()
    except LocalError as error:
        journal.tell(Event(state=State.FAILED, text=str(error)))
        raise
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        stop.set()
        journal.tell(Event(state=State.STOPPING))
        await stack.stop(hurry)
        journal.tell(Event(state=State.STOPPED))


def _check_started(starting: asyncio.Task[None]) -> None:
    if not starting.done():
        raise LocalError("stopped before it was ready.")
    starting.result()


def _recipe(folder: DataFolder, port: int) -> Recipe:
    chosen = ports.claim(folder.ports, avoid=port)
    if port and not ports.is_free(port):
        raise LocalError(f"port {port} is taken by another program. Choose another one with --port.")
    return Recipe.of(folder, port or chosen.gateway, chosen, credentials.load_or_create(folder.credentials))
