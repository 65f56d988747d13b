"""What a process sends to another's streams: all of the same turn of the event loop in one message.

A message costs whoever sends, carries and takes it more than what stands in it. Whoever knows no bundles gets each part
by itself. See ADR 0025.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec
import nats.errors

from odea_contracts.bundles import BUNDLE_BYTES_MAX, StreamPart
from odea_contracts.synth import HEADER_FRAME, HEADER_SEQ
from odea_runtime.bus import Bus

_PART_BYTES: Final = 512
"""More than stands around a body in its bundle."""
_ENCODER: Final = msgspec.msgpack.Encoder()


Lost: TypeAlias = Callable[[], None]


class _Bundle:
    """Parts that have not left yet, and who is told if they can't."""

    __slots__ = ("lost", "parts", "sending", "size_bytes", "to")

    def __init__(self, to: str) -> None:
        self.to: Final = to
        self.parts: Final[list[StreamPart]] = []
        self.lost: Final[list[Lost]] = []
        self.size_bytes = 0
        self.sending: asyncio.Task[None] | None = None


class Post:
    """Sends the parts of all streams of a process.

    Args:
        bus: connected before the first part is sent.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._open: dict[str, _Bundle] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._unsent_bytes = 0
        self.address = ""
        """Where others send bundles to us."""

    async def send(self, part: StreamPart, bundles_to: str, lost: Lost | None = None) -> None:
        """Send a part, to `bundles_to` if that is known. What is sent to one place arrives in the same order.

        Returns at once, unless the connection takes nothing for the moment: then when it does again. `lost` is called
        if the part could not be sent.
        """
        if not bundles_to:
            await self._send_alone(part, lost)
            return
        size_bytes = len(part.body) + _PART_BYTES
        bundle = self._open.get(bundles_to)
        if bundle is None or bundle.size_bytes + size_bytes > BUNDLE_BYTES_MAX:
            bundle = self._open[bundles_to] = _Bundle(bundles_to)
            bundle.sending = asyncio.create_task(self._send(bundle))
            self._sending.add(bundle.sending)
            bundle.sending.add_done_callback(self._sending.discard)
        bundle.parts.append(part)
        if lost:
            bundle.lost.append(lost)
        bundle.size_bytes += size_bytes
        self._unsent_bytes += size_bytes
        if bundle.sending and not self._bus.has_room(self._unsent_bytes):
            await asyncio.wait({bundle.sending})

    async def _send(self, bundle: _Bundle) -> None:
        # One that was full left its place to the next, which is closed with it: what comes now is sent after both.
        self._open.pop(bundle.to, None)
        self._unsent_bytes -= bundle.size_bytes
        try:
            await self._bus.client.publish(bundle.to, _ENCODER.encode(bundle.parts), reply=self.address)
        except Exception as error:  # noqa: BLE001 - nats-py says what its socket says; whatever it is, frames are lost
            self._bus.note_trouble(error)
            for lost in bundle.lost:
                lost()

    async def _send_alone(self, part: StreamPart, lost: Lost | None) -> None:
        headers = None
        if part.frame:
            headers = {HEADER_FRAME: part.frame, HEADER_SEQ: str(part.seq)} if part.seq else {HEADER_FRAME: part.frame}
        try:
            await self._bus.client.publish(part.to, part.body, reply=part.reply, headers=headers)
        except nats.errors.Error:
            if lost:
                lost()
                # What that interrupts is interrupted at the next turn of the loop.
                await asyncio.sleep(0)
