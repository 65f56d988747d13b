"""The audio stream on the bus, both ends: ordered frames one way, credit the other, whole or visibly broken.

Core NATS drops what a slow subscriber can't take, silently. So the sender never has more frames under way than the
receiver granted, frames are numbered, and the tail carries what must have arrived (P4). Both ends give signs of life,
so that each hears within seconds of the other's death.
"""

from odea_runtime.streams.base import (
    CancelledByReceiverError,
    Receiver,
    RefusedError,
    StreamBrokenError,
    StreamSettings,
)
from odea_runtime.streams.hub import Streams
from odea_runtime.streams.incoming import IncomingStream
from odea_runtime.streams.outgoing import OutgoingStream
from odea_runtime.streams.serving import serve_streams

__all__ = [
    "CancelledByReceiverError",
    "IncomingStream",
    "OutgoingStream",
    "Receiver",
    "RefusedError",
    "StreamBrokenError",
    "StreamSettings",
    "Streams",
    "serve_streams",
]
