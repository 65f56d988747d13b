"""Production's bus: three servers that trust one another by certificate, clients over TLS, events kept three times.

Needs Docker, openssl and `just images`; run by `just containers-test`.
"""

import os
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Final

import msgspec
import pytest

from deploy.engine import Engine, docker
from odea_contracts.permissions import USERS
from odea_contracts.subjects import STREAM_EVENTS
from odea_runtime.busadmin.authorization import server_config
from odea_runtime.busadmin.nkeys import new_seed, public_key

NAMES: Final = "DNS:odea-nats,DNS:odea-nats-servers,DNS:*.odea-nats-servers"
LOOK: Final = f"""
import asyncio, os, ssl, nats
async def main():
    context = ssl.create_default_context(cafile="/etc/odea/bus/ca.crt")
    client = await nats.connect(os.environ["URL"], tls=context, tls_handshake_first=True,
                                inbox_prefix="_INBOX_installer", nkeys_seed_str=os.environ["ODEA_NATS_SEED"])
    info = await client.jetstream().stream_info("{STREAM_EVENTS}")
    print(info.config.num_replicas, len(info.cluster.replicas))
asyncio.run(main())
"""
COPY: Final = """
import asyncio, os, sys
from pathlib import Path
from odea_runtime import snapshots
from odea_runtime.bus import Bus
from odea_runtime.settings import Settings, load
async def on_bus(user, do):
    bus = Bus(load(Settings, {**os.environ, "ODEA_NATS_SEED": os.environ["SEED_" + user.upper()]}), user)
    await bus.start()
    try:
        return await do(bus)
    finally:
        await bus.stop()
async def main():
    path = Path("/dev/shm/copy")
    tell = lambda bus: bus.client.jetstream().publish("odea.v1.quota.evt.settled", b"told", headers={"ce-id": "one"})
    await on_bus("quota", tell)
    await on_bus("backup", lambda bus: snapshots.take(bus, path))
    await on_bus("quota", tell)
    last = await on_bus("installer", lambda bus: snapshots.put_back(bus, path))
    count = await on_bus("installer", snapshots.count)
    print(count, *await on_bus("installer", lambda bus: snapshots.ids_since(bus, last)))
asyncio.run(main())
"""


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The Secret `odea-nats-tls`, as cert-manager makes it."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "names").write_text(f"subjectAltName={NAMES}\nextendedKeyUsage=serverAuth,clientAuth\n")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(folder, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=bus", "-days", "2")
    openssl(folder, "req", *key, "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=odea-nats")
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
    openssl(folder, "x509", "-req", "-in", "tls.csr", *signed, "-out", "tls.crt")
    return {name: (folder / name).read_text() for name in ("tls.crt", "tls.key", "ca.crt")}


@pytest.fixture(scope="module")
def seeds() -> dict[str, str]:
    return {user.name: new_seed() for user in USERS}


@pytest.fixture(scope="module")
def bus(
    certificates: dict[str, str], seeds: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Generator[Engine]:
    """The three servers of the overlay."""
    users = server_config({name: [public_key(seed)] for name, seed in seeds.items()})
    one = Engine(
        "production",
        tmp_path_factory.mktemp("production"),
        f"odea-bus-{os.getpid()}",
        given={
            "odea-nats-tls": certificates,
            "odea-nats-users": {"users.conf": msgspec.json.encode(users).decode()},
            "odea-installer": {"ODEA_NATS_SEED": seeds["installer"]},
        },
        tags={"registry.example.com/odea/": "odea-"},
    )
    for folder in (one.folder, *one.folder.parents[:2]):
        folder.chmod(0o755)
    one.open()
    try:
        one.start_together("StatefulSet/odea-nats", 3)
        yield one
    finally:
        one.close()


def test_events_are_kept_by_three_over_tls(bus: Engine) -> None:
    bus.run_job("odea-bus-apply")
    job = bus.workload("Job/odea-bus-apply")
    looked = bus.one_off(job, "-c", LOOK, program=["/app/bin/python"], environ={"URL": "tls://odea-nats:4222"})
    assert looked.returncode == 0, looked.stderr
    assert looked.stdout.split() == ["3", "2"]


def test_the_stream_is_copied_and_put_back_on_all_three(bus: Engine, seeds: dict[str, str]) -> None:
    job = bus.workload("Job/odea-bus-apply")
    environ = {f"SEED_{user.upper()}": seeds[user] for user in ("quota", "backup", "installer")}
    copied = bus.one_off(job, "-c", COPY, program=["/app/bin/python"], environ=environ)
    assert copied.returncode == 0, copied.stderr
    assert copied.stdout.split()[-2:] == ["1", "one"], "what came after the copy is gone"
    looked = bus.one_off(job, "-c", LOOK, program=["/app/bin/python"], environ={"URL": "tls://odea-nats:4222"})
    assert looked.stdout.split() == ["3", "2"]


def test_nobody_gets_in_without_tls(bus: Engine) -> None:
    job = bus.workload("Job/odea-bus-apply")
    plain = LOOK.replace("tls=context, tls_handshake_first=True,", "connect_timeout=2, max_reconnect_attempts=1,")
    refused = bus.one_off(job, "-c", plain, program=["/app/bin/python"], environ={"URL": "nats://odea-nats:4222"})
    assert refused.returncode != 0


def test_two_of_three_go_on(bus: Engine) -> None:
    job = bus.workload("Job/odea-bus-apply")
    docker("kill", bus.pods["odea-nats"][0].container)
    docker("network", "disconnect", bus.network, bus.pods["odea-nats"][0].container, check=False)
    bus.run_job("odea-bus-apply")
    looked = bus.one_off(job, "-c", LOOK, program=["/app/bin/python"], environ={"URL": "tls://odea-nats:4222"})
    assert looked.returncode == 0, looked.stderr
