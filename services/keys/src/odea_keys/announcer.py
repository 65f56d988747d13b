"""Tells the bus of a change as soon as it is committed; what it cannot tell, the outbox tells later."""

import nats.errors
import structlog

from odea_contracts.keys import KeyEvent
from odea_contracts.subjects import KEYS_CHANGED
from odea_runtime.bus import Bus, DisconnectedError
from odea_runtime.outbox import Outbox


class Announcer:
    """Publishes `keys.changed` and wakes the outbox."""

    def __init__(self, bus: Bus, outbox: Outbox) -> None:
        self._bus = bus
        self._outbox = outbox
        self._log = structlog.get_logger()

    def committed(self) -> None:
        """An event is in the outbox."""
        self._outbox.wake()

    async def changed(self, event: KeyEvent) -> None:
        """Keys that were good may be bad now, or the other way round: every cache of keys hears it now (P5).

        Published also when a repeated request changed nothing, because the first one may have died before this point.
        """
        self._outbox.wake()
        try:
            await self._bus.publish(KEYS_CHANGED, event)
        except (DisconnectedError, nats.errors.Error) as error:
            self._log.warning(
                "caches hear of a change by the outbox only", tenant_id=event.tenant_id, error=repr(error)
            )
