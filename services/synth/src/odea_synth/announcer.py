"""Events for dashboards and followers. They are sent once, as things happen: what the bus cannot take then is lost."""

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import Final

import nats.errors
import structlog

from odea_contracts import subjects
from odea_contracts.base import Message
from odea_contracts.synth import BreakerChanged, BreakerState, SpeechEvent
from odea_runtime.bus import Bus, BusError
from odea_runtime.ids import new_uuid
from odea_runtime.outbox import event_headers
from odea_runtime.patience import within
from odea_synth.routing.line import show_state

_SOURCE: Final = "odea/synth"
_FINISH_S: Final = 1.0


class Announcer:
    """Publishes the events of this process, in the background and in order.

    Args:
        bus: where they go.
        waiting_max: how many wait for the bus; one more is lost.
    """

    def __init__(self, bus: Bus, *, waiting_max: int) -> None:
        self._bus = bus
        self._waiting_max = waiting_max
        self._waiting: deque[tuple[str, Message]] = deque()
        self._wake = asyncio.Event()

    def ended(self, event: SpeechEvent) -> None:
        """A speech has ended."""
        whole = event.outcome == "completed"
        self._announce(subjects.SYNTH_COMPLETED if whole else subjects.SYNTH_FAILED, event)

    def breaker_changed(self, provider: str, before: BreakerState, state: BreakerState) -> None:
        """A breaker is in another state."""
        structlog.get_logger().warning("a breaker changed", provider=provider, before=before, state=state)
        show_state(provider, state)
        event = BreakerChanged(provider=provider, before=before, state=state, at_ms=time.time_ns() // 1_000_000)
        self._announce(subjects.SYNTH_BREAKER_CHANGED, event)

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._publish_all()

    async def finish(self) -> None:
        """Publish what still waits, within a second."""
        with suppress(TimeoutError), within(_FINISH_S):
            await self._publish_all()

    def _announce(self, subject: str, event: Message) -> None:
        if len(self._waiting) < self._waiting_max:
            self._waiting.append((subject, event))
            self._wake.set()

    async def _publish_all(self) -> None:
        while self._waiting:
            subject, event = self._waiting.popleft()
            try:
                await self._bus.publish(subject, event, headers=event_headers(subject, _SOURCE, new_uuid()))
            except (BusError, nats.errors.Error) as error:
                structlog.get_logger().debug("an event is lost", subject=subject, error=repr(error))
