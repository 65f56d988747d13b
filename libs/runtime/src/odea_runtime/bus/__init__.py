"""The bus: one connection to NATS a process, and typed calls over it. Answering is in `serving`."""

from odea_runtime.bus.calls import BUCKETS_S, Bus
from odea_runtime.bus.errors import (
    UNREADABLE,
    BadReplyError,
    BusError,
    CallTimeoutError,
    DisconnectedError,
    NoRespondersError,
    UnavailableError,
)

__all__ = [
    "BUCKETS_S",
    "UNREADABLE",
    "BadReplyError",
    "Bus",
    "BusError",
    "CallTimeoutError",
    "DisconnectedError",
    "NoRespondersError",
    "UnavailableError",
]
