"""Keys, quota and synth as the gateway meets them on the bus: true to the contract, and scripted by the test."""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256

from faststream.nats import NatsRouter

from odea_contracts import keys, quota, requests, subjects, synth
from odea_contracts.errors import ErrorCode, failure
from odea_contracts.keys import KeyEvent
from odea_contracts.keytext import ParsedKey, encode_secret, format_key, parse_key
from odea_contracts.synth import CancelReason
from odea_runtime.bus import Bus
from odea_runtime.ids import new_id, random_base62
from odea_runtime.serving import serve
from odea_runtime.streams import (
    CancelledByReceiverError,
    OutgoingStream,
    Receiver,
    Streams,
    StreamSettings,
    serve_streams,
)
from odea_runtime.tasks import Tasks

Play = Callable[[synth.Speak, OutgoingStream], Awaitable[None]]
"""What synth does with a request."""

MODELS = (
    synth.Model(id="tts-1", created_at_ms=1_700_000_000_000, owned_by="odea"),
    synth.Model(id="lab/studio", created_at_ms=1_700_000_001_000, owned_by="lab"),
)
VOICES = (synth.Voice(id="alloy", name="Alloy", language="en"), synth.Voice(id="joe", name="Joe"))


def new_key() -> str:
    """A well-formed key that nobody knows."""
    return format_key(random_base62(12), encode_secret(os.urandom(64)))


@dataclass
class Keys:
    """Knows the keys that the test gave out."""

    known: dict[str, keys.Principal] = field(default_factory=dict[str, keys.Principal])
    asked: list[str] = field(default_factory=list[str])
    before: Callable[[], Awaitable[None]] | None = None

    def issue(
        self,
        *scopes: keys.Scope,
        tenant_id: str = "ten_a",
        expires_at_ms: int | None = None,
        text: str | None = None,
        allowed_cidrs: tuple[str, ...] = (),
    ) -> str:
        """The text of a key that is good from now on."""
        text = text or new_key()
        tenant = keys.Principal(
            tenant_id=tenant_id,
            key_id=new_id("key"),
            scopes=scopes or (keys.Scope.SPEECH,),
            accounts=(tenant_id,),
            expires_at_ms=expires_at_ms,
            allowed_cidrs=allowed_cidrs,
        )
        self.known[_digest(text)] = tenant
        return text

    def revoke(self, text: str) -> keys.Principal:
        """The key is bad from now on; its principal, for the event."""
        return self.known.pop(_digest(text))

    async def verify(self, request: keys.Verify) -> keys.VerifyReply:
        """As keys answers."""
        self.asked.append(request.digest)
        found = self.known.get(request.digest)
        if self.before:
            await self.before()
        return found or keys.Refused(reason=keys.Refusal.UNKNOWN)


@dataclass
class Quota:
    """Has one balance for every account."""

    reply: quota.UsageReply | None = None

    async def usage(self, request: quota.Usage) -> quota.UsageReply:
        """As quota answers."""
        return self.reply or quota.UsageReport(balances=tuple(balance(account) for account in request.accounts))


def balance(account_id: str, *, remaining: int = 900) -> quota.Balance:
    """An account that has used some of its thousand units."""
    return quota.Balance(
        account_id=account_id,
        limit=1000,
        used=1000 - remaining,
        held=0,
        remaining=remaining,
        window=quota.Window.MONTH,
        window_ends_at_ms=3_999_888_000_000,
        requests_limit=60,
        requests_remaining=59,
        requests_reset_ms=1500,
    )


@dataclass
class Synth:
    """Plays what the test says, and notes what it was asked and how receivers left."""

    play: Play | None = None
    asked: list[synth.Speak] = field(default_factory=list[synth.Speak])
    cancelled: list[CancelReason | None] = field(default_factory=list[CancelReason | None])
    streams: Streams | None = None
    models_reply: synth.ModelsReply = field(default_factory=lambda: synth.ModelList(models=MODELS))
    log: list[requests.LoggedRequest] = field(default_factory=list[requests.LoggedRequest])
    looked: list[requests.RequestsList] = field(default_factory=list[requests.RequestsList])

    async def speak(self, request: synth.Speak, receiver: Receiver) -> None:
        """As synth answers."""
        assert self.streams is not None
        self.asked.append(request)
        try:
            async with self.streams.send(receiver, request.credits) as stream:
                await (self.play or say(b"audio"))(request, stream)
        except CancelledByReceiverError as error:
            self.cancelled.append(error.reason)

    async def models(self, _request: synth.Models) -> synth.ModelsReply:
        """As synth answers."""
        return self.models_reply

    async def requests_list(self, request: requests.RequestsList) -> requests.RequestsReply:
        """As synth answers, with pages and without the filters."""
        self.looked.append(request)
        own = [entry for entry in self.log if request.tenant_id in {None, entry.tenant_id}]
        ids = [f"{entry.received_at_ms * 1000}_{entry.id}" for entry in own]
        at = ids.index(request.cursor) + 1 if request.cursor else 0
        page = tuple(own[at : at + request.limit])
        more = len(own) > at + request.limit
        return requests.RequestsPage(requests=page, next_cursor=ids[at + request.limit - 1] if more else None)

    async def voices(self, request: synth.Voices) -> synth.VoicesReply:
        """As synth answers."""
        if request.model not in {None, *(model.id for model in MODELS)}:
            return failure(ErrorCode.MODEL_NOT_FOUND, param="model")
        return synth.VoiceList(voices=VOICES)


def head_for(request: synth.Speak, *, fallback: bool = False) -> synth.Head:
    """A head as synth sends it."""
    return synth.Head(
        provider="standin",
        model=request.model,
        voice=request.voice,
        content_type=synth.CONTENT_TYPES[request.response_format],
        units_held=len(request.input) + 5,
        balances=tuple(balance(account) for account in request.accounts),
        first_audio_ms=0,
        fallback=fallback,
    )


def say(*frames: bytes, fallback: bool = False) -> Play:
    """A whole speech of these frames, charged by its characters."""

    async def play(request: synth.Speak, stream: OutgoingStream) -> None:
        await stream.head(head_for(request, fallback=fallback))
        for frame in frames:
            await stream.audio(frame)
        await stream.tail(len(request.input))

    return play


def refuse(
    code: ErrorCode,
    *,
    param: str | None = None,
    retry_after_ms: int | None = None,
    balances: tuple[quota.Balance, ...] = (),
) -> Play:
    """No speech, but a failure."""

    async def play(_request: synth.Speak, stream: OutgoingStream) -> None:
        await stream.fail(failure(code, param=param, retry_after_ms=retry_after_ms, balances=balances))

    return play


@dataclass
class Standins:
    """The three services, each on a connection of its own, so that each can be stopped alone."""

    keys: Keys
    quota: Quota
    synth: Synth
    buses: dict[str, Bus]

    def reset(self) -> None:
        """Forget the script and what was asked; keys that were given out stay good."""
        self.keys.before, self.quota.reply, self.synth.play = None, None, None
        self.synth.models_reply = synth.ModelList(models=MODELS)
        for noted in (self.keys.asked, self.synth.asked, self.synth.cancelled, self.synth.log, self.synth.looked):
            noted.clear()

    async def stop(self, name: str) -> None:
        """Nobody answers for this service from now on."""
        await self.buses[name].stop()

    async def announce(self, change: KeyEvent) -> None:
        """Tell every gateway that keys changed."""
        await self.buses["keys"].publish(subjects.KEYS_CHANGED, change)


@asynccontextmanager
async def standing_in(settings: StreamSettings) -> AsyncGenerator[Standins]:
    """Serve until the block is left."""
    tasks = Tasks(2000)
    parts = Standins(Keys(), Quota(), Synth(), {})
    key_router, quota_router, synth_router = NatsRouter(), NatsRouter(), NatsRouter()
    serve(key_router, tasks, keys.VERIFY, parts.keys.verify)
    serve(quota_router, tasks, quota.USAGE, parts.quota.usage)
    serve(synth_router, tasks, synth.MODELS, parts.synth.models)
    serve(synth_router, tasks, synth.VOICES, parts.synth.voices)
    serve(synth_router, tasks, requests.REQUESTS_LIST, parts.synth.requests_list)
    serve_streams(
        synth_router,
        tasks,
        subject=subjects.SYNTH_SPEAK,
        queue=subjects.SYNTH,
        request=synth.Speak,
        handler=parts.synth.speak,
    )
    for name, router in (("keys", key_router), ("quota", quota_router), ("synth", synth_router)):
        parts.buses[name] = Bus(settings, name, router)
        await parts.buses[name].start()
    parts.synth.streams = Streams(parts.buses["synth"], settings)
    await parts.synth.streams.start()
    try:
        yield parts
    finally:
        await tasks.drain(2.0)
        await parts.synth.streams.stop()
        for bus in parts.buses.values():
            await bus.stop()


def digest(audio: bytes) -> str:
    """For comparing audio without printing it."""
    return sha256(audio).hexdigest()


def _digest(text: str) -> str:
    key: ParsedKey | None = parse_key(text)
    assert key is not None
    return key.digest
