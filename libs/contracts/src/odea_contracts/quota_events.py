"""Quota's events: the bodies that go to the stream of events, for billing and for whoever warns a tenant."""

from odea_contracts.base import HoldId, Id, Message, Milliseconds, RequestId
from odea_contracts.quota import Outcome


class ThresholdCrossed(Message):
    """The body of `quota.evt.threshold_crossed`: used units reached a soft limit, the first time in this window."""

    account_id: Id
    tenant_id: Id
    percent: int
    used: int
    limit: int
    window_ends_at_ms: Milliseconds | None
    at_ms: Milliseconds


class HoldEvent(Message):
    """The body of `quota.evt.settled`, `released` and `expired`: a hold's whole story, for billing."""

    hold_id: HoldId
    tenant_id: Id
    key_id: Id
    request_id: RequestId
    accounts: tuple[Id, ...]
    units_held: int
    units_settled: int
    at_ms: Milliseconds
    outcome: Outcome | None = None
    provider: str = ""
    model: str = ""
    voice: str = ""
    provider_units: int | None = None
    late: bool = False
