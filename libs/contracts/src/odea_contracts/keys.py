"""API keys on the bus. A secret crosses it once, in the answer to `issue` and `rotate`."""

from enum import StrEnum
from typing import Annotated, Final, TypeAlias

from msgspec import UNSET, Meta, UnsetType

from odea_contracts import subjects
from odea_contracts.base import Change, Cursor, Endpoint, Id, Message, Milliseconds, Name, PageSize
from odea_contracts.errors import Failure
from odea_contracts.plans import Overrides

# The length stands beside the pattern because `$` alone would let a line break through at the end.
PublicId = Annotated[
    str, Meta(pattern=r"^[0-9A-Za-z]{12}$", max_length=12, description="The part of a key that names its secret")
]
SecretDigest = Annotated[
    str, Meta(pattern=r"^[0-9a-f]{128}$", max_length=128, description="SHA-512 of the secret, in hex")
]
Cidr = Annotated[
    str,
    Meta(
        pattern=r"^[0-9A-Fa-f.:]{2,45}(/[0-9]{1,3})?$(?!\n)",
        description="A network, such as `192.0.2.0/24` or `2001:db8::/32`; an address alone is a network of one",
    ),
]
Cidrs = Annotated[tuple[Cidr, ...], Meta(max_length=32)]


class Scope(StrEnum):
    """What a key may do."""

    SPEECH = "speech"
    USAGE_READ = "usage:read"
    ADMIN = "admin"


Scopes = Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=8)]


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
        allowed_cidrs: the networks that the key may be used from; empty for any. Whoever sees the caller's address
            refuses it from elsewhere.
    """

    tenant_id: Id
    key_id: Id
    scopes: tuple[Scope, ...]
    accounts: tuple[Id, ...]
    expires_at_ms: Milliseconds | None = None
    allowed_cidrs: Cidrs = ()


class Refused(Message, tag_field="type", tag="refused"):
    """The key is not good."""

    reason: Refusal


VerifyReply: TypeAlias = Principal | Refused | Failure
VERIFY: Final[Endpoint[Verify, VerifyReply]] = Endpoint(subjects.KEYS_VERIFY, subjects.KEYS, Verify, VerifyReply)


class Key(Message, tag_field="type", tag="key"):
    """A key without its secret.

    Attributes:
        public_id: the newest secret's public id: what the owner sees in the middle of the key.
        own_account: whether the key has a quota account of its own, with the key's id.
        allowed_cidrs: the networks that the key may be used from; empty for any.
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
    allowed_cidrs: Cidrs = ()


class Issue(Change, kw_only=True):
    """Make a key for a tenant.

    Attributes:
        own_account: give the key a quota account of its own, below the tenant's.
        plan: the quota plan of that account, if there is to be one.
        overrides: limits of that account that differ from its plan's; refused where there is to be none.
        allowed_cidrs: the networks that the key may be used from; empty for any.
        idempotency_key: a repeat gives the same secret too, which is not stored but derived anew. Without one, a key
            whose answer was lost is to be revoked.
    """

    tenant_id: Id
    name: Name
    scopes: Scopes
    expires_at_ms: Milliseconds | None = None
    own_account: bool = False
    plan: Name = "default"
    overrides: Overrides | UnsetType = UNSET
    allowed_cidrs: Cidrs = ()


class Issued(Message, tag_field="type", tag="issued"):
    """A key and, this one time, its whole text. `secret` must never be logged or stored."""

    key: Key
    secret: str


class KeyUpdate(Change, kw_only=True):
    """Change a living key; a field that is not sent stays. Its limits are its account's, and are changed there.

    Attributes:
        expires_at_ms: in the future, or none.
    """

    key_id: Id
    name: Name | UnsetType = UNSET
    scopes: Scopes | UnsetType = UNSET
    expires_at_ms: Milliseconds | UnsetType | None = UNSET
    allowed_cidrs: Cidrs | UnsetType = UNSET


class Rotate(Change, kw_only=True):
    """Give a key a new secret. Every older one of its secrets works on for the grace at most, with 0 no more at all.

    Attributes:
        idempotency_key: as for `Issue`.
    """

    key_id: Id
    grace_ms: Annotated[int, Meta(ge=0, le=90 * 24 * 3600 * 1000)] = 0


class KeyRef(Change, kw_only=True):
    """Name a key. `actor` and `origin` are for the audit, where something is changed."""

    key_id: Id


class KeyList(Message):
    """A page of a tenant's keys in order of creation."""

    tenant_id: Id
    cursor: Cursor | None = None
    limit: PageSize = 50


class KeyPage(Message, tag_field="type", tag="keys"):
    """Some keys; `next_cursor` continues the list if there are more."""

    keys: tuple[Key, ...]
    next_cursor: Cursor | None = None


IssueReply: TypeAlias = Issued | Failure
KeyReply: TypeAlias = Key | Failure
KeyPageReply: TypeAlias = KeyPage | Failure
ISSUE: Final[Endpoint[Issue, IssueReply]] = Endpoint(subjects.KEYS_ISSUE, subjects.KEYS, Issue, IssueReply)
ROTATE: Final[Endpoint[Rotate, IssueReply]] = Endpoint(subjects.KEYS_ROTATE, subjects.KEYS, Rotate, IssueReply)
REVOKE: Final[Endpoint[KeyRef, KeyReply]] = Endpoint(subjects.KEYS_REVOKE, subjects.KEYS, KeyRef, KeyReply)
UPDATE: Final[Endpoint[KeyUpdate, KeyReply]] = Endpoint(subjects.KEYS_UPDATE, subjects.KEYS, KeyUpdate, KeyReply)
GET: Final[Endpoint[KeyRef, KeyReply]] = Endpoint(subjects.KEYS_GET, subjects.KEYS, KeyRef, KeyReply)
LIST: Final[Endpoint[KeyList, KeyPageReply]] = Endpoint(subjects.KEYS_LIST, subjects.KEYS, KeyList, KeyPageReply)


class KeyEvent(Message):
    """The body of `keys.evt.issued`, `updated`, `rotated` and `revoked`, and of the immediate `keys.changed`."""

    tenant_id: Id
    key_id: Id | UnsetType = UNSET
    """Unset: all keys of the tenant are meant."""
    plan: Name | None = None
    """With `issued`: the plan of the quota account to open for the key, under the key's id; none if it has none."""
    overrides: Overrides | UnsetType = UNSET
    """With `plan`: the limits of that account that differ from the plan's."""
