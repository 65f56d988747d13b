"""Granian inside our own event loop, on a socket of our own making.

Our own socket, since Granian would share the port with any other process that asks for it (SO_REUSEPORT) instead of
failing, takes no host names and does not say which port it got. And since connections inherit its options, the kernel
closes one whose client has taken nothing for too long: the server can't, as long as there is something left to send.
"""

import asyncio
import resource
import socket
import sys
from collections.abc import Callable
from typing import Any, Final, cast

import structlog
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server
from litestar.types import ASGIApp

from odea_gateway.settings import GatewaySettings
from odea_runtime.settings import Address

_log = structlog.get_logger()
_UNSENT_BYTES: Final = 64 * 1024
"""What the kernel may hold of a connection that is not yet on its way, so that a slow client is felt early."""
_OTHER_FILES: Final = 64
"""Files that are no connections: the bus, logs, the operator's port."""
_REAP_AFTER_STALL_S: Final = 5.0
_adopt: Final = cast("Callable[[int, bool, int], SocketHolder]", SocketHolder)
"""Its stub leaves out what it is made of: a file descriptor, whether it is a Unix socket, the backlog."""


class HttpServer:
    """Serves an application from `start` until `stop`.

    Args:
        app: an ASGI application without a lifespan.
        settings: the address and the bounds.
    """

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._socket = _listen(settings)
        host, port = self._socket.getsockname()[:2]
        self.address: Final = Address(host, port)
        self._server = _Embedded(app, self._socket, settings)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Accept connections."""
        self._task = asyncio.create_task(self._server.serve(), name="http")

    async def failed(self) -> None:
        """Wait until the server ends by itself, which is a fault."""
        if self._task:
            await asyncio.wait({self._task})

    async def stop(self, drain_s: float) -> None:
        """Refuse new connections, let requests in hand end within `drain_s`, then give up on the rest."""
        if self._task is None or self._task.done():
            return
        self._server.stop()
        _, late = await asyncio.wait({self._task}, timeout=drain_s)
        if late:
            _log.warning("requests were still in hand at the end of the drain")
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=1.0)


class _Embedded(Server):
    """Granian's server, listening on a socket that it is given."""

    def __init__(self, app: ASGIApp, listener: socket.socket, settings: GatewaySettings) -> None:
        super().__init__(
            app,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            backlog=settings.backlog,
            backpressure=_affordable(settings.connections_max),
            http1_settings=HTTP1Settings(
                header_read_timeout=round(settings.silent_s * 1000),
                max_buffer_size=settings.connection_buffer_bytes,
            ),
            log_enabled=False,
            log_level=LogLevels.error,
            log_access=False,
        )
        self._listener = listener
        self._listener_backlog = settings.backlog

    def _init_shared_socket(self) -> None:
        self._shd: Any = _adopt(self._listener.detach(), False, self._listener_backlog)


def _affordable(connections_max: int) -> int:
    """As many connections as this process may have files open: at the limit, accepting would fail in a busy loop."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections_max + _OTHER_FILES
    if soft < wanted and (hard == resource.RLIM_INFINITY or soft < hard):
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if wanted <= soft:
        return connections_max
    _log.warning("fewer connections than set: the limit of open files is low", files=soft, connections=connections_max)
    return max(1, soft - _OTHER_FILES)


def _listen(settings: GatewaySettings) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: the address is taken or not ours.
    """
    host, port = settings.gateway_address
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            patience_ms = round((settings.client_stall_s + _REAP_AFTER_STALL_S) * 1000)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience_ms)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        listener.bind(where)
        # Now, not when Granian does: a port that another one listens on is ours to report.
        listener.listen(settings.backlog)
    except OSError:
        listener.close()
        raise
    return listener
