"""`odea backup` and `odea restore`."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import click

from odea_local import backup as files
from odea_local import credentials
from odea_local.errors import LocalError
from odea_local.folder import DataFolder, default_root
from odea_local.postgres import Postgres
from odea_local.roles import DATABASE
from odea_local.status import read_status

F = TypeVar("F", bound=Callable[..., object])
HELP: Final = "PostgreSQL, as somebody who may read (or, to restore, own) all three schemas; else the stack of --data."


def _with_database(function: F) -> F:
    function = click.option("--database-url", envvar="ODEA_BACKUP_DATABASE_URL", help=HELP)(function)
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        default=default_root,
        show_default="the repository's .odea",
        help="The folder of the stack that runs here.",
    )(function)


@click.command()
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder.")
@click.option("--recipient", envvar="ODEA_BACKUP_RECIPIENT", help="An age public key; the file is for its owner alone.")
@_with_database
def backup(output: Path, recipient: str | None, database_url: str | None, data: Path) -> None:
    """Write tenants, keys, ledger and request log into one file; its name is printed."""
    click.echo(files.write(database_url or _own(data), output, recipient))


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--identity", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The file with the age identity."
)
@click.option("--replace", is_flag=True, help="Also if there are tenants; nothing of them is left.")
@_with_database
def restore(file: Path, identity: Path | None, replace: bool, database_url: str | None, data: Path) -> None:
    """Put a backup back, all of it or nothing. Services should not run meanwhile."""
    files.read(database_url or _own(data), file, identity, replace=replace)
    click.echo(f"{file.name} is back. Now migrate, start the services, and run odea-quota audit.")


def _own(data: Path) -> str:
    """The superuser's address of the stack that runs here."""
    folder = DataFolder.at(data)
    if not read_status(folder):
        raise LocalError(f"no Odea runs in {folder.root}. Start one, or name a database with --database-url.")
    kept = credentials.load_or_create(folder.credentials)
    return Postgres.at(folder.postgres, kept.postgres).admin_dsn(DATABASE)
