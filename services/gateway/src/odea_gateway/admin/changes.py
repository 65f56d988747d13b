"""The audits of all services as one list, newest first.

A page takes the newest of each and says in its cursor how far it came in which. Each audit stands still below a place
that was shown, but for changes that were under way at that moment, which may come in just below it: whoever follows
the head of the list reads its last minute again.
"""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from odea_contracts import audit
from odea_contracts.audit import AuditEntry, AuditList, AuditPage
from odea_contracts.base import Cursor
from odea_contracts.errors import ErrorCode
from odea_gateway.clients import Clients
from odea_gateway.problems import problem

AUDITS: Final = (audit.AUDIT_LIST, audit.QUOTA_AUDIT_LIST)
Places: TypeAlias = tuple[Cursor | None, Cursor | None]
"""Where each audit goes on; `None` for one that has ended."""

_PLACES: Final = msgspec.json.Decoder(Places)
_START: Final = ("", "")


async def changes(clients: Clients, wanted: AuditList) -> AuditPage:
    """The page of all audits that `wanted` asks for.

    Raises:
        ProblemError: a service refuses, or can't be reached; or nothing gave this cursor.
    """
    places = _START if wanted.cursor is None else _read(wanted.cursor)
    pages = await asyncio.gather(
        *(
            _page(clients, number, msgspec.structs.replace(wanted, cursor=place or None))
            for number, place in enumerate(places)
            if place is not None
        )
    )
    entries, taken = merged(pages, wanted.limit)
    left = iter([_place(page, count) for page, count in zip(pages, taken, strict=True)])
    after = tuple(None if place is None else next(left) for place in places)
    return AuditPage(entries=tuple(entries), next_cursor=None if after == (None, None) else _write(after))


def merged(pages: Sequence[AuditPage], limit: int) -> tuple[list[AuditEntry], list[int]]:
    """The newest entries of all pages, at most `limit`, and how many come from which.

    It ends early behind a page that goes on: what follows there may be newer than what the others have left.
    """
    entries: list[AuditEntry] = []
    taken = [0] * len(pages)
    while len(entries) < limit:
        ahead = [number for number, page in enumerate(pages) if taken[number] < len(page.entries)]
        cut = any(page.next_cursor and number not in ahead for number, page in enumerate(pages))
        if cut or not ahead:
            break
        newest = max(ahead, key=lambda number: pages[number].entries[taken[number]].at_ms)
        entries.append(pages[newest].entries[taken[newest]])
        taken[newest] += 1
    return entries, taken


async def _page(clients: Clients, number: int, wanted: AuditList) -> AuditPage:
    return await clients.ask(AUDITS[number], wanted)


def _place(page: AuditPage, taken: int) -> Cursor | None:
    ended = taken == len(page.entries) and page.next_cursor is None
    return None if ended else page.cursors[taken]


def _write(places: tuple[Cursor | None, ...]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(places)).decode().rstrip("=")


def _read(cursor: str) -> Places:
    try:
        places = _PLACES.decode(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, msgspec.MsgspecError, UnicodeDecodeError):
        places = (None, None)
    if places == (None, None) or _write(places) != cursor:
        raise problem(ErrorCode.INVALID_VALUE, "No page of this list gave this cursor.", param="cursor")
    return places
