"""Tenants in PostgreSQL. As in `store`, a change, its audit row and its event are one transaction."""

from typing import Any, Final

import asyncpg

from odea_contracts import tenants
from odea_contracts.audit import AuditAction, AuditDetail
from odea_contracts.base import Endpoint
from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.tenants import Tenant, TenantCreate, TenantEvent, TenantRef, TenantReply, TenantUpdate
from odea_keys.journal import Journal
from odea_keys.rows import convert
from odea_runtime.ids import new_id
from odea_runtime.postgres import Connection, Database
from odea_runtime.repeats import Repeats

NO_TENANT: Final = failure(ErrorCode.NOT_FOUND, "There is no such tenant.", param="tenant_id")
NAME_TAKEN: Final = failure(ErrorCode.CONFLICT, "Another tenant has this name.", param="name")


class TenantStore:
    """What is remembered of tenants. Each method may raise `StorageUnavailableError`."""

    def __init__(self, database: Database, repeats: Repeats) -> None:
        self._database = database
        self._queries: Any = database.queries
        self._journal = Journal(database)
        self._repeats = repeats

    async def create(self, request: TenantCreate) -> Tenant | Failure:
        """A new tenant, or the one that has the name already, unchanged."""
        return await self._repeats.once(
            tenants.TENANT_CREATE.verb, request, Tenant, lambda connection: self._create(connection, request)
        )

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
            return await self._repeats.once(
                tenants.TENANT_UPDATE.verb, request, Tenant, lambda connection: self._update(connection, request)
            )
        except asyncpg.UniqueViolationError:
            return NAME_TAKEN

    async def suspend(self, request: TenantRef) -> Tenant | Failure:
        """Suspend the tenant; repeating it changes nothing."""
        return await self._turn(tenants.TENANT_SUSPEND, self._queries.suspend, AuditAction.SUSPENDED, request)

    async def resume(self, request: TenantRef) -> Tenant | Failure:
        """End the suspension; repeating it changes nothing."""
        return await self._turn(tenants.TENANT_RESUME, self._queries.resume, AuditAction.RESUMED, request)

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

    async def _update(self, connection: Connection, request: TenantUpdate) -> Tenant | Failure:
        row = await self._queries.rename_tenant(connection, tenant_id=request.tenant_id, name=request.name)
        if row is None:
            return NO_TENANT
        event = TenantEvent(tenant_id=request.tenant_id, name=request.name)
        detail = AuditDetail(name=request.name)
        await self._journal.record(connection, AuditAction.TENANT_UPDATED, event, request, detail)
        return convert(Tenant, row)

    async def _turn(
        self, endpoint: Endpoint[TenantRef, TenantReply], query: Any, action: AuditAction, request: TenantRef
    ) -> Tenant | Failure:
        async def turn(connection: Connection) -> Tenant | Failure:
            row = await query(connection, tenant_id=request.tenant_id)
            if row is None:
                return await self.read(connection, request.tenant_id)
            event = TenantEvent(tenant_id=row["tenant_id"], name=row["name"])
            await self._journal.record(connection, action, event, request)
            return convert(Tenant, row)

        return await self._repeats.once(endpoint.verb, request, Tenant, turn)
