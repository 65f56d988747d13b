"""`/livez`, `/readyz` and `/metrics` on a port of their own, served from a thread.

A thread, so that a blocked event loop shows: `/livez` asks the loop to do one turn and fails if it does not.
"""

import asyncio
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Self

import structlog
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from odea_runtime.settings import Address

Check = Callable[[], Awaitable[str | None]]
"""Says what is wrong, or `None`."""

_ANSWER_S = 1.0
_CHECK_S = 0.7
"""Less than the answer may take, so that a check that hangs is not taken for a loop that does."""
_POLL_S = 0.1


class OpsServer:
    """Serves health and metrics while it is open.

    Args:
        address: where to listen; port 0 takes a free one, see `port`.
        checks: by name, what must hold for the service to be ready. They run on the event loop.
    """

    def __init__(self, address: Address, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._loop = asyncio.get_running_loop()
        ops = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                status, kind, body = ops._answer(self.path.partition("?")[0], self.headers.get("Accept", ""))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature is the library's
                """Probes come every few seconds; they are not worth a line."""

        self._server = _Server(address, Handler)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.server_port

    async def __aenter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), name="ops", daemon=True).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._server.shutdown)
        self._server.server_close()

    def _answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        match path:
            case "/livez":
                return self._ask({}, "alive")
            case "/readyz":
                return self._ask(self._checks, "ready")
            case "/metrics":
                encode, kind = choose_encoder(accept)
                return 200, kind, encode(REGISTRY)
            case _:
                return 404, "text/plain", b"not found\n"

    def _ask(self, checks: Mapping[str, Check], good: str) -> tuple[int, str, bytes]:
        future = asyncio.run_coroutine_threadsafe(_faults(checks), self._loop)
        try:
            faults = future.result(_ANSWER_S)
        except TimeoutError:
            future.cancel()
            faults = ["the event loop does not answer"]
        body = "\n".join(faults) if faults else good
        return (503 if faults else 200), "text/plain; charset=utf-8", f"{body}\n".encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: Address, handler: type[BaseHTTPRequestHandler]) -> None:
        self._host = address.host
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        super().__init__((address.host, address.port), handler)

    def server_bind(self) -> None:
        """Without asking the name service who we are, which the library does and which can take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self._host, self.socket.getsockname()[1]

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the library's signature
        """A prober that hung up is no news; anything else belongs in the log, not raw on stderr."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            structlog.get_logger().exception("a health request failed")


async def _faults(checks: Mapping[str, Check]) -> list[str]:
    found = await asyncio.gather(*(_fault(check) for check in checks.values()))
    return [f"{name}: {fault}" for name, fault in zip(checks, found, strict=True) if fault]


async def _fault(check: Check) -> str | None:
    try:
        async with asyncio.timeout(_CHECK_S):
            return await check()
    except TimeoutError:
        return "no answer in time"
    except Exception:  # noqa: BLE001 - one broken check must not hide what the others say
        structlog.get_logger().exception("a check failed")
        return "the check itself failed"
