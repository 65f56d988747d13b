"""`odea plans …` and `odea accounts …`."""

from urllib.parse import quote
from uuid import UUID

import click

from odea_local.admin.client import AdminClient
from odea_local.admin.display import show_list, show_one
from odea_local.admin.limits import overrides_from, with_limits
from odea_local.admin.values import Count, Moment, unless_none
from odea_local.admin.verbs import named, with_api

COLUMNS = ("name", "units", "window", "requests_per_minute", "requests_burst", "in_flight_max", "soft_limits_percent")


@click.group(name="plans")
def plans() -> None:
    """Limits that accounts share."""


@plans.command(name="list")
@with_api
def list_plans(api: AdminClient, output: str) -> None:
    """List all plans, by name."""
    show_list(api.every("/v1/admin/plans"), COLUMNS, output)


@plans.command(name="get")
@click.argument("plan")
@with_api
def get_plan(*, api: AdminClient, output: str, plan: str) -> None:
    """Show a plan."""
    show_one(api.get(_path(plan)), output)


@plans.command(name="set")
@click.argument("plan")
@click.option("--window", type=click.Choice(["month", "day", "none"]), default="month", show_default=True)
@click.option("--text-characters", type=Count(), help="Characters of one text, or none for no limit.")
@click.option("--model", "models", multiple=True, help="Allow only these models; may be repeated.")
@click.option("--voice", "voices", multiple=True, help="Allow only these voices; may be repeated.")
@click.option("--warn-at", "percents", type=click.IntRange(1, 100), multiple=True, help="Per cent of the units.")
@with_limits
@named
@with_api
def set_plan(
    *,
    api: AdminClient,
    output: str,
    plan: str,
    window: str,
    text_characters: int | str | None,
    models: tuple[str, ...],
    voices: tuple[str, ...],
    percents: tuple[int, ...],
    name: str | None,
    **limits: int | str | None,
) -> None:
    """Make or replace a plan; its accounts get the new limits at once. What is not given has no limit."""
    body: dict[str, object] = {"units": None, "window": window, **overrides_from(limits)}
    body["text_characters_max"] = unless_none(text_characters)
    body |= {"models": list(models)} if models else {}
    body |= {"voices": list(voices)} if voices else {}
    body["soft_limits_percent"] = list(percents)
    show_one(api.change("PUT", _path(plan), body, name=name), output)


@click.group(name="accounts")
def accounts() -> None:
    """What is charged: one for each tenant, and one for each key with limits of its own."""


@accounts.command(name="get")
@click.argument("account_id")
@with_api
def get_account(*, api: AdminClient, output: str, account_id: str) -> None:
    """Show an account with its balance."""
    show_one(api.get(f"/v1/admin/accounts/{account_id}"), output)


@accounts.command(name="set")
@click.argument("account_id")
@click.option("--plan", help="Move it to this plan; what is used stays used.")
@click.option("--follow-plan", is_flag=True, help="Remove all limits that differ from the plan's.")
@with_limits
@named
@with_api
def set_account(
    *,
    api: AdminClient,
    output: str,
    account_id: str,
    plan: str | None,
    follow_plan: bool,
    name: str | None,
    **limits: int | str | None,
) -> None:
    """Change an account's plan, or replace the limits in which it differs from its plan."""
    overrides = overrides_from(limits)
    if follow_plan and overrides:
        raise click.UsageError("A limit of its own does not go with --follow-plan.")
    body: dict[str, object] = {"plan": plan} if plan else {}
    if overrides or follow_plan:
        body["overrides"] = overrides
    if not body:
        raise click.UsageError("There is nothing to change.")
    show_one(api.change("PATCH", f"/v1/admin/accounts/{account_id}", body, name=name), output)


@accounts.command(name="suspend")
@click.argument("account_id")
@named
@with_api
def suspend_account(*, api: AdminClient, output: str, account_id: str, name: str | None) -> None:
    """Let an account hold nothing more until it is resumed."""
    show_one(api.change("POST", f"/v1/admin/accounts/{account_id}/suspend", name=name), output)


@accounts.command(name="resume")
@click.argument("account_id")
@named
@with_api
def resume_account(*, api: AdminClient, output: str, account_id: str, name: str | None) -> None:
    """Let a suspended account be charged again."""
    show_one(api.change("POST", f"/v1/admin/accounts/{account_id}/resume", name=name), output)


@accounts.command(name="top-up")
@click.argument("account_id")
@click.argument("units", type=click.IntRange(1))
@click.option("--expires", type=Moment(), required=True, help="When what is left of them lapses.")
@named
@with_api
def top_up(*, api: AdminClient, output: str, account_id: str, units: int, expires: int | str, name: str | None) -> None:
    """Give an account extra units, which are used before the plan's."""
    if not isinstance(expires, int):
        raise click.UsageError("Units that are added must lapse at some time.")
    body = {"units": units, "expires_at_ms": expires}
    show_one(api.change("POST", f"/v1/admin/accounts/{account_id}/topups", body, name=name), output)


@accounts.command(name="carry-over")
@click.argument("account_id")
@click.argument("units", type=click.IntRange(1))
@click.option("--id", "carryover_id", type=click.UUID, required=True, help="A UUID; under it this is done once.")
@named
@with_api
def carry_over(
    *, api: AdminClient, output: str, account_id: str, units: int, carryover_id: UUID, name: str | None
) -> None:
    """Charge an account, in its present window, with units that were used before it was here."""
    body = {"carryover_id": str(carryover_id), "units": units}
    show_one(api.change("POST", f"/v1/admin/accounts/{account_id}/carryovers", body, name=name), output)


def _path(plan: str) -> str:
    return f"/v1/admin/plans/{quote(plan, safe='')}"
