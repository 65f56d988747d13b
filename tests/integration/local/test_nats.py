"""The embedded bus comes back where it was, with its streams, and only for those who have the password."""

import asyncio
import stat
from collections.abc import Generator
from pathlib import Path

import nats
import psutil
import pytest

from odea_local.embedded import EmbeddedNats, embedded_nats
from support.waiting import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[EmbeddedNats]:
    with embedded_nats(tmp_path_factory.mktemp("nats") / 'a "quoted" ü folder') as server:
        yield server


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_stream_survives_on_the_same_port(server: EmbeddedNats, how: str) -> None:
    url = server.url
    connection = await nats.connect(url)
    await connection.jetstream().add_stream(name=how, subjects=[f"{how}.>"])
    await connection.jetstream().publish(f"{how}.it", b"kept")
    await connection.close()
    getattr(server, how)()
    server.restart()
    assert server.url == url
    connection = await nats.connect(url)
    message = await connection.jetstream().get_last_msg(how, f"{how}.it")
    assert message.data == b"kept"
    await connection.close()


@pytest.mark.parametrize("login", ["{}", '{"user": "odea", "pass": "guess"}'])
async def test_nobody_gets_in_without_the_password(server: EmbeddedNats, login: str) -> None:
    # By hand, because the client leaves its socket open when it is refused.
    host, _, port = server.url.rpartition("@")[2].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"CONNECT {login}\r\nPING\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert b"-ERR 'Authorization Violation'" in answer
    assert b"PONG" not in answer


async def test_it_listens_on_the_loopback_alone_with_the_limits_that_the_bus_counts_on(server: EmbeddedNats) -> None:
    listening = {one.laddr.ip for one in psutil.Process(server.pid).net_connections("inet") if one.status == "LISTEN"}
    assert listening == {"127.0.0.1"}
    connection = await nats.connect(server.url)
    assert connection.max_payload == 1024 * 1024
    await connection.close()


def test_the_password_lies_in_a_private_file_and_in_no_argument(server: EmbeddedNats) -> None:
    process = psutil.Process(server.pid)
    config = Path(process.cmdline()[-1])
    password = server.url.partition("://odea:")[2].partition("@")[0]
    assert password in config.read_text()
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert password not in " ".join(process.cmdline())


async def test_leaving_the_block_leaves_no_process(tmp_path: Path) -> None:
    with embedded_nats(tmp_path) as server:
        pid = server.pid
    await until(lambda: not psutil.pid_exists(pid))
