"""The bare chain, running."""

import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from bench.processes import Cost, UpstreamHandle, cost_of, started
from bench.records import Caller, Wish, request_text
from odea_local.embedded import embedded_nats, embedded_postgres
from odea_local.ports import find_free

READY_WITHIN_S = 30.0
LOOK_S = 0.1
READY_ID = "ready.0"


class BareChain:
    """Its address and its processes."""

    def __init__(self, url: str, pids: dict[str, int]) -> None:
        self.url = url
        self._pids = pids

    def callers(self, connections: int) -> tuple[Caller, ...]:
        """Nobody in particular."""
        return (Caller(tenant_id="bare", key="bare", connections=connections),)

    def costs(self) -> dict[str, Cost]:
        """What each process has cost so far."""
        return {name: cost_of(pid) for name, pid in self._pids.items()}


@contextmanager
def bare_chain(folder: Path, upstream: UpstreamHandle) -> Generator[BareChain]:
    """The chain for the time of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        postgres = stack.enter_context(embedded_postgres(folder / "postgres"))
        nats = stack.enter_context(embedded_nats(folder / "nats"))
        environ = {
            "BARE_NATS_URL": nats.url,
            "BARE_DATABASE_URL": postgres.dsn,
            "BARE_UPSTREAM_URL": upstream.url,
        }
        port = find_free()
        server = ("-m", "granian", "--interface", "asgi", "--workers", "1", "--backlog", "1024", "--no-ws")
        where = ("--port", str(port), "--log-level", "error", "bench.bare.front:app")
        pids = {"postgres": postgres.pid, "nats": nats.pid}
        for name, arguments in {
            "ledger": ("-m", "bench.bare.ledger"),
            "back": ("-m", "bench.bare.back"),
            "front": (*server, *where),
        }.items():
            pids[name] = stack.enter_context(started(*arguments, environ=environ)).pid
        url = f"http://127.0.0.1:{port}"
        _until_ready(url)
        yield BareChain(url, pids)


def _until_ready(url: str) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    asked = {"model": "tts-1", "voice": "alloy", "input": request_text(READY_ID, Wish.OK, 60)}
    while time.monotonic() < deadline:
        try:
            if httpx.post(f"{url}/v1/audio/speech", json=asked, timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(LOOK_S)
    raise TimeoutError("the bare chain does not speak")
