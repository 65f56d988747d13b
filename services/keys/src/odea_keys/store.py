"""Tenants, keys and secrets in PostgreSQL: rows to structs, violated constraints to outcomes.

Every change is one transaction with its audit row and its event. Which of two callers wins is decided by a constraint,
a row lock or the `WHERE` of the changing statement, never by a look beforehand.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import asyncpg
import msgspec

from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.keys import Issue, Key, KeyEvent, KeyRef, Rotate
from odea_contracts.tenants import Tenant, TenantCreate, TenantEvent, TenantRef
from odea_keys.journal import Action, Detail, Journal
from odea_keys.keyring import NewSecret, StoredSecret, ordered_scopes
from odea_runtime.ids import new_id
from odea_runtime.postgres import Connection, Database

T = TypeVar("T")

NO_TENANT: Final = failure(ErrorCode.NOT_FOUND, "There is no such tenant.", param="tenant_id")
NO_KEY: Final = failure(ErrorCode.NOT_FOUND, "There is no such key.", param="key_id")
DEAD_KEY: Final = failure(ErrorCode.CONFLICT, "The key is revoked or has expired.", param="key_id")
PAST_EXPIRY: Final = failure(ErrorCode.INVALID_VALUE, "A key must expire in the future.", param="expires_at_ms")

_OUTCOMES: Final = {"keys_tenant_exists": NO_TENANT, "keys_expire_later": PAST_EXPIRY}


class Store:
    """Everything that the service remembers. Each method may raise `StorageUnavailableError`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries: Any = database.queries
        self._journal = Journal(database.queries)

    async def find_secret(self, public_id: str) -> StoredSecret:
        """The secret with this public id, its key and its tenant, at this moment; an unknown one too has an answer."""
        async with self._database.connection() as connection:
            return _to(StoredSecret, await self._queries.find_secret(connection, public_id=public_id))

    async def create_tenant(self, request: TenantCreate) -> Tenant:
        """A new tenant, or the one that has the name already, unchanged."""
        name = request.name
        async with self._database.transaction() as connection:
            row = await self._queries.add_tenant(connection, tenant_id=new_id("ten"), name=name)
            if row is None:
                return _to(Tenant, await self._queries.tenant_named(connection, name=name))
            event = TenantEvent(tenant_id=row["tenant_id"], name=name, plan=request.plan)
            detail = Detail(name=name, plan=request.plan)
            await self._journal.record(connection, Action.TENANT_CREATED, event, actor=request.actor, detail=detail)
        return _to(Tenant, row)

    async def tenant(self, tenant_id: str) -> Tenant | Failure:
        """The tenant with this id."""
        async with self._database.connection() as connection:
            return await self._tenant(connection, tenant_id)

    async def tenants(self, *, after: str | None, limit: int) -> tuple[Tenant, ...]:
        """At most `limit` tenants from behind `after`, in order of creation."""
        async with self._database.connection() as connection:
            found = self._queries.tenants_after(connection, after=after, limit=limit)
            return tuple([_to(Tenant, row) async for row in found])

    async def suspend(self, request: TenantRef) -> Tenant | Failure:
        """Suspend the tenant; repeating it changes nothing."""
        return await self._turn(self._queries.suspend, Action.SUSPENDED, request)

    async def resume(self, request: TenantRef) -> Tenant | Failure:
        """End the suspension; repeating it changes nothing."""
        return await self._turn(self._queries.resume, Action.RESUMED, request)

    async def key(self, key_id: str) -> Key | Failure:
        """The key with this id."""
        async with self._database.connection() as connection:
            return await self._key(connection, key_id)

    async def keys(self, tenant_id: str, *, after: str | None, limit: int) -> tuple[Key, ...] | Failure:
        """At most `limit` keys of the tenant from behind `after`, in order of creation."""
        async with self._database.connection() as connection:
            found = self._queries.keys_after(connection, tenant_id=tenant_id, after=after, limit=limit)
            page = tuple([_to(Key, row) async for row in found])
            if not page and isinstance(missing := await self._tenant(connection, tenant_id), Failure):
                return missing
        return page

    async def issue(self, request: Issue, secret: NewSecret) -> Key | Failure:
        """A new key with its first secret."""
        try:
            async with self._database.transaction() as connection:
                return await self._issue(connection, request, secret)
        except asyncpg.IntegrityConstraintViolationError as error:
            return _outcome(error)

    async def rotate(self, request: Rotate, secret: NewSecret) -> Key | Failure:
        """Make `secret` the key's newest; all its others end within the grace."""
        key_id = request.key_id
        async with self._database.transaction() as connection:
            tenant_id = await self._queries.lock_living_key(connection, key_id=key_id)
            if tenant_id is None:
                known = await self._key(connection, key_id)
                return DEAD_KEY if isinstance(known, Key) else known
            await self._queries.limit_secrets(connection, key_id=key_id, grace_ms=request.grace_ms)
            await self._add_secret(connection, key_id, secret)
            event = KeyEvent(tenant_id=tenant_id, key_id=key_id)
            detail = Detail(public_id=secret.public_id, grace_ms=request.grace_ms)
            await self._journal.record(connection, Action.ROTATED, event, actor=request.actor, detail=detail)
            return await self._key(connection, key_id)

    async def revoke(self, request: KeyRef) -> Key | Failure:
        """End the key for ever; repeating it changes nothing."""
        key_id = request.key_id
        async with self._database.transaction() as connection:
            tenant_id = await self._queries.revoke(connection, key_id=key_id)
            if tenant_id is not None:
                event = KeyEvent(tenant_id=tenant_id, key_id=key_id)
                await self._journal.record(connection, Action.REVOKED, event, actor=request.actor)
            return await self._key(connection, key_id)

    async def _issue(self, connection: Connection, request: Issue, secret: NewSecret) -> Key | Failure:
        key_id, scopes = new_id("key"), ordered_scopes(request.scopes)
        await self._queries.add_key(
            connection,
            key_id=key_id,
            tenant_id=request.tenant_id,
            name=request.name,
            scopes=[scope.value for scope in scopes],
            own_account=request.own_account,
            expires_at_ms=request.expires_at_ms,
        )
        await self._add_secret(connection, key_id, secret)
        plan = request.plan if request.own_account else None
        detail = Detail(
            name=request.name,
            plan=plan,
            public_id=secret.public_id,
            scopes=scopes,
            own_account=request.own_account,
            expires_at_ms=request.expires_at_ms,
        )
        event = KeyEvent(tenant_id=request.tenant_id, key_id=key_id, plan=plan)
        await self._journal.record(connection, Action.ISSUED, event, actor=request.actor, detail=detail)
        return await self._key(connection, key_id)

    async def _turn(self, query: Any, action: Action, request: TenantRef) -> Tenant | Failure:
        async with self._database.transaction() as connection:
            row = await query(connection, tenant_id=request.tenant_id)
            if row is None:
                return await self._tenant(connection, request.tenant_id)
            event = TenantEvent(tenant_id=row["tenant_id"], name=row["name"])
            await self._journal.record(connection, action, event, actor=request.actor)
        return _to(Tenant, row)

    async def _add_secret(self, connection: Connection, key_id: str, secret: NewSecret) -> None:
        await self._queries.add_secret(
            connection, public_id=secret.public_id, key_id=key_id, pepper_id=secret.pepper_id, hash=secret.hash
        )

    async def _tenant(self, connection: Connection, tenant_id: str) -> Tenant | Failure:
        row = await self._queries.tenant(connection, tenant_id=tenant_id)
        return NO_TENANT if row is None else _to(Tenant, row)

    async def _key(self, connection: Connection, key_id: str) -> Key | Failure:
        row = await self._queries.key(connection, key_id=key_id)
        return NO_KEY if row is None else _to(Key, row)


def _to(kind: type[T], row: Mapping[str, Any]) -> T:
    return msgspec.convert(dict(row), kind)


def _outcome(error: asyncpg.IntegrityConstraintViolationError) -> Failure:
    """What a violated constraint means to the caller; one that is not listed is our own mistake, and stays an error."""
    outcome = _OUTCOMES.get(getattr(error, "constraint_name", None) or "")
    if outcome is None:
        raise error
    return outcome
