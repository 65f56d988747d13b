"""What the API answered, as a table for people or as JSON for programs."""

from collections.abc import Iterable
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from odea_local.admin.client import Table
from odea_local.admin.values import moment_text

JSON: Final = "json"
WIDTH_PIPED: Final = 200


def show_list(rows: Iterable[Table], columns: tuple[str, ...], output: str) -> None:
    """Many things: a row each, or one JSON array."""
    if output == JSON:
        click.echo(msgspec.json.format(msgspec.json.encode(list(rows))))
        return
    table = RichTable(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(_title(column), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(column, _at(row, column)) for column in columns))
    _print(table)


def show_one(row: Table, output: str) -> None:
    """One thing: a line for each field, or one JSON object."""
    if output == JSON:
        click.echo(msgspec.json.format(msgspec.json.encode(row)))
        return
    table = RichTable(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for field, value in _flat(row):
        table.add_row(_title(field), _cell(field, value))
    _print(table)


def show_issued(issued: Table, output: str) -> None:
    """A key and its secret, which is shown this once."""
    if output == JSON:
        show_one(issued, output)
        return
    show_one(issued["key"], output)
    click.echo(f"\n{issued['secret']}\n")
    click.echo("The key is shown this once. Keep it now; nobody can look it up later.", err=True)


def _print(table: RichTable) -> None:
    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH_PIPED)
    console.print(table)


def _flat(row: Table, prefix: str = "") -> list[tuple[str, object]]:
    fields: list[tuple[str, object]] = []
    for field, value in row.items():
        if isinstance(value, dict):
            fields += _flat(value, f"{prefix}{field}.")
        elif field not in {"type", "object"}:
            fields.append((f"{prefix}{field}", value))
    return fields


def _at(row: Table, column: str) -> object:
    found: object = row
    for part in column.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _title(column: str) -> str:
    return column.removesuffix("_at_ms").removesuffix("_ms").replace("_", " ").replace(".", " ").upper()


def _cell(column: str, value: object) -> Text:
    """Text, never markup: a tenant may be called `[red]`, or worse."""
    match value:
        case None:
            return Text("-", style="dim")
        case bool():
            return Text("yes" if value else "no")
        case int() if column.endswith("at_ms"):
            return Text(moment_text(value))
        case list():
            return Text(", ".join(map(str, value)) or "-")
        case dict():
            return Text(msgspec.json.encode(value).decode())
        case _:
            return Text(str(value))
