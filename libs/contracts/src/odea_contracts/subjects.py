"""Every subject, stream and queue group. No other module of the project holds such a literal."""

import re
from typing import Final

STREAM_EVENTS: Final = "ODEA_EVENTS"
SUBJECTS_EVENTS: Final = "odea.v1.*.evt.>"


def dead_letters(service: str) -> str:
    """Where events go that a service could not handle."""
    return f"odea.v1.{service}.evt.dead_lettered"


GATEWAY: Final = "gateway"
KEYS: Final = "keys"
QUOTA: Final = "quota"
SYNTH: Final = "synth"
OPERATOR: Final = "operator"
"""Whoever administers from the command line."""
INSTALLER: Final = "installer"
"""Whoever makes the stream of events and its consumers, before the services start, or puts them back from a copy."""
BACKUP: Final = "backup"
"""Whoever copies the stream of events away."""

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
QUOTA_WRITE_OFF: Final = "odea.v1.quota.write_off"
QUOTA_USAGE: Final = "odea.v1.quota.usage"
QUOTA_PLAN_SET: Final = "odea.v1.quota.plan_set"
QUOTA_PLAN_GET: Final = "odea.v1.quota.plan_get"
QUOTA_PLAN_LIST: Final = "odea.v1.quota.plan_list"
QUOTA_ACCOUNT_SET: Final = "odea.v1.quota.account_set"
QUOTA_ACCOUNT_GET: Final = "odea.v1.quota.account_get"
QUOTA_ACCOUNT_SUSPEND: Final = "odea.v1.quota.account_suspend"
QUOTA_ACCOUNT_RESUME: Final = "odea.v1.quota.account_resume"
QUOTA_TOP_UP: Final = "odea.v1.quota.top_up"
QUOTA_CARRY_OVER: Final = "odea.v1.quota.carry_over"
QUOTA_USAGE_SERIES: Final = "odea.v1.quota.usage_series"
QUOTA_AUDIT_LIST: Final = "odea.v1.quota.audit_list"

QUOTA_SETTLED: Final = "odea.v1.quota.evt.settled"
QUOTA_RELEASED: Final = "odea.v1.quota.evt.released"
QUOTA_EXPIRED: Final = "odea.v1.quota.evt.expired"
QUOTA_WRITTEN_OFF: Final = "odea.v1.quota.evt.written_off"
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


def is_of(service: str, subject: str) -> bool:
    """Whether a subject is one of a service's own."""
    return subject.startswith(f"odea.v1.{service}.")


def inbox_prefix(user: str) -> str:
    """Below it are the inboxes for replies to a user of the bus; nobody else may listen or publish there at will."""
    return f"_INBOX_{user}"


def streams_prefix(user: str) -> str:
    """Below it a user sends and receives audio streams.

    Apart from the inboxes, because whoever streams with a user may publish here as it likes, and must not be able to
    forge a reply.
    """
    return f"_STREAM_{user}"


_ADDRESS_CHARS_MAX: Final = 256
_ADDRESS: Final = re.compile(r"_(?:INBOX|STREAM_)[!-)+\-/-=?-~]*(?:\.[!-)+\-/-=?-~]+)*")
"""Tokens of printable ASCII without wildcards."""


def is_reply_address(subject: str) -> bool:
    """Whether an answer may go there.

    A request that names any other subject would have its answer taken for a request. One that is no subject at all, or
    longer than the server reads, would cost whoever answers its connection.
    """
    return len(subject) <= _ADDRESS_CHARS_MAX and _ADDRESS.fullmatch(subject) is not None


def is_same_user(address: str, other: str) -> bool:
    """Whether two reply addresses are one user's."""
    return address.partition(".")[0] == other.partition(".")[0]


STREAM_INFO: Final = f"$JS.API.STREAM.INFO.{STREAM_EVENTS}"
STREAM_CREATE: Final = f"$JS.API.STREAM.CREATE.{STREAM_EVENTS}"
STREAM_UPDATE: Final = f"$JS.API.STREAM.UPDATE.{STREAM_EVENTS}"
STREAM_DELETE: Final = f"$JS.API.STREAM.DELETE.{STREAM_EVENTS}"
STREAM_SNAPSHOT: Final = f"$JS.API.STREAM.SNAPSHOT.{STREAM_EVENTS}"
STREAM_RESTORE: Final = f"$JS.API.STREAM.RESTORE.{STREAM_EVENTS}"
SNAPSHOT_PIECES_TAKEN: Final = f"$JS.SNAPSHOT.ACK.{STREAM_EVENTS}.>"
"""Acknowledges pieces of a copy."""
RESTORE_PIECES: Final = f"$JS.SNAPSHOT.RESTORE.{STREAM_EVENTS}.>"
"""Hands the server the pieces of a copy."""
CONSUMERS_CREATE: Final = f"$JS.API.CONSUMER.CREATE.{STREAM_EVENTS}.>"
CONSUMERS_INFO: Final = f"$JS.API.CONSUMER.INFO.{STREAM_EVENTS}.>"


def consumer_info(durable: str) -> str:
    """Asks how a durable consumer of the events stands."""
    return f"$JS.API.CONSUMER.INFO.{STREAM_EVENTS}.{durable}"


def consumer_next(durable: str) -> str:
    """Asks for the next events of a durable consumer."""
    return f"$JS.API.CONSUMER.MSG.NEXT.{STREAM_EVENTS}.{durable}"


def consumer_acknowledge(durable: str) -> str:
    """Acknowledges what a durable consumer has delivered."""
    return f"$JS.ACK.{STREAM_EVENTS}.{durable}.>"
