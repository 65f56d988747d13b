"""What a person sees of a stack: a live table while it starts, one line for everything that happens afterwards."""

import shlex
import time

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from odea_local.folder import DataFolder
from odea_local.status import Event, StackStatus, State

STYLES = {
    State.READY: ("✓", "green"),
    State.RESTARTING: ("↻", "yellow"),
    State.FAILED: ("✗", "red"),
    State.STOPPED: ("·", "dim"),
    State.WAITING: ("·", "dim"),
}
SENTENCE = "Hello from Odea."


class StartDisplay:
    """Hears of events and shows them. Give it the names of the services, in the order of the table."""

    def __init__(self, console: Console, folder: DataFolder, names: tuple[str, ...]) -> None:
        self._console = console
        self._folder = folder
        self._events = {name: Event(service=name, state=State.WAITING) for name in names}
        self._live: Live | None = None

    def on_event(self, event: Event) -> None:
        """Show an event."""
        if event.service:
            self._events[event.service] = event
        if not event.service:
            self._on_stack(event)
        elif self._live:
            self._live.update(self._table())
        elif event.state in {State.READY, State.FAILED, State.STOPPED} or _is_news(event):
            self._console.print(_line(event), soft_wrap=True)
        if event.service == "postgres" and event.state == State.STARTING and event.text:
            self._console.print(f"  [dim]{escape(event.service)} {escape(event.text)}[/]")

    def close(self) -> None:
        """Leave the terminal in order; repeating it does nothing."""
        if self._live:
            self._live.stop()
            self._live = None

    def _on_stack(self, event: Event) -> None:
        if event.state == State.STARTING:
            self._console.print(f"\n  [bold]Odea[/] is starting in {escape(str(self._folder.root))}\n", soft_wrap=True)
            if self._console.is_terminal:
                self._live = Live(self._table(), console=self._console, refresh_per_second=12)
                self._live.start()
        else:
            self.close()
        if event.state == State.READY:
            self._console.print(f"\n  [green]Ready[/] {escape(event.text)}.", highlight=False)
        elif event.state == State.STOPPING:
            self._console.print("\n  stopping …")

    def _table(self) -> Group:
        table = Table.grid(padding=(0, 2))
        for name, event in self._events.items():
            glyph, style = STYLES.get(event.state, ("", "cyan"))
            mark = Text(f"  {glyph}", style=style) if glyph else Spinner("dots", style=style)
            table.add_row(mark, Text(name), Text(f"{event.state} {event.text}".strip(), style="dim"))
        return Group(table)


def print_reach(console: Console, folder: DataFolder, url: str) -> None:
    """Say how to reach a stack that is ready. Names the files that hold the keys, never a key."""
    tenant = folder.keys / "tenant.key"
    body = f'{{"model":"tts-1","voice":"alloy","input":"{SENTENCE}"}}'
    curl = (
        f"curl -sS {url}/v1/audio/speech"
        f' -H "Authorization: Bearer $(cat {shlex.quote(str(tenant))})"'
        f" -H 'Content-Type: application/json' -d '{body}' -o hello.mp3"
    )
    rows = (
        ("Base URL", f"{url}/v1"),
        ("Tenant key", f"{tenant}"),
        ("Admin key", f"{folder.keys / 'admin.key'}"),
    )
    console.print()
    for title, value in rows:
        console.print(f"  [dim]{title:<10}[/]  [bold]{escape(value)}[/]", soft_wrap=True, highlight=False)
    console.print("\n  [dim]Make it speak:[/]\n", highlight=False)
    console.print(escape(curl), soft_wrap=True, highlight=False, style="cyan")
    say = folder.command(f'say "{SENTENCE}"')
    console.print(f"\n  [dim]or[/] {escape(say)}\n", soft_wrap=True, highlight=False)


def print_status(console: Console, status: StackStatus) -> None:
    """A table of the services."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("service", "state", "since", "restarts", "pid", "address"):
        table.add_column(title, justify="right" if title in {"restarts", "pid"} else "left", overflow="fold")
    for service in status.services:
        glyph, style = STYLES.get(service.state, ("…", "cyan"))
        table.add_row(
            service.name,
            Text(f"{glyph} {service.state}", style=style),
            _ago(service.since_ms),
            str(service.restarts),
            str(service.pid or ""),
            service.address,
        )
    console.print(f"\n  [bold]Odea[/] is {status.state} at {status.url}\n", highlight=False)
    console.print(Padding(table, (0, 0, 1, 2)))


def _is_news(event: Event) -> bool:
    """A death is; that the process has been started again is not, until it is ready."""
    return event.state == State.RESTARTING and bool(event.text)


def _line(event: Event) -> Text:
    glyph, style = STYLES[event.state]
    text = event.text if _is_news(event) else f"{event.state} {event.text}".strip()
    return Text.assemble((f"  {glyph} ", style), f"{event.service} ", (text, "dim"))


def _ago(since_ms: int) -> str:
    if not since_ms:
        return ""
    seconds = max(0, int(time.time() - since_ms / 1000))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
