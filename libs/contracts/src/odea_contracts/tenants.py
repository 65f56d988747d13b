"""Tenants on the bus: who owns keys and a quota account."""

from typing import Final, TypeAlias

from odea_contracts import subjects
from odea_contracts.base import Change, Cursor, Endpoint, Id, Message, Milliseconds, Name, PageSize
from odea_contracts.errors import Failure


class Tenant(Message, tag_field="type", tag="tenant"):
    """A customer or a team: owner of keys and of one quota account with the same id."""

    tenant_id: Id
    name: Name
    suspended: bool
    created_at_ms: Milliseconds


class TenantCreate(Change, kw_only=True):
    """Make a tenant. Repeating it with the same name gives the tenant that is there.

    Attributes:
        plan: the quota plan of the tenant's account; quota opens the account when it hears of the tenant.
    """

    name: Name
    plan: Name = "default"


class TenantRef(Change, kw_only=True):
    """Name a tenant. `actor` and `origin` are for the audit, where something is changed."""

    tenant_id: Id


class TenantUpdate(Change, kw_only=True):
    """Give a tenant another name. It must not be another tenant's."""

    tenant_id: Id
    name: Name


class TenantList(Message):
    """A page of tenants in order of creation."""

    cursor: Cursor | None = None
    limit: PageSize = 50


class TenantPage(Message, tag_field="type", tag="tenants"):
    """Some tenants; `next_cursor` continues the list if there are more."""

    tenants: tuple[Tenant, ...]
    next_cursor: Cursor | None = None


TenantReply: TypeAlias = Tenant | Failure
TenantPageReply: TypeAlias = TenantPage | Failure
TENANT_CREATE: Final[Endpoint[TenantCreate, TenantReply]] = Endpoint(
    subjects.KEYS_TENANT_CREATE, subjects.KEYS, TenantCreate, TenantReply
)
TENANT_GET: Final[Endpoint[TenantRef, TenantReply]] = Endpoint(
    subjects.KEYS_TENANT_GET, subjects.KEYS, TenantRef, TenantReply
)
TENANT_LIST: Final[Endpoint[TenantList, TenantPageReply]] = Endpoint(
    subjects.KEYS_TENANT_LIST, subjects.KEYS, TenantList, TenantPageReply
)
TENANT_UPDATE: Final[Endpoint[TenantUpdate, TenantReply]] = Endpoint(
    subjects.KEYS_TENANT_UPDATE, subjects.KEYS, TenantUpdate, TenantReply
)
TENANT_SUSPEND: Final[Endpoint[TenantRef, TenantReply]] = Endpoint(
    subjects.KEYS_TENANT_SUSPEND, subjects.KEYS, TenantRef, TenantReply
)
TENANT_RESUME: Final[Endpoint[TenantRef, TenantReply]] = Endpoint(
    subjects.KEYS_TENANT_RESUME, subjects.KEYS, TenantRef, TenantReply
)


class TenantEvent(Message):
    """The body of `keys.evt.tenant_created`, `tenant_updated`, `suspended` and `resumed`."""

    tenant_id: Id
    name: Name
    plan: Name | None = None
    """With `tenant_created`: the plan of the account to open."""
