"""The service as a process: migrates, serves, drains, and leaves no secret anywhere but in its one answer (P6)."""

import asyncio
import hashlib
import os
import signal
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from integration.keys.harness import OLD_PEPPER, Client, is_hanging, verify_request
from odea_contracts import keys, tenants
from odea_contracts.keys import Principal, Refused, VerifyReply
from odea_contracts.subjects import STREAM_EVENTS
from odea_keys.settings import KeysSettings
from odea_local.ports import find_free
from odea_runtime.bus import BusError, NoRespondersError
from support.waiting import until

EXIT_CONFIG = 78
CALLERS = 32


def environ_of(settings: KeysSettings) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "ODEA_NATS_URL": settings.nats_url.get_secret_value(),
        "ODEA_DATABASE_URL": settings.database_url.get_secret_value(),
        "ODEA_OPS_ADDRESS": f"127.0.0.1:{find_free()}",
        "ODEA_KEYS_PEPPERS": OLD_PEPPER,
        "ODEA_LOG_LEVEL": "debug",
    }


async def run(command: str, environ: dict[str, str]) -> tuple[int | None, str]:
    """Exit status and output of a command that ends by itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "odea_keys",
        command,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


@asynccontextmanager
async def serving(environ: dict[str, str], log: Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    """The process, which is killed at the end unless it ended before."""
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "odea_keys", "serve", env=environ, stdout=file, stderr=file
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def is_answered(client: Client) -> bool:
    try:
        await client.call(tenants.TENANT_LIST, tenants.TenantList())
    except BusError:
        return False
    return True


async def is_gone(client: Client) -> bool:
    """Whether nobody takes requests any more."""
    try:
        await client.call(tenants.TENANT_LIST, tenants.TenantList(), timeout_s=1)
    except NoRespondersError:
        return True
    return False


def fetch(environ: dict[str, str], path: str) -> str:
    with urllib.request.urlopen(f"http://{environ['ODEA_OPS_ADDRESS']}{path}", timeout=5) as response:
        return response.read().decode()


async def test_migrations_are_safe_to_repeat_and_to_run_at_once(settings: KeysSettings) -> None:
    environ = environ_of(settings)
    outcomes = await asyncio.gather(*(run("migrate", environ) for _ in range(2)))
    for status, output in outcomes:
        assert status == 0, output


async def test_unusable_settings_end_the_process_with_every_fault(settings: KeysSettings) -> None:
    environ = environ_of(settings) | {"ODEA_KEYS_PEPPERS": "p1:5e5e,p2"}
    del environ["ODEA_DATABASE_URL"]
    status, output = await run("serve", environ)
    assert status == EXIT_CONFIG
    assert "ODEA_DATABASE_URL: Field required" in output
    assert "ODEA_KEYS_PEPPERS: Value error, entry 1 is shorter than 32 bytes; entry 2 has no hex digits" in output
    assert "5e5e" not in output


async def test_nothing_secret_is_left_anywhere(
    settings: KeysSettings, client: Client, database: asyncpg.Connection, tmp_path: Path
) -> None:
    """P6: secrets are searched for in logs at their most talkative, in every table, event and metric."""
    environ, log = environ_of(settings), tmp_path / "keys.log"
    async with serving(environ, log) as process:
        await until(lambda: is_answered(client), within_s=30)
        tenant = await client.new_tenant()
        issued = await client.new_key(tenant.tenant_id, own_account=True)
        rotated = await client.rotate(issued.key.key_id, grace_ms=60_000)
        for text in (issued.secret, rotated.secret):
            assert isinstance(await client.verify(text), Principal)
        await client.call(keys.REVOKE, keys.KeyRef(key_id=issued.key.key_id))
        assert isinstance(await client.verify(rotated.secret), Refused)
        # A secret in the wrong field, and a handler that fails with a secret in hand.
        await client.bus.client.request(keys.GET.subject, f'{{"key_id":"{issued.secret}"}}'.encode(), timeout=5)
        await database.execute("ALTER TABLE keys.audit RENAME TO gone")
        await client.call(keys.ISSUE, keys.Issue(tenant_id=tenant.tenant_id, name="x", scopes=(keys.Scope.ADMIN,)))
        metrics = await asyncio.to_thread(fetch, environ, "/metrics")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    places = {
        "logs": log.read_text(),
        "metrics": metrics,
        "tables": await dump(database),
        "events": await dump_events(client),
    }
    assert "handler failed" in places["logs"]
    assert issued.key.public_id in places["tables"], "the search would find what is there"
    assert issued.key.key_id in places["events"]
    for what, secret in secrets_of(settings, issued.secret, rotated.secret).items():
        for place, content in places.items():
            assert secret not in content, f"{what} in {place}"


def secrets_of(settings: KeysSettings, *texts: str) -> dict[str, str]:
    """What must be nowhere, by what it is. Tables show bytes in hex."""
    pepper = OLD_PEPPER.partition(":")[2]
    found = {
        "pepper": pepper,
        "database URL": settings.database_url.get_secret_value(),
        "bus URL": settings.nats_url.get_secret_value(),
    }
    for index, text in enumerate(texts):
        secret = text.split("_")[3]
        found |= {
            f"key {index}": text,
            f"secret {index}": secret,
            f"digest {index}": hashlib.sha512(secret.encode()).hexdigest(),
        }
    return found


async def dump(database: asyncpg.Connection) -> str:
    tables = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'keys'")
    rows = [await database.fetch(f'SELECT t::text AS row FROM keys."{table[0]}" t') for table in tables]
    return "\n".join(row["row"] for table in rows for row in table)


async def dump_events(client: Client) -> str:
    jetstream = client.bus.client.jetstream()
    last = (await jetstream.stream_info(STREAM_EVENTS)).state.last_seq
    messages = [await jetstream.get_msg(STREAM_EVENTS, sequence) for sequence in range(1, last + 1)]
    return "\n".join(f"{message.headers} {(message.data or b'').decode()}" for message in messages)


async def test_a_signal_ends_it_without_losing_a_request(
    settings: KeysSettings, client: Client, tmp_path: Path
) -> None:
    """Every request is answered or was certainly not taken; nobody waits for a process that has gone."""
    environ, log = environ_of(settings), tmp_path / "keys.log"
    ended: Counter[str] = Counter()
    async with serving(environ, log) as process:
        await until(lambda: is_answered(client), within_s=30)
        issued = await client.new_key((await client.new_tenant()).tenant_id)
        assert await asyncio.to_thread(fetch, environ, "/readyz") == "ready\n"

        async def ask_until_it_is_gone() -> None:
            while True:
                try:
                    reply: VerifyReply = await client.call(keys.VERIFY, verify_request(issued.secret))
                except NoRespondersError:
                    return
                ended[type(reply).__name__] += 1

        callers = [asyncio.create_task(ask_until_it_is_gone()) for _ in range(CALLERS)]
        await until(lambda: ended["Principal"] > CALLERS)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        await asyncio.gather(*callers)
    assert set(ended) == {"Principal"}


async def test_what_is_in_hand_is_finished_before_the_end(
    settings: KeysSettings, client: Client, database: asyncpg.Connection, tmp_path: Path
) -> None:
    environ = environ_of(settings) | {"ODEA_DATABASE_TIMEOUT_S": "30"}
    async with serving(environ, tmp_path / "keys.log") as process:
        await until(lambda: is_answered(client), within_s=30)
        issued = await client.new_key((await client.new_tenant()).tenant_id)
        async with database.transaction():
            await database.execute("LOCK TABLE keys.secrets IN ACCESS EXCLUSIVE MODE")
            waiting = asyncio.create_task(client.verify(issued.secret))
            await until(lambda: is_hanging(database))
            process.send_signal(signal.SIGTERM)
            await until(lambda: is_gone(client))
        assert isinstance(await waiting, Principal)
        assert await process.wait() == 0


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_health_names_trouble(settings: KeysSettings, tmp_path: Path, path: str) -> None:
    """A service without its bus is alive but not ready, and a signal ends it all the same."""
    environ = environ_of(settings) | {"ODEA_NATS_URL": f"nats://127.0.0.1:{find_free()}"}

    async def answers() -> bool:
        return await asyncio.to_thread(status_of, environ, path) == (200 if path == "/livez" else 503)

    async with serving(environ, tmp_path / "keys.log") as process:
        await until(answers, within_s=30)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


def status_of(environ: dict[str, str], path: str) -> int | None:
    try:
        fetch(environ, path)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None
    return 200
