"""One fault of each kind under load, in an order that a seed decides; `just chaos` has them all."""

import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from bench.chaos import chaos
from bench.faults import Kind, short_schedule
from bench.house import odea
from bench.processes import UpstreamHandle, upstream
from bench.records import End
from odea_local.embedded import EmbeddedStack

SEED = 20
PAUSE_S = 1.5
CONNECTIONS = 10


@pytest.fixture
def voice() -> Generator[UpstreamHandle]:
    with upstream() as running:
        yield running


@pytest.fixture
def shaken(voice: UpstreamHandle) -> Generator[EmbeddedStack]:
    """A stack of the test's own, with leases that end soon, so that nobody has to wait for them."""
    with tempfile.TemporaryDirectory(prefix="odea-chaos-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        folder.chmod(0o711)
        with odea(folder, voice, {"ODEA_SYNTH_LEASE_S": "5"}, first_audio_s=2, next_audio_s=2) as stack:
            yield stack


@pytest.mark.timeout(180)
async def test_everything_dies_and_the_money_adds_up(shaken: EmbeddedStack, voice: UpstreamHandle) -> None:
    faults = short_schedule(SEED, pause_s=PAUSE_S)
    assert {fault.kind for fault in faults} == set(Kind)
    found = await chaos(faults, shaken, voice, connections=CONNECTIONS, seed=SEED)
    assert found.faults == ()
    assert found.verdict.whole > 100
    assert any(not end.startswith(End.WHOLE) for end in found.ends), "nothing went wrong"
