"""The keys to an upstream's accounts, and which of them can be used now."""

import math
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from prometheus_client import Counter
from pydantic import SecretStr

from odea_synth.providers.base import Chunk, ErrorClass, ProviderError
from odea_synth.providers.upstream import UNAVAILABLE, is_private

T = TypeVar("T")

_HEADER_SAFE: Final = re.compile(r"[!-~]+")
_PARKED = Counter(
    "odea_synth_credentials_parked_total", "Credentials that an upstream refused, so that an operator must act",
    ["provider", "credential"],
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One key of ours to an upstream.

    Attributes:
        name: what logs and metrics call it; no part of the secret.
        secret: the key itself; its repr hides it.
    """

    name: str
    secret: SecretStr


class RefusedError(ProviderError):
    """A `ProviderError` that knows what is to become of the credential that was sent.

    Attributes:
        park_s: how long to leave the credential alone; 0 for not at all.
        of_model: only for the model that was asked for.
        elsewhere: another credential may do.
    """

    park_s: float = 0.0
    of_model: bool = False
    elsewhere: bool = False


class Credentials:
    """The credentials of one provider. One that was refused is parked for a time, one that was throttled rests."""

    def __init__(
        self, provider: str, credentials: Sequence[Credential], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._provider = provider
        self._credentials = tuple(credentials)
        self._clock = clock
        self._parked_until: dict[tuple[str, str | None], float] = {}
        self._resting_until: dict[str, float] = {}

    async def speak(self, model: str, attempt: Callable[[Credential], AsyncGenerator[Chunk]]) -> AsyncGenerator[Chunk]:
        """Let `attempt` speak with one credential after the other, until there is audio.

        Raises:
            ProviderError: that of the last attempt, or of class account if there is none to be made.
        """
        refused: RefusedError | None = None
        for credential in self.usable(model):
            begun = False
            try:
                async with aclosing(attempt(credential)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
            except RefusedError as error:
                self._judge(credential, model, error)
                if begun or not error.elsewhere:
                    raise
                refused = error
            else:
                return
        raise refused or self._all_parked(model)

    async def ask(self, attempt: Callable[[Credential], Awaitable[T]]) -> T:
        """What `attempt` brings back with the first credential that is not refused.

        Raises:
            ProviderError: as `speak`.
        """
        refused: RefusedError | None = None
        for credential in self.usable(""):
            try:
                return await attempt(credential)
            except RefusedError as error:
                self._judge(credential, "", error)
                if not error.elsewhere:
                    raise
                refused = error
        raise refused or self._all_parked("")

    def usable(self, model: str) -> tuple[Credential, ...]:
        """Those that may be tried for a model, in that order: as configured, those that rest last."""
        if not self._parked_until and not self._resting_until:
            return self._credentials
        now = self._clock()
        free = [one for one in self._credentials if self._wait_s(one, model, now) <= 0]
        return tuple(sorted(free, key=lambda one: self._resting_until.get(one.name, 0.0) > now))

    def park(self, credential: Credential, seconds: float, *, model: str | None = None, reason: str) -> None:
        """Leave a credential alone for a time, which may be infinite, or just for one model."""
        self._parked_until[credential.name, model] = self._clock() + seconds
        _PARKED.labels(self._provider, credential.name).inc()
        structlog.get_logger().error(
            "an upstream refused a credential; it is parked",
            provider=self._provider,
            credential=credential.name,
            model=model,
            reason=reason,
            parked_s=seconds if math.isfinite(seconds) else "until the configuration changes",
        )

    def rest(self, credential: Credential, seconds: float) -> None:
        """Prefer others to a credential for a time."""
        self._resting_until[credential.name] = self._clock() + seconds

    def wait_s(self, model: str) -> float | None:
        """How long until one can be tried for a model; None if that will never be."""
        now = self._clock()
        wait_s = min((self._wait_s(one, model, now) for one in self._credentials), default=math.inf)
        return max(wait_s, 0.0) if math.isfinite(wait_s) else None

    def _judge(self, credential: Credential, model: str, error: RefusedError) -> None:
        if error.park_s:
            of_model = model if error.of_model else None
            self.park(credential, error.park_s, model=of_model, reason=error.detail)
        elif error.error_class is ErrorClass.THROTTLE:
            self.rest(credential, error.retry_after_s or 0.0)

    def _all_parked(self, model: str) -> ProviderError:
        detail = "every credential is parked"
        return ProviderError(ErrorClass.ACCOUNT, UNAVAILABLE, detail=detail, retry_after_s=self.wait_s(model))

    def _wait_s(self, credential: Credential, model: str, now: float) -> float:
        return max(self._parked_until.get((credential.name, which), now) - now for which in (None, model))


def credential_faults(credentials: Sequence[Credential], base_url: str) -> list[str]:
    """What is wrong with a provider's credentials, without a word of them."""
    names = [credential.name for credential in credentials]
    faults = [f"credential {name} is named twice" for name in sorted({name for name in names if names.count(name) > 1})]
    faults += [
        f"credential {credential.name} must be printable ASCII without blanks, and not empty"
        for credential in credentials
        if not _HEADER_SAFE.fullmatch(credential.secret.get_secret_value())
    ]
    if credentials and not is_private(base_url):
        faults.append("base_url must begin with https:// where credentials are sent")
    return faults
