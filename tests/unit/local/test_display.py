"""What a person is shown is complete, can be pasted, and holds no key."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from odea_local.display import StartDisplay, print_reach, print_status
from odea_local.folder import DataFolder
from odea_local.status import Event, ServiceStatus, StackStatus, State

NAMES = ("postgres", "keys")


def console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=60, force_terminal=terminal)


def text(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


@pytest.mark.parametrize("name", ["plain", "it's a folder"])
def test_the_curl_line_is_one_line_however_narrow_the_terminal(tmp_path: Path, name: str) -> None:
    shown = console()
    print_reach(shown, DataFolder.at(tmp_path / name), "http://127.0.0.1:8080")
    (curl,) = [line for line in text(shown).splitlines() if line.startswith("curl")]
    assert curl.endswith("-o hello.mp3")
    assert "[" not in curl.replace('{"', "")


def test_without_a_terminal_each_change_is_a_line(tmp_path: Path) -> None:
    shown = console()
    display = StartDisplay(shown, DataFolder.at(tmp_path), NAMES)
    for event in (
        Event(state=State.STARTING),
        Event(service="postgres", state=State.STARTING),
        Event(service="postgres", state=State.READY, text="in 0.5 s"),
        Event(state=State.READY, text="in 1.0 s"),
        Event(service="keys", state=State.RESTARTING, text="killed by SIGKILL [/] oddly"),
        Event(service="keys", state=State.RESTARTING),
        Event(state=State.STOPPING),
    ):
        display.on_event(event)
    assert [line.strip() for line in text(shown).splitlines() if line.strip()][1:] == [
        "✓ postgres ready in 0.5 s",
        "Ready in 1.0 s.",
        "↻ keys killed by SIGKILL [/] oddly",
        "stopping …",
    ]


def test_on_a_terminal_there_is_a_table_of_all_services(tmp_path: Path) -> None:
    shown = console(terminal=True)
    display = StartDisplay(shown, DataFolder.at(tmp_path), NAMES)
    display.on_event(Event(state=State.STARTING))
    display.on_event(Event(service="keys", state=State.MIGRATING))
    display.on_event(Event(state=State.READY))
    assert "postgres" in text(shown)
    assert "migrating" in text(shown)
    display.close()


def test_what_was_opened_for_the_database_is_said(tmp_path: Path) -> None:
    shown = console()
    display = StartDisplay(shown, DataFolder.at(tmp_path), NAMES)
    display.on_event(Event(service="postgres", state=State.STARTING, text="gave others the search bit (o+x) on /root"))
    assert "postgres gave others the search bit (o+x) on /root" in " ".join(text(shown).split())


def test_the_status_table_shows_every_service() -> None:
    shown = console()
    services = (ServiceStatus(name="keys", state=State.READY, pid=7, restarts=3, since_ms=1, address="127.0.0.1:1"),)
    print_status(shown, StackStatus(state=State.READY, url="http://x", pid=1, since_ms=1, services=services))
    assert "✓ ready" in text(shown)
    assert {"keys", "3", "7", "127.0.0.1:1"} <= set(text(shown).split())
