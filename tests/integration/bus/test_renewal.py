"""A seed is renewed without a moment in which nobody is let in, and an old one is shut out for good."""

import asyncio
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import nats
import pytest

from odea_contracts.permissions import USERS
from odea_local.embedded import EmbeddedNats, embedded_nats
from odea_local.nats import find_program
from odea_local.ports import find_free
from odea_runtime.busadmin.authorization import server_config
from odea_runtime.busadmin.nkeys import make_keys, read_public_keys
from support.bususers import is_let_in
from support.waiting import until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys")
    return tmp_path / "keys"


@pytest.fixture
def server(tmp_path: Path, folder: Path) -> Generator[EmbeddedNats]:
    with embedded_nats(tmp_path, server_config(read_public_keys(folder))) as server:
        yield server


def seed(folder: Path) -> str:
    return (folder / "quota.seed").read_text().strip()


async def test_both_work_for_a_while_then_the_old_one_is_sent_away(server: EmbeddedNats, folder: Path) -> None:
    old, gone = seed(folder), asyncio.Event()

    async def on_gone() -> None:
        gone.set()

    client = await nats.connect(server.url, nkeys_seed_str=old, allow_reconnect=False, closed_cb=on_gone)
    make_keys(folder, renew="quota")
    new = seed(folder)
    assert new != old
    assert not await is_let_in(server.url, new)
    server.reload(server_config(read_public_keys(folder)))
    await until(lambda: is_let_in(server.url, new))
    assert await is_let_in(server.url, old)
    await client.flush()
    public = folder / "quota.pub"
    public.write_text(public.read_text().splitlines()[-1] + "\n")
    server.reload(server_config(read_public_keys(folder)))
    async with asyncio.timeout(10):
        await gone.wait()
    assert not await is_let_in(server.url, old)
    assert await is_let_in(server.url, new)


def command(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "odea_runtime.busadmin", *map(str, arguments)]
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=False, timeout=60)


@contextmanager
def operators_server(folder: Path) -> Generator[str]:
    """A server whose own configuration is as operators write it."""
    port = find_free()
    lines = (f"listen: 127.0.0.1:{port}", f'jetstream {{ store_dir: "{folder}" }}', "include odea.conf")
    (folder / "nats.conf").write_text("\n".join(lines))
    server = subprocess.Popen([find_program(), "-c", folder / "nats.conf"], stderr=subprocess.DEVNULL)
    try:
        yield f"nats://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def test_the_commands_as_an_operator_types_them(tmp_path: Path) -> None:
    """Keys, a server that includes the printed configuration, and the stream made twice."""
    keys = tmp_path / "keys"
    made = command("keys", keys)
    assert (made.returncode, len(made.stdout.splitlines())) == (0, len(USERS))
    config = command("config", keys)
    assert config.returncode == 0
    (tmp_path / "odea.conf").write_text(config.stdout)
    with operators_server(tmp_path) as url:
        login = {"ODEA_NATS_URL": url, "ODEA_NATS_SEED_FILE": str(keys / "installer.seed")}
        for _ in range(2):
            applied = command("apply", **login)
            assert (applied.returncode, applied.stdout) == (0, ""), applied.stderr
        other = login | {"ODEA_NATS_SEED_FILE": str(keys / "quota.seed")}
        refused = command("apply", **other)
        assert refused.returncode == 1
        assert "could not be made" in refused.stderr
        assert msgspec.json.decode(config.stdout)["max_payload"] == 1024 * 1024
    assert command("apply").returncode == 78
    assert command("config", tmp_path / "nowhere").returncode == 1
    assert command("keys", keys, "--renew", "nobody").returncode == 1
    assert command("dance").returncode == 2
