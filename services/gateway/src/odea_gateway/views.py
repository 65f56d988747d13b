"""What the reading endpoints answer with."""

from typing import Annotated

from msgspec import Meta, Struct

from odea_contracts import quota, synth
from odea_contracts.keys import Principal, Scope

UnixSeconds = Annotated[int, Meta(description="Seconds since 1970")]


class Welcome(Struct, frozen=True, kw_only=True):
    """What answers at the root."""

    name: str = "odea"
    documentation: str = "/schema"
    speech: str = "/v1/audio/speech"


class ModelView(Struct, frozen=True, kw_only=True):
    """A model name that speech requests can use, as OpenAI lists models."""

    id: str
    created: UnixSeconds
    owned_by: str
    object: str = "model"


class ModelListView(Struct, frozen=True, kw_only=True):
    """All models."""

    data: tuple[ModelView, ...]
    object: str = "list"


class AudioModelView(Struct, frozen=True, kw_only=True):
    """A model in the list that compatible servers have for speech alone."""

    id: str
    name: str


class AudioModelListView(Struct, frozen=True, kw_only=True):
    """All models for speech."""

    models: tuple[AudioModelView, ...]


class VoiceView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A voice. What is not known of it is left out."""

    id: str
    name: str
    language: str | None = None
    provider: str | None = None
    preview_url: str | None = None


class VoiceListView(Struct, frozen=True, kw_only=True):
    """The voices that can be named."""

    voices: tuple[VoiceView, ...]


class AccountView(Struct, frozen=True, kw_only=True):
    """Where one account stands. `null` means that there is no limit.

    Attributes:
        used: characters charged in this window.
        held: characters set aside for speech that is under way.
        remaining: what is left of the limit.
        resets_at: when the window ends; `null` for a limit that does not come back.
    """

    id: str
    limit: int | None
    used: int
    held: int
    remaining: int | None
    window: quota.Window
    resets_at: UnixSeconds | None
    requests_limit: int | None
    requests_remaining: int | None
    in_flight: int
    in_flight_limit: int | None


class UsageView(Struct, frozen=True, kw_only=True):
    """The accounts that the caller's key is charged to: the tenant's, and the key's own if it has a budget."""

    tenant_id: str
    accounts: tuple[AccountView, ...]
    unit: str = "characters"


class CallerView(Struct, frozen=True, kw_only=True):
    """Whose key this is, and what it may do."""

    tenant_id: str
    key_id: str
    scopes: tuple[Scope, ...]
    accounts: tuple[str, ...]
    expires_at: UnixSeconds | None


def model_view(model: synth.Model) -> ModelView:
    """A model as OpenAI shows it."""
    return ModelView(id=model.id, created=model.created_at_ms // 1000, owned_by=model.owned_by)


def voice_view(voice: synth.Voice) -> VoiceView:
    """A voice as clients list it."""
    return VoiceView(
        id=voice.id,
        name=voice.name,
        language=voice.language,
        provider=voice.provider,
        preview_url=voice.preview_url,
    )


def account_view(balance: quota.Balance) -> AccountView:
    """An account as its owner sees it."""
    return AccountView(
        id=balance.account_id,
        limit=balance.limit,
        used=balance.used,
        held=balance.held,
        remaining=balance.remaining,
        window=balance.window,
        resets_at=_seconds(balance.window_ends_at_ms),
        requests_limit=balance.requests_limit,
        requests_remaining=balance.requests_remaining,
        in_flight=balance.in_flight,
        in_flight_limit=balance.in_flight_max,
    )


def caller_view(principal: Principal) -> CallerView:
    """A principal as the caller sees it."""
    return CallerView(
        tenant_id=principal.tenant_id,
        key_id=principal.key_id,
        scopes=principal.scopes,
        accounts=principal.accounts,
        expires_at=_seconds(principal.expires_at_ms),
    )


def _seconds(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds // 1000
