"""The composition root: every part is made here, started and stopped in an order that loses nothing.

Start: the public socket is bound first, so that a taken port is said at once; then the operator's port, then HTTP, so
that a gateway without a bus answers 503 and not silence, then the bus.

Stop: `/readyz` says 503, for a while if the settings want it; HTTP takes no new connections and ends what is in hand,
which needs the bus; then streams, bus and at last the operator's port.
"""

import asyncio
from importlib.metadata import version
from inspect import getclosurevars

import msgspec
import structlog
from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.routes import HTTPRoute
from nats.aio.msg import Msg

from odea_contracts import subjects
from odea_contracts.keys import KeyEvent
from odea_gateway.accesslog import AccessLog
from odea_gateway.clients import Clients
from odea_gateway.documentation import EXPOSED, complete, openapi_config
from odea_gateway.edge import Edge
from odea_gateway.failures import FailureLimit
from odea_gateway.principals import Principals
from odea_gateway.problems import respond_to
from odea_gateway.pulse import Pulse
from odea_gateway.routes import HANDLERS
from odea_gateway.server import HttpServer
from odea_gateway.services import STATE, Services
from odea_gateway.settings import GatewaySettings, origins
from odea_gateway.speaking import Speaker
from odea_runtime.background import running
from odea_runtime.bus import UNREADABLE, Bus
from odea_runtime.health import OpsServer
from odea_runtime.streams import Streams

_log = structlog.get_logger()


class Gateway:
    """The whole gateway in one process. Making it binds both addresses.

    Raises:
        OSError: an address is taken, or not of this machine.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._draining = False
        self._bus = Bus(settings, "gateway")
        self._streams = Streams(self._bus, settings)
        clients = Clients(self._bus)
        self._principals = Principals(clients.verify, size_max=settings.key_cache_max, ttl_s=settings.key_cache_s)
        self._pulse = Pulse(
            self._round_trip,
            lambda: self._bus.connected,
            self._principals.forget_all,
            every_s=settings.bus_pulse_s,
        )
        services = Services(
            settings=settings,
            clients=clients,
            principals=self._principals,
            failures=FailureLimit(
                per_minute=settings.auth_failures_per_minute, addresses_max=settings.auth_failures_addresses_max
            ),
            speaker=Speaker(self._streams, settings),
        )
        self.edge = Edge(litestar(services), settings, AccessLog(settings))
        self.http = HttpServer(self.edge, settings)
        self.ops = OpsServer(settings.ops_address, {"draining": self._check_draining, "bus": self._bus.check})

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain.

        Raises:
            RuntimeError: the HTTP server ended by itself.
        """
        async with self.ops, running(self._pulse.run()):
            self.http.start()
            _log.info("serving", address=str(self.http.address), ops_port=self.ops.port)
            connecting = asyncio.create_task(self._connect())
            try:
                await self._until(stop, connecting)
            finally:
                self._draining = True
                await asyncio.sleep(self._settings.unready_s)
                await self.http.stop(self._settings.drain_s)
                await self._disconnect(connecting)

    async def _until(self, stop: asyncio.Event, connecting: asyncio.Task[None]) -> None:
        ends = {asyncio.create_task(stop.wait()), asyncio.create_task(self.http.failed())}
        try:
            done, _ = await asyncio.wait({*ends, connecting}, return_when=asyncio.FIRST_COMPLETED)
            if connecting in done:
                await connecting
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends:
                task.cancel()
        if not stop.is_set():
            raise RuntimeError("the HTTP server ended by itself")

    async def _connect(self) -> None:
        self._bus.on_lost(self._principals.forget_all)
        self._bus.on_back(self._principals.forget_all)
        await self._bus.start(self._listen)
        # What was remembered before the server had read the subscription may have changed unheard.
        self._principals.forget_all()

    async def _round_trip(self, within_s: float) -> None:
        async with asyncio.timeout(within_s):
            await self._bus.round_trip()

    async def _listen(self) -> None:
        await self._bus.client.subscribe(subjects.KEYS_CHANGED, cb=self._on_change)
        await self._streams.start()

    async def _disconnect(self, connecting: asyncio.Task[None]) -> None:
        if not connecting.done():
            connecting.cancel()
            return
        await self._streams.stop()
        await self._bus.stop()

    async def _on_change(self, message: Msg) -> None:
        try:
            self._principals.forget(msgspec.json.decode(message.data, type=KeyEvent))
        except UNREADABLE:
            _log.warning("a change of keys could not be read; all are forgotten")
            self._principals.forget_all()

    async def _check_draining(self) -> str | None:
        return "yes" if self._draining else None


def litestar(services: Services) -> Litestar:
    """The application without its outermost layer."""
    app = Litestar(
        route_handlers=HANDLERS,
        state=State({STATE: services}),
        exception_handlers={Exception: respond_to},
        openapi_config=openapi_config(version("odea-gateway")),
        cors_config=_cors(services.settings),
        logging_config=None,
        request_max_body_size=services.settings.body_bytes_max,
    )
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            _name_all_methods(route)
    complete(app.openapi_schema)
    # Building the document takes a quarter of a second, which no request should have to wait for.
    assert app.openapi_schema.paths
    return app


def _name_all_methods(route: HTTPRoute) -> None:
    """Let OPTIONS answer with all methods of a path: Litestar's names those alone that it met first."""
    options = route.route_handler_map["OPTIONS"][0]
    getclosurevars(options.fn).nonlocals["self"].methods = route.methods


def _cors(settings: GatewaySettings) -> CORSConfig | None:
    """Who may call from a browser. Never with cookies: a key is sent by whoever holds it, not by a browser for it."""
    allowed = origins(settings.cors_origins)
    if not allowed:
        return None
    return CORSConfig(
        allow_origins=allowed,
        allow_methods=["GET", "POST", "PUT", "PATCH"],
        allow_headers=["authorization", "content-type", "idempotency-key", "x-api-key", "x-request-id"],
        expose_headers=[*EXPOSED],
        max_age=600,
    )


async def serve(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Run the gateway until `stop` is set. Exits with status 1 if an address can't be had."""
    try:
        gateway = Gateway(settings)
    except OSError as error:
        _log.error("can't listen", why=str(error), gateway=str(settings.gateway_address), ops=str(settings.ops_address))
        raise SystemExit(1) from None
    await gateway.run(stop)
