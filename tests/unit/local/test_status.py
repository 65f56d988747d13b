"""Events become states that another process can read, for as long as the stack lives."""

import os
from pathlib import Path

import pytest

from odea_local.folder import DataFolder
from odea_local.status import Event, Journal, ServiceStatus, StackStatus, State, read_status


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    folder = DataFolder.at(tmp_path)
    folder.prepare()
    return folder


@pytest.fixture
def heard() -> list[Event]:
    return []


@pytest.fixture
def journal(folder: DataFolder, heard: list[Event]) -> Journal:
    services = (ServiceStatus(name="keys"), ServiceStatus(name="quota"))
    status = StackStatus(state=State.STARTING, url="http://x", pid=os.getpid(), since_ms=1, services=services)
    return Journal(folder, status, heard.append)


def test_an_event_changes_its_service_alone_and_is_passed_on(
    folder: DataFolder, journal: Journal, heard: list[Event]
) -> None:
    with folder.hold():
        event = Event(service="keys", state=State.READY, text="in 1.0 s")
        journal.tell(event, pid=7)
        status = read_status(folder)
    assert status
    assert [(one.name, one.state, one.pid) for one in status.services] == [
        ("keys", State.READY, 7),
        ("quota", State.WAITING, None),
    ]
    assert status.state == State.STARTING
    assert status.services[0].since_ms > 1
    assert heard == [event]


def test_an_event_without_a_service_is_the_stacks(folder: DataFolder, journal: Journal) -> None:
    with folder.hold():
        journal.tell(Event(state=State.READY))
        status = read_status(folder)
    assert status
    assert status.state == State.READY


def test_the_log_has_one_line_for_each(folder: DataFolder, journal: Journal) -> None:
    journal.tell(Event(service="keys", state=State.RESTARTING, text="killed by SIGKILL"))
    journal.tell(Event(state=State.STOPPED))
    first, second = (folder.logs / "odea.log").read_text().splitlines()
    assert first.endswith("Z keys restarting killed by SIGKILL")
    assert second.endswith("Z odea stopped")


def test_nothing_is_read_from_a_stack_that_is_gone(folder: DataFolder, journal: Journal) -> None:
    journal.tell(Event(state=State.READY))
    assert read_status(folder) is None


def test_a_status_that_cannot_be_written_does_not_stop_the_stack(
    folder: DataFolder, journal: Journal, heard: list[Event]
) -> None:
    folder.status.mkdir()
    journal.tell(Event(state=State.READY))
    assert len(heard) == 1
