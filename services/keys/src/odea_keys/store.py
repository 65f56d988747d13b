"""Keys and secrets in PostgreSQL: rows to structs, violated constraints to outcomes.

Every change is one transaction with its audit row and its event. Which of two callers wins is decided by a constraint,
a row lock or the `WHERE` of the changing statement, never by a look beforehand.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
from msgspec import UNSET

from odea_contracts import keys
from odea_contracts.audit import AuditAction, AuditDetail
from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.keys import Issue, Key, KeyEvent, KeyRef, KeyUpdate, Rotate
from odea_keys.journal import Journal
from odea_keys.keyring import NewSecret, StoredSecret, ordered_scopes
from odea_keys.rows import convert
from odea_keys.tenant_store import NO_TENANT
from odea_runtime.ids import new_id
from odea_runtime.postgres import Connection, Database
from odea_runtime.repeats import RefusedError, Repeats

NO_KEY: Final = failure(ErrorCode.NOT_FOUND, "There is no such key.", param="key_id")
DEAD_KEY: Final = failure(ErrorCode.CONFLICT, "The key is revoked or has expired.", param="key_id")
PAST_EXPIRY: Final = failure(ErrorCode.INVALID_VALUE, "A key must expire in the future.", param="expires_at_ms")

_OUTCOMES: Final = {"keys_tenant_exists": NO_TENANT, "keys_expire_later": PAST_EXPIRY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A key with a new secret, and what that is derived from if it was made under a name, with which it is kept."""

    key: Key
    public_id: str
    pepper_id: str
    salt: bytes = field(repr=False)


class Store:
    """What is remembered of keys. Each method may raise `StorageUnavailableError`."""

    def __init__(self, database: Database, repeats: Repeats) -> None:
        self._database = database
        self._queries: Any = database.queries
        self._journal = Journal(database)
        self._repeats = repeats

    async def find_secret(self, public_id: str) -> StoredSecret:
        """The secret with this public id, its key and its tenant, at this moment; an unknown one too has an answer."""
        async with self._database.connection() as connection:
            return convert(StoredSecret, await self._queries.find_secret(connection, public_id=public_id))

    async def key(self, key_id: str) -> Key | Failure:
        """The key with this id."""
        async with self._database.connection() as connection:
            return await self._key(connection, key_id)

    async def keys(self, tenant_id: str, *, after: str | None, limit: int) -> tuple[Key, ...] | Failure:
        """At most `limit` keys of the tenant from behind `after`, in order of creation."""
        async with self._database.connection() as connection:
            found = self._queries.keys_after(connection, tenant_id=tenant_id, after=after, limit=limit)
            page = tuple([convert(Key, row) async for row in found])
            if not page and await self._queries.tenant(connection, tenant_id=tenant_id) is None:
                return NO_TENANT
        return page

    async def issue(self, request: Issue, secret: NewSecret) -> Made | Failure:
        """A new key with its first secret, or the one that was made under this name before."""
        try:
            return await self._repeats.once(
                keys.ISSUE.verb, request, Made, lambda connection: self._issue(connection, request, secret)
            )
        except asyncpg.IntegrityConstraintViolationError as error:
            return _outcome(error)

    async def rotate(self, request: Rotate, secret: NewSecret) -> Made | Failure:
        """Make `secret` the key's newest; all its others end within the grace."""
        return await self._repeats.once(
            keys.ROTATE.verb, request, Made, lambda connection: self._rotate(connection, request, secret)
        )

    async def update(self, request: KeyUpdate) -> Key | Failure:
        """Change what the request names, of a living key."""
        return await self._repeats.once(
            keys.UPDATE.verb, request, Key, lambda connection: self._update(connection, request)
        )

    async def revoke(self, request: KeyRef) -> Key | Failure:
        """End the key for ever; repeating it changes nothing."""
        return await self._repeats.once(
            keys.REVOKE.verb, request, Key, lambda connection: self._revoke(connection, request)
        )

    async def _issue(self, connection: Connection, request: Issue, secret: NewSecret) -> Made | Failure:
        key_id, scopes = new_id("key"), ordered_scopes(request.scopes)
        await self._queries.add_key(
            connection,
            key_id=key_id,
            tenant_id=request.tenant_id,
            name=request.name,
            scopes=[scope.value for scope in scopes],
            own_account=request.own_account,
            allowed_cidrs=request.allowed_cidrs,
            expires_at_ms=request.expires_at_ms,
        )
        await self._add_secret(connection, key_id, secret)
        plan = request.plan if request.own_account else None
        detail = AuditDetail(
            name=request.name,
            plan=plan or UNSET,
            public_id=secret.public_id,
            scopes=scopes,
            own_account=request.own_account,
            overrides=request.overrides,
            allowed_cidrs=request.allowed_cidrs or UNSET,
            expires_at_ms=request.expires_at_ms or UNSET,
        )
        event = KeyEvent(tenant_id=request.tenant_id, key_id=key_id, plan=plan, overrides=request.overrides)
        await self._journal.record(connection, AuditAction.ISSUED, event, request, detail)
        return await self._made(connection, key_id, secret)

    async def _rotate(self, connection: Connection, request: Rotate, secret: NewSecret) -> Made | Failure:
        tenant_id = await self._lock(connection, request.key_id)
        await self._queries.limit_secrets(connection, key_id=request.key_id, grace_ms=request.grace_ms)
        await self._add_secret(connection, request.key_id, secret)
        event = KeyEvent(tenant_id=tenant_id, key_id=request.key_id)
        detail = AuditDetail(public_id=secret.public_id, grace_ms=request.grace_ms)
        await self._journal.record(connection, AuditAction.ROTATED, event, request, detail)
        return await self._made(connection, request.key_id, secret)

    async def _update(self, connection: Connection, request: KeyUpdate) -> Key | Failure:
        tenant_id = await self._lock(connection, request.key_id)
        scopes = UNSET if request.scopes is UNSET else ordered_scopes(request.scopes)
        updated = await self._queries.update_key(
            connection,
            key_id=request.key_id,
            name=None if request.name is UNSET else request.name,
            scopes=None if scopes is UNSET else [scope.value for scope in scopes],
            allowed_cidrs=None if request.allowed_cidrs is UNSET else request.allowed_cidrs,
            sets_expiry=request.expires_at_ms is not UNSET,
            expires_at_ms=None if request.expires_at_ms is UNSET else request.expires_at_ms,
        )
        if updated is None:
            return PAST_EXPIRY
        detail = AuditDetail(
            name=request.name,
            scopes=scopes,
            allowed_cidrs=request.allowed_cidrs,
            expires_at_ms=request.expires_at_ms,
        )
        event = KeyEvent(tenant_id=tenant_id, key_id=request.key_id)
        await self._journal.record(connection, AuditAction.UPDATED, event, request, detail)
        return await self._key(connection, request.key_id)

    async def _revoke(self, connection: Connection, request: KeyRef) -> Key | Failure:
        tenant_id = await self._queries.revoke(connection, key_id=request.key_id)
        if tenant_id is not None:
            event = KeyEvent(tenant_id=tenant_id, key_id=request.key_id)
            await self._journal.record(connection, AuditAction.REVOKED, event, request)
        return await self._key(connection, request.key_id)

    async def _lock(self, connection: Connection, key_id: str) -> str:
        """Its tenant's id; from here on changes of the key wait for this one."""
        tenant_id: str | None = await self._queries.lock_living_key(connection, key_id=key_id)
        if tenant_id is None:
            known = await self._key(connection, key_id)
            raise RefusedError(DEAD_KEY if isinstance(known, Key) else known)
        return tenant_id

    async def _add_secret(self, connection: Connection, key_id: str, secret: NewSecret) -> None:
        await self._queries.add_secret(
            connection, public_id=secret.public_id, key_id=key_id, pepper_id=secret.pepper_id, hash=secret.hash
        )

    async def _made(self, connection: Connection, key_id: str, secret: NewSecret) -> Made | Failure:
        key = await self._key(connection, key_id)
        if isinstance(key, Failure):
            return key
        return Made(key=key, public_id=secret.public_id, pepper_id=secret.pepper_id, salt=secret.salt)

    async def _key(self, connection: Connection, key_id: str) -> Key | Failure:
        row = await self._queries.key(connection, key_id=key_id)
        return NO_KEY if row is None else convert(Key, row)


def _outcome(error: asyncpg.IntegrityConstraintViolationError) -> Failure:
    """What a violated constraint means to the caller; one that is not listed is our own mistake, and stays an error."""
    outcome = _OUTCOMES.get(getattr(error, "constraint_name", None) or "")
    if outcome is None:
        raise error
    return outcome
