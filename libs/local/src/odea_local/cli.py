"""The `odea` command."""

import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from odea_local import checks, daemon, logs, speech
from odea_local.admin.keys import keys
from odea_local.admin.plans import accounts, plans
from odea_local.admin.reading import audit, usage
from odea_local.admin.tenants import tenants
from odea_local.backup_verbs import backup, restore
from odea_local.display import StartDisplay, print_reach, print_status
from odea_local.errors import EXIT_FAILURE, EXIT_NOT_RUNNING, LocalError, explain
from odea_local.folder import DataFolder, default_root, home
from odea_local.recipe import DEMO, START_ORDER
from odea_local.stack import serve
from odea_local.status import Event, StackStatus, State, read_status
from odea_runtime.busadmin import __main__ as busadmin

F = TypeVar("F", bound=Callable[..., object])

PORT_DEFAULT = 8080
LOG_NAMES = (*START_ORDER, DEMO, "odea")
LINES_DEFAULT = 20
EXIT_INTERRUPTED = 130
COLOURS = ("blue", "magenta", "cyan", "green", "yellow", "bright_blue", "bright_magenta", "bright_cyan")


def main() -> None:
    """Run the command; every failure is one line on stderr and a non-zero exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without our signs shows question marks, and the command works all the same.
            stream.reconfigure(errors="replace")
    errors = Console(stderr=True, highlight=False)
    try:
        status = cli.main(prog_name="odea", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        errors.print("odea: stopped.")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has seen enough; the null device spares us a second complaint at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILURE)
    except (LocalError, OSError) as error:
        text = explain(error) if isinstance(error, OSError) else str(error)
        errors.print(Text.assemble(("odea: ", "red"), text), soft_wrap=True)
        sys.exit(EXIT_FAILURE)


def with_data(function: F) -> F:
    """Give a verb the option `--data`."""
    return click.option(
        "--data",
        "data",
        type=click.Path(file_okay=False, path_type=Path),
        default=default_root,
        show_default="the repository's .odea",
        help="The folder that holds everything of this stack.",
    )(function)


class InOrder(click.Group):
    """Lists its verbs in the order in which a newcomer meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """The verbs as they stand in this file."""
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Odea: metered, multi-tenant text-to-speech, all of it on this machine."""


@cli.command()
@click.option("-d", "--detach", is_flag=True, help="Return when it is ready and leave it running.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT_DEFAULT, show_default=True, help="0: a free one.")
@with_data
@click.pass_context
def up(ctx: click.Context, data: Path, port: int, detach: bool) -> None:
    """Start the stack; a second start keeps tenants, keys and usage."""
    console, folder = Console(), DataFolder.at(data)
    if status := daemon.wait_until_ready(folder):
        asked = ctx.get_parameter_source("port") is click.core.ParameterSource.COMMANDLINE
        if asked and port not in {0, urlsplit(status.url).port}:
            raise LocalError(f"Odea is already running at {status.url}. First: {folder.command('down')}")
        console.print(f"\n  [bold]Odea[/] is already running, process {status.pid}.", highlight=False)
        print_reach(console, folder, status.url)
        return
    display = StartDisplay(console, folder, START_ORDER)

    def show(event: Event) -> None:
        display.on_event(event)
        if event.url:
            print_reach(console, folder, event.url)
            how = folder.command("down") if detach else "Ctrl-C"
            console.print(f"  [dim]{escape(how)} stops everything.[/]\n", highlight=False, soft_wrap=True)

    try:
        (daemon.start if detach else serve)(folder, port, show)
    finally:
        display.close()


@cli.command(hidden=True)
@click.option("--port", type=int, required=True)
@click.option("--events", type=int, required=True)
@with_data
def supervise(data: Path, port: int, events: int) -> None:
    """Be the background process of `up --detach`."""
    daemon.supervise(DataFolder.at(data), port, events)


@cli.command()
@with_data
def down(data: Path) -> None:
    """Stop the stack; returns when nothing of it is left."""
    console, folder = Console(), DataFolder.at(data)
    with console.status("  stopping …"):
        stopped = daemon.stop(folder)
    console.print("  Odea is stopped." if stopped else f"  No Odea runs in {folder.root}.", soft_wrap=True)


@cli.command()
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@with_data
def status(data: Path, output: str) -> int:
    """Show what runs. Exits with 3 when nothing does."""
    folder = DataFolder.at(data)
    found = read_status(folder)
    if output == "json":
        shown = found or StackStatus(state=State.STOPPED, url="", pid=0, since_ms=0, services=())
        click.echo(msgspec.json.format(msgspec.json.encode(shown)))
    elif found:
        print_status(Console(), found)
    else:
        Console().print(f"  No Odea runs in {folder.root}.", soft_wrap=True)
    return 0 if found else EXIT_NOT_RUNNING


@cli.command(name="logs")
@click.argument("service", type=click.Choice(LOG_NAMES), required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0), default=LINES_DEFAULT, show_default=True)
@with_data
def show_logs(data: Path, service: str | None, follow: bool, lines: int) -> None:
    """Show the last lines of one service's log, or of all."""
    folder = DataFolder.at(data)
    if not folder.logs.is_dir():
        raise LocalError(f"there are no logs in {folder.root}.")
    names = (service,) if service else LOG_NAMES
    width = max(map(len, names))
    with suppress(KeyboardInterrupt):
        for name, line in logs.read(folder.logs, names, lines, follow=follow):
            prefix = "" if service else click.style(f"{name:<{width}} │ ", fg=COLOURS[LOG_NAMES.index(name)])
            click.echo(f"{prefix}{line}")


@cli.command()
@click.argument("text")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("speech.mp3"), show_default=True)
@click.option("--voice", default="alloy", show_default=True)
@click.option("--model", default="tts-1", show_default=True)
@with_data
def say(data: Path, text: str, output: Path, voice: str, model: str) -> None:
    """Speak TEXT into a file; its suffix names the format. `-o -` writes to standard output."""
    folder = DataFolder.at(data)
    found = read_status(folder)
    if not found:
        raise LocalError(f"no Odea runs in {folder.root}. Start one with {folder.command('up -d')}")
    request = speech.Request(input=text, model=model, voice=voice, response_format=speech.format_of(output))
    charged = speech.say(found.url, folder.keys / "tenant.key", request, output)
    where = "standard output" if output == speech.STANDARD_OUTPUT else output
    click.echo(f"{where} · {charged or 'an unknown number of'} characters charged", err=True)


@cli.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bus(arguments: tuple[str, ...]) -> int:
    """Run a bus of your own: `bus keys`, `bus config`, `bus apply`; more with `bus --help`."""
    return busadmin.main(arguments, "odea bus")


for group in (tenants, keys, plans, accounts, usage, audit, backup, restore):
    cli.add_command(group)


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("selection", nargs=-1, type=click.UNPROCESSED)
def test(selection: tuple[str, ...]) -> int:
    """Run the project's checks: all, or those that SELECTION names.

    The checks are format, lint, types, layers, imports, unit, integration and e2e. What follows them goes to pytest:
    `odea test unit -k port`, `odea test tests/e2e`.
    """
    return checks.run(home(), *checks.choose(home(), selection))
