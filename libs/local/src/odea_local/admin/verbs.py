"""The groups of verbs and their common options."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import click

from odea_local.admin.client import AdminClient, connect
from odea_local.folder import DataFolder, default_root

F = TypeVar("F", bound=Callable[..., object])

HELP: Final = "Which gateway: ODEA_URL and ODEA_ADMIN_KEY, else the stack of --data."


def with_api(function: F) -> F:
    """Give a verb the options `--data`, as the client `api`, and `--output`."""
    function = click.option(
        "--data",
        "api",
        type=click.Path(file_okay=False, path_type=Path),
        default=default_root,
        show_default="the repository's .odea",
        callback=_connected,
        help=HELP,
    )(function)
    return click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)(function)


named = click.option(
    "--idempotency-key",
    "name",
    help="Names this change: asked again under it, it is done once and answered the same.",
)
"""Give a verb the option `--idempotency-key`."""


def _connected(ctx: click.Context, _param: click.Parameter, value: Path) -> AdminClient:
    return ctx.with_resource(connect(DataFolder.at(value)))
