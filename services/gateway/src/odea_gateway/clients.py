"""Calls to the other services, each ending in what was asked for or in a failure that the client may see.

Trouble with a service or with the bus is named after the service, within the timeout of a call (P9).
"""

from typing import Final, TypeVar

import structlog

from odea_contracts import keys, quota, requests, subjects, synth
from odea_contracts.base import Endpoint, Message
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.keytext import ParsedKey
from odea_gateway.problems import ProblemError, problem
from odea_runtime.bus import Bus, BusError

_log = structlog.get_logger()
RequestT = TypeVar("RequestT", bound=Message)
OutcomeT = TypeVar("OutcomeT")
ReplyT = TypeVar("ReplyT")

_UNAVAILABLE: Final = {
    subjects.KEYS: ErrorCode.KEYS_UNAVAILABLE,
    subjects.QUOTA: ErrorCode.QUOTA_UNAVAILABLE,
    subjects.SYNTH: ErrorCode.SYNTH_UNAVAILABLE,
}
"""What names a service that can't be reached, by its queue group."""


class Clients:
    """Typed calls over one bus. Each raises `ProblemError` if it brings no outcome."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def verify(self, key: ParsedKey) -> keys.Principal | keys.Refused:
        """Whose key it is. Whatever keeps keys from saying so is `keys_unavailable`, never a refusal."""
        request = keys.Verify(public_id=key.public_id, digest=key.digest)
        reply = await self._call(keys.VERIFY, request)
        if isinstance(reply, Failure):
            _log.warning("keys can't verify", code=reply.code)
            raise problem(ErrorCode.KEYS_UNAVAILABLE, retry_after_ms=reply.retry_after_ms)
        return reply

    async def ask(self, endpoint: Endpoint[RequestT, OutcomeT | Failure], request: RequestT) -> OutcomeT:
        """The outcome of `request`."""
        reply = await self._call(endpoint, request)
        if isinstance(reply, Failure):
            raise ProblemError(reply)
        return reply

    async def usage(self, accounts: tuple[str, ...]) -> tuple[quota.Balance, ...]:
        """Where `accounts` stand."""
        return (await self.ask(quota.USAGE, quota.Usage(accounts=accounts))).balances

    async def models(self) -> tuple[synth.Model, ...]:
        """The models that can be named."""
        return (await self.ask(synth.MODELS, synth.Models())).models

    async def voices(self, model: str | None) -> tuple[synth.Voice, ...]:
        """The voices of `model`, or all."""
        return (await self.ask(synth.VOICES, synth.Voices(model=model))).voices

    async def requests(self, wanted: requests.RequestsList) -> requests.RequestsPage:
        """A page of the request log."""
        return await self.ask(requests.REQUESTS_LIST, wanted)

    async def _call(self, endpoint: Endpoint[RequestT, ReplyT], request: RequestT) -> ReplyT:
        try:
            return await self._bus.call(endpoint, request)
        except BusError as error:
            _log.warning("no reply", subject=endpoint.subject, outcome=error.outcome)
            raise problem(_UNAVAILABLE[endpoint.queue]) from error
