"""Changes that may be asked for again under the name that the caller gave them (`idempotency_key`).

The name is claimed in the transaction of the change, so of two callers at once the second waits and finds what the
first one made. A refused change claims nothing.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

import msgspec

from odea_contracts.base import UNKNOWN
from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.keys import Issue, Rotate
from odea_contracts.tenants import TenantCreate
from odea_runtime.postgres import Connection

SALT_BYTES: Final = 64
REUSED: Final = failure(
    ErrorCode.CONFLICT, "This idempotency key was used for a request with other content.", param="idempotency_key"
)
Repeatable: TypeAlias = Issue | Rotate | TenantCreate


class Operation(StrEnum):
    """What can be asked for again; each has names of its own."""

    TENANT_CREATE = "tenant_create"
    ISSUE = "issue"
    ROTATE = "rotate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A change and the name that its caller gave it.

    Attributes:
        name: known to the caller alone; only its hash is stored.
        salt: what is stored of the secret that it makes, if it makes one.
    """

    operation: Operation
    actor: str
    name: str = field(repr=False)
    content_hash: bytes
    salt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What the first request of a name has made: a tenant, or a key and its secret."""

    made_id: str
    public_id: str
    pepper_id: str
    salt: bytes = field(repr=False)


class RefusedError(Exception):
    """Ends a transaction without a trace; what is refused is the answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def named(operation: Operation, request: Repeatable) -> Named | None:
    """The request under its name; `None` if it has none. Who sent it from where is no part of its content."""
    if request.idempotency_key is None:
        return None
    content = msgspec.structs.replace(request, actor=UNKNOWN, origin=UNKNOWN, idempotency_key=None)
    return Named(
        operation=operation,
        actor=request.actor,
        name=request.idempotency_key,
        content_hash=hashlib.sha256(msgspec.json.encode(content)).digest(),
        salt=secrets.token_bytes(SALT_BYTES),
    )


class Repeats:
    """The names that were used.

    Args:
        queries: the service's named queries.
        keep_s: how long a name is remembered.
    """

    def __init__(self, queries: Any, *, keep_s: float) -> None:
        self._queries = queries
        self._keep_s: Final = keep_s

    async def claim(self, connection: Connection, change: Named | None) -> Earlier | None:
        """Take the name for this transaction; or what was made under it before.

        Raises:
            RefusedError: it was used for something else.
        """
        if change is None:
            return None
        which = {"actor": change.actor, "operation": change.operation.value, "name_hash": _hash(change.name)}
        await self._queries.forget_repeat(connection, **which, keep_s=self._keep_s)
        claimed = await self._queries.claim_repeat(
            connection, **which, content_hash=change.content_hash, salt=change.salt
        )
        if claimed:
            return None
        row = await self._queries.repeat(connection, **which)
        if row["content_hash"] != change.content_hash:
            raise RefusedError(REUSED)
        return Earlier(made_id=row["made_id"], public_id=row["public_id"], pepper_id=row["pepper_id"], salt=row["salt"])

    async def keep(self, connection: Connection, change: Named | None, *, made_id: str, public_id: str = "") -> None:
        """Remember what the claimed change has made."""
        if change is not None:
            await self._queries.keep_repeat(
                connection,
                actor=change.actor,
                operation=change.operation.value,
                name_hash=_hash(change.name),
                made_id=made_id,
                public_id=public_id,
            )

    async def forget_old(self, connection: Connection) -> None:
        """Forget the names whose time is over, and with them the last that their secrets could be derived from."""
        await self._queries.forget_old_repeats(connection, keep_s=self._keep_s)


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
