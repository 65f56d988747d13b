"""Who may do what on the bus: one table, from which the server's configuration is made and which the tests try out.

Every process logs in as the user of its service. What a user is not given here, the server refuses, so a credential
that was stolen is worth no more than its service.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from odea_contracts import keys, quota, subjects, synth, writeoffs
from odea_contracts.catalogue import ENDPOINTS, EVENTS, NOTICES

_HOLDS: Final = frozenset(
    endpoint.subject for endpoint in (quota.RESERVE, quota.SETTLE, quota.RELEASE, quota.EXTEND, writeoffs.WRITE_OFF)
)
"""The life of a hold: moves money, so whoever speaks has it and nobody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BusUser:
    """A login of the bus and its rights.

    Attributes:
        name: of the user; its inboxes and streams lie below prefixes with this name.
        serves: subjects that it answers, in the queue group of its name.
        calls: subjects that it sends requests to.
        publishes: events and notices that it tells.
        hears: notices that it listens to.
        follows: durable consumers of the events that are its own.
        streams_with: users whom it exchanges audio streams with.
        installs: whether it makes the stream of events and the durable consumers, or puts them back from a copy.
        copies: whether it copies the stream of events away.
    """

    name: str
    serves: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    publishes: tuple[str, ...] = ()
    hears: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    streams_with: tuple[str, ...] = ()
    installs: bool = False
    copies: bool = False


DURABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        subjects.DURABLE_QUOTA_TENANTS: subjects.KEYS_TENANT_CREATED,
        subjects.DURABLE_QUOTA_KEYS: subjects.KEYS_ISSUED,
    }
)
"""The durable consumers of the events, and what each of them is given."""


def _served_by(service: str) -> tuple[str, ...]:
    return tuple(endpoint.subject for endpoint in ENDPOINTS if endpoint.queue == service)


def _told_by(service: str) -> tuple[str, ...]:
    return tuple(subject for subject in (*EVENTS, *NOTICES) if subjects.is_of(service, subject))


_SPEECH: Final = (synth.VOICES.subject, synth.MODELS.subject, subjects.SYNTH_SPEAK)
_ADMINISTRATION: Final = tuple(
    endpoint.subject for endpoint in ENDPOINTS if endpoint.subject not in {*_HOLDS, *_SPEECH, keys.VERIFY.subject}
)

USERS: Final = (
    BusUser(
        name=subjects.GATEWAY,
        calls=(keys.VERIFY.subject, *_ADMINISTRATION, *_SPEECH),
        hears=tuple(NOTICES),
        streams_with=(subjects.SYNTH,),
    ),
    BusUser(name=subjects.KEYS, serves=_served_by(subjects.KEYS), publishes=_told_by(subjects.KEYS)),
    BusUser(
        name=subjects.QUOTA,
        serves=_served_by(subjects.QUOTA),
        publishes=(*_told_by(subjects.QUOTA), subjects.dead_letters(subjects.QUOTA)),
        follows=(subjects.DURABLE_QUOTA_TENANTS, subjects.DURABLE_QUOTA_KEYS),
    ),
    BusUser(
        name=subjects.SYNTH,
        serves=(*_served_by(subjects.SYNTH), subjects.SYNTH_SPEAK),
        calls=tuple(sorted(_HOLDS)),
        publishes=_told_by(subjects.SYNTH),
        streams_with=(subjects.GATEWAY,),
    ),
    BusUser(name=subjects.OPERATOR, calls=(keys.VERIFY.subject, *_ADMINISTRATION)),
    BusUser(name=subjects.INSTALLER, installs=True),
    BusUser(name=subjects.BACKUP, copies=True),
)
"""Odea's own users of the bus. None has all rights."""


def all_users(guests: Iterable[str] = ()) -> tuple[BusUser, ...]:
    """Odea's own users and `guests`: other services, which may speak, ask for balances and follow events.

    Whoever speaks over the bus names the accounts that pay, so a guest is trusted as the gateway is.
    """
    names = tuple(guests)
    own = (
        replace(user, streams_with=(*user.streams_with, *names)) if user.name == subjects.SYNTH else user
        for user in USERS
    )
    return (*own, *map(_guest, names))


def _guest(name: str) -> BusUser:
    return BusUser(name=name, calls=(*_SPEECH, quota.USAGE.subject), follows=(name,), streams_with=(subjects.SYNTH,))
