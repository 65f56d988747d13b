"""Every subject, stream and queue group. No other module of the project holds such a literal."""

from typing import Final

STREAM_EVENTS: Final = "ODEA_EVENTS"
SUBJECTS_EVENTS: Final = "odea.v1.*.evt.>"


def dead_letters(service: str) -> str:
    """Where events go that a service could not handle."""
    return f"odea.v1.{service}.evt.dead_lettered"


KEYS: Final = "keys"
QUOTA: Final = "quota"
SYNTH: Final = "synth"

KEYS_VERIFY: Final = "odea.v1.keys.verify"
KEYS_ISSUE: Final = "odea.v1.keys.issue"
KEYS_ROTATE: Final = "odea.v1.keys.rotate"
KEYS_REVOKE: Final = "odea.v1.keys.revoke"
KEYS_GET: Final = "odea.v1.keys.get"
KEYS_LIST: Final = "odea.v1.keys.list"
KEYS_UPDATE: Final = "odea.v1.keys.update"
KEYS_TENANT_CREATE: Final = "odea.v1.keys.tenant_create"
KEYS_TENANT_GET: Final = "odea.v1.keys.tenant_get"
KEYS_TENANT_LIST: Final = "odea.v1.keys.tenant_list"
KEYS_TENANT_UPDATE: Final = "odea.v1.keys.tenant_update"
KEYS_TENANT_SUSPEND: Final = "odea.v1.keys.tenant_suspend"
KEYS_TENANT_RESUME: Final = "odea.v1.keys.tenant_resume"
KEYS_AUDIT_LIST: Final = "odea.v1.keys.audit_list"

KEYS_ISSUED: Final = "odea.v1.keys.evt.issued"
KEYS_UPDATED: Final = "odea.v1.keys.evt.updated"
KEYS_ROTATED: Final = "odea.v1.keys.evt.rotated"
KEYS_REVOKED: Final = "odea.v1.keys.evt.revoked"
KEYS_SUSPENDED: Final = "odea.v1.keys.evt.suspended"
KEYS_RESUMED: Final = "odea.v1.keys.evt.resumed"
KEYS_TENANT_CREATED: Final = "odea.v1.keys.evt.tenant_created"
KEYS_TENANT_UPDATED: Final = "odea.v1.keys.evt.tenant_updated"
KEYS_EVENTS: Final = "odea.v1.keys.evt.>"

KEYS_CHANGED: Final = "odea.v1.keys.changed"
"""Core NATS, at once and to everybody: a cache of keys may be wrong now. The durable event follows by the outbox."""

QUOTA_RESERVE: Final = "odea.v1.quota.reserve"
QUOTA_SETTLE: Final = "odea.v1.quota.settle"
QUOTA_RELEASE: Final = "odea.v1.quota.release"
QUOTA_EXTEND: Final = "odea.v1.quota.extend"
QUOTA_USAGE: Final = "odea.v1.quota.usage"
QUOTA_PLAN_SET: Final = "odea.v1.quota.plan_set"
QUOTA_PLAN_GET: Final = "odea.v1.quota.plan_get"
QUOTA_PLAN_LIST: Final = "odea.v1.quota.plan_list"
QUOTA_ACCOUNT_SET: Final = "odea.v1.quota.account_set"
QUOTA_ACCOUNT_GET: Final = "odea.v1.quota.account_get"
QUOTA_ACCOUNT_SUSPEND: Final = "odea.v1.quota.account_suspend"
QUOTA_ACCOUNT_RESUME: Final = "odea.v1.quota.account_resume"
QUOTA_TOP_UP: Final = "odea.v1.quota.top_up"
QUOTA_USAGE_SERIES: Final = "odea.v1.quota.usage_series"

QUOTA_SETTLED: Final = "odea.v1.quota.evt.settled"
QUOTA_RELEASED: Final = "odea.v1.quota.evt.released"
QUOTA_EXPIRED: Final = "odea.v1.quota.evt.expired"
QUOTA_THRESHOLD_CROSSED: Final = "odea.v1.quota.evt.threshold_crossed"
DURABLE_QUOTA_TENANTS: Final = "quota_tenants"
DURABLE_QUOTA_KEYS: Final = "quota_keys"

SYNTH_SPEAK: Final = "odea.v1.synth.speak"
SYNTH_VOICES: Final = "odea.v1.synth.voices"
SYNTH_MODELS: Final = "odea.v1.synth.models"
SYNTH_REQUESTS_LIST: Final = "odea.v1.synth.requests_list"

SYNTH_COMPLETED: Final = "odea.v1.synth.evt.completed"
SYNTH_FAILED: Final = "odea.v1.synth.evt.failed"
SYNTH_BREAKER_CHANGED: Final = "odea.v1.synth.evt.breaker_changed"
