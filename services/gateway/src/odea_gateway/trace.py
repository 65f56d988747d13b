"""What is known of a request while it is served: for its log line, its metrics and its answer."""

from dataclasses import dataclass
from typing import Any, Final, cast

from litestar.types import Scope

from odea_gateway.addresses import Address

_KEY: Final = "odea.trace"


@dataclass(slots=True, kw_only=True)
class Trace:
    """One request. Filled in as the request goes on.

    Attributes:
        request_id: the client's if it was well-formed, else made here.
        began: by `time.perf_counter`.
        address: where it comes from.
        status: of the answer; 0 until it has begun.
        code: of the failure, if it ended in one.
        outcome: how a body that had begun came to its end, if it was not whole.
    """

    request_id: str
    began: float
    address: Address
    status: int = 0
    tenant_id: str | None = None
    key_id: str | None = None
    code: str | None = None
    outcome: str | None = None


def put_trace(scope: Scope, trace: Trace) -> None:
    """Attach `trace` to the request."""
    cast("dict[str, Any]", scope)[_KEY] = trace


def trace_of(scope: Scope) -> Trace:
    """The trace of the request."""
    return cast("dict[str, Any]", scope)[_KEY]
