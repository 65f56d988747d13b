"""Who calls: a key from `Authorization: Bearer` or `X-API-Key`, and the scopes that it must have.

A key is refused with one text, whatever is wrong with it (RFC 6750). An empty token is no key: some clients send
`Bearer ` when they have none. Two keys in one request are refused, since two readers could take different ones.
"""

from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache

from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler

from odea_contracts.errors import ErrorCode, failure
from odea_contracts.keys import Principal, Scope
from odea_contracts.keytext import parse_key
from odea_gateway.addresses import Address, Network, networks, within
from odea_gateway.failures import FailureLimit
from odea_gateway.principals import Principals
from odea_gateway.problems import ProblemError, problem
from odea_gateway.services import services_of
from odea_gateway.trace import trace_of

Connection = ASGIConnection[BaseRouteHandler, Principal, None, State]
Guard = Callable[[Connection, BaseRouteHandler], Awaitable[None]]


def requires(*scopes: Scope) -> Guard:
    """A guard that lets in whoever has a good key with one of `scopes`, or any good key if none is named.

    The principal is the request's `user` from then on.
    """

    async def guard(connection: Connection, _handler: BaseRouteHandler) -> None:
        principal = await _introduce(connection)
        if scopes and not set(scopes) & set(principal.scopes):
            raise ProblemError(failure(ErrorCode.INSUFFICIENT_SCOPE), scope=" ".join(scopes))
        connection.scope["user"] = principal

    return guard


def requires_admin() -> Guard:
    """A guard for what only operators see. To any other good key there is nothing here."""

    async def guard(connection: Connection, _handler: BaseRouteHandler) -> None:
        principal = await _introduce(connection)
        if Scope.ADMIN not in principal.scopes:
            raise problem(ErrorCode.NOT_FOUND)
        connection.scope["user"] = principal

    return guard


async def _introduce(connection: Connection) -> Principal:
    """The caller, noted for the log."""
    trace = trace_of(connection.scope)
    services = services_of(connection)
    principal = await authenticate(connection.scope["headers"], trace.address, services.principals, services.failures)
    trace.tenant_id, trace.key_id = principal.tenant_id, principal.key_id
    return principal


def requires_key_unless_public() -> Guard:
    """A guard for the lists that the settings may open to everybody."""
    guarded = requires()

    async def guard(connection: Connection, handler: BaseRouteHandler) -> None:
        if not services_of(connection).settings.public_lists:
            await guarded(connection, handler)

    return guard


async def authenticate(
    headers: Iterable[tuple[bytes, bytes]], address: Address, principals: Principals, failures: FailureLimit
) -> Principal:
    """Who sends `headers` from `address`.

    Raises:
        ProblemError: no key, a bad one, more than one, one that may not be used from there, too many failures before
            this one, or keys can't be asked.
    """
    text = presented_key(headers)
    if text is None:
        raise problem(ErrorCode.MISSING_API_KEY)
    key = parse_key(text)
    principal = principals.known(key) if key else None
    if principal is None:
        failures.check(address)
        principal = await principals.find(key) if key else None
    if principal is None or not _may_come_from(address, principal):
        failures.count(address)
        raise problem(ErrorCode.INVALID_API_KEY)
    return principal


def _may_come_from(address: Address, principal: Principal) -> bool:
    return not principal.allowed_cidrs or within(address, _networks(principal.allowed_cidrs))


@lru_cache(maxsize=4096)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    try:
        return networks(",".join(texts))
    except ValueError:
        # Keys lets none of these in. If one comes all the same, the key fits nowhere.
        return ()


def presented_key(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key in `headers`, unread; `None` if there is none.

    Raises:
        ProblemError: a header stands there twice, or the two headers disagree.
    """
    bearers: list[bytes] = []
    plain: list[bytes] = []
    for name, value in headers:
        if name == b"authorization":
            bearers.append(value)
        elif name == b"x-api-key":
            plain.append(value.strip())
    if len(bearers) > 1 or len(plain) > 1:
        raise problem(ErrorCode.INVALID_VALUE, "Send one API key, in one header.", param="authorization")
    found = {token for token in (*map(_bearer_token, bearers), *plain) if token}
    if len(found) > 1:
        raise problem(ErrorCode.INVALID_VALUE, "Send one API key, in one header.", param="authorization")
    return found.pop().decode("latin-1") if found else None


def _bearer_token(value: bytes) -> bytes:
    scheme, _, token = value.strip().partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""
