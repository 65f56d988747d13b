"""Everything that crosses the bus, listed once: for the documents, the tests and whoever grants permissions."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from odea_contracts import audit, keys, plans, quota, quota_events, requests, subjects, synth, tenants, writeoffs
from odea_contracts.base import Endpoint, Message

ENDPOINTS: Final[tuple[Endpoint[Any, Any], ...]] = tuple(
    value
    for module in (keys, tenants, audit, plans, quota, writeoffs, synth, requests)
    for value in vars(module).values()
    if isinstance(value, Endpoint)
)
"""Every request/reply subject, in the order of its definition."""

EVENTS: Final[Mapping[str, type[Message]]] = MappingProxyType(
    {
        subjects.KEYS_TENANT_CREATED: tenants.TenantEvent,
        subjects.KEYS_TENANT_UPDATED: tenants.TenantEvent,
        subjects.KEYS_SUSPENDED: tenants.TenantEvent,
        subjects.KEYS_RESUMED: tenants.TenantEvent,
        subjects.KEYS_ISSUED: keys.KeyEvent,
        subjects.KEYS_UPDATED: keys.KeyEvent,
        subjects.KEYS_ROTATED: keys.KeyEvent,
        subjects.KEYS_REVOKED: keys.KeyEvent,
        subjects.QUOTA_SETTLED: quota_events.HoldEvent,
        subjects.QUOTA_RELEASED: quota_events.HoldEvent,
        subjects.QUOTA_EXPIRED: quota_events.HoldEvent,
        subjects.QUOTA_WRITTEN_OFF: writeoffs.WriteOffEvent,
        subjects.QUOTA_THRESHOLD_CROSSED: quota_events.ThresholdCrossed,
        subjects.SYNTH_COMPLETED: synth.SpeechEvent,
        subjects.SYNTH_FAILED: synth.SpeechEvent,
        subjects.SYNTH_BREAKER_CHANGED: synth.BreakerChanged,
    }
)
"""The durable events of the stream, and what their bodies are."""

NOTICES: Final[Mapping[str, type[Message]]] = MappingProxyType({subjects.KEYS_CHANGED: keys.KeyEvent})
"""What is told at once to whoever listens, and lost on who does not."""
