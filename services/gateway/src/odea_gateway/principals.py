"""Who a key belongs to, remembered for a short while and forgotten the moment it may be wrong (P5).

Good and bad keys are remembered apart, so that a flood of guesses can't push out the keys that are in use. Requests
that come with the same unknown key at the same time share one question to keys. What keys answered to a question that
was asked before a change is used for those who asked then, and not remembered.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from msgspec import UNSET
from prometheus_client import Counter

from odea_contracts.keys import KeyEvent, Principal, Refused
from odea_contracts.keytext import ParsedKey

_LOOKUPS = Counter("odea_key_cache_total", "Keys looked up, by how they were found", ["outcome"])
_HIT, _REFUSED, _JOINED, _ASKED = (_LOOKUPS.labels(name) for name in ("hit", "refused", "joined", "asked"))

Verify: TypeAlias = Callable[[ParsedKey], Awaitable[Principal | Refused]]
"""Asks keys; raises what the caller shall see if it can't."""


class Principals:
    """The cache.

    Args:
        verify: how keys is asked.
        size_max: how many good, and how many bad keys are remembered.
        ttl_s: for how long.
        clock: seconds that only grow.
        wall_clock: seconds since 1970, for the end of a key's life.
    """

    def __init__(
        self,
        verify: Verify,
        *,
        size_max: int,
        ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._verify = verify
        self._size_max: Final = size_max
        self._ttl_s: Final = ttl_s
        self._clock = clock
        self._wall_clock = wall_clock
        self._good: OrderedDict[ParsedKey, tuple[float, Principal]] = OrderedDict()
        self._bad: OrderedDict[ParsedKey, float] = OrderedDict()
        self._of_tenant: dict[str, set[ParsedKey]] = {}
        self._asking: dict[ParsedKey, asyncio.Task[Principal | Refused]] = {}

    def __len__(self) -> int:
        return len(self._good) + len(self._bad)

    def known(self, key: ParsedKey) -> Principal | None:
        """The principal of `key`, if it is remembered as good."""
        known = self._good.get(key)
        if known is None or self._clock() >= known[0]:
            return None
        self._good.move_to_end(key)
        _HIT.inc()
        return known[1]

    async def find(self, key: ParsedKey) -> Principal | None:
        """The principal of `key`, or `None` for a key that is refused. Raises what `verify` raises."""
        if known := self.known(key):
            return known
        now = self._clock()
        if now < self._bad.get(key, 0.0):
            self._bad.move_to_end(key)
            _REFUSED.inc()
            return None
        # Shielded: a caller that leaves must not take the answer from the others.
        found = await asyncio.shield(self._ask(key))
        return found if isinstance(found, Principal) else None

    def forget(self, change: KeyEvent) -> None:
        """Something changed about a key, or about all keys of a tenant."""
        self._asking.clear()
        # It is not known whose the refused ones are, and one of them may be good from now on.
        self._bad.clear()
        for key in list(self._of_tenant.get(change.tenant_id, ())):
            if change.key_id is UNSET or self._good[key][1].key_id == change.key_id:
                self._drop(key)

    def forget_all(self) -> None:
        """Changes may have been missed."""
        self._asking.clear()
        self._bad.clear()
        self._good.clear()
        self._of_tenant.clear()

    def _ask(self, key: ParsedKey) -> asyncio.Task[Principal | Refused]:
        task = self._asking.get(key)
        if task:
            _JOINED.inc()
            return task
        _ASKED.inc()
        task = asyncio.create_task(self._answer(key))
        task.add_done_callback(_retrieve)
        self._asking[key] = task
        return task

    async def _answer(self, key: ParsedKey) -> Principal | Refused:
        task = asyncio.current_task()
        try:
            found = await self._verify(key)
            if self._asking.get(key) is task:
                self._remember(key, found)
            return found
        finally:
            if self._asking.get(key) is task:
                del self._asking[key]

    def _remember(self, key: ParsedKey, found: Principal | Refused) -> None:
        until = self._clock() + self._ttl_s
        self._drop(key)
        if isinstance(found, Refused):
            self._bad[key] = until
            if len(self._bad) > self._size_max:
                self._bad.popitem(last=False)
            return
        if found.expires_at_ms is not None:
            until = min(until, self._clock() + found.expires_at_ms / 1000 - self._wall_clock())
        self._good[key] = (until, found)
        self._of_tenant.setdefault(found.tenant_id, set()).add(key)
        if len(self._good) > self._size_max:
            self._drop(next(iter(self._good)))

    def _drop(self, key: ParsedKey) -> None:
        known = self._good.pop(key, None)
        if known is None:
            return
        keys = self._of_tenant[known[1].tenant_id]
        keys.discard(key)
        if not keys:
            del self._of_tenant[known[1].tenant_id]


def _retrieve(task: asyncio.Task[Principal | Refused]) -> None:
    """Everybody who asked may have left; an error is then nobody's, and no news."""
    if not task.cancelled():
        task.exception()
