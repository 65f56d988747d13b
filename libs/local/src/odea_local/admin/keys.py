"""`odea keys …`."""

from pathlib import Path

import click

from odea_contracts.keys import Scope
from odea_local.admin.client import AdminClient
from odea_local.admin.display import show_issued, show_list, show_one
from odea_local.admin.importing import rehearse, take_over
from odea_local.admin.limits import overrides_from, with_limits
from odea_local.admin.predecessor import read
from odea_local.admin.regenerate import regenerate
from odea_local.admin.values import Duration, Moment, unless_none
from odea_local.admin.verbs import named, with_api

COLUMNS = ("key_id", "name", "public_id", "scopes", "own_account", "created_at_ms", "expires_at_ms", "revoked_at_ms")
SCOPES = click.Choice([scope.value for scope in Scope])


@click.group(name="keys")
def keys() -> None:
    """What lets callers in."""


@keys.command(name="list")
@click.argument("tenant_id")
@with_api
def list_keys(*, api: AdminClient, output: str, tenant_id: str) -> None:
    """List a tenant's keys, in order of creation."""
    show_list(api.every(f"/v1/admin/tenants/{tenant_id}/keys"), COLUMNS, output)


@keys.command(name="get")
@click.argument("key_id")
@with_api
def get_key(*, api: AdminClient, output: str, key_id: str) -> None:
    """Show a key, without its secret."""
    show_one(api.get(f"/v1/admin/keys/{key_id}"), output)


@keys.command(name="create")
@click.argument("tenant_id")
@click.argument("key_name", metavar="NAME")
@click.option("--scope", "scopes", type=SCOPES, multiple=True, default=["speech"], show_default=True)
@click.option("--expires", type=Moment(), help="A day or a time, in UTC; never unless given.")
@click.option("--allow", "networks", multiple=True, metavar="CIDR", help="Only from this network; may be repeated.")
@click.option("--plan", help="Give the key an account of its own under this plan.")
@with_limits
@named
@with_api
def create_key(
    *,
    api: AdminClient,
    output: str,
    tenant_id: str,
    key_name: str,
    scopes: tuple[str, ...],
    expires: int | str | None,
    networks: tuple[str, ...],
    plan: str | None,
    name: str | None,
    **limits: int | str | None,
) -> None:
    """Make a key called NAME and show it, this once.

    With --plan or a limit of its own it gets an account below the tenant's.
    """
    body: dict[str, object] = {"name": key_name, "scopes": list(scopes), "allowed_cidrs": list(networks)}
    body["expires_at_ms"] = unless_none(expires)
    overrides = overrides_from(limits)
    if plan or overrides:
        body |= {"own_account": True, "plan": plan or "default"}
    if overrides:
        body["overrides"] = overrides
    show_issued(api.change("POST", f"/v1/admin/tenants/{tenant_id}/keys", body, name=name), output)


@keys.command(name="update")
@click.argument("key_id")
@click.option("--name", "new_name")
@click.option("--scope", "scopes", type=SCOPES, multiple=True, help="Replace the scopes; may be repeated.")
@click.option("--expires", type=Moment(), help="A day or a time, in UTC, or never.")
@click.option("--allow", "networks", multiple=True, metavar="CIDR", help="Replace the networks; may be repeated.")
@click.option("--allow-anywhere", is_flag=True, help="Remove the networks.")
@named
@with_api
def update_key(
    *,
    api: AdminClient,
    output: str,
    key_id: str,
    new_name: str | None,
    scopes: tuple[str, ...],
    expires: int | str | None,
    networks: tuple[str, ...],
    allow_anywhere: bool,
    name: str | None,
) -> None:
    """Change what is given and leave the rest."""
    body: dict[str, object] = {}
    if new_name is not None:
        body["name"] = new_name
    if scopes:
        body["scopes"] = list(scopes)
    if expires is not None:
        body["expires_at_ms"] = unless_none(expires)
    if networks or allow_anywhere:
        body["allowed_cidrs"] = list(networks)
    if not body:
        raise click.UsageError("There is nothing to change.")
    show_one(api.change("PATCH", f"/v1/admin/keys/{key_id}", body, name=name), output)


@keys.command(name="rotate")
@click.argument("key_id")
@click.option("--grace", type=Duration(), default="0s", show_default=True, help="How long older secrets work on.")
@named
@with_api
def rotate_key(*, api: AdminClient, output: str, key_id: str, grace: int, name: str | None) -> None:
    """Give a key a new secret and show it, this once."""
    body = {"grace_ms": grace}
    show_issued(api.change("POST", f"/v1/admin/keys/{key_id}/rotate", body, name=name), output)


@keys.command(name="revoke")
@click.argument("key_id")
@named
@with_api
def revoke_key(*, api: AdminClient, output: str, key_id: str, name: str | None) -> None:
    """End a key for ever."""
    show_one(api.change("POST", f"/v1/admin/keys/{key_id}/revoke", name=name), output)


@keys.command(name="regenerate")
@click.option("--all", "everybody", is_flag=True, help="The keys of all tenants.")
@click.option("--tenant", "tenant_id", help="The keys of one tenant.")
@click.option("--grace", type=Duration(), required=True, help="How long the old secrets work on, such as 14d.")
@click.option("--csv", "path", type=click.Path(dir_okay=False, path_type=Path), required=True)
@with_api
def regenerate_keys(
    *, api: AdminClient, output: str, everybody: bool, tenant_id: str | None, grace: int, path: Path
) -> None:
    """Give every living key a new secret and write them into one CSV, mode 0600, for telling their owners.

    Interrupted, it is continued by the same command within a day: what was done is not done again. The key that asks
    comes last.
    """
    if everybody == (tenant_id is not None):
        raise click.UsageError("Say either --all or --tenant.")
    show_one(regenerate(api, path, tenant_id=tenant_id, grace_ms=grace), output)


@keys.command(name="import")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--csv", "path", type=click.Path(dir_okay=False, path_type=Path), help="Where the new keys go.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@with_api
def import_keys(*, api: AdminClient, output: str, source: Path, path: Path | None, dry_run: bool) -> None:
    """Make tenants and plans from SOURCE, a predecessor's CSV or SQLite file, with a new key for each tenant.

    Run twice, or again after an interruption, it does nothing twice. What was skipped is listed with the reason.
    """
    found = read(source)
    if dry_run:
        show_one(rehearse(api, found), output)
        return
    if path is None:
        raise click.UsageError("Say with --csv where the new keys go, or --dry-run.")
    show_one(take_over(api, found, path), output)
