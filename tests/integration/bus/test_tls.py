"""TLS on the bus: nothing is said before it stands, and to nobody whom the given authority does not vouch for."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from odea_contracts import keys
from odea_local.embedded import EmbeddedNats, embedded_nats
from odea_runtime.bus import Bus
from odea_runtime.busadmin.authorization import server_config
from odea_runtime.settings import Settings, load
from support.bususers import PUBLIC_KEYS, SEEDS
from support.waiting import until


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own."""

    ca: trustme.CA
    folder: Path

    @property
    def file(self) -> str:
        path = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(path)
        return str(path)

    def issue(self, name: str) -> dict[str, str]:
        """Certificate and key for `name`, as paths."""
        certificate = self.ca.issue_cert(name)
        chain, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
        certificate.private_key_pem.write_to_path(key)
        return {"cert_file": str(chain), "key_file": str(key)}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(trustme.CA(), tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(trustme.CA(), tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Generator[EmbeddedNats]:
    tls = {**authority.issue("127.0.0.1"), "handshake_first": True}
    with embedded_nats(tmp_path_factory.mktemp("nats"), {**server_config(PUBLIC_KEYS), "tls": tls}) as server:
        yield server


@pytest.fixture(scope="module")
def choosy(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Generator[EmbeddedNats]:
    """A server that wants to see a certificate, too."""
    tls = {**authority.issue("127.0.0.1"), "ca_file": authority.file, "verify": True, "handshake_first": True}
    with embedded_nats(tmp_path_factory.mktemp("choosy"), {**server_config(PUBLIC_KEYS), "tls": tls}) as server:
        yield server


@asynccontextmanager
async def starting(url: str, **settings: str) -> AsyncGenerator[tuple[Bus, "asyncio.Task[None]"]]:
    environ = {"ODEA_NATS_URL": url, "ODEA_NATS_SEED": SEEDS["operator"]}
    environ |= {f"ODEA_NATS_{name.upper()}": value for name, value in settings.items()}
    bus = Bus(load(Settings, environ), "operator")
    start = asyncio.create_task(bus.start())
    try:
        yield bus, start
    finally:
        start.cancel()
        await asyncio.wait([start])
        await bus.stop()


async def test_with_the_right_authority_it_works(server: EmbeddedNats, authority: Authority) -> None:
    async with starting(server.url, tls_ca_file=authority.file) as (bus, start):
        async with asyncio.timeout(10):
            await start
        assert await bus.check() is None
        with pytest.raises(Exception, match=r"keys\.verify"):
            await bus.call(keys.VERIFY, keys.Verify(public_id="x" * 12, digest="0" * 128), timeout_s=0.2)


async def test_a_server_that_another_authority_vouches_for_is_not_spoken_to(
    server: EmbeddedNats, stranger: Authority
) -> None:
    async with starting(server.url, tls_ca_file=stranger.file) as (bus, _):
        await never(bus)


async def test_a_server_with_another_name_is_not_spoken_to(server: EmbeddedNats, authority: Authority) -> None:
    async with starting(server.url.replace("127.0.0.1", "localhost"), tls_ca_file=authority.file) as (bus, _):
        await never(bus)


async def test_a_server_without_tls_hears_nothing(authority: Authority) -> None:
    """Somebody in between who takes TLS out of the server's first word gets none of ours."""
    heard = bytearray()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.15.0","max_payload":1048576,"nonce":"abc"}\r\n')
        heard.extend(await reader.read(5))
        writer.close()

    listener = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, starting(f"nats://127.0.0.1:{port}", tls_ca_file=authority.file) as (bus, _):
        await until(lambda: len(heard) >= 5)
        assert heard[:1] == b"\x16", "the first byte of a TLS handshake"
        await never(bus)


async def test_the_scheme_alone_asks_for_tls(server: EmbeddedNats) -> None:
    """With the authorities of the system, which do not know ours."""
    async with starting(server.url.replace("nats://", "tls://")) as (bus, _):
        await never(bus)


async def test_a_certificate_of_ones_own(choosy: EmbeddedNats, authority: Authority) -> None:
    own = {f"tls_{name}": path for name, path in authority.issue("operator").items()}
    async with starting(choosy.url, tls_ca_file=authority.file, **own) as (bus, start):
        async with asyncio.timeout(10):
            await start
        assert bus.connected
    async with starting(choosy.url, tls_ca_file=authority.file) as (bus, _):
        await never(bus)


async def never(bus: Bus) -> None:
    """Several attempts are made, and none connects."""
    for _ in range(10):
        assert not bus.connected
        await asyncio.sleep(0.05)
