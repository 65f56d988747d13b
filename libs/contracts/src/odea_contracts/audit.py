"""The audit on the bus: who changed what, when and from where. Rows are added, never changed.

Keys has the changes of tenants and keys, quota those of plans and accounts. Both speak the same words, so that a reader
can have them as one list.
"""

from enum import StrEnum
from typing import Final, TypeAlias

from msgspec import UNSET, UnsetType

from odea_contracts import subjects
from odea_contracts.base import Cursor, Endpoint, HoldId, Id, Message, Milliseconds, Name, Origin, PageSize, Units
from odea_contracts.errors import Failure
from odea_contracts.keys import Cidr, PublicId, Scope
from odea_contracts.plans import NamedLimits, Overrides


class AuditAction(StrEnum):
    """The changes that there are: first those of keys, each told to the bus as the event of its name, then quota's."""

    TENANT_CREATED = "tenant_created"
    TENANT_UPDATED = "tenant_updated"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    ISSUED = "issued"
    UPDATED = "updated"
    ROTATED = "rotated"
    REVOKED = "revoked"
    PLAN_SET = "plan_set"
    ACCOUNT_SET = "account_set"
    ACCOUNT_SUSPENDED = "account_suspended"
    ACCOUNT_RESUMED = "account_resumed"
    TOPPED_UP = "topped_up"
    CARRIED_OVER = "carried_over"


class AuditDetail(Message):
    """What was given or changed, as it was from then on; nothing here opens anything. Unset: not touched.

    Attributes:
        limits: of the plan that was set.
        units: that were added, or used before.
    """

    name: Name | UnsetType = UNSET
    plan: Name | UnsetType = UNSET
    public_id: PublicId | UnsetType = UNSET
    scopes: tuple[Scope, ...] | UnsetType = UNSET
    own_account: bool | UnsetType = UNSET
    overrides: Overrides | UnsetType = UNSET
    allowed_cidrs: tuple[Cidr, ...] | UnsetType = UNSET
    expires_at_ms: Milliseconds | UnsetType | None = UNSET
    grace_ms: Milliseconds | UnsetType = UNSET
    limits: NamedLimits | UnsetType = UNSET
    units: Units | UnsetType = UNSET
    topup_id: HoldId | UnsetType = UNSET
    carryover_id: HoldId | UnsetType = UNSET


class AuditEntry(Message):
    """One change.

    Attributes:
        actor: on whose behalf: a key id, or the operator's name.
        origin: the network address that the caller was seen at.
        tenant_id: none where a plan is meant, which is nobody's own.
        key_id: none where the whole tenant is meant, or its account.
        request_id: joins it with the logs.
    """

    at_ms: Milliseconds
    actor: Name
    origin: Origin
    action: AuditAction
    tenant_id: Id | None
    key_id: Id | None
    request_id: str | None
    detail: AuditDetail


class AuditList(Message):
    """A page of the audit, newest first: of everything, or of one tenant, or of one key."""

    tenant_id: Id | None = None
    key_id: Id | None = None
    cursor: Cursor | None = None
    limit: PageSize = 50


class AuditPage(Message, tag_field="type", tag="audit"):
    """Some entries; `next_cursor` continues the list if there are more. A page of long entries may be a short one.

    Attributes:
        cursors: what continues the list behind none of the entries, behind the first, the first two, and so on.
    """

    entries: tuple[AuditEntry, ...]
    next_cursor: Cursor | None = None
    cursors: tuple[Cursor, ...] = ()


AuditPageReply: TypeAlias = AuditPage | Failure
AUDIT_LIST: Final[Endpoint[AuditList, AuditPageReply]] = Endpoint(
    subjects.KEYS_AUDIT_LIST, subjects.KEYS, AuditList, AuditPageReply
)
QUOTA_AUDIT_LIST: Final[Endpoint[AuditList, AuditPageReply]] = Endpoint(
    subjects.QUOTA_AUDIT_LIST, subjects.QUOTA, AuditList, AuditPageReply
)
