"""The composition root: what the synth service is made of, and in which order it starts and stops."""

import asyncio
import time
from contextlib import AsyncExitStack

from odea_contracts import subjects
from odea_runtime.background import running, unless
from odea_runtime.bus import Bus
from odea_runtime.health import OpsServer
from odea_runtime.postgres import Database
from odea_runtime.serving import request_router
from odea_runtime.streams import Streams
from odea_runtime.tasks import Tasks
from odea_synth.handlers import Handlers
from odea_synth.metering import Meter
from odea_synth.providers.base import Provider
from odea_synth.providers.piper import PiperOptions, PiperProvider
from odea_synth.request_log import RequestLog
from odea_synth.settings import SynthSettings
from odea_synth.speaking import Speaker
from odea_synth.store import RequestStore
from odea_synth.synthesis import Catalogue


async def serve(settings: SynthSettings, stop: asyncio.Event) -> None:
    """Serve with Piper until `stop` is set."""
    await serve_provider(PiperProvider(_piper_options(settings)), settings, stop)


async def serve_provider(provider: Provider, settings: SynthSettings, stop: asyncio.Event) -> None:
    """Serve with `provider` until `stop` is set.

    Started from the inside out: voices, pool, streams, then the subjects. Stopped from the outside in: no new requests,
    speeches in hand finish and are settled, the log is written, then bus, pool and voices end.
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
    router = request_router()
    bus = Bus(settings, subjects.SYNTH, router)
    streams = Streams(bus, settings)
    meter = Meter(bus, tasks, lease_s=settings.synth_lease_s, settle_wait_s=settings.synth_settle_wait_s)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(OpsServer(settings.ops_address, {"bus": bus.check, "database": database.check}))
        await provider.start()
        stack.push_async_callback(provider.close)
        catalogue = Catalogue(
            provider=provider, voices=await provider.voices(), created_at_ms=time.time_ns() // 1_000_000
        )
        await database.start()
        stack.push_async_callback(database.stop)
        speaker = Speaker(catalogue, meter, streams, log, settings)
        stack.callback(speaker.close)
        Handlers(speaker, catalogue, log).register(router, tasks)
        await stack.enter_async_context(running(log.run()))
        stack.push_async_callback(bus.stop)
        if not await unless(stop, bus.start(before=streams.start)):
            return
        stack.push_async_callback(streams.stop)
        await stack.enter_async_context(running(meter.run()))
        await stop.wait()
        await bus.stop_serving()
        await tasks.drain(settings.drain_s)
        await log.finish()


def _piper_options(settings: SynthSettings) -> PiperOptions:
    voices = tuple(name.strip() for name in settings.piper_voices.split(",") if name.strip())
    return PiperOptions(voices=voices, workers=settings.piper_workers, streams_max=settings.piper_streams_max)
