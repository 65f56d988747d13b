"""The routing file on disk: read at the start, and again whenever it changes or the process gets SIGHUP.

A file that can't be used changes nothing: what is in force stays, the faults are logged and a metric says so.
"""

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import structlog
from prometheus_client import Counter, Gauge

from odea_synth.providers.base import ProviderError
from odea_synth.routing.reading import RoutingError, RoutingPlan, read_routing
from odea_synth.routing.switchboard import Switchboard

_Stamp: TypeAlias = tuple[int, int, int] | None

_RELOADS = Counter("odea_synth_routing_reloads_total", "Routing files that were read while serving", ["outcome"])
_GOOD = Gauge("odea_synth_routing_good", "1 if the routing file as it is now is in force, 0 if it can't be used")


def heed_no_reload() -> None:
    """Let SIGHUP do nothing, where by itself it ends a process: who asks to read anew does not ask to stop."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


class RoutingFile:
    """Watches one file.

    Args:
        path: of the file.
        environ: where credentials are looked up.
        every_s: how often it is looked at.
    """

    def __init__(self, path: Path, environ: Mapping[str, str], *, every_s: float) -> None:
        self._path = path
        self._environ = environ
        self._every_s = every_s
        self._seen: _Stamp = None
        self._asked = asyncio.Event()

    async def read(self) -> RoutingPlan:
        """The plan that it describes.

        Raises:
            RoutingError: it can't be read, or can't be used.
        """
        self._seen = await asyncio.to_thread(self._stamp)
        try:
            text = await asyncio.to_thread(self._path.read_text, "utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RoutingError(f"{self._path}: cannot be read: {type(error).__name__}") from None
        return read_routing(text, self._environ, where=str(self._path))

    async def follow(self, switchboard: Switchboard) -> None:
        """Put every good change in force, until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._asked.set)
        _GOOD.set(1)
        try:
            while True:
                await self._changed()
                await self._reload(switchboard)
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            heed_no_reload()

    async def _changed(self) -> None:
        while not self._asked.is_set() and await asyncio.to_thread(self._stamp) == self._seen:
            try:
                async with asyncio.timeout(self._every_s):
                    await self._asked.wait()
            except TimeoutError:
                continue
        self._asked.clear()

    async def _reload(self, switchboard: Switchboard) -> None:
        try:
            await switchboard.apply(await self.read())
        except (RoutingError, ProviderError) as error:
            detail = error.detail if isinstance(error, ProviderError) else ""
            structlog.get_logger().error("the routing file is not used", faults=str(error).splitlines(), detail=detail)
            _RELOADS.labels("refused").inc()
            _GOOD.set(0)
        else:
            structlog.get_logger().info("the routing file is in force", path=str(self._path))
            _RELOADS.labels("applied").inc()
            _GOOD.set(1)

    def _stamp(self) -> _Stamp:
        """What changes when the file does; also when it is a link that comes to point elsewhere, as in a ConfigMap."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size
