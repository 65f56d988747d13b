"""The composition root: what the synth service is made of, and in which order it starts and stops."""

import asyncio
import importlib.util
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog
from faststream.nats import NatsRouter

from odea_contracts import subjects
from odea_runtime.background import running, unless
from odea_runtime.bus import Bus
from odea_runtime.health import OpsServer
from odea_runtime.postgres import Database
from odea_runtime.streams import Streams
from odea_runtime.tasks import Tasks
from odea_synth.announcer import Announcer
from odea_synth.handlers import Handlers
from odea_synth.metering import Meter
from odea_synth.request_log import RequestLog
from odea_synth.routing.building import Lines, MakeProvider, make_provider
from odea_synth.routing.config import PiperConfig
from odea_synth.routing.file import RoutingFile
from odea_synth.routing.reading import RoutingPlan
from odea_synth.routing.standard import MINIMAX_KEY, standard_plan
from odea_synth.routing.switchboard import Switchboard
from odea_synth.settings import SynthSettings
from odea_synth.speaking import Speaker
from odea_synth.store import RequestStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the plan of providers and models comes from.

    Attributes:
        plan: in force from the start.
        file: followed from then on, if there is one.
    """

    plan: RoutingPlan
    file: RoutingFile | None = None


async def serve(settings: SynthSettings, environ: Mapping[str, str], stop: asyncio.Event) -> None:
    """Serve as the routing file says, or without one with the standard routing, until `stop` is set.

    Raises:
        RoutingError: the file can't be used.
    """
    await serve_routing(await _source(settings, environ), settings, stop)


async def serve_routing(
    source: Source, settings: SynthSettings, stop: asyncio.Event, make: MakeProvider = make_provider
) -> None:
    """Serve with the providers of `source` until `stop` is set.

    Started from the inside out: pool, providers, streams, then the subjects. Stopped from the outside in: no new
    requests, speeches in hand finish and are settled, the log is written, then bus, providers and pool end.
    """
    database = Database(settings, "odea_synth", "synth")
    log = RequestLog(
        RequestStore(database),
        queue_max=settings.synth_log_queue_max,
        pause_s=settings.synth_log_pause_s,
        retention_days=settings.synth_log_retention_days,
        looked_max=settings.synth_log_looked_max,
    )
    tasks = Tasks(settings.tasks_max)
    router = NatsRouter()
    bus = Bus(settings, subjects.SYNTH, router)
    streams = Streams(bus, settings)
    meter = Meter(
        bus,
        tasks,
        lease_s=settings.synth_lease_s,
        settle_wait_s=settings.synth_settle_wait_s,
        write_off_s=settings.synth_write_off_s,
    )
    announcer = Announcer(bus, waiting_max=settings.synth_events_max)
    lines = Lines(database, announcer.breaker_changed, settings, make)
    switchboard = Switchboard(
        lines.open, retire_s=settings.synth_routing_retire_s, voices_every_s=settings.synth_voices_s
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(OpsServer(settings.ops_address, {"bus": bus.check, "database": database.check}))
        await database.start()
        stack.push_async_callback(database.stop)
        stack.push_async_callback(switchboard.close)
        await switchboard.apply(source.plan)
        speaker = Speaker(switchboard, meter, streams, settings, log=log, announcer=announcer)
        stack.callback(speaker.close)
        Handlers(speaker, switchboard, log).register(router, tasks)
        await stack.enter_async_context(running(log.run()))
        await stack.enter_async_context(running(switchboard.run()))
        if source.file:
            await stack.enter_async_context(running(source.file.follow(switchboard)))
        stack.push_async_callback(bus.stop)
        if not await unless(stop, bus.start(before=streams.start)):
            return
        stack.push_async_callback(streams.stop)
        await stack.enter_async_context(running(meter.run()))
        await stack.enter_async_context(running(announcer.run()))
        structlog.get_logger().info("serving")
        await stop.wait()
        await bus.stop_serving()
        await tasks.drain(settings.drain_s)
        await announcer.finish()
        await log.finish()


async def _source(settings: SynthSettings, environ: Mapping[str, str]) -> Source:
    if settings.synth_routing_file:
        file = RoutingFile(settings.synth_routing_file, environ, every_s=settings.synth_routing_watch_s)
        return Source(plan=await file.read(), file=file)
    voices = tuple(name.strip() for name in settings.piper_voices.split(",") if name.strip())
    piper = PiperConfig(
        kind="piper", voices=voices, workers=settings.piper_workers, streams_max=settings.piper_streams_max
    )
    # Piper is an optional extra: MiniMax alone is fine, nothing at all is a fault that Piper's own start explains.
    boxed = not environ.get(MINIMAX_KEY) or importlib.util.find_spec("piper") is not None
    return Source(plan=standard_plan(environ, piper if boxed else None))
