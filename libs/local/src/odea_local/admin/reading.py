"""`odea usage` and `odea audit`."""

import click

from odea_local.admin.client import AdminClient
from odea_local.admin.display import JSON, show_list, show_one
from odea_local.admin.verbs import with_api

BALANCES = ("account_id", "limit", "used", "held", "remaining", "window", "window_ends_at_ms", "topup_remaining")
POINTS = ("day", "key_id", "units", "requests")
ENTRIES = ("at_ms", "action", "actor", "origin", "tenant_id", "key_id", "detail")


@click.command(name="usage")
@click.argument("tenant_id")
@click.option("--from", "first_day", metavar="DAY", help="The first day, in UTC, such as 2027-01-31.")
@click.option("--to", "last_day", metavar="DAY", help="The last day.")
@with_api
def usage(*, api: AdminClient, output: str, tenant_id: str, first_day: str | None, last_day: str | None) -> None:
    """Show where a tenant's accounts stand, and what was used by day and key if days are named."""
    days = {"from": first_day, "to": last_day}
    found = api.get("/v1/admin/usage", tenant_id=tenant_id, **days)
    if output == JSON:
        show_one(found, output)
        return
    show_list(found["balances"], BALANCES, output)
    if found["points"]:
        click.echo()
        show_list(found["points"], POINTS, output)


@click.command(name="audit")
@click.option("--tenant", "tenant_id", help="Only this tenant's.")
@click.option("--key", "key_id", help="Only this key's.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="So many at most.")
@with_api
def audit(*, api: AdminClient, output: str, tenant_id: str | None, key_id: str | None, limit: int) -> None:
    """Show who changed what, when and from where, newest first."""
    entries = api.every("/v1/admin/audit", at_most=limit, tenant_id=tenant_id, key_id=key_id)
    show_list(entries, ENTRIES, output)
