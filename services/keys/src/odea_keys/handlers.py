"""One method for each endpoint: message in, one call, message out. Storage trouble is named in time (P9)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from faststream.nats import NatsRouter
from msgspec import UNSET
from msgspec.structs import replace
from prometheus_client import Counter

from odea_contracts import audit, keys, tenants
from odea_contracts.audit import AuditList, AuditPageReply
from odea_contracts.base import Endpoint, Message
from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.keys import (
    Issue,
    Issued,
    IssueReply,
    Key,
    KeyEvent,
    KeyList,
    KeyPage,
    KeyPageReply,
    KeyRef,
    KeyReply,
    KeyUpdate,
    Principal,
    Refused,
    Rotate,
    Verify,
    VerifyReply,
)
from odea_contracts.tenants import (
    Tenant,
    TenantCreate,
    TenantList,
    TenantPage,
    TenantPageReply,
    TenantRef,
    TenantReply,
    TenantUpdate,
)
from odea_keys.announcer import Announcer
from odea_keys.keyring import Keyring, NewSecret, UnknownPepperError, canonical_cidrs
from odea_keys.store import Made, Store
from odea_keys.tenant_store import TenantStore
from odea_runtime.audit import BAD_CURSOR, AuditLog
from odea_runtime.bus import UnavailableError
from odea_runtime.cursors import ListKind, read_cursor, write_cursor
from odea_runtime.serving import serve
from odea_runtime.tasks import Tasks

T = TypeVar("T")
RequestT = TypeVar("RequestT", bound=Message)
ReplyT = TypeVar("ReplyT")

NO_OWN_ACCOUNT: Final = failure(
    ErrorCode.INVALID_VALUE, "A key has limits of its own only with an account of its own.", param="overrides"
)
_VERIFICATIONS = Counter("odea_keys_verifications_total", "Keys checked, by what came of it", ["outcome"])


class Handlers:
    """The service's answers.

    Args:
        store: what is remembered of keys.
        tenants: what is remembered of tenants.
        audit: what is remembered of changes.
        keyring: what makes a key good.
        announcer: who else hears of a change.
        timeout_s: how long the storage may take for one request.
    """

    def __init__(
        self,
        store: Store,
        tenants: TenantStore,
        audit: AuditLog,
        keyring: Keyring,
        announcer: Announcer,
        *,
        timeout_s: float,
    ) -> None:
        self._store = store
        self._tenants = tenants
        self._audit = audit
        self._keyring = keyring
        self._announcer = announcer
        self._timeout_s = timeout_s

    def register(self, router: NatsRouter, tasks: Tasks) -> None:
        """Answer every endpoint of `odea_contracts.keys` on `router`."""

        def answer(endpoint: Endpoint[RequestT, ReplyT], handler: Callable[[RequestT], Awaitable[ReplyT]]) -> None:
            serve(router, tasks, endpoint, handler, unavailable=ErrorCode.KEYS_UNAVAILABLE)

        answer(keys.VERIFY, self.verify)
        answer(keys.ISSUE, self.issue)
        answer(keys.ROTATE, self.rotate)
        answer(keys.REVOKE, self.revoke)
        answer(keys.UPDATE, self.update)
        answer(keys.GET, self.get)
        answer(keys.LIST, self.list)
        answer(tenants.TENANT_CREATE, self.tenant_create)
        answer(tenants.TENANT_GET, self.tenant_get)
        answer(tenants.TENANT_LIST, self.tenant_list)
        answer(tenants.TENANT_UPDATE, self.tenant_update)
        answer(tenants.TENANT_SUSPEND, self.tenant_suspend)
        answer(tenants.TENANT_RESUME, self.tenant_resume)
        answer(audit.AUDIT_LIST, self.audit_list)

    async def verify(self, request: Verify) -> VerifyReply:
        """Who calls with this key, or why it is refused."""
        outcome = "unavailable"
        try:
            reply = await self._in_time(self._verify(request))
            outcome = "good" if isinstance(reply, Principal) else reply.reason.value
        finally:
            _VERIFICATIONS.labels(outcome).inc()
        return reply

    async def issue(self, request: Issue) -> IssueReply:
        """A new key, its text included."""
        if request.overrides is not UNSET and not request.own_account:
            return NO_OWN_ACCOUNT
        try:
            request = replace(request, allowed_cidrs=canonical_cidrs(request.allowed_cidrs))
        except ValueError as error:
            return _bad_network(error)
        secret = self._new_secret(request)
        made = await self._in_time(self._store.issue(request, secret))
        if not isinstance(made, Failure):
            self._announcer.committed()
        return self._shown(made, secret, request)

    async def rotate(self, request: Rotate) -> IssueReply:
        """The key with a new secret, its text included."""
        secret = self._new_secret(request)
        made = await self._in_time(self._store.rotate(request, secret))
        if not isinstance(made, Failure):
            await self._announce(made.key)
        return self._shown(made, secret, request)

    async def update(self, request: KeyUpdate) -> KeyReply:
        """The key as it is from now on."""
        if request.allowed_cidrs is not UNSET:
            try:
                request = replace(request, allowed_cidrs=canonical_cidrs(request.allowed_cidrs))
            except ValueError as error:
                return _bad_network(error)
        return await self._announce(await self._in_time(self._store.update(request)))

    async def revoke(self, request: KeyRef) -> KeyReply:
        """The key, which is good for nothing from now on."""
        return await self._announce(await self._in_time(self._store.revoke(request)))

    async def get(self, request: KeyRef) -> KeyReply:
        """The key."""
        return await self._in_time(self._store.key(request.key_id))

    async def list(self, request: KeyList) -> KeyPageReply:
        """A page of a tenant's keys."""
        try:
            after = read_cursor(ListKind.KEYS, request.cursor)
        except ValueError:
            return BAD_CURSOR
        found = await self._in_time(self._store.keys(request.tenant_id, after=after, limit=request.limit + 1))
        if isinstance(found, Failure):
            return found
        page = found[: request.limit]
        more = len(found) > len(page)
        return KeyPage(keys=page, next_cursor=write_cursor(ListKind.KEYS, page[-1].key_id) if more else None)

    async def tenant_create(self, request: TenantCreate) -> TenantReply:
        """The tenant of this name."""
        tenant = await self._in_time(self._tenants.create(request))
        self._announcer.committed()
        return tenant

    async def tenant_get(self, request: TenantRef) -> TenantReply:
        """The tenant."""
        return await self._in_time(self._tenants.get(request.tenant_id))

    async def tenant_list(self, request: TenantList) -> TenantPageReply:
        """A page of all tenants."""
        try:
            after = read_cursor(ListKind.TENANTS, request.cursor)
        except ValueError:
            return BAD_CURSOR
        found = await self._in_time(self._tenants.page(after=after, limit=request.limit + 1))
        page = found[: request.limit]
        more = len(found) > len(page)
        return TenantPage(
            tenants=page, next_cursor=write_cursor(ListKind.TENANTS, page[-1].tenant_id) if more else None
        )

    async def tenant_update(self, request: TenantUpdate) -> TenantReply:
        """The tenant under its new name."""
        tenant = await self._in_time(self._tenants.update(request))
        self._announcer.committed()
        return tenant

    async def tenant_suspend(self, request: TenantRef) -> TenantReply:
        """The tenant, none of whose keys is good from now on."""
        return await self._announce(await self._in_time(self._tenants.suspend(request)))

    async def tenant_resume(self, request: TenantRef) -> TenantReply:
        """The tenant, whose keys are good again."""
        return await self._announce(await self._in_time(self._tenants.resume(request)))

    async def audit_list(self, request: AuditList) -> AuditPageReply:
        """A page of the changes that were made, newest first."""
        return await self._in_time(self._audit.page(request))

    def _new_secret(self, request: Issue | Rotate) -> NewSecret:
        name = request.idempotency_key
        return self._keyring.new_secret() if name is None else self._keyring.derived_secret(name)

    def _shown(self, made: Made | Failure, secret: NewSecret, request: Issue | Rotate) -> IssueReply:
        """The answer with the key's text: that of the new secret, or once more that of the one made before."""
        if isinstance(made, Failure):
            return made
        name = request.idempotency_key
        if name is None or made.public_id == secret.public_id:
            return Issued(key=made.key, secret=secret.text)
        try:
            text = self._keyring.derive_again(made.public_id, made.pepper_id, made.salt, name)
        except UnknownPepperError:
            return failure(
                ErrorCode.CONFLICT,
                f"This was done before, and made the key {made.key.key_id}; its secret cannot be shown again.",
                param="idempotency_key",
            )
        return Issued(key=made.key, secret=text)

    async def _verify(self, request: Verify) -> Principal | Refused:
        stored = await self._store.find_secret(request.public_id)
        try:
            return self._keyring.judge(stored, request.digest)
        except UnknownPepperError as error:
            structlog.get_logger().error("a key needs a pepper that is not configured", id=str(error))
            raise UnavailableError(str(error)) from error

    async def _in_time(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await work
        except TimeoutError:
            raise UnavailableError("the storage took too long") from None

    async def _announce(self, changed: T) -> T:
        match changed:
            case Key(tenant_id=tenant_id, key_id=key_id):
                await self._announcer.changed(KeyEvent(tenant_id=tenant_id, key_id=key_id))
            case Tenant(tenant_id=tenant_id):
                await self._announcer.changed(KeyEvent(tenant_id=tenant_id))
            case _:
                pass
        return changed


def _bad_network(error: ValueError) -> Failure:
    return failure(ErrorCode.INVALID_VALUE, f"This is no list of networks: {error}.", param="allowed_cidrs")
