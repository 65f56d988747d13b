"""`odea tenants …`."""

import click

from odea_local.admin.client import AdminClient
from odea_local.admin.display import show_list, show_one
from odea_local.admin.verbs import named, with_api

COLUMNS = ("tenant_id", "name", "suspended", "created_at_ms")


@click.group(name="tenants")
def tenants() -> None:
    """Who owns keys and an account."""


@tenants.command(name="list")
@with_api
def list_tenants(api: AdminClient, output: str) -> None:
    """List all tenants, in order of creation."""
    show_list(api.every("/v1/admin/tenants"), COLUMNS, output)


@tenants.command(name="get")
@click.argument("tenant_id")
@with_api
def get_tenant(*, api: AdminClient, output: str, tenant_id: str) -> None:
    """Show a tenant."""
    show_one(api.get(f"/v1/admin/tenants/{tenant_id}"), output)


@tenants.command(name="create")
@click.argument("tenant_name", metavar="NAME")
@click.option("--plan", default="default", show_default=True, help="Of its account.")
@named
@with_api
def create_tenant(*, api: AdminClient, output: str, tenant_name: str, plan: str, name: str | None) -> None:
    """Make a tenant called NAME; one that is called so already is shown."""
    body = {"name": tenant_name, "plan": plan}
    show_one(api.change("POST", "/v1/admin/tenants", body, name=name), output)


@tenants.command(name="rename")
@click.argument("tenant_id")
@click.argument("new_name")
@named
@with_api
def rename_tenant(*, api: AdminClient, output: str, tenant_id: str, new_name: str, name: str | None) -> None:
    """Give a tenant another name."""
    show_one(api.change("PATCH", f"/v1/admin/tenants/{tenant_id}", {"name": new_name}, name=name), output)


@tenants.command(name="suspend")
@click.argument("tenant_id")
@named
@with_api
def suspend_tenant(*, api: AdminClient, output: str, tenant_id: str, name: str | None) -> None:
    """Refuse all keys of a tenant until it is resumed."""
    show_one(api.change("POST", f"/v1/admin/tenants/{tenant_id}/suspend", name=name), output)


@tenants.command(name="resume")
@click.argument("tenant_id")
@named
@with_api
def resume_tenant(*, api: AdminClient, output: str, tenant_id: str, name: str | None) -> None:
    """Let a suspended tenant's keys in again."""
    show_one(api.change("POST", f"/v1/admin/tenants/{tenant_id}/resume", name=name), output)
