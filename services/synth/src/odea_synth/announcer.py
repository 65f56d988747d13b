"""Events for dashboards and followers. They are sent once, as things happen: what the bus cannot take then is lost."""

import time
from typing import Final

import nats.errors
import structlog

from odea_contracts import subjects
from odea_contracts.base import Message
from odea_contracts.synth import BreakerChanged, BreakerState, SpeechEvent
from odea_runtime.bus import Bus, BusError
from odea_runtime.ids import new_uuid
from odea_runtime.outbox import event_headers
from odea_runtime.tasks import Tasks
from odea_synth.routing.line import show_state

_SOURCE: Final = "odea/synth"
_FINISH_S: Final = 1.0


class Announcer:
    """Publishes the events of this process, in the background."""

    def __init__(self, bus: Bus, tasks: Tasks) -> None:
        self._bus = bus
        self._tasks = tasks

    def ended(self, event: SpeechEvent) -> None:
        """A speech has ended."""
        whole = event.outcome == "completed"
        self._tasks.start(self._publish(subjects.SYNTH_COMPLETED if whole else subjects.SYNTH_FAILED, event))

    def breaker_changed(self, provider: str, before: BreakerState, state: BreakerState) -> None:
        """A breaker is in another state."""
        structlog.get_logger().warning("a breaker changed", provider=provider, before=before, state=state)
        show_state(provider, state)
        event = BreakerChanged(provider=provider, before=before, state=state, at_ms=time.time_ns() // 1_000_000)
        self._tasks.start(self._publish(subjects.SYNTH_BREAKER_CHANGED, event))

    async def finish(self) -> None:
        """Wait for what is being sent."""
        await self._tasks.drain(_FINISH_S)

    async def _publish(self, subject: str, event: Message) -> None:
        try:
            await self._bus.publish(subject, event, headers=event_headers(subject, _SOURCE, new_uuid()))
        except (BusError, nats.errors.Error) as error:
            structlog.get_logger().debug("an event is lost", subject=subject, error=repr(error))
