"""A keeper starts again what died, waits longer each time, and gives up only where trying is useless."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import psutil
import pytest

from odea_local import supervisor
from odea_local.errors import StartFailedError
from odea_local.folder import DataFolder
from odea_local.logfile import LogFile
from odea_local.process import Command, Process
from odea_local.status import Event, Journal, ServiceStatus, StackStatus, State
from odea_local.supervisor import Keeper, Service, run_to_end
from support.waiting import until

SLEEP = "import time; print('awake', flush=True); time.sleep(600)"
MakeKeeper = Callable[..., Keeper]


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
async def make_keeper(tmp_path: Path, events: list[Event]) -> AsyncGenerator[MakeKeeper]:
    folder = DataFolder.at(tmp_path)
    folder.prepare()
    status = StackStatus(state=State.READY, url="", pid=0, since_ms=0, services=(ServiceStatus(name="it"),))
    made: list[Keeper] = []

    def make(code: str, is_ready: Callable[[Process], bool] = is_alive, **changes: float) -> Keeper:
        service = Service(
            name="it",
            command=Command(argv=(sys.executable, "-c", code), environ={}, cwd=tmp_path),
            is_ready=is_ready,
            ready_within_s=changes.get("ready_within_s", 5.0),
            grace_s=changes.get("grace_s", 5.0),
        )
        made.append(Keeper(service, LogFile(tmp_path / "it.log"), Journal(folder, status, events.append)))
        return made[-1]

    yield make
    for keeper in made:
        await keeper.stop(asyncio.Event())


def never(_process: Process) -> bool:
    return False


def is_alive(process: Process) -> bool:
    return not process.exited.done()


def is_awake(process: Process) -> bool:
    return process.log.tail() == ("awake",)


def texts(events: list[Event], state: State) -> list[str]:
    return [event.text for event in events if event.state == state]


async def test_what_keeps_dying_is_started_again_ever_later(make_keeper: MakeKeeper, events: list[Event]) -> None:
    await make_keeper("import time; time.sleep(0.05); raise SystemExit('no luck')").start()
    await until(lambda: len(texts(events, State.RESTARTING)) >= 5)
    told = [text for text in texts(events, State.RESTARTING) if text]
    assert told[:3] == [
        f"ended with status 1: no luck; starting it again in {delay} s" for delay in ("0.2", "0.4", "0.8")
    ]


async def test_what_ran_well_is_started_again_at_once(
    make_keeper: MakeKeeper, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STEADY_S", 0.0)
    await make_keeper("import time; time.sleep(0.05)").start()
    await until(lambda: len([text for text in texts(events, State.RESTARTING) if text]) >= 3)
    assert {text.partition(" again ")[2] for text in texts(events, State.RESTARTING) if text} == {"in 0.2 s"}


async def test_wrong_settings_are_not_tried_again(make_keeper: MakeKeeper, events: list[Event]) -> None:
    await make_keeper("import time; time.sleep(0.2); print('ODEA_X: missing'); exit(78)").start()
    await until(lambda: bool(texts(events, State.FAILED)))
    assert "its settings are wrong: ended with status 78: ODEA_X: missing" in texts(events, State.FAILED)[0]
    assert texts(events, State.RESTARTING) == []


async def test_a_start_that_ends_says_its_last_words(make_keeper: MakeKeeper) -> None:
    keeper = make_keeper("print('FATAL: no room'); print('bye'); exit(1)", is_ready=never)
    with pytest.raises(StartFailedError, match=r"it did not start: ended with status 1: FATAL: no room\. Its log: "):
        await keeper.start()


async def test_a_start_that_hangs_ends(make_keeper: MakeKeeper) -> None:
    keeper = make_keeper(SLEEP, is_ready=never, ready_within_s=0.1)
    with pytest.raises(StartFailedError, match="not ready within"):
        await keeper.start()


async def test_stopping_in_a_hurry_does_not_wait_for_the_grace(make_keeper: MakeKeeper, events: list[Event]) -> None:
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
    keeper = make_keeper(deaf, is_ready=is_awake, grace_s=600.0)
    await keeper.start()
    hurry = asyncio.Event()
    stopping = asyncio.create_task(keeper.stop(hurry))
    await until(lambda: texts(events, State.STOPPING) == [""])
    hurry.set()
    await asyncio.wait_for(stopping, 5)
    assert texts(events, State.STOPPED) == [""]


async def test_stopping_before_starting_or_twice_does_nothing(make_keeper: MakeKeeper, events: list[Event]) -> None:
    keeper = make_keeper(SLEEP)
    await keeper.stop(asyncio.Event())
    await keeper.start()
    await keeper.stop(asyncio.Event())
    await keeper.stop(asyncio.Event())
    assert len(texts(events, State.STOPPED)) == 1


@pytest.mark.parametrize(("code", "reason"), [("exit(3)", "ended with status 3"), (SLEEP, "did not end within")])
async def test_a_command_that_should_end_must_end_well(tmp_path: Path, code: str, reason: str) -> None:
    command = Command(argv=(sys.executable, "-c", code), environ={}, cwd=tmp_path)
    with pytest.raises(StartFailedError, match=reason):
        await run_to_end("it", command, LogFile(tmp_path / "it.log"), within_s=1.0)


async def test_a_cancelled_command_is_killed(tmp_path: Path) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    command = Command(argv=(sys.executable, "-c", code), environ={}, cwd=tmp_path)
    log = LogFile(tmp_path / "it.log")
    running = asyncio.create_task(run_to_end("it", command, log, within_s=600.0))
    await until(lambda: len(log.tail()) == 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not psutil.pid_exists(int(log.tail()[0]))
