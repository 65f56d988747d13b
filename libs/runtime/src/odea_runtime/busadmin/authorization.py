"""The table of permissions in the words of the NATS server."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from odea_contracts import subjects
from odea_contracts.bundles import BUNDLE_MAX
from odea_contracts.permissions import USERS, BusUser, all_users

Json: TypeAlias = dict[str, Any]

PAYLOAD_BYTES_MAX: Final = 1024 * 1024
"""Of one message. The largest are replies with lists; audio frames are 64 KiB."""
_ANSWER_WITHIN: Final = "60s"
"""How long the server remembers that a request may be answered: as long as the longest call may wait."""
_ANSWER_STREAM_WITHIN: Final = "10s"
"""The same for those that are asked for streams, whose requests are answered elsewhere and would pile up here."""


def server_config(public_keys: Mapping[str, Iterable[str]]) -> Json:
    """The part of a NATS server's configuration that Odea decides. The server reads JSON.

    Args:
        public_keys: by user; more than one while a seed is being replaced. Names that are not Odea's own are guests.
    """
    return {"max_payload": PAYLOAD_BYTES_MAX, "authorization": authorization(public_keys)}


def authorization(public_keys: Mapping[str, Iterable[str]]) -> Json:
    """The logins, each with its rights."""
    own = {user.name for user in USERS}
    users = all_users(name for name in public_keys if name not in own)
    return {
        "users": [{"nkey": key, "permissions": permissions(user)} for user in users for key in public_keys[user.name]]
    }


def permissions(user: BusUser) -> Json:
    """What a user may do; all else is refused."""
    granted: Json = {
        "publish": {"allow": sorted(_may_publish(user))},
        "subscribe": {"allow": sorted(_may_subscribe(user))},
    }
    if user.serves:
        # As many answers to each message as there may be requests in it, to wherever it wants them; a stream's frames
        # have a right of their own.
        expires = _ANSWER_STREAM_WITHIN if user.streams_with else _ANSWER_WITHIN
        granted["allow_responses"] = {"max": BUNDLE_MAX, "expires": expires}
    return granted


def _may_publish(user: BusUser) -> set[str]:
    allowed = {*user.calls, *user.publishes, *(f"{subjects.streams_prefix(other)}.>" for other in user.streams_with)}
    for durable in user.follows:
        allowed |= {subjects.consumer_info(durable), subjects.consumer_next(durable)}
        allowed.add(subjects.consumer_acknowledge(durable))
    if user.publishes or user.follows:
        allowed.add(subjects.STREAM_INFO)
    if user.installs:
        allowed |= {subjects.STREAM_INFO, subjects.STREAM_CREATE, subjects.STREAM_UPDATE}
        allowed |= {subjects.CONSUMERS_INFO, subjects.CONSUMERS_CREATE}
        allowed |= {subjects.STREAM_DELETE, subjects.STREAM_RESTORE, subjects.RESTORE_PIECES}
    if user.copies:
        allowed |= {subjects.STREAM_SNAPSHOT, subjects.SNAPSHOT_PIECES_TAKEN}
    return allowed


def _may_subscribe(user: BusUser) -> set[str]:
    # In its queue group only: whoever listened beside it would see the requests of all replicas.
    allowed = {f"{subject} {user.name}" for subject in user.serves}
    allowed |= {*user.hears, f"{subjects.inbox_prefix(user.name)}.>"}
    if user.streams_with:
        allowed.add(f"{subjects.streams_prefix(user.name)}.>")
    return allowed
