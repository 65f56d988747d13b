"""Tenants in PostgreSQL. As in `store`, a change, its audit row and its event are one transaction."""

from typing import Any, Final

import asyncpg

from odea_contracts.audit import AuditAction, AuditDetail
from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.tenants import Tenant, TenantCreate, TenantEvent, TenantRef, TenantUpdate
from odea_keys.journal import Journal
from odea_keys.repeats import Named, RefusedError, Repeats
from odea_keys.rows import convert
from odea_runtime.ids import new_id
from odea_runtime.postgres import Connection, Database

NO_TENANT: Final = failure(ErrorCode.NOT_FOUND, "There is no such tenant.", param="tenant_id")
NAME_TAKEN: Final = failure(ErrorCode.CONFLICT, "Another tenant has this name.", param="name")


class TenantStore:
    """What is remembered of tenants. Each method may raise `StorageUnavailableError`."""

    def __init__(self, database: Database, repeats: Repeats) -> None:
        self._database = database
        self._queries: Any = database.queries
        self._journal = Journal(database)
        self._repeats = repeats

    async def create(self, request: TenantCreate, change: Named | None = None) -> Tenant | Failure:
        """A new tenant, or the one that has the name already, or was made by this change before, unchanged."""
        try:
            async with self._database.transaction() as connection:
                earlier = await self._repeats.claim(connection, change)
                if earlier:
                    return await self.read(connection, earlier.made_id)
                tenant = await self._create(connection, request)
                await self._repeats.keep(connection, change, made_id=tenant.tenant_id)
                return tenant
        except RefusedError as error:
            return error.failure

    async def get(self, tenant_id: str) -> Tenant | Failure:
        """The tenant with this id."""
        async with self._database.connection() as connection:
            return await self.read(connection, tenant_id)

    async def page(self, *, after: str | None, limit: int) -> tuple[Tenant, ...]:
        """At most `limit` tenants from behind `after`, in order of creation."""
        async with self._database.connection() as connection:
            found = self._queries.tenants_after(connection, after=after, limit=limit)
            return tuple([convert(Tenant, row) async for row in found])

    async def update(self, request: TenantUpdate) -> Tenant | Failure:
        """Give the tenant another name. The unique constraint decides between callers."""
        try:
            async with self._database.transaction() as connection:
                row = await self._queries.rename_tenant(connection, tenant_id=request.tenant_id, name=request.name)
                if row is None:
                    return NO_TENANT
                event = TenantEvent(tenant_id=request.tenant_id, name=request.name)
                detail = AuditDetail(name=request.name)
                await self._journal.record(connection, AuditAction.TENANT_UPDATED, event, request, detail)
                return convert(Tenant, row)
        except asyncpg.UniqueViolationError:
            return NAME_TAKEN

    async def suspend(self, request: TenantRef) -> Tenant | Failure:
        """Suspend the tenant; repeating it changes nothing."""
        return await self._turn(self._queries.suspend, AuditAction.SUSPENDED, request)

    async def resume(self, request: TenantRef) -> Tenant | Failure:
        """End the suspension; repeating it changes nothing."""
        return await self._turn(self._queries.resume, AuditAction.RESUMED, request)

    async def read(self, connection: Connection, tenant_id: str) -> Tenant | Failure:
        """The tenant as `connection` sees it."""
        row = await self._queries.tenant(connection, tenant_id=tenant_id)
        return NO_TENANT if row is None else convert(Tenant, row)

    async def _create(self, connection: Connection, request: TenantCreate) -> Tenant:
        name = request.name
        row = await self._queries.add_tenant(connection, tenant_id=new_id("ten"), name=name)
        if row is None:
            return convert(Tenant, await self._queries.tenant_named(connection, name=name))
        event = TenantEvent(tenant_id=row["tenant_id"], name=name, plan=request.plan)
        detail = AuditDetail(name=name, plan=request.plan)
        await self._journal.record(connection, AuditAction.TENANT_CREATED, event, request, detail)
        return convert(Tenant, row)

    async def _turn(self, query: Any, action: AuditAction, request: TenantRef) -> Tenant | Failure:
        async with self._database.transaction() as connection:
            row = await query(connection, tenant_id=request.tenant_id)
            if row is None:
                return await self.read(connection, request.tenant_id)
            event = TenantEvent(tenant_id=row["tenant_id"], name=row["name"])
            await self._journal.record(connection, action, event, request)
        return convert(Tenant, row)
