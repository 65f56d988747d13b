"""The embedded database keeps what was committed, whatever is killed, wherever it lies, and lets nobody else in."""

import os
import signal
import stat
from collections.abc import Generator
from pathlib import Path

import asyncpg
import psutil
import pytest

from odea_local.embedded import EmbeddedPostgres, embedded_postgres
from odea_local.postgres import SOCKET_PATH_LENGTH_MAX
from support.waiting import until

AWKWARD = 'it\'s, a "folder" 100% ü'


@pytest.fixture(scope="module")
def server(searchable: Path) -> Generator[EmbeddedPostgres]:
    server = EmbeddedPostgres(searchable / AWKWARD)
    yield server
    server.stop()


async def fetch(server: EmbeddedPostgres, query: str) -> object:
    connection = await asyncpg.connect(server.dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def socket_dir(server: EmbeddedPostgres) -> Path:
    return Path(server.dsn.partition("host=")[2])


async def test_committed_rows_survive_a_crash_of_the_whole_server(server: EmbeddedPostgres) -> None:
    await fetch(server, "CREATE TABLE kept AS SELECT 7 AS number")
    server.kill()
    server.restart()
    assert await fetch(server, "SELECT number FROM kept") == 7


async def test_backends_that_outlive_the_postmaster_do_not_prevent_a_restart(server: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(server.dsn)
    backend = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()"))
    # A stopped backend cannot notice that its postmaster died, and keeps the shared memory in use.
    backend.suspend()
    os.kill(server.pid, signal.SIGKILL)
    server.restart()
    assert await fetch(server, "SELECT 1") == 1
    assert not backend.is_running() or backend.status() == psutil.STATUS_ZOMBIE
    connection.terminate()


async def test_data_is_durable_and_checked(server: EmbeddedPostgres) -> None:
    for setting, value in (("fsync", "on"), ("synchronous_commit", "on"), ("data_checksums", "on")):
        assert await fetch(server, f"SHOW {setting}") == value
    assert await fetch(server, "SELECT datlocale FROM pg_database WHERE datname = 'postgres'") == "C.UTF-8"
    assert str(await fetch(server, "SHOW server_version")).startswith("18.")


async def test_only_the_owner_can_reach_it(server: EmbeddedPostgres) -> None:
    assert await fetch(server, "SHOW listen_addresses") == ""
    assert stat.S_IMODE(socket_dir(server).stat().st_mode) == 0o700
    wrong = server.dsn.replace("://odea:", "://odea:not")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(wrong)


async def test_the_password_is_in_no_process_argument(server: EmbeddedPostgres) -> None:
    password = server.dsn.partition("://odea:")[2].partition("@")[0]
    assert len(password) == 64
    assert not [one for one in psutil.process_iter(["cmdline"]) if password in " ".join(one.info["cmdline"] or [])]


async def test_a_path_too_long_for_a_socket_works_and_leaves_nothing_in_the_temporary_folder(searchable: Path) -> None:
    folder = searchable / ("long" * 30)
    server = EmbeddedPostgres(folder)
    try:
        assert await fetch(server, "SELECT 1") == 1
        place = socket_dir(server)
        assert not place.is_relative_to(folder)
        assert len(str(place)) < SOCKET_PATH_LENGTH_MAX
    finally:
        server.stop()
    assert not place.exists()


async def test_what_a_killed_initialisation_left_is_replaced(searchable: Path) -> None:
    half = searchable / "half" / "postgres.new" / "cluster"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(searchable / "half")
    try:
        assert await fetch(server, "SELECT 1") == 1
    finally:
        server.stop()
    assert not half.parent.exists()


async def test_a_lock_file_that_names_another_server_by_now_neither_prevents_a_start_nor_harms_the_other(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    with embedded_postgres(tmp_path) as other:
        connection = await asyncpg.connect(server.dsn)
        other.kill()
        cluster = other.postgres.cluster
        (cluster / "postmaster.pid").write_text(f"{server.pid}\n{cluster}\n0\n5432\n\n\n\nready\n")
        other.restart()
        assert await fetch(other, "SELECT 1") == 1
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


async def test_stopping_leaves_no_process(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path) as server:
        pid = server.pid
        children = psutil.Process(pid).children()
        assert children
    await until(lambda: not any(child.is_running() for child in children))
    assert not psutil.pid_exists(pid)
