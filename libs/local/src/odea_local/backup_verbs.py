"""`odea backup` and `odea restore`."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import click

from odea_contracts.subjects import BACKUP, INSTALLER
from odea_local import backup as files
from odea_local import credentials
from odea_local.errors import LocalError
from odea_local.folder import DataFolder, default_root
from odea_local.postgres import Postgres
from odea_local.roles import DATABASE
from odea_local.standstill import standing_still
from odea_local.status import read_status

F = TypeVar("F", bound=Callable[..., object])
HELP: Final = "PostgreSQL, as somebody who may read (or, to restore, own) all three schemas; else the stack of --data."
_BUS: Final = "ODEA_NATS_URL"


class _Place(NamedTuple):
    """What is saved or restored."""

    database_url: str
    bus: Mapping[str, str] | None


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
@click.option(
    "--recipient", envvar="ODEA_BACKUP_RECIPIENT", help="An age public key; the files are for its owner alone."
)
@_with_database
def backup(output: Path, recipient: str | None, database_url: str | None, data: Path) -> None:
    """Write tenants, keys, ledger, request log and, if ODEA_NATS_… tell where, the stream of events into files.

    Their names are printed, the database's last.
    """
    place = _named(database_url) if database_url else _own(DataFolder.at(data), BACKUP)
    for path in files.write(place.database_url, output, recipient, place.bus):
        click.echo(path)
    if not place.bus:
        click.echo(f"odea: without {_BUS} the stream of events is left out.", err=True)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--identity", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The file with the age identity."
)
@click.option("--replace", is_flag=True, help="Also if there are tenants or events; nothing of them is left.")
@_with_database
def restore(file: Path, identity: Path | None, replace: bool, database_url: str | None, data: Path) -> None:
    """Put a backup back, with the stream of events if that lies beside FILE and ODEA_NATS_… tell where to.

    Services must not run meanwhile; those of the stack of --data are halted and started afresh.
    """
    folder = DataFolder.at(data)
    place = _named(database_url) if database_url else _own(folder, INSTALLER)
    standstill = None if database_url else standing_still(folder)
    with_events = files.read(place.database_url, file, identity, replace=replace, bus=place.bus, standstill=standstill)
    events = "with the stream of events" if with_events else "without the stream of events"
    click.echo(f"{file.name} is back, {events}. Now migrate, start the services, and run odea-quota audit.")


def _named(database_url: str) -> _Place:
    login = {name: value for name, value in os.environ.items() if name.startswith("ODEA_NATS_")}
    return _Place(database_url, login if _BUS in login else None)


def _own(folder: DataFolder, user: str) -> _Place:
    """The stack that runs here, as its superuser and as `user` of its bus."""
    status = read_status(folder)
    if not status:
        raise LocalError(f"no Odea runs in {folder.root}. Start one, or name a database with --database-url.")
    kept = credentials.load_or_create(folder.credentials)
    (address,) = [service.address for service in status.services if service.name == "nats"]
    login = {_BUS: f"nats://{address}", "ODEA_NATS_SEED": kept.nats_seed(user)}
    return _Place(Postgres.at(folder.postgres, kept.postgres).admin_dsn(DATABASE), login)
