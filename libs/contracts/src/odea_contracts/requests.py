"""The request log on the bus: what became of speech requests, without a word of what was said."""

from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from odea_contracts import subjects
from odea_contracts.base import Endpoint, HoldId, Id, Message, Milliseconds, Name, RequestId, Units
from odea_contracts.errors import Failure

Cursor = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,18}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$(?!\n)",
        description="Where a page begins, as an earlier page said it",
    ),
]


class LoggedRequest(Message):
    """How one request for speech went.

    Attributes:
        id: of this entry.
        received_at_ms: Unix time.
        voice: the provider's, or the one that was asked for if no provider was chosen.
        provider: who spoke, or was asked last; `None` if the request was refused before.
        outcome: `completed`, `refused`, `provider_failed`, `client_gone` and so on.
        code: of the failure, where the caller was told one.
        attempts: how often a provider was asked.
        fallback: another provider than the first was asked in the end.
        characters: of the text.
        units_settled: what was charged.
        provider_units: what the provider billed.
        first_audio_ms: from the request to the first audio, if there was any.
    """

    id: HoldId
    request_id: RequestId
    tenant_id: Id
    key_id: Id
    received_at_ms: Milliseconds
    model: str
    voice: str
    response_format: str
    provider: str | None
    outcome: str
    code: str | None
    attempts: int
    fallback: bool
    characters: int
    units_held: Units
    units_settled: Units
    provider_units: Units
    audio_bytes: int
    first_audio_ms: Milliseconds | None
    duration_ms: Milliseconds


class RequestsList(Message):
    """A page of the request log, newest first; every field that is given must fit.

    Attributes:
        tenant_id: whose; of all tenants if none is given.
        since_ms: received then or later.
        until_ms: received before.
    """

    tenant_id: Id | None = None
    key_id: Id | None = None
    request_id: RequestId | None = None
    outcome: Name | None = None
    model: Name | None = None
    provider: Name | None = None
    since_ms: Milliseconds | None = None
    until_ms: Milliseconds | None = None
    cursor: Cursor | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class RequestsPage(Message, tag_field="type", tag="requests"):
    """Some entries. `next_cursor` goes on with older ones, if it is there.

    A page may be short, even empty, and the list go on: no page looks through more than a bounded part of the log.
    """

    requests: tuple[LoggedRequest, ...]
    next_cursor: Cursor | None = None


RequestsReply: TypeAlias = RequestsPage | Failure
REQUESTS_LIST: Final[Endpoint[RequestsList, RequestsReply]] = Endpoint(
    subjects.SYNTH_REQUESTS_LIST, subjects.SYNTH, RequestsList, RequestsReply
)
