"""Tenants, and the keys that each has."""

from litestar import Controller, get, patch, post
from litestar.response import Response

from odea_contracts import keys, tenants
from odea_gateway.admin.bodies import KeyBody, TenantBody, TenantChange
from odea_gateway.admin.operations import (
    AUTHOR,
    CHANGING,
    NO_BODY,
    READING,
    AdminRequest,
    By,
    Limit,
    Page,
    PageCursor,
    TenantId,
    answered,
    asked,
    described,
    identifier,
    known_plan,
    page,
)
from odea_gateway.auth import requires_admin
from odea_gateway.documentation import BEARER
from odea_gateway.services import services_of


class TenantController(Controller):
    """Who owns keys and accounts."""

    path = "/v1/admin/tenants"
    tags = ("admin: tenants",)
    guards = (requires_admin(),)
    security = BEARER
    dependencies = AUTHOR

    @get(
        operation_id="list_tenants",
        operation_class=described(Page[tenants.Tenant]),
        summary="List tenants",
        responses=READING,
    )
    async def list_tenants(
        self, request: AdminRequest, limit: Limit = 50, cursor: PageCursor = None
    ) -> Response[bytes]:
        """Tenants in the order of their creation."""
        found = await services_of(request).clients.ask(
            tenants.TENANT_LIST, tenants.TenantList(cursor=cursor, limit=limit)
        )
        return page(found.tenants, found.next_cursor)

    @post(
        operation_id="create_tenant",
        operation_class=described(tenants.Tenant, TenantBody),
        summary="Make a tenant",
        status_code=200,
        responses=CHANGING,
    )
    async def create_tenant(self, request: AdminRequest, author: By) -> Response[bytes]:
        """Its account opens a moment later. A name that is taken gives the tenant that has it."""
        body = await asked(request, TenantBody)
        message = tenants.TenantCreate(
            name=body.name,
            plan=await known_plan(request, body.plan),
            **author,
        )
        return await answered(request, tenants.TENANT_CREATE, message)

    @get(
        "/{tenant_id:str}",
        operation_id="get_tenant",
        operation_class=described(tenants.Tenant),
        summary="Read a tenant",
        responses=READING,
    )
    async def get_tenant(self, request: AdminRequest, tenant_id: TenantId) -> Response[bytes]:
        """One tenant."""
        message = tenants.TenantRef(tenant_id=identifier(tenant_id, "tenant_id"))
        return await answered(request, tenants.TENANT_GET, message)

    @patch(
        "/{tenant_id:str}",
        operation_id="update_tenant",
        operation_class=described(tenants.Tenant, TenantChange),
        summary="Rename a tenant",
        responses=CHANGING,
    )
    async def update_tenant(self, request: AdminRequest, tenant_id: TenantId, author: By) -> Response[bytes]:
        """A name is one tenant's alone."""
        identifier(tenant_id, "tenant_id")
        body = await asked(request, TenantChange)
        message = tenants.TenantUpdate(tenant_id=tenant_id, name=body.name, **author)
        return await answered(request, tenants.TENANT_UPDATE, message)

    @post(
        "/{tenant_id:str}/suspend",
        operation_id="suspend_tenant",
        operation_class=described(tenants.Tenant),
        summary="Suspend a tenant",
        status_code=200,
        responses=NO_BODY,
    )
    async def suspend_tenant(self, request: AdminRequest, tenant_id: TenantId, author: By) -> Response[bytes]:
        """None of its keys works until it is resumed."""
        message = tenants.TenantRef(tenant_id=identifier(tenant_id, "tenant_id"), **author)
        return await answered(request, tenants.TENANT_SUSPEND, message)

    @post(
        "/{tenant_id:str}/resume",
        operation_id="resume_tenant",
        operation_class=described(tenants.Tenant),
        summary="Resume a tenant",
        status_code=200,
        responses=NO_BODY,
    )
    async def resume_tenant(self, request: AdminRequest, tenant_id: TenantId, author: By) -> Response[bytes]:
        """Its keys work again."""
        message = tenants.TenantRef(tenant_id=identifier(tenant_id, "tenant_id"), **author)
        return await answered(request, tenants.TENANT_RESUME, message)

    @get(
        "/{tenant_id:str}/keys",
        operation_id="list_keys",
        operation_class=described(Page[keys.Key]),
        summary="List a tenant's keys",
        responses=READING,
    )
    async def list_keys(
        self, request: AdminRequest, tenant_id: TenantId, limit: Limit = 50, cursor: PageCursor = None
    ) -> Response[bytes]:
        """A tenant's keys, revoked ones too, in the order of their creation."""
        message = keys.KeyList(tenant_id=identifier(tenant_id, "tenant_id"), cursor=cursor, limit=limit)
        found = await services_of(request).clients.ask(keys.LIST, message)
        return page(found.keys, found.next_cursor)

    @post(
        "/{tenant_id:str}/keys",
        operation_id="issue_key",
        operation_class=described(keys.Issued, KeyBody),
        summary="Issue a key",
        status_code=200,
        responses=CHANGING,
    )
    async def issue_key(self, request: AdminRequest, tenant_id: TenantId, author: By) -> Response[bytes]:
        """`secret` is the whole text of the key. It is shown here and never again."""
        identifier(tenant_id, "tenant_id")
        body = await asked(request, KeyBody)
        message = keys.Issue(
            tenant_id=tenant_id,
            name=body.name,
            scopes=body.scopes,
            expires_at_ms=body.expires_at_ms,
            own_account=body.own_account,
            plan=await known_plan(request, body.plan) if body.own_account else body.plan,
            overrides=body.overrides,
            allowed_cidrs=body.allowed_cidrs,
            **author,
        )
        return await answered(request, keys.ISSUE, message)
