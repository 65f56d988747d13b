"""One example of every message, with a value other than the default in every field."""

from types import ModuleType
from typing import Any, Final

from msgspec.structs import asdict

from odea_contracts import (
    audit,
    balances,
    errors,
    keys,
    minimax,
    plans,
    quota,
    quota_events,
    requests,
    synth,
    tenants,
    writeoffs,
)
from odea_contracts.base import Message
from odea_contracts.errors import ErrorCode, Failure

HOLD: Final = "0190f5a1-7b7c-7def-8abc-0123456789ab"
AT_MS: Final = 1_795_500_000_123
PUBLIC_ID: Final = "A1b2C3d4E5f6"

_BY: Final[dict[str, Any]] = {"actor": "key_9", "origin": "2001:db8::1", "idempotency_key": "order-7/1"}
BALANCE: Final = balances.Balance(
    account_id="ten_1",
    limit=100_000,
    used=1_234,
    held=56,
    remaining=98_760,
    window=balances.Window.DAY,
    window_ends_at_ms=AT_MS,
    requests_limit=60,
    requests_remaining=59,
    requests_reset_ms=1_000,
    in_flight=2,
    in_flight_max=8,
    topup_remaining=50,
)
KEY: Final = keys.Key(
    key_id="key_1",
    tenant_id="ten_1",
    name="Website",
    public_id=PUBLIC_ID,
    scopes=(keys.Scope.SPEECH, keys.Scope.USAGE_READ, keys.Scope.ADMIN),
    own_account=True,
    created_at_ms=AT_MS,
    expires_at_ms=AT_MS + 1,
    revoked_at_ms=AT_MS + 2,
    allowed_cidrs=("192.0.2.0/24", "2001:db8::/32"),
)
TENANT: Final = tenants.Tenant(tenant_id="ten_1", name="Grüße & Söhne 世界", suspended=True, created_at_ms=AT_MS)
LIMITS: Final = plans.NamedLimits(
    name="small",
    units=100_000,
    window=quota.Window.DAY,
    requests_per_minute=60,
    requests_burst=5,
    in_flight_max=8,
    text_characters_max=4_096,
    models=("tts-1", "tts-1-hd"),
    voices=("alloy",),
    soft_limits_percent=(80, 100),
)
PLAN: Final = plans.Plan(**asdict(LIMITS))
OVERRIDES: Final = plans.Overrides(units=None, requests_per_minute=120, requests_burst=10, in_flight_max=None)
VOICE: Final = synth.Voice(
    id="alloy", name="Alloy", language="en-GB", provider="piper", preview_url="https://odea.example/alloy.mp3"
)
MODEL: Final = synth.Model(id="tts-1", created_at_ms=AT_MS, owned_by="odea")

_ERRORS: tuple[Message, ...] = (
    Failure(
        code=ErrorCode.RATE_LIMIT_EXCEEDED,
        message='Not "so" fast.',
        param="input",
        retry_after_ms=1_500,
        balances=(BALANCE,),
    ),
)
_KEYS: tuple[Message, ...] = (
    keys.Verify(public_id=PUBLIC_ID, digest="0123456789abcdef" * 8),
    keys.Principal(
        tenant_id="ten_1",
        key_id="key_1",
        scopes=(keys.Scope.SPEECH,),
        accounts=("ten_1", "key_1"),
        expires_at_ms=AT_MS,
        allowed_cidrs=("192.0.2.7",),
    ),
    keys.Refused(reason=keys.Refusal.WRONG_SECRET),
    KEY,
    keys.Issue(
        tenant_id="ten_1",
        name="Website",
        scopes=(keys.Scope.SPEECH, keys.Scope.USAGE_READ),
        expires_at_ms=AT_MS,
        own_account=True,
        plan="small",
        overrides=OVERRIDES,
        allowed_cidrs=("192.0.2.0/24",),
        **_BY,
    ),
    keys.Issued(key=KEY, secret="a text that is shown once"),
    keys.KeyUpdate(
        key_id="key_1",
        name="Shop",
        scopes=(keys.Scope.SPEECH,),
        expires_at_ms=None,
        allowed_cidrs=(),
        **_BY,
    ),
    keys.Rotate(key_id="key_1", grace_ms=3_600_000, **_BY),
    keys.KeyRef(key_id="key_1", **_BY),
    keys.KeyList(tenant_id="ten_1", cursor="a2tleV8w", limit=200),
    keys.KeyPage(keys=(KEY,), next_cursor="a2tleV8x"),
    keys.KeyEvent(tenant_id="ten_1", key_id="key_1", plan="small", overrides=OVERRIDES),
)
_TENANTS: tuple[Message, ...] = (
    TENANT,
    tenants.TenantCreate(name="Söhne", plan="small", **_BY),
    tenants.TenantRef(tenant_id="ten_1", **_BY),
    tenants.TenantUpdate(tenant_id="ten_1", name="Töchter", **_BY),
    tenants.TenantList(cursor="dHRlbl8w", limit=200),
    tenants.TenantPage(tenants=(TENANT, TENANT), next_cursor="dHRlbl8x"),
    tenants.TenantEvent(tenant_id="ten_1", name="Söhne", plan="small"),
)
_DETAIL: Final = audit.AuditDetail(
    name="Website",
    plan="small",
    public_id=PUBLIC_ID,
    scopes=(keys.Scope.SPEECH,),
    own_account=True,
    overrides=OVERRIDES,
    allowed_cidrs=("192.0.2.0/24",),
    expires_at_ms=None,
    grace_ms=3_600_000,
    limits=LIMITS,
    units=5_000,
    topup_id=HOLD,
    carryover_id=HOLD,
)
_ENTRY: Final = audit.AuditEntry(
    at_ms=AT_MS,
    actor="key_9",
    origin="192.0.2.1",
    action=audit.AuditAction.ISSUED,
    tenant_id="ten_1",
    key_id="key_1",
    request_id="req_1",
    detail=_DETAIL,
)
_AUDIT: tuple[Message, ...] = (
    _DETAIL,
    _ENTRY,
    audit.AuditList(tenant_id="ten_1", key_id="key_1", cursor="YTcy", limit=200),
    audit.AuditPage(entries=(_ENTRY,), next_cursor="YTcx", cursors=("YTcy", "YTcx")),
)
_HOLDS: tuple[Message, ...] = (
    quota.Reserve(
        hold_id=HOLD,
        accounts=("ten_1", "key_1"),
        units=56,
        lease_ms=60_000,
        request_id="req_1",
        tenant_id="ten_1",
        key_id="key_1",
        characters=50,
        model="tts-1",
        voice="alloy",
        mixed_voices=("English_Graceful_Lady", "English_Wiselady"),
    ),
    quota.Reserved(hold_id=HOLD, units=56, expires_at_ms=AT_MS, balances=(BALANCE,)),
    quota.Denied(
        hold_id=HOLD,
        limit=quota.Limit.IN_FLIGHT,
        account_id="ten_1",
        retry_after_ms=1_500,
        balances=(BALANCE,),
    ),
    quota.HoldConflict(hold_id=HOLD),
    quota.Settle(
        hold_id=HOLD,
        units=50,
        outcome=quota.Outcome.CLIENT_LEFT,
        provider="minimax",
        model="speech-02-hd",
        voice="English_Graceful_Lady",
        provider_units=49,
    ),
    quota.Settled(hold_id=HOLD, units=50, late=True),
    quota.SettledBefore(hold_id=HOLD, units=50),
    quota.ReleasedBefore(hold_id=HOLD),
    quota.Expired(hold_id=HOLD),
    quota.HoldUnknown(hold_id=HOLD),
    quota.ExceedsHold(hold_id=HOLD, held=56),
    quota.Release(hold_id=HOLD),
    quota.Released(hold_id=HOLD),
    quota.Extend(hold_id=HOLD, lease_ms=60_000, units=112),
    quota.Extended(hold_id=HOLD, expires_at_ms=AT_MS, units=112),
)
_WRITE_OFFS: tuple[Message, ...] = (
    writeoffs.WriteOff(
        hold_id=HOLD, provider="minimax", model="speech-02-hd", voice="English_Graceful_Lady", provider_units=49
    ),
    writeoffs.WrittenOff(hold_id=HOLD, units=50),
    writeoffs.WriteOffEvent(
        hold_id=HOLD,
        tenant_id="ten_1",
        key_id="key_1",
        request_id="req_1",
        accounts=("ten_1", "key_1"),
        units=50,
        settled_at_ms=AT_MS - 1,
        at_ms=AT_MS,
    ),
)
_PLANS: tuple[Message, ...] = (
    LIMITS,
    PLAN,
    plans.PlanSet(**asdict(PLAN), **_BY),
    plans.PlanRef(name="small"),
    plans.PlanList(),
    plans.Plans(plans=(PLAN,)),
    OVERRIDES,
    plans.AccountSet(account_id="key_1", tenant_id="ten_1", plan="small", overrides=OVERRIDES, **_BY),
    plans.TopUp(topup_id=HOLD, account_id="ten_1", units=5_000, expires_at_ms=AT_MS, **_BY),
    plans.CarryOver(carryover_id=HOLD, account_id="ten_1", units=5_000, **_BY),
    plans.AccountRef(account_id="ten_1", **_BY),
    plans.Account(
        account_id="ten_1", tenant_id="ten_1", plan="small", suspended=True, balance=BALANCE, overrides=OVERRIDES
    ),
)
_USAGE: tuple[Message, ...] = (
    quota.Usage(accounts=("ten_1", "key_1")),
    quota.UsageReport(balances=(BALANCE,)),
    quota.UsageSeries(tenant_id="ten_1", first_day="2026-11-01", days=31, key_id="key_1"),
    quota.UsagePoint(day="2026-11-01", key_id="key_1", units=1_234, requests=12),
    quota.UsageSeriesReport(points=(quota.UsagePoint(day="2026-11-01", key_id="key_1", units=1_234, requests=12),)),
)
_QUOTA_EVENTS: tuple[Message, ...] = (
    quota_events.ThresholdCrossed(
        account_id="ten_1",
        tenant_id="ten_1",
        percent=80,
        used=80_001,
        limit=100_000,
        window_ends_at_ms=AT_MS,
        at_ms=AT_MS - 1,
    ),
    quota_events.HoldEvent(
        hold_id=HOLD,
        tenant_id="ten_1",
        key_id="key_1",
        request_id="req_1",
        accounts=("ten_1", "key_1"),
        units_held=56,
        units_settled=50,
        at_ms=AT_MS,
        outcome=quota.Outcome.COMPLETED,
        provider="minimax",
        model="speech-02-hd",
        voice="English_Graceful_Lady",
        provider_units=49,
        late=True,
    ),
)
MINIMAX = minimax.MiniMax(
    voice_setting=minimax.VoiceSetting(
        speed=1.5, vol=0.5, pitch=-2, emotion="calm", text_normalization=True, latex_read=True
    ),
    audio_setting=minimax.AudioSetting(bitrate=128_000, channel=2, force_cbr=True),
    pronunciation_dict=minimax.PronunciationDict(tone=("omg/oh my god",)),
    timbre_weights=(minimax.TimbreWeight(voice_id="Santa_Claus ", weight=30),),
    language_boost="Chinese,Yue",
    voice_modify=minimax.VoiceModify(pitch=-100, intensity=10, timbre=100, sound_effects="robotic"),
    continuous_sound=True,
    aigc_watermark=True,
    markup=True,
)
_MINIMAX: tuple[Message, ...] = (
    MINIMAX,
    *(part for part in (MINIMAX.voice_setting, MINIMAX.audio_setting, MINIMAX.pronunciation_dict) if part),
    *(MINIMAX.timbre_weights or ()),
    *((MINIMAX.voice_modify,) if MINIMAX.voice_modify else ()),
)
_SYNTH: tuple[Message, ...] = (
    synth.Speak(
        request_id="req_1",
        tenant_id="ten_1",
        key_id="key_1",
        accounts=("ten_1", "key_1"),
        model="tts-1",
        voice="alloy",
        input='Grüße,\n"Welt" 世界 🎧',
        response_format=synth.AudioFormat.PCM,
        speed=1.25,
        instructions="Gently.",
        sample_rate_hz=24_000,
        timestamps=synth.TimestampKind.WORD,
        minimax=MINIMAX,
        credits=32,
    ),
    synth.Head(
        provider="piper",
        model="joe",
        voice="joe",
        content_type="audio/mpeg",
        units_held=56,
        balances=(BALANCE,),
        first_audio_ms=150,
        fallback=True,
    ),
    synth.Timing(word="Grüße", start_ms=120, end_ms=480),
    synth.Timings(timings=(synth.Timing(word="Welt", start_ms=480, end_ms=900),)),
    synth.Tail(frames=3, bytes=150_000, sha256="0123456789abcdef" * 4, units=50),
    synth.Credit(through=12),
    synth.Cancel(reason=synth.CancelReason.CLIENT_STALLED),
    synth.Receipt(),
    VOICE,
    synth.Voices(model="tts-1"),
    synth.VoiceList(voices=(VOICE,)),
    MODEL,
    synth.Models(),
    synth.ModelList(models=(MODEL,)),
    synth.BreakerChanged(
        provider="minimax", before=synth.BreakerState.CLOSED, state=synth.BreakerState.OPEN, at_ms=AT_MS
    ),
    synth.SpeechEvent(
        request_id="req_1",
        tenant_id="ten_1",
        key_id="key_1",
        model="tts-1",
        voice="alloy",
        provider="piper",
        outcome="completed",
        attempts=2,
        fallback=True,
        characters=50,
        units=56,
        audio_bytes=150_000,
        first_audio_ms=150,
        duration_ms=2_000,
        at_ms=AT_MS,
    ),
)
_LOGGED: Final = requests.LoggedRequest(
    id=HOLD,
    request_id="req_1",
    tenant_id="ten_1",
    key_id="key_1",
    received_at_ms=AT_MS,
    model="tts-1",
    voice="English_Graceful_Lady",
    response_format="mp3",
    provider="minimax",
    outcome="provider_failed",
    code="upstream_error",
    attempts=2,
    fallback=True,
    characters=50,
    units_held=56,
    units_settled=50,
    provider_units=49,
    audio_bytes=150_000,
    first_audio_ms=150,
    duration_ms=1_500,
)
_CURSOR: Final = f"1795500000123000_{HOLD}"
_REQUESTS: tuple[Message, ...] = (
    _LOGGED,
    requests.RequestsList(
        tenant_id="ten_1",
        key_id="key_1",
        request_id="req_1",
        outcome="refused",
        model="tts-1",
        provider="minimax",
        since_ms=AT_MS,
        until_ms=AT_MS + 1,
        cursor=_CURSOR,
        limit=100,
    ),
    requests.RequestsPage(requests=(_LOGGED,), next_cursor=_CURSOR),
)

EXAMPLES: Final[dict[ModuleType, tuple[Message, ...]]] = {
    balances: (BALANCE,),
    errors: _ERRORS,
    keys: _KEYS,
    tenants: _TENANTS,
    audit: _AUDIT,
    plans: _PLANS,
    quota: (*_HOLDS, *_USAGE),
    quota_events: _QUOTA_EVENTS,
    writeoffs: _WRITE_OFFS,
    minimax: _MINIMAX,
    requests: _REQUESTS,
    synth: _SYNTH,
}
