"""Tenants and API keys on the bus. A secret crosses it once, in the answer to `issue` and `rotate`."""

from enum import StrEnum
from typing import Annotated, Final, TypeAlias

from msgspec import UNSET, Meta, UnsetType

from odea_contracts import subjects
from odea_contracts.base import Endpoint, Id, Message, Milliseconds, Name
from odea_contracts.errors import Failure

# The length stands beside the pattern because `$` alone would let a line break through at the end.
PublicId = Annotated[
    str, Meta(pattern=r"^[0-9A-Za-z]{12}$", max_length=12, description="The part of a key that names its secret")
]
SecretDigest = Annotated[
    str, Meta(pattern=r"^[0-9a-f]{128}$", max_length=128, description="SHA-512 of the secret, in hex")
]
PageSize = Annotated[int, Meta(ge=1, le=200)]
UNKNOWN_ACTOR: Final = "unknown"


class Scope(StrEnum):
    """What a key may do."""

    SPEECH = "speech"
    USAGE_READ = "usage:read"
    ADMIN = "admin"


class Refusal(StrEnum):
    """Why a key was refused; for logs and metrics, never for the caller."""

    UNKNOWN = "unknown"
    WRONG_SECRET = "wrong_secret"  # noqa: S105 - a word, not a secret
    REVOKED = "revoked"
    EXPIRED = "expired"
    SUSPENDED = "suspended"


class Verify(Message):
    """Is this the digest of a key's living secret?"""

    public_id: PublicId
    digest: SecretDigest


class Principal(Message, tag_field="type", tag="principal"):
    """The key is good: who calls, and what it may do.

    Attributes:
        accounts: the quota accounts that every use is charged to: the tenant's, and the key's own if it has a budget.
        expires_at_ms: when the secret that was shown stops working; a cache must not outlive it.
    """

    tenant_id: Id
    key_id: Id
    scopes: tuple[Scope, ...]
    accounts: tuple[Id, ...]
    expires_at_ms: Milliseconds | None = None


class Refused(Message, tag_field="type", tag="refused"):
    """The key is not good."""

    reason: Refusal


VerifyReply: TypeAlias = Principal | Refused | Failure
VERIFY: Final[Endpoint[Verify, VerifyReply]] = Endpoint(subjects.KEYS_VERIFY, subjects.KEYS, Verify, VerifyReply)


class Tenant(Message, tag_field="type", tag="tenant"):
    """A customer or a team: owner of keys and of one quota account with the same id."""

    tenant_id: Id
    name: Name
    suspended: bool
    created_at_ms: Milliseconds


class TenantCreate(Message):
    """Make a tenant. Repeating it with the same name gives the tenant that is there.

    Attributes:
        plan: the quota plan of the tenant's account; quota opens the account when it hears of the tenant.
        actor: on whose behalf, for the audit: a key id, or the operator's name.
    """

    name: Name
    plan: Name = "default"
    actor: Name = UNKNOWN_ACTOR


class TenantRef(Message):
    """Name a tenant. `actor` is for the audit, where something is changed."""

    tenant_id: Id
    actor: Name = UNKNOWN_ACTOR


class TenantList(Message):
    """A page of tenants in order of creation."""

    after: Id | None = None
    limit: PageSize = 50


class TenantPage(Message, tag_field="type", tag="tenants"):
    """Some tenants; `next_after` continues the list if there are more."""

    tenants: tuple[Tenant, ...]
    next_after: Id | None = None


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
TENANT_SUSPEND: Final[Endpoint[TenantRef, TenantReply]] = Endpoint(
    subjects.KEYS_TENANT_SUSPEND, subjects.KEYS, TenantRef, TenantReply
)
TENANT_RESUME: Final[Endpoint[TenantRef, TenantReply]] = Endpoint(
    subjects.KEYS_TENANT_RESUME, subjects.KEYS, TenantRef, TenantReply
)


class Key(Message, tag_field="type", tag="key"):
    """A key without its secret.

    Attributes:
        public_id: the newest secret's public id: what the owner sees in the middle of the key.
        own_account: whether the key has a quota account of its own, with the key's id.
    """

    key_id: Id
    tenant_id: Id
    name: Name
    public_id: PublicId
    scopes: tuple[Scope, ...]
    own_account: bool
    created_at_ms: Milliseconds
    expires_at_ms: Milliseconds | None
    revoked_at_ms: Milliseconds | None


class Issue(Message):
    """Make a key for a tenant. Not idempotent: a key whose answer was lost is to be revoked.

    Attributes:
        own_account: give the key a quota account of its own, below the tenant's.
        plan: the quota plan of that account, if there is to be one.
        actor: on whose behalf, for the audit.
    """

    tenant_id: Id
    name: Name
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=8)]
    expires_at_ms: Milliseconds | None = None
    own_account: bool = False
    plan: Name = "default"
    actor: Name = UNKNOWN_ACTOR


class Issued(Message, tag_field="type", tag="issued"):
    """A key and, this one time, its whole text. `secret` must never be logged or stored."""

    key: Key
    secret: str


class Rotate(Message):
    """Give a key a new secret. Every older one of its secrets works on for the grace at most, with 0 no more at all."""

    key_id: Id
    grace_ms: Annotated[int, Meta(ge=0, le=90 * 24 * 3600 * 1000)] = 0
    actor: Name = UNKNOWN_ACTOR


class KeyRef(Message):
    """Name a key. `actor` is for the audit, where something is changed."""

    key_id: Id
    actor: Name = UNKNOWN_ACTOR


class KeyList(Message):
    """A page of a tenant's keys in order of creation."""

    tenant_id: Id
    after: Id | None = None
    limit: PageSize = 50


class KeyPage(Message, tag_field="type", tag="keys"):
    """Some keys; `next_after` continues the list if there are more."""

    keys: tuple[Key, ...]
    next_after: Id | None = None


IssueReply: TypeAlias = Issued | Failure
KeyReply: TypeAlias = Key | Failure
KeyPageReply: TypeAlias = KeyPage | Failure
ISSUE: Final[Endpoint[Issue, IssueReply]] = Endpoint(subjects.KEYS_ISSUE, subjects.KEYS, Issue, IssueReply)
ROTATE: Final[Endpoint[Rotate, IssueReply]] = Endpoint(subjects.KEYS_ROTATE, subjects.KEYS, Rotate, IssueReply)
REVOKE: Final[Endpoint[KeyRef, KeyReply]] = Endpoint(subjects.KEYS_REVOKE, subjects.KEYS, KeyRef, KeyReply)
GET: Final[Endpoint[KeyRef, KeyReply]] = Endpoint(subjects.KEYS_GET, subjects.KEYS, KeyRef, KeyReply)
LIST: Final[Endpoint[KeyList, KeyPageReply]] = Endpoint(subjects.KEYS_LIST, subjects.KEYS, KeyList, KeyPageReply)


class KeyEvent(Message):
    """The body of `keys.evt.issued`, `rotated` and `revoked`, and of the immediate `keys.changed`."""

    tenant_id: Id
    key_id: Id | UnsetType = UNSET
    """Unset: all keys of the tenant are meant."""
    plan: Name | None = None
    """With `issued`: the plan of the quota account to open for the key, under the key's id; none if it has none."""


class TenantEvent(Message):
    """The body of `keys.evt.tenant_created`, `suspended` and `resumed`."""

    tenant_id: Id
    name: Name
    plan: Name | None = None
