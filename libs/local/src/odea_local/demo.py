"""The demo tenant: a plan, a tenant, its quota account, and two API keys in files, all made over the bus.

Run by the stack as `python -m odea_local.demo KEYS_FOLDER`, a process of its own, so that the supervisor stays small.
Whatever is there already stays as it is, so a change that was made to the plan survives the next start.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, Final, TypeVar

from odea_contracts import keys, plans, tenants
from odea_contracts.base import Endpoint, Message
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.keys import Scope
from odea_contracts.keytext import ParsedKey, parse_key
from odea_contracts.subjects import OPERATOR
from odea_local.folder import write_atomically
from odea_runtime import logs
from odea_runtime.bus import Bus, BusError
from odea_runtime.settings import EXIT_CONFIG, Settings, SettingsError, load

ReplyT = TypeVar("ReplyT", bound=Message)

NAME: Final = "demo"
PLAN: Final = plans.PlanSet(
    name=NAME, units=1_000_000, requests_per_minute=3_000, requests_burst=200, in_flight_max=100
)
KEYS: Final = (("tenant", (Scope.SPEECH, Scope.USAGE_READ)), ("admin", (Scope.ADMIN,)))

TRY_FOR_S: Final = 45.0
RETRY_PAUSE_S: Final = 0.1


class DemoError(Exception):
    """The demo tenant cannot be made; the text says what was refused, without any secret."""


async def ensure(bus: Bus, folder: Path) -> None:
    """Make what is missing, and wait for services that do not answer yet.

    Raises:
        DemoError: a service refused, or did not answer in time.
    """
    demo = _Demo(bus)
    try:
        async with asyncio.timeout(TRY_FOR_S):
            await bus.start()
            tenant_id = await demo.ensure_tenant()
            for name, scopes in KEYS:
                await demo.ensure_key(tenant_id, name, scopes, folder / f"{name}.key")
    except TimeoutError:
        raise DemoError(f"no answer in {TRY_FOR_S:.0f} s: {demo.waiting_for or 'no connection to NATS'}") from None


class _Demo:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.waiting_for = ""

    async def ensure_tenant(self) -> str:
        """The tenant's id; its plan and its account are there, too."""
        if not await self._ask(plans.PLAN_GET, plans.PlanRef(name=NAME), plans.Plan):
            await self._must(plans.PLAN_SET, PLAN, plans.Plan)
        tenant = await self._must(tenants.TENANT_CREATE, tenants.TenantCreate(name=NAME, plan=NAME), tenants.Tenant)
        # Quota opens the account by itself when it hears of the tenant; asking for it now spares the wait.
        account = await self._ask(plans.ACCOUNT_GET, plans.AccountRef(account_id=tenant.tenant_id), plans.Account)
        if not account:
            wanted = plans.AccountSet(account_id=tenant.tenant_id, tenant_id=tenant.tenant_id, plan=NAME)
            await self._must(plans.ACCOUNT_SET, wanted, plans.Account)
        return tenant.tenant_id

    async def ensure_key(self, tenant_id: str, name: str, scopes: tuple[Scope, ...], path: Path) -> None:
        """A file with a key that works: the one that is there, or a new one if it is lost or no longer good."""
        if await self._is_good(path):
            return
        issued = await self._must(keys.ISSUE, keys.Issue(tenant_id=tenant_id, name=name, scopes=scopes), keys.Issued)
        write_atomically(path, f"{issued.secret}\n".encode())

    async def _is_good(self, path: Path) -> bool:
        key = _read_key(path)
        if not key:
            return False
        verify = keys.Verify(public_id=key.public_id, digest=key.digest)
        answer = await self._reply(keys.VERIFY, verify)
        return not (isinstance(answer, keys.Refused) and answer.reason is not keys.Refusal.SUSPENDED)

    async def _ask(self, endpoint: Endpoint[Any, Any], request: Message, wanted: type[ReplyT]) -> ReplyT | None:
        """The answer, or nothing if there is no such thing."""
        reply = await self._reply(endpoint, request)
        if isinstance(reply, wanted):
            return reply
        if isinstance(reply, Failure) and reply.code is ErrorCode.NOT_FOUND:
            return None
        said = reply.message if isinstance(reply, Failure) else type(reply).__name__
        raise DemoError(f"{endpoint.subject} was refused: {said}")

    async def _must(self, endpoint: Endpoint[Any, Any], request: Message, wanted: type[ReplyT]) -> ReplyT:
        reply = await self._ask(endpoint, request, wanted)
        if reply is None:
            raise DemoError(f"{endpoint.subject} was refused: not found")
        return reply

    async def _reply(self, endpoint: Endpoint[Any, Any], request: Message) -> Message:
        """The first answer that is not "later". Every request here may be repeated."""
        while True:
            try:
                reply = await self._bus.call(endpoint, request)
            except BusError as error:
                self.waiting_for = f"{endpoint.subject}: {error.outcome}"
            else:
                if not (isinstance(reply, Failure) and reply.retryable):
                    return reply
                self.waiting_for = f"{endpoint.subject}: {reply.message}"
            await asyncio.sleep(RETRY_PAUSE_S)


def _read_key(path: Path) -> ParsedKey | None:
    try:
        return parse_key(path.read_text().strip())
    except FileNotFoundError:
        return None


async def _main(settings: Settings, folder: Path) -> None:
    bus = Bus(settings, OPERATOR)
    try:
        await ensure(bus, folder)
    finally:
        await bus.stop()


if __name__ == "__main__":
    try:
        loaded = load(Settings, os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    logs.configure("demo", log_format=loaded.log_format, level=loaded.log_level)
    try:
        asyncio.run(_main(loaded, Path(sys.argv[1])))
    except DemoError as error:
        sys.exit(str(error))
